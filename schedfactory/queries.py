"""What a scheduler answers about its jobs, and what it changes in them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedfactory.features.queues import Queues
from schedfactory.house import House
from schedfactory.model import codec
from schedfactory.model.clock import DurationLike, Moment, duration, moment
from schedfactory.model.errors import JobFinished, NotFound, WaitTimeout
from schedfactory.model.explanation import Explanation
from schedfactory.model.health import Finding
from schedfactory.model.job import FINAL, Attempt, Job, LogLine
from schedfactory.model.options import check_int, check_priority, check_queue
from schedfactory.model.stats import QueueStats
from schedfactory.nodes import Commands, Nodes
from schedfactory.outlook import Outlook
from schedfactory.running import context
from schedfactory.storage import backup, changes, doctor, notes, read

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection


class Queries:
    """The part of a `Scheduler` that reads and changes jobs."""

    _house: House

    def get(self, job_id: int) -> Job[Any] | None:
        """Return the job of that id, None where there is none (any more).

        >>> scheduler.get(1).status
        'queued'
        """
        with self._house.database.read() as conn:
            row = read.get(conn, _id(job_id))
        return None if row is None else Job(row, self, self._house.clock())

    def jobs(
        self,
        *,
        status: str | Sequence[str] | None = None,
        task: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        args: dict[str, Any] | None = None,
        created_after: Moment | None = None,
        finished_after: Moment | None = None,
        limit: int = 100,
        before_id: int | None = None,
    ) -> list[Job[Any]]:
        """Return the newest jobs that match all filters, the newest first.

        Args:
            status: one, or several of which any matches.
            task: the name of a task.
            tag: one of the job's labels.
            args: values that the stored arguments of these names have. One that was left at its default is not stored, so it
                is not found; and 1.0 does not find 1.
            created_after, finished_after: moments, exclusive.
            limit: how many at most.
            before_id: only jobs with a lower id: pass the last one's to turn the page.

        Raises:
            ValueError, TypeError: an unknown status, a naive moment, a limit below 1, arguments that JSON cannot hold.

        >>> [job.id for job in scheduler.jobs(status="queued", args={"x": 2})]
        [1]
        """
        check_int(limit, "limit", 1)
        condition = _condition(
            status=status, task=task, queue=queue, tag=tag, args=args, created_after=created_after,
            finished_after=finished_after, before_id=before_id,
        )  # fmt: skip
        with self._house.database.read() as conn:
            rows = read.find(conn, condition, limit)
        return [Job(row, self, self._house.clock()) for row in rows]

    def counts(self) -> dict[str, int]:
        """Return how many jobs there are of each of the seven statuses. It costs the same beside any history.

        >>> scheduler.counts()["queued"]
        1
        """
        with self._house.database.read() as conn:
            return read.count(conn)

    def stats(self) -> list[QueueStats]:
        """Return how many jobs each queue has of each status, and since when its oldest due one waits, sorted by name.

        >>> [(one.queue, one.queued) for one in scheduler.stats()]
        [('default', 1)]
        """
        with self._house.database.read() as conn:
            return read.stats(conn)

    def cancel(self, job_id: int | None = None, **filters: Any) -> int:
        """Cancel one job, or all that match the filters of `jobs()`; return how many that were.

        What has not started never will. What runs gets its `cancelled` flag within a second, and ends when its code looks
        at that, or by itself. Finished jobs do not change.

        Raises:
            TypeError: neither an id nor a filter; use `status=` to mean all jobs of a status.
        """
        condition = _chosen("cancel", job_id, filters)
        now = self._house.clock()
        ended, running = self._house.database.write(lambda conn: changes.cancel(conn, condition, now))
        for flag in list(self._house.flags):  # a node of this process need not wait for its next round to know
            flag(running)
        self._tell(ended, "end", now, "cancelled")
        return len(ended) + len(running)

    def requeue(self, job_id: int | None = None, **filters: Any) -> int:
        """Run finished jobs again, one or all that match the filters of `jobs()`; return how many that were.

        Each keeps its row: due now, failures 0, result, error and expiry cleared. Unfinished jobs do not change.

        Raises:
            DuplicateJob: another job holds the unique key of one of them, or two of them have the same; nothing is changed.
            TypeError: neither an id nor a filter.
        """
        condition = _chosen("requeue", job_id, filters)
        now = self._house.clock()
        requeued = self._house.database.write(lambda conn: changes.requeue(conn, condition, now))
        self._tell(requeued, "queued", now)
        return len(requeued)

    def _tell(self, job_ids: Sequence[int], what: str, now: datetime, detail: str = "") -> None:
        for job_id in job_ids:
            self._house.reporter.tell("job", job_id, what, now, detail)

    def prune(self, *, older_than: DurationLike = "30d", status: str | Sequence[str] | None = None) -> int:
        """Delete finished jobs, and their attempts and logs, that ended longer ago than `older_than`; return how many.

        In small transactions, so that workers go on meanwhile. The newest row of the table always stays, so that its id
        is never used again.

        Args:
            status: only these final statuses; None: all three.

        Raises:
            ValueError: a status that is not final.
        """
        statuses = FINAL if status is None else read.check_statuses(status)
        for one in statuses:
            if one not in FINAL:
                raise ValueError(f"status={one!r} is not final. Only {', '.join(FINAL)} jobs can be pruned.")
        is_over = changes.ended_before(self._house.clock() - duration(older_than, "older_than"), statuses)
        deleted, after = 0, 0
        while True:
            some, last = self._house.database.write(lambda conn, after=after: changes.prune(conn, after, is_over))  # type: ignore[misc]
            deleted += some
            if last is None:
                return deleted
            after = last

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give an SQLAlchemy connection that sees one state of the database and cannot change it.

        While it is open, SQLite's log cannot be cut back: do not hold it for long.

        >>> from sqlalchemy import text
        >>> with scheduler.reading() as connection:
        ...     connection.execute(text("SELECT count(*) FROM schedfactory_history")).scalar_one()
        1
        """
        with self._house.database.read(for_people=True) as conn:
            yield conn

    def backup(self, path: str | os.PathLike[str]) -> Path:
        """Copy the database as it is at this moment to a new file, while everything runs; return that file's path.

        Nobody waits for it. The copy is checked and synced before it gets its name, and has the permissions of the
        original; a process killed on the way leaves at most `<name>.<8 digits>.unfinished`, which may be deleted. What ran when
        it was made counts as crashed in it, and starts again where a scheduler runs on it: at once after a restart of
        the machine or in the place of the original, after `lease` elsewhere. A copy is a queue of its own: run it beside
        the original, and what was queued runs twice.

        Raises:
            FileExistsError: there is something of that name, which is left as it is.
            StorageError: there is no such folder, it may not be written, or the database is damaged.
            StorageFull: there is no room for it.

        >>> scheduler.backup("copy.db").name
        'copy.db'
        """
        return backup.copy(self._house.database, Path(path))

    @property
    def queues(self) -> Queues:
        """The queues: what they may hold and run; see `Queues`."""
        return Queues(self._house.database)

    @property
    def nodes(self) -> Nodes:
        """The nodes that work on the database, and what they are told to do; see `Nodes`."""
        return Nodes(self._house, self)

    @property
    def commands(self) -> Commands:
        """What they were told; see `Commands`."""
        return Commands(self._house, self)

    def doctor(self) -> list[Finding]:
        """Look for what is wrong with the database and what it lies on, and change nothing; an empty list is a good sign.

        It reads the whole file, which takes about two seconds for 100 MB; workers go on meanwhile, only SQLite's log is
        not cut back. Unknown tasks, and arguments that do not fit, are looked for only where this scheduler has tasks.

        Raises:
            StorageError: the database cannot be opened. On a network file system, and for a damaged file, that is a finding.

        >>> [finding.code for finding in scheduler.doctor() if finding.code != "sqlite"]
        []
        """
        return doctor.examine(self._house.database, self._house.tasks)

    # What snapshots ask of the scheduler they came from (`model.job.Jobs`).

    def reload(self, job_id: int) -> Job[Any]:
        """Return a new snapshot. Raises NotFound where the row is gone."""
        job = self.get(job_id)
        if job is None:
            raise NotFound(f"job {job_id} is gone: it was pruned, or never there.")
        return job

    def await_end(self, job_id: int, timeout: timedelta | None) -> Job[Any]:
        """Return the job once it has ended; see `Job.wait`."""
        seconds = None if timeout is None else timeout.total_seconds()
        self._refuse_endless_wait(f"job {job_id}", seconds)
        job = self._house.waiting.until(job_id, lambda: self._ended(job_id), self._house.database.state, seconds)
        if job is None:
            raise WaitTimeout(f"job {job_id} had not ended after {seconds:g} s. It goes on; wait again, or cancel() it.")
        return job

    def _refuse_endless_wait(self, what: str, seconds: float | None) -> None:
        if seconds is None and context.is_inside(self):
            raise RuntimeError(
                f"waiting for {what} without a timeout inside a task of the same scheduler can stop all its workers. "
                "Pass a timeout, or let the second job follow the first one (after=)."
            )

    def _ended(self, job_id: int) -> Job[Any] | None:
        job = self.reload(job_id)
        return job if job.is_finished else None

    def change(self, job_id: int, priority: int | None, run_at: datetime | None, queue: str | None) -> Job[Any]:
        """Change a job; see `Job.update`."""
        if priority is not None:
            check_priority(priority)
        if queue is not None:
            check_queue(queue)
        done = self._house.database.write(
            lambda conn: changes.change(conn, job_id, self._house.clock(), priority=priority, run_at=run_at, queue=queue)
        )
        job = self.reload(job_id)
        if not done:
            raise JobFinished(f"job {job_id} has ended ({job.status}), so it cannot be changed. requeue() runs it again.")
        return job

    def attempts_of(self, job: Job[Any]) -> list[Attempt]:
        """Return all starts of a job; see `Job.attempts`."""
        with self._house.database.read() as conn:
            row = read.get(conn, job.id)
            return read.attempts_of(conn, job if row is None else Job(row, self, self._house.clock()))

    def explain(self, job_id: int) -> Explanation:
        """Return why a job is not running yet; see `Job.explain`."""
        nodes = self.nodes.list()
        job = self.reload(job_id)
        with self._house.database.read() as conn:
            return Outlook(conn, self._house.tasks, nodes, self._house.clock()).of(job)

    def logs_of(self, job_id: int) -> list[LogLine]:
        """Return what a job has said; see `Job.logs`."""
        with self._house.database.read() as conn:
            return notes.lines_of(conn, job_id)

    def decode_result(self, task: str, text: str) -> Any:
        """Return a stored result by the task's return annotation, where the task is known and the value fits it."""
        known = self._house.tasks.find(task)
        if known is not None:
            try:
                return known.arguments.decode_result(text)
            except codec.UNFIT:
                pass  # the code has changed since, or does not keep to its annotation: plain JSON tells the truth
        return codec.decode_plain(text)


def _chosen(verb: str, job_id: int | None, filters: dict[str, Any]) -> ColumnElement[bool]:
    unknown = filters.keys() - _FILTERS
    if unknown:
        raise TypeError(f"{verb}() has no filter {sorted(unknown)[0]!r}. There are {', '.join(_FILTERS)}.")
    filters = {name: value for name, value in filters.items() if value is not None and value != {}}
    if job_id is None and not filters:
        raise TypeError(f"{verb}() was told neither a job's id nor a filter. Pass one, such as {verb}(7) or {verb}(status=…).")
    if job_id is not None and filters:
        raise TypeError(f"{verb}() was told both the id {job_id} and filters. Pass one of them.")
    return changes.is_job(_id(job_id)) if job_id is not None else _condition(**filters)


_FILTERS = ("status", "task", "queue", "tag", "args", "created_after", "finished_after", "before_id")


def _condition(
    *, created_after: Moment | None = None, finished_after: Moment | None = None, **filters: Any
) -> ColumnElement[bool]:
    return read.matching(
        created_after=None if created_after is None else moment(created_after, "created_after"),
        finished_after=None if finished_after is None else moment(finished_after, "finished_after"),
        **filters,
    )


def _id(job_id: int) -> int:
    if isinstance(job_id, bool) or not isinstance(job_id, int):
        raise TypeError(f"job_id={job_id!r} is no job's id. Pass the integer that job.id gives.")
    return job_id
