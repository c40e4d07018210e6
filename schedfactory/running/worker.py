"""A thread that runs one job after the other."""

from __future__ import annotations

import queue
import threading

from schedfactory.model.clock import Clock, Monotonic, system_clock
from schedfactory.model.outcome import CANCELLED, failed
from schedfactory.model.running_job import RunningJob
from schedfactory.running.attempt import Attempts, Executor
from schedfactory.running.desk import Desk

_LAST_S = 1.0  # for the last statements of a thread


class Worker:
    """Takes what lies ahead, else waits at its inbox.

    `quits` makes it end after the job it has: it was told to, or its place was filled while it ran over a timeout.
    """

    def __init__(self, number: int, desk: Desk, attempts: Attempts, clock: Clock, isolated: Executor) -> None:
        self.number = number
        self.inbox: queue.SimpleQueue[RunningJob | None] = queue.SimpleQueue()
        self.quits = False
        self._says_goodbye = False
        self._desk = desk
        self._attempts = attempts
        self._clock = clock
        self._isolated = isolated
        self._thread = threading.Thread(target=self._run, name=f"schedfactory-worker-{number}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def do(self, job: RunningJob) -> None:
        job.began = Monotonic.now()
        try:
            ending = CANCELLED if job.cause == "user" and job.is_ahead else self._attempts.run(job, self._isolated)
            now = self._clock()
        except Exception as error:  # noqa: BLE001 - a mistake of ours, or of the user's clock; the job must end all the same
            ending, now = failed("error", error), system_clock()
        job.took = Monotonic.now() - job.began
        self._desk.end(job, ending, now)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def has_gone(self) -> bool:
        """True once its thread is gone, not only about to."""
        if self._says_goodbye:
            self._thread.join(_LAST_S)
        return self._thread.ident is not None and not self._thread.is_alive()

    def close(self) -> None:
        """End the process that it may have for its jobs; at once, because none runs."""
        self._isolated.close()

    def _run(self) -> None:
        while not self.quits:
            job = self._next()
            if job is None:
                break
            self.do(job)
        self.close()
        self._says_goodbye = True
        self._desk.ring()

    def _next(self) -> RunningJob | None:
        desk = self._desk
        try:
            job = desk.ahead.popleft()
        except IndexError:
            return desk.rest(self)
        if len(desk.ahead) < desk.few:
            desk.ring()
        desk.begin(job, self, self._clock())
        return job
