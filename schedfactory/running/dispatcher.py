"""One round: what has ended is written, what is due is claimed, in one transaction; then the claims go to the workers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from schedfactory.model.clock import Clock, Monotonic
from schedfactory.model.errors import StorageError
from schedfactory.model.job import FINAL
from schedfactory.model.running_job import RunningJob
from schedfactory.running.attempt import Attempts
from schedfactory.running.choice import Choice
from schedfactory.running.desk import Batch, Desk, Seat, emptied
from schedfactory.running.limits import Limits
from schedfactory.running.pace import Pace
from schedfactory.running.reporter import Reporter
from schedfactory.running.waiting import Waiting
from schedfactory.storage import apart, claim, finish, notes, sqlite
from schedfactory.storage.claim import Scope
from schedfactory.storage.database import Database
from schedfactory.storage.finish import Ended
from schedfactory.storage.seams import Seams

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")
_log = logging.getLogger("schedfactory")

LONGEST_WAIT_S = 5.0  # also after any jump of the clock, what is due is looked at again after this
LINGER_S = 0.002  # for more ends to come, while there is work ahead
STALE_S = 0.01  # claimed ahead and not begun for this long: given back
NOTE_S = 0.25  # between two writes of progress
HINDERED_S = 1.0  # at least until the next round, where one could not be done at once
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
        hindrance: what keeps rounds from being done at once, or ends from being stored, such as a trigger of the user's.
    """

    def __init__(
        self,
        node: int,
        database: Database,
        desk: Desk,
        attempts: Attempts,
        scopes: Callable[[], Sequence[Scope]],
        clock: Clock,
        reporter: Reporter,
        waiting: Waiting,
        workers: int,
        seams: Seams,
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
        self.hindrance: Exception | None = None
        self._database = database
        self._attempts = attempts
        self._clock = clock
        self._reporter = reporter
        self._waiting = waiting
        self._pace = Pace()
        self._seams = seams
        self._choice = Choice(node, attempts, scopes, self._pace, seams)
        self._claimed_ahead_at = 0.0
        self._noted_at = 0.0
        self._trouble_s = 0.0
        self._limits = Limits()
        # To be given back, and never run here any more: a commit that failed may have done it.
        self._stale: list[RunningJob] = []
        self._kept: list[Ended] = []  # ends that the database refuses, for what SQL has made of it
        self._kept_at = 0.0
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
        batch = Batch(now)
        try:
            self._check_timeouts()
            self._gather(batch)
            self._write(batch)
            if self.trouble is not None:
                self._database.sync(prove=True)  # a round that had nothing to write would take the disk for well
            elif any(self._choice.starts_once(row) for row in batch.claimed):
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

    def _write(self, batch: Batch) -> None:
        try:
            self._database.write(lambda conn: self._transact(conn, batch), quiet=True)
            if not self._kept:  # which are brought again now and then, and would be refused again
                self.hindrance = None
        except Exception as error:  # tried again one by one: what SQL did to one row must not stop the others
            if isinstance(error, StorageError) and not error.is_refusal:
                raise
            if self.hindrance is None:
                jobs = [job.id for job, _, _ in batch.ended][:20]
                _log.error("node %d: a round failed (%s), and is done again job by job. It brought %s", self.node, error, jobs)
            self.hindrance = error
            batch.is_apart = True
            self._database.write(lambda conn: self._transact(conn, batch), quiet=True)

    @property
    def kept(self) -> int:
        """How many ends the database refuses."""
        return len(self._kept)

    def flag(self, job_ids: Sequence[int]) -> None:
        """Ask those of these jobs to stop that this node has in hand, because someone has cancelled them."""
        for job_id in job_ids:
            running = self.in_flight.get(job_id)
            if running is not None and running.cause is None:
                running.cause = "user"

    def flag_all(self) -> None:
        for job in list(self.in_flight.values()):
            if job.cause is None:
                job.cause = "shutdown"

    def _gather(self, batch: Batch) -> None:
        desk = self.desk
        batch.ended, batch.released = emptied(desk.ended), emptied(desk.released)
        monotonic = Monotonic.now()
        if self._kept and monotonic - self._kept_at >= RETRY_S[1]:
            batch.ended += self._kept
            self._kept = []
        ending = {id(job) for job, _, _ in batch.ended}
        if desk.noted and (monotonic - self._noted_at >= NOTE_S or any(id(job) in ending for job in list(desk.noted))):
            batch.noted = [job for job in emptied(desk.noted) if not job.settled or self.in_flight.get(job.id) is job]
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

    def _transact(self, conn: Connection, batch: Batch) -> None:
        # Later than all that was committed before: a start must not seem to be earlier than the end that made room for it.
        now = batch.now = max(batch.now, self._clock())
        batch.seen = sqlite.data_version(conn)
        batch.claimed, batch.expired = [], []  # what an earlier run of this found was rolled back
        if self.trouble is not None:
            claim.give_back_others(conn, self.node, [(job.id, job.fence) for job in self.in_flight.values()])
        ending = {id(job) for job, _, _ in batch.ended}  # of which `finish` tells: their ends may be stored already
        told = self._aside(conn, batch, lambda: notes.progress(conn, batch.noted)) or []
        batch.lost = [job for job in told if id(job) not in ending]
        if batch.labelled:
            labels = [(job.id, job.fence, job.node, job.worker or 0, job.started) for job in batch.labelled]
            self._aside(conn, batch, lambda: claim.label(conn, labels))
        if batch.ended:
            batch.lost += self._finish(conn, batch)
            for feature in self._seams.finished:
                self._aside(conn, batch, lambda feature=feature: feature.finished(conn, batch.ended, now))  # type: ignore[misc]
        if batch.released:
            self._aside(conn, batch, lambda: finish.release(conn, batch.released))
        if batch.stale:
            claim.give_back(conn, [(job.id, job.fence, job.node, job.reason) for job in batch.stale])
        upcoming = claim.upcoming(conn, self.node)
        if upcoming.expires_at is not None and upcoming.expires_at <= now:
            batch.expired = self._aside(conn, batch, lambda: claim.expire(conn, now)) or []
        is_promoted = True
        if upcoming.run_at is not None and upcoming.run_at <= now:
            is_promoted = self._aside(conn, batch, lambda: claim.promote(conn, now)) is not False
            upcoming = claim.upcoming(conn, self.node)
        batch.cancelled = claim.to_cancel(conn, self.node) if upcoming.cancels else []
        batch.has_more = not is_promoted
        batch.next_at = upcoming.next
        if is_promoted:
            may_go_ahead = not self.is_draining and self.trouble is None and (batch.ended or not self._is_stuck)
            gone = {id(job) for job, _, _ in (*batch.ended, *batch.kept)}.union(map(id, batch.stale))
            neighbours = [job for job in self.in_flight.values() if id(job) not in gone]
            workers = self.workers if may_go_ahead else 0
            batch.claimed = self._choice.take(conn, batch, list(self.desk.ahead), workers, neighbours)

    def _aside(self, conn: Connection, batch: Batch, move: Callable[[], T]) -> T | None:
        """Make a move; None where it fails in a round that is done again, which goes on without it."""
        found = apart.attempt(conn, move) if batch.is_apart else move()
        return None if isinstance(found, Exception) else found

    def _finish(self, conn: Connection, batch: Batch) -> list[RunningJob]:
        again = self.trouble is not None
        if not batch.is_apart:
            return finish.finish(conn, batch.ended, again=again)
        batch.ended += batch.kept
        lost, batch.ended, batch.kept = finish.finish_each(conn, batch.ended, again=again)
        return lost

    def _settle(self, batch: Batch) -> None:
        self.seen, self.has_more = batch.seen, batch.has_more
        if batch.kept:
            self._kept += batch.kept
            self._kept_at = Monotonic.now()
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
        # An attempt that lost its job may end beside the next one
        # (test_the_second_run_on_the_same_node_is_still_in_its_hand_after_the_late_end).
        if self.in_flight.get(job.id) is job:
            del self.in_flight[job.id]
            self._limits.forget(job)
            self._choice.suspects.discard(job.id)

    def _hand_over(self, batch: Batch) -> None:
        jobs = []
        for index, row in enumerate(batch.claimed):
            worker = batch.seats[index].number if index < len(batch.seats) else None
            job = RunningJob(row, self.node, worker, batch.now, self.desk.note)
            self.in_flight[job.id] = job
            self._choice.note(row)
            limit = self._attempts.limit_of(job)
            if limit is not None:
                self._limits.watch(job, limit)
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
        for job, limit in self._limits.over():
            ending = (job, self._attempts.time_out(job, limit), self._clock())
            if self.desk.settle(job):
                job.cause = job.cause or "timeout"
                job.took = limit.total_seconds()
                self.desk.ended.append(ending)

    def _keep(self, batch: Batch, error: BaseException) -> float:
        """Bring everything again later; say once that there is trouble."""
        if self.trouble is None:
            self._trouble_s = 0.0
            _log.error("node %d: %s It claims nothing and keeps what has ended until that works.", self.node, error)
        self.trouble = error
        self._trouble_s = min(max(self._trouble_s * 2, RETRY_S[0]), RETRY_S[1])
        self.desk.ended.extendleft(reversed(batch.ended + batch.kept))
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
        pause = min(pause, self._limits.pause())
        return max(pause, HINDERED_S if batch.is_apart else 0.0)
