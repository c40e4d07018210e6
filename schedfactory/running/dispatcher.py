"""One round: what has ended is written, what is due is claimed, in one transaction; then the claims go to the workers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from schedfactory.model.clock import Clock, Monotonic
from schedfactory.model.errors import StorageError
from schedfactory.model.job import FINAL
from schedfactory.model.outcome import MAX_CRASHES
from schedfactory.model.running_job import CLAIMED, RunningJob
from schedfactory.running.attempt import Attempts
from schedfactory.running.batch import Batch
from schedfactory.running.desk import Desk, Seat, emptied
from schedfactory.running.pace import Pace
from schedfactory.running.reporter import Reporter
from schedfactory.running.waiting import Waiting
from schedfactory.storage import claim, finish, notes
from schedfactory.storage.claim import Scope
from schedfactory.storage.database import Database, data_version
from schedfactory.storage.statement import Row

if TYPE_CHECKING:
    from sqlalchemy import Connection

_TASK, _REASON, _CRASHES, _ON_CRASH = (CLAIMED.index(name) for name in ("task", "reason", "crashes", "on_crash"))
_log = logging.getLogger("schedfactory")

LONGEST_WAIT_S = 5.0  # also after any jump of the clock, what is due is looked at again after this
LINGER_S = 0.002  # for more ends to come, while there is work ahead
STALE_S = 0.01  # claimed ahead and not begun for this long: given back
NOTE_S = 0.25  # between two writes of progress
RETRY_S = (0.1, 5.0)  # first and longest pause after the database failed


class Dispatcher:
    """The rounds of one node. Threads call `round`, a simulation may too.

    Attributes:
        is_draining: claim no more.
        in_flight: the jobs that this node has claimed, by id, until their end is stored.
        leftovers: jobs that ended by a timeout and whose code still runs.
        on_leftover: called with a job that joins them.
        seen: the version of the database that the latest round has acted upon.
        has_more: there was more due than one round takes on.
        trouble: what the database said last, while it does not work.
    """

    def __init__(
        self,
        node: int,
        database: Database,
        desk: Desk,
        attempts: Attempts,
        scope: Callable[[], Scope],
        clock: Clock,
        reporter: Reporter,
        waiting: Waiting,
        workers: int,
    ) -> None:
        self.node = node
        self.desk = desk
        self.workers = workers
        self.is_draining = False
        self.in_flight: dict[int, RunningJob] = {}
        self.leftovers: dict[int, RunningJob] = {}
        self.on_leftover: Callable[[RunningJob], None] = lambda _job: None
        self.seen: int | None = None
        self.has_more = False
        self.trouble: BaseException | None = None
        self._database = database
        self._attempts = attempts
        self._scope = scope
        self._clock = clock
        self._reporter = reporter
        self._waiting = waiting
        self._pace = Pace()
        self._claimed_ahead_at = 0.0
        self._noted_at = 0.0
        self._trouble_s = 0.0
        self._limits: dict[int, timedelta] = {}
        self._suspects: set[int] = set()
        self._stale: list[
            RunningJob
        ] = []  # to be given back, and never run here any more: a commit that failed may have done it
        self._is_stuck = False  # what was claimed ahead was given back, and no job has ended since
        self._guard = threading.Lock()

    def round(self, now: datetime) -> float:
        """Do one round, and return how many seconds the next one may wait if nothing happens before.

        Nothing that goes wrong with the database is raised: what could not be stored is kept and brought again, and until
        then nothing is claimed (`trouble` tells).
        """
        with self._guard:
            return self._round(now)

    def claim_for(self, seat: Seat, now: datetime) -> RunningJob | None:
        """Do one round for a worker that is there for no longer than that, and return the job it got."""
        with self._guard:
            self.desk.idle.append(seat)
            self._round(now)
            if seat in self.desk.idle:
                self.desk.idle.remove(seat)
                return None
            return seat.inbox.get()

    def _round(self, now: datetime) -> float:
        self._check_timeouts()
        batch = self._gather(now)
        try:
            self._database.write(lambda conn: self._transact(conn, batch), quiet=True)
            if any(self._starts_once(row) for row in batch.claimed):
                self._database.sync()  # such a start must be known even after a power loss
        except StorageError as error:
            return self._keep(batch, error)
        except BaseException as error:  # a mistake of ours, but what has ended must not be lost by it
            self._keep(batch, error)
            raise
        if self.trouble is not None:
            self.trouble = None
            _log.warning("node %d: the database works again", self.node)
        self._settle(batch)
        self._hand_over(batch)
        return self._pause(batch)

    def flag(self, job_ids: Sequence[int]) -> None:
        """Ask those of these jobs to stop that this node has in hand, because someone has cancelled them."""
        for job_id in job_ids:
            running = self.in_flight.get(job_id)
            if running is not None and running.cause is None:
                running.cause = "user"

    def flag_all(self) -> None:
        """Ask every running job to stop, because this node does."""
        for job in list(self.in_flight.values()):
            if job.cause is None:
                job.cause = "shutdown"

    def _gather(self, now: datetime) -> Batch:
        desk = self.desk
        batch = Batch(now, ended=emptied(desk.ended), released=emptied(desk.released))
        monotonic = Monotonic.now()
        ending = {id(job) for job, _, _ in batch.ended}
        if desk.noted and (monotonic - self._noted_at >= NOTE_S or any(id(job) in ending for job in desk.noted)):
            batch.noted = emptied(desk.noted)
            for job in batch.noted:
                job.noted = True  # before it is read: what is said from here on is noted anew
            self._noted_at = monotonic
        if desk.ahead and (self.is_draining or monotonic - self._claimed_ahead_at > STALE_S):
            self._stale += emptied(desk.ahead)
        batch.stale = list(self._stale)
        if not self.is_draining:
            self._seat_ahead()
            batch.seats = list(desk.idle)
        if self.trouble is not None:
            batch.seats = []
        batch.labelled = self._unlabelled(ending)
        return batch

    def _transact(self, conn: Connection, batch: Batch) -> None:
        now = batch.now
        batch.seen = data_version(conn)
        if self.trouble is not None:
            claim.give_back_others(conn, self.node, list(self.in_flight))
        batch.lost = notes.progress(conn, batch.noted)
        if batch.labelled:
            claim.label(conn, [(job.id, job.fence, job.node, job.worker or 0, job.started) for job in batch.labelled])
        if batch.ended:
            batch.lost += finish.finish(conn, batch.ended, again=self.trouble is not None)
        if batch.released:
            finish.release(conn, batch.released)
        if batch.stale:
            claim.give_back(conn, [(job.id, job.fence, job.node, job.reason) for job in batch.stale])
        ahead = claim.look_ahead(conn, self.node)
        if ahead.expires_at is not None and ahead.expires_at <= now:
            batch.expired = claim.expire(conn, now)
        is_promoted = True
        if ahead.run_at is not None and ahead.run_at <= now:
            is_promoted = claim.promote(conn, now)
            ahead = claim.look_ahead(conn, self.node)
        batch.cancelled = claim.to_cancel(conn, self.node) if ahead.cancels else []
        batch.has_more = not is_promoted
        batch.next_at = ahead.next
        batch.claimed = self._claim(conn, batch) if is_promoted else []

    def _claim(self, conn: Connection, batch: Batch) -> list[Row]:
        """Take the best due jobs: one for each idle worker, and ahead of them what takes next to no time."""
        free = len(batch.seats)
        more = 0
        if not self.is_draining and self.trouble is None and (batch.ended or not self._is_stuck):
            more = max(0, self._pace.most_ahead(self.workers) - len(self.desk.ahead))
            if more < self._pace.most_ahead(self.workers) // 2:
                more = 0
        if not free + more:
            return []
        rows = self._scope().due(conn, free + more)
        if len(rows) > free:
            rows = rows[: free + self._fitting(rows[free:])]
        rows = self._apart(rows, batch)
        if rows:
            workers = [seat.number for seat in batch.seats[: len(rows)]]
            claim.take(conn, rows, self.node, workers, batch.now)
            claim.forbid_repeats(conn, [row[0] for row in rows if row[_ON_CRASH] is None and self._starts_once(row)])
        return rows

    def _apart(self, rows: list[Row], batch: Batch) -> list[Row]:
        """Keep a job that was there at two deaths of its process apart: it runs with no other, which it might take along."""
        if self._suspects.difference(job.id for job, _, _ in batch.ended):
            return []
        neighbours = len(self.in_flight) - len(batch.ended) - len(batch.stale)
        for index, row in enumerate(rows):
            if self._is_suspect(row):
                alone = index == 0 and not neighbours
                return rows[:1] if alone else rows[:index]
        return rows

    def _is_suspect(self, row: Row) -> bool:
        return bool(row[_CRASHES] >= MAX_CRASHES - 1) and not self._attempts.is_isolated(row[_TASK])

    def _fitting(self, rows: Sequence[Row]) -> int:
        tasks = []
        for row in rows:
            if row[_REASON] == "crash" or self._starts_once(row):  # whether it had begun must be known at a death
                break
            tasks.append(row[_TASK])
        return self._pace.fitting(tasks, self.workers, self._pace.seconds(job.task for job in list(self.desk.ahead)))

    def _starts_once(self, row: Row) -> bool:
        on_crash = row[_ON_CRASH]
        return bool(on_crash == "fail" or (on_crash is None and self._attempts.starts_once(row[_TASK])))

    def _settle(self, batch: Batch) -> None:
        """Take in that what the batch brought is stored."""
        self.seen, self.has_more = batch.seen, batch.has_more
        self._is_stuck = bool(batch.stale) or (self._is_stuck and not batch.ended)
        lost = {id(job) for job in batch.lost}
        for job in batch.lost:
            job.cause = "lost"
            _log.warning("job %d: attempt %d had lost its job; what it did was not recorded", job.id, job.attempt)
        for job, outcome, at in batch.ended:
            self._forget(job)
            self._pace.observe(job.task, job.took)
            if outcome.leftover and id(job) not in lost:
                self.leftovers[job.id] = job
                self.on_leftover(job)
            if self._reporter.wants("job") and id(job) not in lost:
                is_stopped = job.cause == "user" and outcome.status not in FINAL
                self._reporter.tell("job", job.id, "end", at, "cancelled" if is_stopped else outcome.status)
        for job in batch.released:
            if self.leftovers.get(job.id) is job:
                del self.leftovers[job.id]
        for job in batch.stale:
            self._forget(job)
        self._stale.clear()
        self.flag(batch.cancelled)
        self._waiting.announce(job.id for job, outcome, _ in batch.ended if outcome.status in FINAL or job.cause == "user")
        self._waiting.announce(batch.expired)
        for job_id in batch.expired:
            self._reporter.tell("job", job_id, "end", batch.now, "cancelled")

    def _forget(self, job: RunningJob) -> None:
        if self.in_flight.get(job.id) is job:  # an attempt that lost its job may end beside the next one
            del self.in_flight[job.id]
            self._limits.pop(job.id, None)
            self._suspects.discard(job.id)

    def _hand_over(self, batch: Batch) -> None:
        jobs = []
        for index, row in enumerate(batch.claimed):
            worker = batch.seats[index].number if index < len(batch.seats) else None
            job = RunningJob(row, self.node, worker, batch.now, self.desk.note)
            self.in_flight[job.id] = job
            if self._is_suspect(row):
                self._suspects.add(job.id)
            limit = self._attempts.limit_of(job)
            if limit is not None:
                self._limits[job.id] = limit
            self._reporter.tell("job", job.id, "start", batch.now)
            jobs.append(job)
        for seat, job in zip(batch.seats, jobs):
            self.desk.idle.remove(seat)
            seat.inbox.put(job)
        more = jobs[len(batch.seats) :]
        if more:
            self._claimed_ahead_at = Monotonic.now()
            self.desk.ahead.extend(more)
        self.desk.few = len(self.desk.ahead) // 2

    def _seat_ahead(self) -> None:
        """Give what is claimed already to who is idle: nobody needs the database for that."""
        while self.desk.idle:
            try:
                job = self.desk.ahead.popleft()
            except IndexError:  # a worker may have taken the last one
                return
            seat = self.desk.idle.popleft()
            self.desk.begin(job, seat, self._clock())
            seat.inbox.put(job)

    def _unlabelled(self, ending: set[int]) -> list[RunningJob]:
        """Return the jobs that were claimed ahead and have been running for a while, whose rows do not say so yet."""
        found = []
        before = Monotonic.now() - LINGER_S
        for job in self.in_flight.values():
            if job.is_ahead and job.began is not None and job.began < before and id(job) not in ending:
                job.is_ahead = False
                found.append(job)
        return found

    def _check_timeouts(self) -> None:
        for job_id, limit in list(self._limits.items()):
            job = self.in_flight[job_id]
            if job.began is None or Monotonic.now() - job.began < limit.total_seconds() or not self.desk.settle(job):
                continue
            job.cause = job.cause or "timeout"
            job.took = limit.total_seconds()
            self.desk.ended.append((job, self._attempts.time_out(job, limit), self._clock()))

    def _keep(self, batch: Batch, error: BaseException) -> float:
        """Bring everything again later; say once that there is trouble."""
        if self.trouble is None:
            self._trouble_s = 0.0
            _log.error("node %d: %s It claims nothing and keeps what has ended until that works.", self.node, error)
        self.trouble = error
        self._trouble_s = min(max(self._trouble_s * 2, RETRY_S[0]), RETRY_S[1])
        self.desk.ended.extendleft(reversed(batch.ended))
        self.desk.released.extendleft(reversed(batch.released))
        for job in batch.labelled:
            job.is_ahead = True
        for job in batch.noted:
            if job.noted:
                job.noted = False
                self.desk.noted.append(job)
        return self._trouble_s

    def _pause(self, batch: Batch) -> float:
        if batch.has_more or (self.desk.idle and not batch.seats and not self.is_draining):
            return 0.0  # more is due, or the database has just begun to work again
        pause = LONGEST_WAIT_S
        if batch.next_at is not None:
            pause = min(pause, (batch.next_at - batch.now).total_seconds())
        if self.desk.ahead or any(job.is_ahead for job in self.in_flight.values()):
            pause = min(pause, LINGER_S)
        if self.desk.noted:
            pause = min(pause, NOTE_S - (Monotonic.now() - self._noted_at))
        for job_id, limit in self._limits.items():
            began = self.in_flight[job_id].began
            pause = min(
                pause, min(NOTE_S, limit.total_seconds()) if began is None else began + limit.total_seconds() - Monotonic.now()
            )
        return max(pause, 0.0)
