"""A whole fleet on this machine, to see a rollout before trusting it with one's own machines.

A real nginx, a real Redis, SSH hosts and application nodes come up on 127.0.0.1, a load of
session-carrying clients runs against them, and everything ends with the process that started it.

| module | what it is |
|---|---|
| `app` | the application that is deployed; a release is an archive of it (`artifacts`) |
| `appctl.sh` | starts and stops one instance of it on its machine |
| `servers` | which nginx, redis-server and sshd are used: the machine's own, or embedded ones |
| `fleet` | brings everything up, writes the inventory, ends everything |
| `keeper` | the process that owns every server, so that not even `kill -9` leaves one behind |
| `ledger` | what the load balancers' access logs tell, compared with what the clients saw |
| `load` | the clients, and the count of what they saw |
| `ssh_server` | the embedded SSH server, where the machine has no OpenSSH |

Linux only, like the machines that a rollout is for.
"""
