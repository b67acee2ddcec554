"""The pure core: what a rollout is, what was seen of it, and what may happen next.

Nothing here touches a machine, a disk, a clock or a third party. Instants and durations are
integer milliseconds.
"""
