"""Jobs start only where their limits have room; those that may not are set apart, and let out one by one as room comes.

Slots are counted from running rows, so that a death frees them, and a start is counted in the transaction of its claim: both
hold over all nodes, because SQLite has one writer at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from sqlalchemy import Connection

from schedfactory.features.limits import rows
from schedfactory.features.limits.room import Room
from schedfactory.model import codec
from schedfactory.model.limit import Bound
from schedfactory.model.registry import TaskRegistry
from schedfactory.model.running_job import CLAIMED
from schedfactory.storage import blocked
from schedfactory.storage.finish import Ended
from schedfactory.storage.seams import Due, Feature, Shape
from schedfactory.storage.statement import Row

_TASK, _QUEUE, _ARGS = (CLAIMED.index(name) for name in ("task", "queue", "args"))
_LOOKED_AT = 500  # rows at a time, once some were set apart
_LOOKS = 40
_LET_OUT_AT_ONCE = 200
_SWEPT_KEYS = 1_000
_SWEEP = timedelta(seconds=1)  # what no event told of, such as a death, a cancel or a setting changed by SQL
_IDLE_SWEEP = timedelta(seconds=5)


class Limits(Feature):
    """The limits of tasks and queues, as one node minds them."""

    def __init__(self, tasks: TaskRegistry) -> None:
        self._tasks = tasks
        self._ripe: dict[str, tuple[Bound, datetime]] = {}  # when the window of a rate has room; a sweep finds it, too
        self._swept = ""

    def shape_claim(self, conn: Connection, due: Due, free: int, ahead: int, now: datetime) -> Shape:
        """Return due rows whose limits have room; what has none is set apart. Nothing limited is claimed ahead."""
        queues = rows.queue_bounds(conn)
        if not queues and not self._tasks.is_limited:
            return Shape(due(free + ahead))
        claim = _Claim(conn, queues, self._tasks, now)
        for bound in [bound for bound, ripe in self._ripe.values() if ripe <= now]:
            del self._ripe[bound.key]
            claim.let_out(bound)
        found = claim.admitted(due, free, free + ahead)
        again = [] if claim.is_done else [now]
        for bound in claim.seen.values():
            again_at = claim.room.again_at(bound)
            if again_at is not None:
                self._ripe[bound.key] = (bound, again_at)
        return Shape(found, min((*again, *(ripe for _, ripe in self._ripe.values())), default=None))

    def claimed(self, conn: Connection, claimed: Sequence[Row], now: datetime) -> None:
        """Note the slots and the starts that these jobs use up."""
        queues = rows.queue_bounds(conn)
        if not queues and not self._tasks.is_limited:
            return
        for row in claimed:
            bounds = bounds_of(self._tasks, queues, row[_TASK], row[_QUEUE], row[_ARGS])
            keys = dict.fromkeys(bound.key for bound in bounds if bound is not queues.get(row[_QUEUE]))
            if keys:
                rows.hold(conn, row[0], keys)
            for bound in {(bound.key, bound.rate): bound for bound in bounds if bound.rate is not None}.values():
                rows.add_start(conn, bound, now)

    def finished(self, conn: Connection, ended: Sequence[Ended], now: datetime) -> None:
        """Let out those that have waited for the slots of these jobs."""
        if blocked.are_there(conn):
            claim = _Claim(conn, rows.queue_bounds(conn), self._tasks, now)
            for key in sorted(rows.held_by(conn, [job.id for job, _, _ in ended])):
                claim.let_out_of(key)

    def tick(self, conn: Connection, now: datetime) -> datetime | None:
        """Let out what waits for room that came without an event here."""
        keys = blocked.keys(conn, self._swept, _SWEPT_KEYS)
        claim = _Claim(conn, rows.queue_bounds(conn), self._tasks, now)
        for key in keys:
            claim.let_out_of(key)
        rows.forget_old_starts(conn, now)
        self._swept = keys[-1] if len(keys) == _SWEPT_KEYS else ""
        return now + (_SWEEP if keys else _IDLE_SWEEP)


class _Claim:
    """One look at due and blocked jobs, inside one transaction.

    Attributes:
        seen: the bounds that were looked at, by key.
        is_done: all that is due was looked at, as far as there are workers.
    """

    def __init__(self, conn: Connection, queues: dict[str, Bound], tasks: TaskRegistry, now: datetime) -> None:
        self._conn = conn
        self._queues = queues
        self._tasks = tasks
        self.room = Room(conn, now)
        self.seen: dict[str, Bound] = {}
        self.is_done = False

    def admitted(self, due: Due, free: int, most: int) -> list[Row]:
        """Return the best rows that may start: for `free` workers any, beyond them what is not limited.

        There may be more than can be looked at at once; then `is_done` is False.
        """
        for look in range(_LOOKS):
            found, parked = self._look(due(max(most, _LOOKED_AT) if look else most), free, most)
            for key, ids in parked.items():
                blocked.park(self._conn, ids, key)
            if not parked and found is not None:
                self.is_done = True
                return found
        return found or []

    def _look(self, candidates: Sequence[Row], free: int, most: int) -> tuple[list[Row] | None, dict[str, list[int]]]:
        """Return who may start, None where better ones were let out meanwhile; and the ids to be set apart, by key."""
        self.room.renew()
        found: list[Row] = []
        parked: dict[str, list[int]] = defaultdict(list)
        for row in candidates:
            bounds = bounds_of(self._tasks, self._queues, row[_TASK], row[_QUEUE], row[_ARGS])
            if any(self.let_out(bound) for bound in bounds if bound.key not in self.seen):
                return None, parked
            full = next((bound for bound in bounds if not self.room.left(bound, 1)), None)
            if full is not None:
                parked[full.key].append(row[0])
                # What it would have used up is for the next in line.
                if any(self.let_out(bound) for bound in bounds if bound is not full):
                    return None, parked
            elif len(found) == most or (bounds and len(found) >= free):
                break
            else:
                self.room.take(bounds)
                found.append(row)
        return found, parked

    def let_out(self, bound: Bound) -> int:
        """Let out as many as there is room for, and return how many that were."""
        self.seen[bound.key] = bound
        if blocked.best(self._conn, bound.key) is None:
            return 0
        return blocked.let_out(self._conn, bound.key, self.room.left(bound, _LET_OUT_AT_ONCE))

    def let_out_of(self, key: str) -> None:
        """Let out what waits for a key; everything, where its limit is no more."""
        best = blocked.best(self._conn, key)
        if best is not None and (key.startswith(blocked.queue_key("")) or self._tasks.find(best[1]) is not None):
            bounds = bounds_of(self._tasks, self._queues, *best[1:])
            bound = next((bound for bound in bounds if bound.key == key), Bound(key))
            self.let_out(bound)


def bounds_of(tasks: TaskRegistry, queues: dict[str, Bound], task: str, queue: str, args: str) -> list[Bound]:
    """Return the bounds of a job; none by key where its arguments do not fit, of which its run will tell."""
    found = [queues[queue]] if queue in queues else []
    known = tasks.find(task)
    if known is not None and known.limits:
        given = codec.decode_or_none(args)
        values = known.arguments.with_defaults(given) if isinstance(given, dict) else {}
        with suppress(ValueError):
            found += [limit.bound(values) for limit in known.limits]
    return found
