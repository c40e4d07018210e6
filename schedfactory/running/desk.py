"""What a dispatcher and its workers have between them: jobs one way, outcomes the other, a batch a round."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar

from schedfactory.model.log import Line
from schedfactory.model.outcome import Outcome
from schedfactory.model.running_job import RunningJob
from schedfactory.storage.finish import Ended
from schedfactory.storage.statement import Row

T = TypeVar("T")


class Seat(Protocol):
    """A worker, as the desk sees it."""

    number: int
    quits: bool
    inbox: queue.SimpleQueue[RunningJob | None]


@dataclass(eq=False, slots=True)
class Note:
    """What a running job has said, as far as one round writes it."""

    job: RunningJob
    lines: Sequence[Line]
    is_written: bool = False


@dataclass
class Batch:
    """What one round brings to the database, and what it finds there."""

    now: datetime
    ended: list[Ended] = field(default_factory=list)
    noted: list[Note] = field(default_factory=list)
    released: list[RunningJob] = field(default_factory=list)
    stale: list[RunningJob] = field(default_factory=list)
    labelled: list[RunningJob] = field(default_factory=list)
    seats: list[Seat] = field(default_factory=list)
    claimed: list[Row] = field(default_factory=list)
    lost: list[RunningJob] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)
    kept: list[Ended] = field(default_factory=list)
    is_apart: bool = False
    has_more: bool = False
    has_orders: bool = False
    next_at: datetime | None = None
    seen: int | None = None


class Desk:
    """Lists that any thread appends to and only the dispatcher empties; single operations on them are atomic.

    Attributes:
        idle: workers that wait at their inbox, in the order in which they came.
        ahead: claimed jobs of no worker yet; whoever has finished takes the first one.
        ended: attempts and how they ended.
        noted: running jobs with news for their rows.
        released: jobs whose left-over code has ended.
        dismissed: workers that get no more jobs, until their threads have ended.
    """

    def __init__(self, ring: Callable[[], None], begun: Callable[[int, int, int], None]) -> None:
        self.ring = ring
        self._begun = begun
        self.idle: deque[Seat] = deque()
        self.ahead: deque[RunningJob] = deque()
        self.ended: deque[Ended] = deque()
        self.noted: deque[RunningJob] = deque()
        self.released: deque[RunningJob] = deque()
        self.dismissed: list[Seat] = []
        self.looks_soon = False  # whether the dispatcher looks within the time that news may wait, unrung
        self.few = 0  # a worker that leaves fewer than this ahead rings for more
        self._guard = threading.Lock()

    def end(self, job: RunningJob, outcome: Outcome, now: datetime) -> None:
        """Take in that a job's code has ended; its outcome counts unless its timeout came first."""
        with self._guard:
            job.has_ended = True
            is_first = not job.settled
            job.settled = True
        if is_first:
            self.ended.append((job, outcome, now))
        else:
            self.released.append(job)

    def give_up(self, job: RunningJob, stuck: Seat) -> bool:
        """Give up a worker whose job ran over its timeout; return False where that code has ended after all."""
        with self._guard:
            if not job.has_ended:
                stuck.quits = True
            return not job.has_ended

    def settle(self, job: RunningJob) -> bool:
        """Claim the right to say how this attempt ended: the code's end and its timeout may meet."""
        with self._guard:
            is_first = not job.settled
            job.settled = True
            return is_first

    def begin(self, job: RunningJob, seat: Seat, now: datetime) -> None:
        """Note that a worker begins a job that was claimed ahead: where the row does not say so yet, a rescuer must know."""
        job.worker, job.started = seat.number, now
        self._begun(job.id, job.fence, seat.number)

    def dismiss(self, seat: Seat) -> None:
        """Let a worker end after the job that it has."""
        seat.quits = True
        self.dismissed.append(seat)
        self.let_go()

    def let_go(self) -> None:
        """End those who are dismissed and wait at their inbox. The dispatcher's, as all that takes from `idle` is."""
        for seat in self.dismissed:
            if seat in self.idle:
                self.idle.remove(seat)
                seat.inbox.put(None)

    def seat_ahead(self, now: Callable[[], datetime]) -> None:
        """Give what is claimed already to who is idle: nobody needs the database for that."""
        while self.idle:
            try:
                job = self.ahead.popleft()
            except IndexError:  # a worker may have taken the last one
                return
            seat = self.idle.popleft()
            self.begin(job, seat, now())
            seat.inbox.put(job)

    @property
    def has_news(self) -> bool:
        """True while the workers have brought something that no round has taken."""
        return bool(self.ended or self.released or self.noted)

    def seats(self) -> list[Seat]:
        """Return the workers that wait for a job."""
        if not self.dismissed:
            return list(self.idle)
        return [seat for seat in list(self.idle) if not seat.quits]

    def note(self, job: RunningJob) -> None:
        self.noted.append(job)
        if not self.looks_soon:
            self.ring()

    def rest(self, seat: Seat) -> RunningJob | None:
        """Wait until the dispatcher has a job for this worker; None: the worker is to end."""
        self.idle.append(seat)
        self.ring()
        return seat.inbox.get()


def emptied(line: deque[T]) -> list[T]:
    """Take everything that is in line now; others may take from it, too."""
    found: list[T] = []
    with suppress(IndexError):
        for _ in range(len(line)):
            found.append(line.popleft())  # noqa: PERF401 - what was taken before the line was empty must be kept
    return found
