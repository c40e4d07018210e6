"""How long attempts may run, in the hand of the dispatcher: which are over their time, and when the next one will be."""

from __future__ import annotations

from datetime import timedelta

from schedfactory.model.clock import Clock, Monotonic
from schedfactory.model.running_job import RunningJob
from schedfactory.running.attempt import Attempts
from schedfactory.running.desk import Desk

_UNBEGUN_S = 0.25  # between looks at an attempt that has not begun


class Timeouts:
    """The timeouts of jobs in hand. A job without one costs nothing here."""

    def __init__(self) -> None:
        self._watched: dict[int, tuple[RunningJob, timedelta]] = {}

    def watch(self, job: RunningJob, timeout: timedelta) -> None:
        self._watched[job.id] = (job, timeout)

    def forget(self, job: RunningJob) -> None:
        self._watched.pop(job.id, None)

    def check(self, desk: Desk, attempts: Attempts, clock: Clock) -> None:
        """End the attempts that ran too long, whose end nobody has told yet."""
        for job, timeout in list(self._watched.values()):
            if not job.settled and self._left(job, timeout) <= 0:
                ending = (job, attempts.time_out(job, timeout), clock())
                if desk.settle(job):
                    job.cause = job.cause or "timeout"
                    job.took = timeout.total_seconds()
                    desk.ended.append(ending)

    def pause(self) -> float:
        """Return in how many seconds one may be over its time."""
        return min((self._left(job, timeout) for job, timeout in self._watched.values()), default=float("inf"))

    @staticmethod
    def _left(job: RunningJob, timeout: timedelta) -> float:
        seconds = timeout.total_seconds()
        return min(_UNBEGUN_S, seconds) if job.began is None else job.began + seconds - Monotonic.now()
