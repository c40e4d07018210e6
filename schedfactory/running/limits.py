"""How long attempts may run, in the hand of the dispatcher: which are over their time, and when the next one will be."""

from __future__ import annotations

from datetime import timedelta

from schedfactory.model.clock import Clock, Monotonic
from schedfactory.model.running_job import RunningJob
from schedfactory.running.attempt import Attempts
from schedfactory.running.desk import Desk

_UNBEGUN_S = 0.25  # between looks at an attempt that has not begun


class Limits:
    """The limits of jobs in hand. A job without one costs nothing here."""

    def __init__(self) -> None:
        self._limits: dict[int, tuple[RunningJob, timedelta]] = {}

    def watch(self, job: RunningJob, limit: timedelta) -> None:
        self._limits[job.id] = (job, limit)

    def forget(self, job: RunningJob) -> None:
        self._limits.pop(job.id, None)

    def check(self, desk: Desk, attempts: Attempts, clock: Clock) -> None:
        """End the attempts that ran too long, whose end nobody has told yet."""
        for job, limit in list(self._limits.values()):
            if not job.settled and self._left(job, limit) <= 0:
                ending = (job, attempts.time_out(job, limit), clock())
                if desk.settle(job):
                    job.cause = job.cause or "timeout"
                    job.took = limit.total_seconds()
                    desk.ended.append(ending)

    def pause(self) -> float:
        """Return in how many seconds one may be over its time."""
        return min((self._left(job, limit) for job, limit in self._limits.values()), default=float("inf"))

    @staticmethod
    def _left(job: RunningJob, limit: timedelta) -> float:
        seconds = limit.total_seconds()
        return min(_UNBEGUN_S, seconds) if job.began is None else job.began + seconds - Monotonic.now()
