"""The gate: it builds the house, takes in jobs, starts and stops, and hands everything else on."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from schedfactory import settings
from schedfactory.house import House
from schedfactory.model.clock import Clock, DurationLike, duration
from schedfactory.model.errors import PayloadTooLarge, WaitTimeout
from schedfactory.model.health import Health
from schedfactory.model.job import Job
from schedfactory.model.keep import KeepLike
from schedfactory.model.options import CallOptions, check_queue
from schedfactory.model.reports import StatusReport
from schedfactory.model.task import Call, OnCrash, RemoteTask, Task, TaskRegistry
from schedfactory.queries import Queries
from schedfactory.running import signals
from schedfactory.running.node import Node
from schedfactory.settings import Given
from schedfactory.storage import enqueue, read
from schedfactory.storage import migrate as schema

if TYPE_CHECKING:
    from sqlalchemy import Engine

P = ParamSpec("P")
R = TypeVar("R")


class Scheduler(Queries):
    """A durable job queue and its workers, in one SQLite file.

    Making one opens nothing; the first use does, and makes the file and its tables where they are missing. Safe from any
    thread. After a `fork` the child opens the file anew by itself, and runs nothing.

    Args:
        database: a path, an SQLAlchemy URL or Engine (of which only the URL is used); ":memory:" is a private temporary
            file. None reads `SCHEDFACTORY_DATABASE`, else it is `schedfactory.db` in the working directory.
        durability: "full": an enqueue that returned survives power loss. "normal": it survives any crash of processes,
            and power loss may drop the newest commits.
        migrate: bring the tables up to date at the first use.
        lease: how long a node on another host may be silent, while it has jobs, before those are taken over, a duration; nodes
            on one host are known to be dead at once.
        lock_timeout: how long a call may wait for other processes, a duration.
        keep: how long finished jobs stay before running nodes delete them, a few at a time: a mapping by final status, in
            which None means for ever, or one duration for all; None keeps everything.
        max_payload: bytes of a job's encoded arguments.
        max_result: bytes of its encoded result.
        clock: gives the time as an aware datetime; None is the host's clock.

    Raises:
        ValueError, TypeError: naming the argument and its value.

    >>> scheduler = Scheduler("jobs.db")
    >>> @scheduler.task
    ... def add(x: int, y: int) -> int:
    ...     return x + y
    >>> job = add.enqueue(2, 3)
    >>> with scheduler.running(workers=4):
    ...     job.get_result(timeout="10s")
    5
    """

    def __init__(
        self,
        database: str | os.PathLike[str] | Engine | None = None,
        *,
        durability: str = "full",
        migrate: bool = True,
        lease: DurationLike = "15s",
        lock_timeout: DurationLike = "30s",
        keep: KeepLike | None = MappingProxyType({"succeeded": "30d", "cancelled": "30d", "failed": "90d"}),
        max_payload: int = 1_048_576,
        max_result: int = 4_194_304,
        clock: Clock | None = None,
    ) -> None:
        given = settings.check(
            database,
            durability=durability,
            migrate=migrate,
            lease=lease,
            lock_timeout=lock_timeout,
            keep=keep,
            max_payload=max_payload,
            max_result=max_result,
            clock=clock,
        )
        self._house = House(given)
        self._house.tasks.serve(self)
        self._forget_threads()
        _all.add(self)

    def _forget_threads(self) -> None:
        self._guard = threading.Lock()
        self._node: Node | None = None
        self._last_node: Node | None = None
        self._is_asked_to_stop = threading.Event()

    def configure(self, database: str | os.PathLike[str] | Engine | None = None, **given: Unpack[Given]) -> None:
        """Set what `Scheduler(…)` takes, later: before the first use, or after `close()`. What is not given has its default.

        Raises:
            RuntimeError: the database is open.
            ValueError, TypeError: as for `Scheduler`.
        """
        wanted = settings.check(database, **given)
        if self._house.is_open:
            raise RuntimeError(f"{self._house.database.path} is open. Call configure() before the first use, or close() first.")
        self._house.furnish(wanted)

    @contextmanager
    def override(self, database: str | os.PathLike[str], *, clock: Clock | None = None) -> Iterator[Scheduler]:
        """Use another file, and another clock, inside the block: for tests of a program that has its scheduler already.

        Raises:
            RuntimeError: it is running.

        >>> with scheduler.override(":memory:"):
        ...     scheduler.counts()["queued"]
        0
        """
        if self.is_running:
            raise RuntimeError("the scheduler runs, so its file cannot be changed. Call stop() first.")
        before = self._house.settings
        other = replace(before, path=settings.path_of(database), clock=settings.checked(clock) if clock else before.clock)
        self.close()
        self._house.furnish(other)
        try:
            yield self
        finally:
            self.close()
            self._house.furnish(before)

    def migrate(self) -> None:
        """Bring the tables up to date now, also where the scheduler was made with `migrate=False`.

        Raises:
            SchemaTooNew: a newer version made them.
            StorageError: the database cannot be used.
        """
        self._house.database.open(migrate=True)

    @staticmethod
    def migration_sql() -> str:
        """Return the SQL that makes the tables in an empty file, for those who do that by hand."""
        return schema.script()

    # Tasks and jobs

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self,
        *,
        name: str | None = None,
        aliases: Iterable[str] = (),
        on_crash: OnCrash = "requeue",
        keep: KeepLike | None = None,
        **options: Unpack[CallOptions],
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...
    def task(self, *function: Any, **options: Any) -> Any:
        """Register a function as a task; see `TaskRegistry.task`.

        >>> @scheduler.task(name="mail.welcome", queue="mail", retry=5, timeout="30s")
        ... def welcome(user_id: int) -> None: ...
        """
        return self._house.tasks.task(*function, **options)

    @property
    def tasks(self) -> TaskRegistry:
        """The tasks that this scheduler knows: `tasks.get(name)` finds one, `tasks.names()` lists them."""
        return self._house.tasks

    def include(self, tasks: TaskRegistry) -> None:
        """Take in the tasks of a registry, also those that it gets later.

        Raises:
            ValueError: a name is taken by another function, or the registry belongs to another scheduler.
        """
        self._house.tasks.include(tasks)

    def remote(self, name: str) -> RemoteTask:
        """Return a task whose code is elsewhere, by its name. Its arguments are keywords only."""
        return RemoteTask(name, self)

    def enqueue(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Store a job that calls `function`, which is registered on the way; as `Task.enqueue`.

        Raises:
            TypeError: a lambda, a method, a nested function: nothing that another process could find.
        """
        return self._house.tasks.ensure(function).enqueue(*args, **kwargs)

    def enqueue_many(self, calls: Iterable[Call[R]]) -> list[Job[R]]:
        """Store jobs for all these calls in one transaction: all or none, their ids in order.

        >>> jobs = scheduler.enqueue_many([add.call(1, 2), add.options(priority=9).call(3, 4)])
        >>> [job.priority for job in jobs]
        [0, 9]
        """
        return self.enqueue_calls(tuple(calls))

    def enqueue_calls(self, calls: Sequence[Call[Any]]) -> list[Job[Any]]:
        """Store jobs for these calls; what tasks and `enqueue_many` are served by."""
        now = self._house.clock()
        rows = [self._row(call, now) for call in calls]
        if not rows:
            return []
        ids = self._house.database.write(
            lambda conn: enqueue.insert_rows(conn, rows),
            was_stored=lambda conn, ids: enqueue.is_there(conn, ids[0], rows[0]),
        )
        if self._house.reporter.wants("job"):
            for job_id in ids:
                self._house.reporter.tell("job", job_id, "queued", now)
        return [Job(enqueue.snapshot(job_id, row), self, now, is_new=True) for job_id, row in zip(ids, rows)]

    def _row(self, call: Call[Any], now: datetime) -> tuple[Any, ...]:
        if not isinstance(call, Call):
            raise TypeError(f"{call!r} is no call. Pass what task.call(…) returns.")
        size = len(call.args) if call.args.isascii() else len(call.args.encode())
        if size > self._house.settings.max_payload:
            raise PayloadTooLarge(
                f"the arguments of {call.task} have {size} bytes, over max_payload={self._house.settings.max_payload}. "
                "Store the data elsewhere and pass where it is."
            )
        return enqueue.to_row(call, now)

    # Running

    def start(self, workers: int | None = None, queues: Sequence[str] | None = None) -> None:
        """Start the dispatcher and worker threads, and return at once.

        Args:
            workers: how many jobs run at the same time; 4 unless said.
            queues: serve only these; None: all.

        Raises:
            ValueError: fewer than one worker, no queue.
            RuntimeError: it runs already.
            StorageError: the database cannot be used.
        """
        count = 4 if workers is None else workers
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError(f"workers={count!r} is no number of workers. Pass an int of 1 or more.")
        if count < 1:
            raise ValueError(f"workers={count} is fewer than one. Pass 1 or more.")
        if queues is not None:
            queues = _check_queues(queues)
        with self._guard:
            if self._node is not None:
                raise RuntimeError("the scheduler runs already. Call stop() first, or start another process.")
            node = Node(self._house.shop(self), count, queues, self._is_asked_to_stop.set)
            self._node = node
            node.start()

    def stop(self, timeout: DurationLike = "30s") -> None:
        """Claim no more, let running jobs end, and give back what has not started. Nothing starts after this returns.

        After `timeout` the running jobs' `cancelled` flags are set. Code that runs on regardless keeps its job until it
        ends; then its result is stored, if this process still lives. Does nothing where nothing runs.
        """
        seconds = duration(timeout, "timeout").total_seconds()
        self._is_asked_to_stop.set()
        with self._guard:
            node, self._node = self._node, None
        if node is not None:
            self._last_node = node
            node.stop(seconds)

    @contextmanager
    def running(self, workers: int | None = None, queues: Sequence[str] | None = None) -> Iterator[Scheduler]:
        """Start, and stop at the end of the block."""
        self.start(workers, queues)
        try:
            yield self
        finally:
            self.stop()

    def run(self, workers: int | None = None, queues: Sequence[str] | None = None) -> None:
        """Start, and block until SIGINT or SIGTERM, or until `stop()` is called elsewhere; running jobs may end.

        A second signal ends the process at once, with 128 plus its number; the jobs that ran are started again.
        Signals reach only a `run()` on the main thread.

        Raises:
            SystemExit: 70, when the dispatcher cannot be kept alive, or the file is damaged.
        """
        self._is_asked_to_stop.clear()
        with signals.caught(self._is_asked_to_stop.set):
            self.start(workers, queues)
            node = self._node
            self._is_asked_to_stop.wait()
            self.stop()
            if node is not None and node.failure is not None:
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
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise ValueError(f"limit={limit!r} is no number of attempts. Pass an int of 0 or more.")
        node = Node(self._house.shop(self), 1, None)
        try:
            return node.run_due(limit)
        finally:
            node.stop(0)

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
        return self._node is not None

    def health(self) -> Health:
        """Return how this process's dispatcher and workers do; see `Health`.

        >>> scheduler.health().ok
        True
        """
        node = self._node or self._last_node
        if node is None or (node.has_left and node.failure is None):
            return Health(True, (), "stopped", 0, 0, 0, 0, "ok")
        return node.health()

    def listen(self, callback: Callable[[StatusReport], object], *subjects: str) -> None:
        """Call `callback(report)` for what happens in this process, on a thread of its own, until `close()`.

        Args:
            subjects: "job", "worker", "node"; none: all three.
        """
        self._house.reporter.listen(callback, *subjects)

    def reports(self, *subjects: str) -> Iterator[StatusReport]:
        """Subscribe now, and return an iterator over what happens in this process; it ends at `close()`."""
        return self._house.reporter.reports(*subjects)

    def close(self) -> None:
        """Stop, if it runs, and close the database and all reports. May be called twice; the next use opens it again."""
        self.stop()
        self._house.close()


def _check_queues(queues: Sequence[str]) -> list[str]:
    if isinstance(queues, str) or not isinstance(queues, Sequence):
        raise TypeError(f'queues={queues!r} is no list of names. Pass one such as ["mail"].')
    if not queues:
        raise ValueError("queues=[] serves nothing. Pass names, or None for all queues.")
    return [check_queue(name) for name in queues]


_all: weakref.WeakSet[Scheduler] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """At the interpreter's exit a running scheduler stops; code that runs on dies with the process, as in a crash."""
    for scheduler in list(_all):
        scheduler.stop()


def _after_fork() -> None:
    for scheduler in list(_all):
        scheduler._house.refresh()
        scheduler._forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
