"""The workers of one node: hired, replaced, and let go."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable

from schedfactory.model.running_job import RunningJob
from schedfactory.running.desk import Desk
from schedfactory.running.worker import Worker

_log = logging.getLogger("schedfactory")


class Staff:
    """Worker threads, by number. All of it is the dispatcher's thread's.

    Args:
        seats: how many there are to be.
        make: makes a worker of a number.
        tell: called with the number of a worker and "start" or "quit".

    Attributes:
        is_open: there are threads, or will be; else whoever called works himself.
    """

    def __init__(self, seats: int, make: Callable[[int], Worker], desk: Desk, tell: Callable[[int, str], None]) -> None:
        self.seats = seats
        self.is_open = False
        self.workers: dict[int, Worker] = {}
        self._make = make
        self._desk = desk
        self._tell = tell

    def open(self) -> None:
        self.is_open = True
        self._fill()

    @property
    def present(self) -> list[Worker]:
        """The workers that can take jobs."""
        return [worker for worker in list(self.workers.values()) if worker.is_alive and not worker.quits]

    def replace(self, job: RunningJob, leftovers: int) -> None:
        """Hire a worker in the place of one whose code ran over its timeout; as many as there were at most."""
        stuck = self.workers[job.worker or 1]
        if leftovers <= self.seats and not stuck.quits and self._desk.give_up(job, stuck):
            self._hire()

    def resize(self, seats: int) -> list[Worker]:
        """Hire, or dismiss the idle ones first; return those who are to go."""
        self.seats = seats
        idle = list(self._desk.idle)
        present = sorted(self.present, key=lambda worker: (worker in idle, worker.number))
        leaving = present[seats:]
        for worker in leaving:
            self._desk.dismiss(worker)
        self._fill_if_possible()
        return leaving

    def dismiss(self, worker: Worker) -> None:
        """Let one go after his job, and have one fewer from now on; of one who is leaving already nothing changes."""
        if not worker.quits:
            self.seats -= 1
            self._desk.dismiss(worker)

    def tend(self, *, may_hire: bool) -> None:
        """Forget who has gone, and hire for the seats that this has freed."""
        self._sweep()
        if may_hire:
            self._fill_if_possible()

    def close(self, wait_s: float) -> None:
        """Let all go; those who wait at their inbox are gone when this returns."""
        for worker in list(self.workers.values()):
            worker.inbox.put(None)
        for number, worker in list(self.workers.items()):
            worker.join(wait_s)
            self._tell(number, "quit")

    def _fill(self) -> None:
        # One that is dismissed has his seat until he has gone, so that never more than that many work.
        while len(self.present) + len(self._dismissed) < self.seats:
            self._hire()

    def _fill_if_possible(self) -> None:
        try:
            self._fill()
        except RuntimeError as error:  # the system has no more threads
            self.seats = len(self.present)
            _log.error("no more workers than %d could be started: %s", self.seats, error)

    @property
    def _dismissed(self) -> list[Worker]:
        return [worker for worker in self.workers.values() if worker in self._desk.dismissed and not worker.has_gone]

    def _sweep(self) -> None:
        for number, worker in list(self.workers.items()):
            if worker.has_gone:
                del self.workers[number]
                self._tell(number, "quit")
        self._desk.dismissed[:] = self._dismissed

    def _hire(self) -> None:
        self._sweep()
        number = next(one for one in itertools.count(1) if one not in self.workers)
        worker = self._make(number)
        worker.start()
        self.workers[number] = worker
        self._tell(number, "start")
