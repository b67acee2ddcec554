"""How many examples: as the profile in force says, and never against a clock."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(UNHURRIED, max_examples=500)
