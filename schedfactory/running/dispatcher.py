"""One round: what has ended is written, what is due is claimed, in one transaction; then the claims go to the workers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from schedfactory.model.clock import Monotonic, stamp
from schedfactory.model.errors import StorageError
from schedfactory.model.job import FINAL
from schedfactory.model.running_job import RunningJob
from schedfactory.running.attempt import Attempts
from schedfactory.running.choice import Choice
from schedfactory.running.desk import Batch, Desk, Seat, emptied
from schedfactory.running.hand import LINGER_S, Hand
from schedfactory.running.notes import NOTE_S, Notes
from schedfactory.running.pace import Pace
from schedfactory.running.shop import Shop
from schedfactory.running.standby import Standby
from schedfactory.running.timeouts import Timeouts
from schedfactory.storage import apart, claim, finish
from schedfactory.storage.claim import Scope
from schedfactory.storage.finish import Ended

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")
_log = logging.getLogger("schedfactory")

LONGEST_WAIT_S = 5.0  # also after any jump of the clock, what is due is looked at again after this
STALE_S = 0.01  # claimed ahead and not begun for this long: given back
HINDERED_S = 1.0  # at least until the next round, where one could not be done at once
RETRY_S = (0.1, 5.0)  # first and longest pause after the database failed


class Dispatcher:
    """The rounds of one node. Threads call `round`, a simulation may too.

    Attributes:
        is_draining: claim no more, for good.
        is_paused: claim no more for now, on someone's order.
        hand: the jobs that this node has claimed.
        on_leftover: called with a job that joins them.
        seen: the version of the database that the latest round has acted upon.
        has_more: there was more due than one round takes on.
        has_orders: there are some for this node that it has not taken.
        trouble: what the database said last, while it does not work.
        hindrance: what keeps rounds from being done at once, or ends from being stored, such as a trigger of the user's.
    """

    def __init__(
        self,
        node: int,
        shop: Shop,
        desk: Desk,
        attempts: Attempts,
        scopes: Callable[[], Sequence[Scope]],
        workers: int,
    ) -> None:
        self.node = node
        self.desk = desk
        self.workers = workers
        self.is_draining = False
        self.is_paused = False
        self.hand = Hand()
        self.on_leftover: Callable[[RunningJob], None] = lambda _job: None
        self.seen: int | None = None
        self.has_more = False
        self.has_orders = False
        self.trouble: BaseException | None = None
        self.hindrance: Exception | None = None
        self._database = shop.database
        self._attempts = attempts
        self._clock = shop.clock
        self._reporter = shop.reporter
        self._waiting = shop.waiting
        self._pace = Pace()
        self._seams = shop.seams
        self._choice = Choice(node, attempts, scopes, self._pace, shop.seams)
        self._claimed_ahead_at = 0.0
        self._notes = Notes(desk)
        self._trouble_s = 0.0
        self._timeouts = Timeouts()
        self._standby = Standby(shop.database, desk, self._transact, shop.clock)
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
            pause = self._round(now)
            self.desk.looks_soon = pause <= NOTE_S
            return pause

    def stand_by(self) -> None:
        """Before a sleep: let the next enqueue of this process claim what it brings, where there is nothing else to do."""
        with self._guard:
            is_at_rest = self.is_claiming and not (self._stale or self._kept or self.trouble or self.hindrance)
            if is_at_rest and not self._reporter.wants("job"):  # who listens hears of an enqueue first, and of the start then
                self._standby.leave()

    def relieve(self) -> bool:
        """After the sleep: tell whether an enqueue has done so, which the next round takes in."""
        with self._guard:
            try:
                return self._standby.relieve()
            except StorageError as error:
                self._keep(Batch(self._clock()), error)
                return True

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
        stood_by = self._standby.take()
        batch = stood_by or Batch(now)
        try:
            self._timeouts.check(self.desk, self._attempts, self._clock)
            if stood_by is None:
                self._gather(batch)
                self._write(batch)
            if self.trouble is not None:
                self._database.sync(prove=True)  # a round that had nothing to write would take the disk for well
            elif self._choice.starting_once(batch.claimed):
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
        is_called = stood_by is not None and (self.is_draining or self._standby.has_missed(batch))
        return 0.0 if is_called else self._pause(batch)

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
    def is_claiming(self) -> bool:
        return not (self.is_draining or self.is_paused)

    @property
    def has_stale(self) -> bool:
        """True while there are jobs that were claimed ahead, that nobody has begun or given back."""
        return bool(self.desk.ahead or self._stale)

    @property
    def kept(self) -> int:
        """How many ends the database refuses."""
        return len(self._kept)

    def _gather(self, batch: Batch) -> None:
        desk = self.desk
        batch.ended, batch.released = emptied(desk.ended), emptied(desk.released)
        monotonic = Monotonic.now()
        if self._kept and monotonic - self._kept_at >= RETRY_S[1]:
            batch.ended += self._kept
            self._kept = []
        batch.noted = self._notes.gather(batch.ended, self.hand.in_flight)
        if desk.ahead and (not self.is_claiming or monotonic - self._claimed_ahead_at > STALE_S):
            self._stale += emptied(desk.ahead)
        batch.stale = list(self._stale)
        if desk.dismissed:
            desk.let_go()
        if self.is_claiming:
            desk.seat_ahead(self._clock)
            batch.seats = desk.seats()
        if self.trouble is not None:
            batch.seats = []
        batch.labelled = self.hand.unlabelled()

    def _transact(self, conn: Connection, batch: Batch) -> None:
        # Later than all that was committed before: a start must not seem to be earlier than the end that made room for it.
        now = batch.now = max(batch.now, self._clock())
        batch.seen = self._database.seen
        batch.claimed, batch.expired = [], []  # what an earlier run of this found was rolled back
        if self.trouble is not None:
            claim.give_back_others(conn, self.node, [(job.id, job.fence) for job in self.hand.in_flight.values()])
        batch.lost = []
        if batch.noted:
            ending = {id(job) for job, _, _ in batch.ended}  # of which `finish` tells: their ends may be stored already
            told = self._notes.write(conn, batch.noted, partial(self._aside, conn, batch))
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
        if upcoming.expires_at is not None and upcoming.expires_at <= stamp(now):
            batch.expired = self._aside(conn, batch, lambda: claim.expire(conn, now)) or []
        is_promoted = True
        if upcoming.run_at is not None and upcoming.run_at <= stamp(now):
            is_promoted = self._aside(conn, batch, lambda: claim.promote(conn, now)) is not False
            upcoming = claim.upcoming(conn, self.node)
        batch.cancelled = claim.to_cancel(conn, self.node) if upcoming.cancels else []
        batch.has_more, batch.has_orders = not is_promoted, bool(upcoming.orders)
        batch.next_at = upcoming.next
        if is_promoted:
            may_go_ahead = self.is_claiming and self.trouble is None and (batch.ended or not self._is_stuck)
            workers = self.workers if may_go_ahead else 0
            batch.claimed = self._choice.take(conn, batch, list(self.desk.ahead), workers, lambda: self._neighbours(batch))

    def _neighbours(self, batch: Batch) -> list[RunningJob]:
        """Return the jobs in hand that go on after this round."""
        gone = {id(job) for job, _, _ in (*batch.ended, *batch.kept)}.union(map(id, batch.stale))
        return [job for job in self.hand.in_flight.values() if id(job) not in gone]

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
        self.seen, self.has_more, self.has_orders = batch.seen, batch.has_more, batch.has_orders
        self._notes.settle(batch.noted, batch.ended)
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
                self.hand.leftovers[job.id] = job
                self.on_leftover(job)
            if self._reporter.wants("job") and id(job) not in lost:
                is_stopped = job.cause == "user" and outcome.status not in FINAL
                self._reporter.tell("job", job.id, "end", at, "cancelled" if is_stopped else outcome.status)
        for job in batch.released:
            self.hand.release(job)
        for job in batch.stale:
            self._forget(job)
        self._stale.clear()
        self.hand.flag(batch.cancelled)
        self._waiting.announce(job.id for job, outcome, _ in batch.ended if outcome.status in FINAL or job.cause == "user")
        self._waiting.announce(batch.expired)
        for job_id in batch.expired:
            self._reporter.tell("job", job_id, "end", batch.now, "cancelled")

    def _forget(self, job: RunningJob) -> None:
        if self.hand.drop(job):
            self._timeouts.forget(job)
            self._choice.suspects.discard(job.id)

    def _hand_over(self, batch: Batch) -> None:
        jobs = []
        self._choice.note(batch.claimed)
        for index, row in enumerate(batch.claimed):
            worker = batch.seats[index].number if index < len(batch.seats) else None
            job = RunningJob(row, self.node, worker, batch.now, self.desk.note, self._clock)
            self.hand.in_flight[job.id] = job
            timeout = self._attempts.limit_of(job)
            if timeout is not None:
                self._timeouts.watch(job, timeout)
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
        self._notes.keep(batch.noted)
        return self._trouble_s

    def _pause(self, batch: Batch) -> float:
        self.desk.looks_soon = False  # before its line is looked at: who comes later rings
        if batch.has_more or (self.desk.idle and not batch.seats and self.is_claiming):
            return 0.0  # more is due, or the database has just begun to work again
        pause = LONGEST_WAIT_S
        if batch.next_at is not None:
            pause = min(pause, (batch.next_at - batch.now).total_seconds())
        if self.desk.ahead or self.hand.has_unlabelled:
            pause = min(pause, LINGER_S)
        if self.desk.noted:
            pause = min(pause, self._notes.pause())
        pause = min(pause, self._timeouts.pause())
        return max(pause, HINDERED_S if batch.is_apart else 0.0)
