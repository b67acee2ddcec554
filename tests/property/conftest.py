"""How many examples: `short` by default, `--hypothesis-profile=long` for a night."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
settings.register_profile("short", max_examples=150, deadline=None, suppress_health_check=SLOW)
settings.register_profile("long", max_examples=20_000, deadline=None, suppress_health_check=SLOW)
settings.register_profile("medium", max_examples=3_000, deadline=None, suppress_health_check=SLOW)
settings.load_profile("short")
