"""What is promised, in the words of figures and docs, and how much is given to who cannot know."""

from __future__ import annotations

from collections.abc import Mapping

INVARIANTS: Mapping[str, str] = {
    "stopped": "a backend is stopped only when no worker of any generation may send to it",
    "capacity": "no reload of ours leaves an upstream with fewer than the policy asks for",
    "proven": "what we changed gets traffic only running, healthy, and on a known release",
    "parked": "what a person parked stays parked, and is not stopped",
    "hands": "a person's file is never replaced",
    "original": "an adopted original is kept, and comes back byte for byte",
    "kept": "pruning removes neither what runs nor what could be gone back to",
    "halt": "a halt leaves nobody out whom we took out and did not change",
    "attempts": "a backend is stopped at most as often as the policy and people allow",
    "fence": "nothing is changed under a token lower than the highest one the machine has seen",
    "fresh": "who stood still for more than 5 s after its look decides and sends nothing on it",
    "fork": "nobody acts on a record of which two different ones are there",
    "store": "no backend is claimed while the session store's checks refuse",
    "alone": "two commands never change one machine at the same time",
    "intent": "nothing is changed before its intent is on the own disk and on a load balancer",
    "chain": "a copy only grows, or loses the loose end of a life that was taken over",
    "one rollout": "no rollout begins while another is unfinished",
    "staged": "only an artifact that lies there whole is put in place",
    "reload": "nginx is not reloaded while it serves just what is wanted",
    "truth": "what the record says is proved or released is so",
    "ending": "a rollout that is closed is what it says: done, back, aborted, nothing touched",
    "off": "a load balancer declared off is left alone until it is met; nothing is done before",
    "counted": "what the record counts of requests is what was asked, each once, over all lives",
    "gate": "more failed requests than the policy allows end it, before a next wave; fewer do not",
    "end": "once the misfortune ends the rollout does, and no command of ours still runs",
}

STOOD_MAX_MS = 5_000
"""An operator may have stood still for so long in one piece, between its look and what it decides
or sends on it."""

STOOD_THERE_MAX_MS = 75_000
"""And for so long by the time a load balancer goes ahead: nobody can look at the very instant of
the sending, and what comes later than that after its intent is refused there."""

RECENT_MS = 5_000
"""Misfortune this young may not have been seen, however quickly the last look was acted on."""
