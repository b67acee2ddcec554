"""What the commands do, without the command line: connect, look, plan, run, resume, tell."""
