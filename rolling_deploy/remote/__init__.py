"""Everything that touches another machine. Thin: decisions are made in `rollout`."""
