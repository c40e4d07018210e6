"""Finished jobs go by themselves after the time they are kept, a few at a time, so that claiming is not disturbed.

There is no index to find them by, which every finish would pay for. Instead the table is walked through by id, a window at
a tick, and then left alone for a while.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from schedfactory.model.options import Keep
from schedfactory.model.registry import TaskRegistry
from schedfactory.storage import changes
from schedfactory.storage.seams import Feature

if TYPE_CHECKING:
    from sqlalchemy import Connection

WINDOW = 2_000  # ids looked at in one transaction
_PAUSE = (timedelta(seconds=1), timedelta(hours=1))  # between two walks: a twentieth of the shortest time, within these


class Retention(Feature):
    """The walk of one node.

    Args:
        keep: how long jobs of each final status stay; a task may say otherwise.
    """

    def __init__(self, keep: Keep, tasks: TaskRegistry) -> None:
        self._keep = keep
        self._tasks = tasks
        self._after = 0

    def tick(self, conn: Connection, now: datetime) -> datetime | None:
        """Delete what is due in the next window; return when to go on."""
        special: dict[str, Keep] = {task: {**self._keep, **named} for task, named in self._tasks.kept().items()}
        times = [time for keep in (self._keep, *special.values()) for time in keep.values() if time is not None]
        if not times:
            return None
        reached = changes.prune(conn, self._after, changes.kept_long_enough(self._keep, special, now), within=WINDOW)[1]
        self._after = reached or 0
        pause = timedelta() if reached else min(max(min(times) / 20, _PAUSE[0]), _PAUSE[1])
        return now + pause
