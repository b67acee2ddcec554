"""Changing sound inputs: what the short form and the plain long form try."""

from __future__ import annotations

import random

from tests.fuzz.targets import Target

EDITS_MAX = 6


def changed(target: Target, chance: random.Random) -> bytes:
    """Answers a seed with a few pieces changed, doubled, cut, moved or put in."""
    data = bytearray(chance.choice(target.seeds))
    for _ in range(chance.randint(1, EDITS_MAX)):
        at = chance.randint(0, len(data))
        end = min(len(data), at + chance.choice((1, 1, 2, 8, 60)))
        match chance.randrange(7):
            case 0:
                data[at:end] = chance.randbytes(end - at)
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = data[at:end] * chance.choice((1, 2, 50))
            case 3 | 4 if target.words:
                data[at:end] = chance.choice(target.words)
            case 5:
                other = chance.choice(target.seeds)
                begin = chance.randint(0, len(other))
                data[at:end] = other[begin : begin + chance.randint(0, 80)]
            case _ if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
    return bytes(data)
