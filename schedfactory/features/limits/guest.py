"""Jobs start only where their limits have room; those that may not are set apart, and let out again as room comes.

Slots are counted from running rows, so that a death frees them, and a start is counted in the transaction of its claim: both
hold over all nodes, because SQLite has one writer at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from schedfactory.features.limits.claim import OPENED_AT_ONCE, Claim, bounds_of
from schedfactory.features.limits.ripening import Ripening
from schedfactory.features.limits.rows import QUEUE, add_start, forget_old_starts, held_by, hold, queue_bounds
from schedfactory.model.limit import Bound
from schedfactory.model.registry import TaskRegistry
from schedfactory.storage import blocked
from schedfactory.storage.finish import Ended
from schedfactory.storage.seams import Due, Feature, Fits, Shape
from schedfactory.storage.statement import Row

_LET_OUT_AT_ONCE = 50
_SWEPT_KEYS = 250
_SWEPT_FIRST = 5_000  # by a process that knows of none yet, such as one that calls run_due() and ends
_WALKED_STARTS = 1_000
_SWEEP = timedelta(seconds=1)  # what no event told of, such as a death, a cancel or a setting changed by SQL
_IDLE_SWEEP = timedelta(seconds=5)


class Limits(Feature):
    """The limits of tasks and queues, as one process minds them."""

    def __init__(self, tasks: TaskRegistry) -> None:
        self._tasks = tasks
        self._queues: Mapping[str, Bound] = {}  # as the claim of this transaction has read them
        self._ripening = Ripening()
        self._in_use: Counter[str] = Counter()
        self._swept = ""
        self._has_swept = False
        self._walked = ("", 0)

    def shape_claim(self, conn: Connection, due: Due, free: int, ahead: int, now: datetime, fits: Fits) -> Shape:
        """Return due rows whose limits have room; what has none is set apart. Nothing limited is claimed ahead."""
        self._queues = queue_bounds(conn)
        if not self._queues and not self._tasks.is_limited:
            return Shape(due(free + ahead))
        claim = Claim(conn, self._tasks, self._queues, now)
        for key in self._ripening.take(now):
            claim.let_out(key, max(free, 1))
        found = claim.admitted(due, free, free + ahead, fits)
        self._ripening.note(claim.ripening)
        return Shape(found, self._ripening.next if claim.is_done else now)

    def claimed(self, conn: Connection, rows: Sequence[Row], now: datetime) -> None:
        """Note the slots and the starts that these jobs use up."""
        if not self._queues and not self._tasks.is_limited:
            return
        for row in rows:
            bounds = bounds_of(row, self._tasks, self._queues)
            keys = [bound.key for bound in bounds if bound is not self._queues.get(row[QUEUE])]
            if keys:
                hold(conn, row[0], keys)
            for bound in bounds:
                for rate in bound.rates:
                    add_start(conn, bound.key, rate, now)

    def finished(self, conn: Connection, ended: Sequence[Ended], now: datetime) -> None:
        """Let out those that have waited for the slots of these jobs: as many as have ended."""
        if blocked.are_there(conn):
            claim = Claim(conn, self._tasks, queue_bounds(conn), now)
            for key, count in sorted(held_by(conn, [job.id for job, _, _ in ended]).items()):
                claim.let_out(key, count)
            self._ripening.note(claim.ripening)

    def tick(self, conn: Connection, now: datetime) -> datetime | None:
        """Let out what waits for room that came without an event here."""
        self._walked = forget_old_starts(conn, self._walked, _WALKED_STARTS, now)
        most = _SWEPT_KEYS if self._has_swept else _SWEPT_FIRST
        keys = blocked.keys(conn, self._swept, most)
        self._swept = keys[-1] if len(keys) == most else ""
        self._has_swept = True
        if not keys:
            return now + (_SWEEP if self._swept or self._tasks.is_limited else _IDLE_SWEEP)
        claim = Claim(conn, self._tasks, queue_bounds(conn), now)
        in_use = claim.room.in_use
        freed = [key for key, number in self._in_use.items() if in_use[key] < number]
        self._in_use = in_use
        opened = max(
            claim.let_out(key, _LET_OUT_AT_ONCE, is_thorough=True)
            for key in dict.fromkeys((*freed, *self._ripening.take(now), *keys))
        )
        self._ripening.note(claim.ripening)
        if opened >= OPENED_AT_ONCE:
            return now
        return min(now + _SWEEP, max(self._ripening.next or now + _SWEEP, now))
