"""How a scheduler starts, stops, runs and tells of it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Self

from schedfactory.house import House
from schedfactory.model.clock import DurationLike, duration
from schedfactory.model.errors import WaitTimeout
from schedfactory.model.health import Health
from schedfactory.model.options import check_int
from schedfactory.model.reports import StatusReport
from schedfactory.model.slots import QueuesLike, slots_of
from schedfactory.queries import Queries
from schedfactory.running import context, signals
from schedfactory.running.node import Node
from schedfactory.running.reporter import Reports
from schedfactory.storage import checkpoint, read, sqlite

STOP_S = 30.0  # what stop() has at the interpreter's exit


class Control(Queries):
    """The part of a `Scheduler` that has threads."""

    _house: House

    def _forget_threads(self) -> None:
        self._guard = threading.RLock()  # a signal's handler may call stop() anywhere
        self._node: Node | None = None

    def _drain(self) -> None:
        if self._node is not None:
            self._node.drain()

    def start(self, workers: int | None = None, queues: QueuesLike | None = None) -> None:
        """Start the dispatcher and worker threads, and return at once.

        Args:
            workers: how many jobs run at the same time; 4 unless said.
            queues: serve only these; None: all. A mapping gives slots by queue, `{"mail": 2, "*": 4}`, "*" for those that it
                does not name, and stands in the place of `workers`; then nothing is claimed ahead.

        Raises:
            ValueError: fewer than one worker or slot, no queue, a mapping beside `workers`.
            RuntimeError: it runs already.
            StorageError: the database cannot be used.
        """
        self._start(workers, queues)

    def _start(self, workers: int | None, queues: QueuesLike | None, on_drain: Callable[[], None] = lambda: None) -> Node:
        context.refuse_worker_process("start()")
        slots = slots_of(workers, queues)
        with self._guard:
            if self._node is not None and not (self._node.has_left or self._node.was_stopped):
                raise RuntimeError("the scheduler runs already. Call stop() first, or start another process.")
            node = Node(self._house.shop(self), slots, on_drain)
            self._node = node
            node.start()
        return node

    def stop(self, timeout: DurationLike = "30s") -> None:
        """Claim no more, let running jobs end, and give back what has not started. Nothing starts after this returns.

        After `timeout` the running jobs' `cancelled` flags are set. Code that runs on regardless keeps its job until it
        ends; then its result is stored, if this process still lives. Does nothing where nothing runs.
        """
        seconds = min(duration(timeout, "timeout").total_seconds(), threading.TIMEOUT_MAX / 2)
        with self._guard:
            node = self._node
        if node is None or node.was_stopped:
            return
        if context.is_inside(self):  # which cannot wait for itself; whoever stops it next waits
            node.drain()
            return
        node.stop(seconds)

    @contextmanager
    def running(self, workers: int | None = None, queues: QueuesLike | None = None) -> Iterator[Self]:
        """Start, and stop at the end of the block."""
        self.start(workers, queues)
        try:
            yield self
        finally:
            self.stop()

    def run(self, workers: int | None = None, queues: QueuesLike | None = None) -> None:
        """Start, and block until SIGINT or SIGTERM, or until `stop()` is called elsewhere; running jobs may end.

        A second signal ends the process at once, with 128 plus its number; the jobs that ran are started again.
        Signals reach only a `run()` on the main thread.

        Raises:
            SystemExit: 70, when the dispatcher cannot be kept alive, or the file is damaged.
        """
        ends: queue.SimpleQueue[None] = queue.SimpleQueue()  # no event, whose own lock a signal's handler might wait for
        with signals.caught(lambda: ends.put(None)):
            node = self._start(workers, queues, lambda: ends.put(None))
            signals.wait_for_one(ends)
            self.stop(node.patience_s)
            if node.failure is not None:
                raise SystemExit(70)

    def run_due(self, limit: int | None = None) -> int:
        """Run what is due in this thread until nothing is, and return the number of attempts: for tests, cron and scripts.

        It is a node of its own, one job at a time in the order of a claim; what the jobs enqueue for now runs too. A
        timeout sets the job's flag, and ends its attempt, while the code goes on: this thread cannot leave it.

        Args:
            limit: how many attempts at most.

        >>> scheduler.run_due()
        1
        """
        if limit is not None:
            check_int(limit, "limit", 0)
        context.refuse_worker_process("run_due()")
        node = Node(self._house.shop(self), slots_of(1, None))
        try:
            return node.run_due(limit)
        finally:
            node.stop(5)  # nothing runs; it has only to sign off

    def wait_idle(self, timeout: DurationLike | None = None) -> None:
        """Wait until nothing in the database is due or running. Jobs for later do not count.

        Raises:
            WaitTimeout: after `timeout`.
            RuntimeError: without a timeout inside a task of this scheduler, which is running itself.
        """
        seconds = None if timeout is None else duration(timeout, "timeout").total_seconds()
        self._refuse_endless_wait("the scheduler to be idle", seconds)
        if self._house.waiting.until(0, self._is_idle, self._house.database.state, seconds) is None:
            raise WaitTimeout(f"there were jobs due or running after {seconds:g} s: {self.counts()}")

    def _is_idle(self) -> bool | None:
        with self._house.database.read() as conn:
            return None if read.is_busy(conn, self._house.clock()) else True

    @property
    def is_running(self) -> bool:
        """True between `start()` and the begin of `stop()`."""
        return self._node is not None and not self._node.is_stopping

    def health(self) -> Health:
        """Return how this process's dispatcher and workers do; see `Health`.

        >>> scheduler.health().ok
        True
        """
        node = self._node
        if node is None or (node.has_left and node.failure is None):
            found = Health(True, (), "stopped", 0, 0, 0, 0, "ok")
        else:
            found = node.health()
        alarm = checkpoint.alarm(self._house.database.path) if self._house.is_open else None
        if alarm is not None:
            found = replace(found, ok=False, problems=(*found.problems, alarm))
        return replace(found, database=sqlite.state()) if found.database == "ok" else found

    def listen(self, callback: Callable[[StatusReport], object], *subjects: str) -> None:
        """Call `callback(report)` for what happens in this process, on a thread of its own, until `close()`.

        Args:
            subjects: "job", "worker", "node", "command"; none: all four.
        """
        self._house.reporter.listen(callback, *subjects)

    def reports(self, *subjects: str) -> Reports:
        """Subscribe now, and return an iterator over what happens in this process; it ends at `close()`."""
        return self._house.reporter.reports(*subjects)
