"""The gate: it builds the house, takes in jobs, starts and stops, and hands everything else on."""

from __future__ import annotations

import atexit
import logging
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from schedfactory.control import STOP_S, Control
from schedfactory.features.queues import refuse_full
from schedfactory.house import House
from schedfactory.model.clock import Clock, DurationLike, Monotonic
from schedfactory.model.errors import PayloadTooLarge, QueueFull
from schedfactory.model.job import Job
from schedfactory.model.limit import Limit
from schedfactory.model.options import KEPT, KeepLike, TaskOptions
from schedfactory.model.registry import TaskRegistry
from schedfactory.model.task import Call, Isolation, OnCrash, RemoteTask, Task
from schedfactory.running import context
from schedfactory.settings import Given, Settings
from schedfactory.storage import enqueue
from schedfactory.storage import migrate as schema
from schedfactory.storage.enqueue import Arrival, Stored
from schedfactory.storage.statement import Row

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

P = ParamSpec("P")
R = TypeVar("R")


class Scheduler(Control):
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
        capture_logs: the lowest level, a name or a number, of the `logging` records that are kept with the job whose code
            makes them; None: none. Only what the program's own loggers let through is seen.
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
        database: str | os.PathLike[str] | URL | Engine | None = None,
        *,
        durability: str = "full",
        migrate: bool = True,
        lease: DurationLike = "15s",
        lock_timeout: DurationLike = "30s",
        keep: KeepLike | None = KEPT,
        max_payload: int = 1_048_576,
        max_result: int = 4_194_304,
        capture_logs: str | int | None = "INFO",
        clock: Clock | None = None,
    ) -> None:
        given = Settings(
            database,
            durability=durability,
            migrate=migrate,
            lease=lease,
            lock_timeout=lock_timeout,
            keep=keep,
            max_payload=max_payload,
            max_result=max_result,
            capture_logs=capture_logs,
            clock=clock,
        )
        self._house = House(given)
        self._house.tasks.serve(self)
        self._forget_threads()
        _all.add(self)

    def configure(self, database: str | os.PathLike[str] | URL | Engine | None = None, **given: Unpack[Given]) -> None:
        """Set what `Scheduler(…)` takes, later: before the first use, or after `close()`. What is not given has its default.

        Raises:
            RuntimeError: the database is open.
            ValueError, TypeError: as for `Scheduler`.
        """
        wanted = Settings(database, **given)
        if self._house.is_open or self.is_running:
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
        other = replace(before, database=database, clock=clock or before.clock)
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
        isolation: Isolation = "thread",
        keep: KeepLike | None = None,
        limit: Limit | Sequence[Limit] | None = None,
        **options: Unpack[TaskOptions],
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
        """Take in the tasks of a registry, also those that it gets later; where one is refused, none of them.

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

        Raises:
            DuplicateJob: a call whose `unique` says `on_conflict="raise"` meets another one, among these calls, too.
            TypeError: no calls, or one that is not in a list.

        >>> jobs = scheduler.enqueue_many([add.call(1, 2), add.options(priority=9).call(3, 4)])
        >>> [job.priority for job in jobs]
        [0, 9]
        """
        if isinstance(calls, Call):
            raise TypeError(f"this is one call, of {calls.task}. Pass a list of calls: enqueue_many([call]).")
        if not isinstance(calls, Iterable):
            raise TypeError(f"{calls!r} is no list of calls. Pass one of what task.call(…) returns: enqueue_many([call]).")
        return self.enqueue_calls(tuple(calls))

    def enqueue_calls(self, calls: Sequence[Call[Any]]) -> list[Job[Any]]:
        """Store jobs for these calls; what tasks and `enqueue_many` are served by."""
        context.refuse_worker_process("enqueue()", at_import=True)
        now = self._house.clock()
        for call in calls:
            self._check(call)
        new = enqueue.to_rows(calls, now)
        if not new:
            return []
        ids, rows, known = self._store(calls, new, now)
        if self._house.reporter.wants("job"):
            for index, job_id in enumerate(ids):
                if index not in known:
                    self._house.reporter.tell("job", job_id, "queued", now)
        jobs: list[Job[Any]] = [Job(enqueue.snapshot(job_id, row), self, now, is_new=True) for job_id, row in zip(ids, rows)]
        for index, row in known.items():
            jobs[index] = Job(row, self, now)
        return jobs

    def _store(self, calls: Sequence[Call[Any]], rows: Sequence[Row], now: datetime) -> Stored:
        arrival = (calls, rows, self._house.seams, now)
        try:
            return self._store_now(arrival)
        except QueueFull as error:
            if not error.may_wait or context.is_inside(self):
                raise
            full = error
        return self._house.waiting.for_room(lambda: self._store_if_room(full, arrival), self._house.database.state)

    def _store_now(self, arrival: Arrival) -> Stored:
        return self._house.database.write_together(enqueue.store_together, arrival, was_stored=enqueue.is_there)

    def _store_if_room(self, full: QueueFull, arrival: Arrival) -> Stored | None:
        try:
            with self._house.database.read() as conn:
                refuse_full(conn, full.queue, full.more)
            return self._store_now(arrival)
        except QueueFull as still_full:
            if not still_full.may_wait:
                raise
            return None

    def work_on(self, path: str) -> None:
        """Use the parent's file in a worker process, whatever the program's own words make of it there."""
        if self._house.settings.path != Path(path):
            self.close()
            self._house.furnish(replace(self._house.settings, database=path))

    def _check(self, call: Call[Any]) -> None:
        if not isinstance(call, Call):
            raise TypeError(f"{call!r} is no call. Pass what task.call(…) returns.")
        size = len(call.args) if call.args.isascii() else len(call.args.encode())
        if size > self._house.settings.max_payload:
            raise PayloadTooLarge(
                f"the arguments of {call.task} have {size} bytes, over max_payload={self._house.settings.max_payload}. "
                "Store the data elsewhere and pass where it is."
            )

    def close(self) -> None:
        """Stop, if it runs, and close the database and all reports. May be called twice; the next use opens it again."""
        self.stop()
        self._house.close()


_all: weakref.WeakSet[Scheduler] = weakref.WeakSet()


_log = logging.getLogger("schedfactory")


@atexit.register
def _stop_all() -> None:
    """At the interpreter's exit a running scheduler stops; code that runs on dies with the process, as in a crash."""
    end = Monotonic.now() + STOP_S
    for scheduler in list(_all):
        scheduler._drain()
    for scheduler in list(_all):
        try:
            scheduler.stop(max(end - Monotonic.now(), 0))
        except Exception:  # noqa: BLE001 - logged; the others have to stop, too
            _log.exception("a scheduler could not stop at the interpreter's exit")


def _after_fork() -> None:
    for scheduler in list(_all):
        scheduler._house.refresh()
        scheduler._forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
