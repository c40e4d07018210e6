"""Which due jobs one round takes: the best ones, a few ahead of the workers, some of them with no company."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, takewhile
from typing import TYPE_CHECKING

from schedfactory.model.outcome import MAX_CRASHES
from schedfactory.model.running_job import CLAIMED, RunningJob, claim_order
from schedfactory.running.attempt import Attempts
from schedfactory.running.desk import Batch
from schedfactory.running.pace import Pace
from schedfactory.storage import claim
from schedfactory.storage.claim import Scope
from schedfactory.storage.seams import Fits, Seams
from schedfactory.storage.statement import Row

if TYPE_CHECKING:
    from sqlalchemy import Connection

_TASK, _REASON, _CRASHES, _ON_CRASH = (CLAIMED.index(name) for name in ("task", "reason", "crashes", "on_crash"))
_QUEUE = CLAIMED.index("queue")
Neighbours = Callable[[], Sequence[RunningJob]]


def _room(scope: Scope, busy: Sequence[str]) -> int:
    """Return how many slots of a pool are free, where jobs of these queues run."""
    return (scope.pool.size or 0) - sum(map(scope.pool.serves, busy))


class Choice:
    """Takes jobs for one node.

    Attributes:
        suspects: jobs in hand that were there at two deaths of their process, and run alone.
    """

    def __init__(self, node: int, attempts: Attempts, scopes: Callable[[], Sequence[Scope]], pace: Pace, seams: Seams) -> None:
        self._node = node
        self._attempts = attempts
        self._scopes = scopes
        self._pace = pace
        self._seams = seams
        self.suspects: set[int] = set()
        self._hopeless: set[int] = set()  # rows that can be neither taken nor ended, as long as this node lives

    def take(
        self, conn: Connection, batch: Batch, ahead: Sequence[RunningJob], workers: int, neighbours: Neighbours
    ) -> list[Row]:
        """Make the best due jobs running: one for each seat, and ahead of them what takes next to no time.

        Args:
            ahead: what lies ahead already.
            workers: for whom to claim ahead; 0: for nobody.
            neighbours: gives the jobs that go on running.
        """
        free = len(batch.seats)
        most = self._pace.most_ahead(workers)
        more = max(0, most - len(ahead))
        if more < most // 2:
            more = 0
        if not free + more or self.suspects.difference(job.id for job, _, _ in batch.ended):
            return []
        rows = self._due(conn, batch, free, more, neighbours)
        if len(rows) > free:
            rows = rows[: free + self._fitting(rows[free:], ahead, workers)]
        rows = self._without_company(rows, neighbours)
        if rows:
            numbers = [seat.number for seat in batch.seats]
            if batch.is_apart:
                each = claim.take_each(conn, rows, self._node, numbers, batch.now)
                rows, batch.has_more = each.taken, batch.has_more or bool(each.refused)
                self._hopeless.update(each.hopeless)
            else:
                claim.take(conn, rows, self._node, numbers[: len(rows)], batch.now)
            claim.forbid_repeats(conn, [row[0] for row in self.starting_once(rows) if row[_ON_CRASH] is None])
            for feature in self._seams.claimed:
                feature.claimed(conn, rows, batch.now)
        return rows

    def _due(self, conn: Connection, batch: Batch, free: int, more: int, neighbours: Neighbours) -> list[Row]:
        """Return the best rows that may start, the best first: of each pool as many as it has slots."""
        scopes = self._scopes()
        if len(scopes) == 1 and scopes[0].pool.size is None:
            pool = scopes[0].pool
            return self._shaped(conn, batch, scopes, free, more, lambda row, _chosen: pool.serves(row[_QUEUE]))
        busy = [job.queue for job in neighbours()]
        room = {id(scope): _room(scope, busy) for scope in scopes}
        scopes = [scope for scope in scopes if room[id(scope)] > 0]

        def fits(row: Row, chosen: Sequence[Row]) -> bool:
            own = next((scope for scope in scopes if scope.pool.serves(row[_QUEUE])), None)
            return own is not None and sum(own.pool.serves(one[_QUEUE]) for one in chosen) < room[id(own)]

        rows: list[Row] = []
        for row in self._shaped(conn, batch, scopes, free, 0, fits) if scopes else []:
            if len(rows) < free and fits(row, rows):
                rows.append(row)
        return rows

    def _shaped(self, conn: Connection, batch: Batch, scopes: Sequence[Scope], free: int, more: int, fits: Fits) -> list[Row]:
        def due(most: int) -> list[Row]:
            found = [scope.due(conn, most + len(self._hopeless)) for scope in scopes]
            rows = found[0] if len(found) == 1 else sorted(chain.from_iterable(found), key=claim_order)
            return [row for row in rows if row[0] not in self._hopeless] if self._hopeless else rows

        shape = self._seams.shape(conn, due, free, more, batch.now, fits)
        if shape.again_at is not None:
            batch.has_more |= shape.again_at <= batch.now
            batch.next_at = min(shape.again_at, batch.next_at or shape.again_at)
        return shape.rows[: free + more] if len(scopes) == 1 else shape.rows

    def starting_once(self, rows: Sequence[Row]) -> list[Row]:
        """Return the jobs that must not start again after a death of their process."""
        tasks = {task for task in {row[_TASK] for row in rows} if self._attempts.starts_once(task)}
        return [row for row in rows if row[_ON_CRASH] == "fail" or (row[_ON_CRASH] is None and row[_TASK] in tasks)]

    def note(self, rows: Sequence[Row]) -> None:
        """Remember which of the claimed rows are suspects."""
        self.suspects.update(row[0] for row in self._suspects(rows))

    def _without_company(self, rows: list[Row], neighbours: Neighbours) -> list[Row]:
        """Keep a suspect apart: it runs with no other job, which its next death might take along.

        See test_a_no_op_that_kills_its_process_ends_crashed_and_takes_no_neighbour_along.
        """
        suspects = self._suspects(rows)
        if not suspects:
            return rows
        before = rows[: rows.index(suspects[0])]
        return before if before or neighbours() else suspects[:1]

    def _suspects(self, rows: Sequence[Row]) -> list[Row]:
        return [row for row in rows if row[_CRASHES] >= MAX_CRASHES - 1 and not self._attempts.is_isolated(row[_TASK])]

    def _fitting(self, rows: Sequence[Row], ahead: Sequence[RunningJob], workers: int) -> int:
        known = {row[0] for row in self.starting_once(rows)}  # whether such a job had begun must be known at a death
        tasks = [row[_TASK] for row in takewhile(lambda row: row[_REASON] != "crash" and row[0] not in known, rows)]
        return self._pace.fitting(tasks, workers, self._pace.seconds(job.task for job in ahead))
