"""Everything that touches this disk: the local record of a rollout."""
