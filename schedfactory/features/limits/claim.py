"""One look at due and blocked jobs, inside one transaction: which of them have room under all of their limits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection

from schedfactory.features.limits.room import Room
from schedfactory.model.limit import Bound
from schedfactory.model.registry import TaskRegistry
from schedfactory.model.running_job import CLAIMED, claim_order
from schedfactory.storage import blocked
from schedfactory.storage.seams import Due, Fits
from schedfactory.storage.statement import Row

_ID, _TASK, _QUEUE, _ARGS = (CLAIMED.index(name) for name in ("id", "task", "queue", "args"))
_LOOKED_AT = 500  # rows at a time, once some were set apart
_LOOKS = 100
_PARKED_AT_ONCE = 1_000
_BEYOND = 20  # rows of a line that are looked at beyond those that are wanted
OPENED_AT_ONCE = 2_000  # rows of a line whose limit is no more
End = Literal["settled", "changed", "none left"]


class Claim:
    """What may start, as far as limits say.

    Attributes:
        ripening: when the rates that hold up blocked jobs have room again, by key.
        is_done: all that is due was looked at, as far as there are workers.
    """

    def __init__(self, conn: Connection, tasks: TaskRegistry, queues: Mapping[str, Bound], now: datetime) -> None:
        self._conn = conn
        self._tasks = tasks
        self._queues = queues
        self.room = Room(conn, now)
        self.ripening: dict[str, datetime] = {}
        self.is_done = False
        self._known: dict[int, tuple[Bound, ...]] = {}
        self._left: dict[str, Bound] = {}  # what this look has seen of limits that are not what holds a row up

    def bounds(self, row: Row) -> tuple[Bound, ...]:
        """Return what counts for a row."""
        found = self._known.get(row[_ID])
        if found is None:
            found = self._known[row[_ID]] = bounds_of(row, self._tasks, self._queues)
        return found

    def admitted(self, due: Due, free: int, most: int, fits: Fits) -> list[Row]:
        """Return the best rows that may start: for `free` workers any, beyond them what is not limited.

        There may be more than can be looked at at once; then `is_done` is False.
        """
        found: list[Row] = []
        count, asked = 0, min(most, free + _BEYOND)  # few, where what is due is limited, and nothing goes ahead
        for _ in range(_LOOKS):
            candidates = due(asked)
            found, parked, end = self._look(candidates, free, most, fits)
            for key, ids in parked.items():
                blocked.park(self._conn, ids, key)
                count += len(ids)
            if end == "none left" and (len(candidates) < asked or (asked >= most and not parked)):
                end = "changed" if self._fill(free, found, fits) else "settled"
            self.is_done = end == "settled"
            if self.is_done or count >= _PARKED_AT_ONCE:
                break
            asked = max(most, _LOOKED_AT if count else 0)
        return found

    def _look(self, candidates: Sequence[Row], free: int, most: int, fits: Fits) -> tuple[list[Row], dict[str, list[int]], End]:
        """Return who may start, the ids to be set apart, by key, and why the look ended.

        That may be because better ones were let out meanwhile ("changed"); those who may start so far still may then.
        """
        self.room.renew()
        self._left.clear()
        found: list[Row] = []
        parked: dict[str, list[int]] = defaultdict(list)
        for row in candidates:
            if len(found) == most:
                return found, parked, "settled"
            bounds = self.bounds(row)
            if not bounds:
                if fits(row, found):
                    found.append(row)
                continue
            full = self._full(bounds)
            if full is not None:
                parked[full.key].append(row[_ID])
                self._left |= {bound.key: bound for bound in bounds if bound is not full}
                continue
            if len(found) >= free:
                return found, parked, "settled"
            if not fits(row, found):
                continue
            if any(self.let_out(bound.key, free - len(found), fits, found, before=row) for bound in bounds):
                return found, parked, "changed"
            self.room.take(bounds)
            self._left |= {bound.key: bound for bound in bounds}
            found.append(row)
        return found, parked, "settled" if len(found) == most else "none left"

    def _fill(self, free: int, found: list[Row], fits: Fits) -> bool:
        """Let out those that wait for what the rows so far leave, if workers are left as well; return whether any were."""
        wanted = free - len(found)
        for key, bound in self._left.items():
            if wanted > 0 and (self.room.is_left(bound) or self._note_ripening(bound)):
                wanted -= self.let_out(key, wanted, fits, found)
        return wanted < free - len(found)

    def let_out(
        self,
        key: str,
        most: int,
        fits: Fits | None = None,
        chosen: Sequence[Row] = (),
        *,
        before: Row | None = None,
        is_thorough: bool = False,
    ) -> int:
        """Let the best of those that wait for `key` and may start now be claimed again; return how many that were.

        What waits here for a place that something narrower holds up goes to wait for that, so that it is in nobody's way.

        Args:
            before: only those that are better than this row.
            is_thorough: move also what something wider holds up.
        """
        freed: list[Row] = []
        for window in (1, most + _BEYOND, _LOOKED_AT):
            line = blocked.line(self._conn, key, self._tasks.names(), window)
            if line and fits is None and all(bound.key != key for bound in self.bounds(line[0])):
                return blocked.let_out_best(self._conn, key, OPENED_AT_ONCE)
            better = line if before is None else [row for row in line if claim_order(row) < claim_order(before)]
            moved = self._step(key, better, most, fits, [*chosen, *freed], freed, is_thorough=is_thorough)
            if len(freed) == most or len(better) < window or (window > 1 and not moved):
                break
        blocked.let_out(self._conn, [row[_ID] for row in freed])
        return len(freed)

    def _step(
        self,
        key: str,
        line: Sequence[Row],
        most: int,
        fits: Fits | None,
        chosen: list[Row],
        freed: list[Row],
        *,
        is_thorough: bool,
    ) -> bool:
        """Add to `freed` who may start, and move who waits for something else; return whether anyone was moved."""
        moved: dict[str, list[int]] = defaultdict(list)
        for row in line:
            if len(freed) == most:
                break
            bounds = self.bounds(row)
            full = None if row in freed else self._full(bounds)
            if full is not None:
                if full.key != key and (is_thorough or _is_wider(key, full.key)):
                    moved[full.key].append(row[_ID])
            elif row not in freed and (fits is None or fits(row, chosen)):
                self.room.take(bounds)
                freed.append(row)
                chosen.append(row)
        for other, ids in moved.items():
            blocked.park(self._conn, ids, other)
        return bool(moved)

    def _full(self, bounds: Sequence[Bound]) -> Bound | None:
        full = next((bound for bound in bounds if not self.room.is_left(bound)), None)
        if full is not None:
            self._note_ripening(full)
        return full

    def _note_ripening(self, bound: Bound) -> bool:
        at = self.room.again_at(bound)
        if at is not None:
            self.ripening[bound.key] = at
        return False


def bounds_of(row: Row, tasks: TaskRegistry, queues: Mapping[str, Bound]) -> tuple[Bound, ...]:
    """Return what counts for a row, one bound a key; none by a key whose arguments do not fit, of which its run will tell."""
    return bounds_for(row[_TASK], row[_QUEUE], row[_ARGS], tasks, queues)


def bounds_for(task: str, queue: str, args: str, tasks: TaskRegistry, queues: Mapping[str, Bound]) -> tuple[Bound, ...]:
    """Return what counts for a job; see `bounds_of`."""
    known = tasks.find(task)
    limits = () if known is None else known.limits
    if queue not in queues and not limits:
        return ()
    found: dict[str, Bound] = {queues[queue].key: queues[queue]} if queue in queues else {}
    for limit in limits:
        try:
            bound = limit.bound(args)
        except Exception:  # noqa: BLE001, S112 - its attempt fails of the same arguments, and says so
            continue
        found[bound.key] = found[bound.key].with_another(bound) if bound.key in found else bound
    return tuple(found.values())


def _is_wider(key: str, other: str) -> bool:
    """Tell whether a queue or a task waits here, and only some of its jobs there."""
    return other.startswith("limit:") and not key.startswith("limit:")
