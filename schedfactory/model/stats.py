"""How many jobs a queue has, as people look at it."""

from __future__ import annotations

from dataclasses import dataclass

import pendulum


@dataclass(frozen=True, slots=True)
class QueueStats:
    """How many jobs of each status one queue has; `oldest_due_at` is the `run_at` of the one due longest, in UTC, or None."""

    queue: str
    waiting: int
    scheduled: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    oldest_due_at: pendulum.DateTime | None
