"""A job as people see it: a frozen snapshot of its row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, Protocol, TypeVar, cast, overload

import msgspec
import pendulum

from schedfactory.model import codec
from schedfactory.model.clock import UTC, DurationLike, Moment, duration, moment, standard, to_pendulum
from schedfactory.model.errors import JobCancelled, JobFailed, NotConfigured
from schedfactory.model.explanation import Explanation

JobStatus = Literal["waiting", "scheduled", "queued", "running", "succeeded", "failed", "cancelled"]
STATUSES: tuple[JobStatus, ...] = ("waiting", "scheduled", "queued", "running", "succeeded", "failed", "cancelled")
FINAL: tuple[JobStatus, ...] = ("succeeded", "failed", "cancelled")

COLUMNS = (
    "id", "uid", "task", "queue", "priority", "status", "reason", "args", "tags", "run_at", "created_at", "started_at",
    "finished_at", "expires_at", "attempt", "failures", "crashes", "max_attempts", "progress", "progress_message",
    "result", "error", "node", "worker", "unique_key",
)  # fmt: skip

_RESULT = COLUMNS.index("result")

R = TypeVar("R")
T = TypeVar("T")


class Jobs(Protocol):
    """What a snapshot asks of the scheduler it came from."""

    def reload(self, job_id: int) -> Job[Any]: ...
    def await_end(self, job_id: int, timeout: timedelta | None) -> Job[Any]: ...
    def cancel(self, job_id: int) -> int: ...
    def requeue(self, job_id: int) -> int: ...
    def change(self, job_id: int, priority: int | None, run_at: datetime | None, queue: str | None) -> Job[Any]: ...
    def attempts_of(self, job: Job[Any]) -> list[Attempt]: ...
    def explain(self, job_id: int) -> Explanation: ...
    def logs_of(self, job_id: int) -> list[LogLine]: ...
    def decode_result(self, task: str, text: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of a job, and how it ended.

    `status` is `running`, `succeeded`, `failed`, `cancelled`, `snoozed`, `crashed` (its process died) or `interrupted`
    (a shutdown); `reason` says more, in the words of the job's own.
    """

    number: int
    status: str
    reason: str | None
    started_at: pendulum.DateTime | None
    finished_at: pendulum.DateTime | None
    node: int | None
    worker: int | None
    error: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a job's log.

    `attempt` is the number of the start that said it, `at` the moment in UTC, `level` the name of a level of `logging`,
    `logger` the name of the logger, None for `current_job().log(…)`. `message` ends with the traceback, where a record had one.
    """

    attempt: int
    at: pendulum.DateTime
    level: str
    logger: str | None
    message: str


class Column(Generic[T]):
    """One column of the snapshot, read from the row when asked for: most are never looked at."""

    def __init__(self, read: Callable[[Any], T] | None = None) -> None:
        self._read = read

    def __set_name__(self, owner: type, name: str) -> None:
        self._index = COLUMNS.index(name)

    @overload
    def __get__(self, job: None, owner: type) -> Column[T]: ...
    @overload
    def __get__(self, job: Job[Any], owner: type) -> T: ...
    def __get__(self, job: Job[Any] | None, owner: type) -> Column[T] | T:
        if job is None:
            return self
        value = job._row[self._index]
        return cast("T", value) if self._read is None else self._read(value)


def read_moment(value: str | datetime) -> pendulum.DateTime:
    """Return a stored moment: text on SQLite, a datetime elsewhere; the year 1 where SQL has written something else."""
    return read_optional_moment(value) or _NEVER


def read_optional_moment(value: str | datetime | None) -> pendulum.DateTime | None:
    """Return a stored moment, None where there is none or SQL has written something else."""
    if value is None:
        return None
    try:
        return to_pendulum(datetime.fromisoformat(value).replace(tzinfo=UTC) if isinstance(value, str) else value)
    except ValueError:
        return None


_NEVER = pendulum.DateTime(1, 1, 1, tzinfo=pendulum.UTC)


def _read_args(text: str) -> dict[str, Any]:
    found = codec.decode_or_none(text)  # SQL may have written anything; such a job fails, and says so
    return found if isinstance(found, dict) else {}


def read_tags(text: str | None) -> list[str]:
    """Return stored labels, none where SQL has written something else."""
    found = codec.decode_or_none(text or "")
    return found if isinstance(found, list) else []


class Job(Generic[R]):
    """A frozen snapshot of a row of `schedfactory_jobs`. Reading an attribute does no I/O; `refresh()` reads the row again.

    Times are pendulum `DateTime` in UTC, lengths of time pendulum `Duration`. Two snapshots are equal when all
    their columns are.

    >>> job = add.enqueue(2, 3)
    >>> job.status
    'queued'
    """

    __slots__ = ("_jobs", "_read_at", "_row", "is_new")

    id = Column[int]()
    uid = Column[str]()
    task = Column[str]()
    queue = Column[str]()
    priority = Column[int]()
    status = Column[JobStatus]()
    reason = Column["str | None"]()
    args = Column[dict[str, Any]](_read_args)
    tags = Column[list[str]](read_tags)
    run_at = Column[pendulum.DateTime](read_moment)
    created_at = Column[pendulum.DateTime](read_moment)
    started_at = Column["pendulum.DateTime | None"](read_optional_moment)
    finished_at = Column["pendulum.DateTime | None"](read_optional_moment)
    expires_at = Column["pendulum.DateTime | None"](read_optional_moment)
    attempt = Column[int]()
    failures = Column[int]()
    crashes = Column[int]()
    max_attempts = Column["int | None"]()
    progress = Column["float | None"]()
    progress_message = Column["str | None"]()
    error = Column["str | None"]()
    node = Column["int | None"]()
    worker = Column["int | None"]()
    unique_key = Column["str | None"]()

    is_new: bool
    _row: tuple[Any, ...]
    _jobs: Jobs | None
    _read_at: datetime

    def __init__(self, row: tuple[Any, ...], jobs: Jobs | None, read_at: datetime, *, is_new: bool = False) -> None:
        _set_row(self, row)
        _set_jobs(self, jobs)
        _set_read_at(self, read_at)
        _set_is_new(self, is_new)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Job is a snapshot: {name} cannot be set. Use update(), cancel() or requeue().")

    def __eq__(self, other: object) -> bool:
        return self._row == other._row if isinstance(other, Job) else NotImplemented

    def __hash__(self) -> int:
        return hash((Job, self.uid))

    def __repr__(self) -> str:
        reason = f"/{self.reason}" if self.reason else ""
        return f"<Job {self.id} {self.task} {self.status}{reason} priority={self.priority} attempt={self.attempt}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Job, (self._row, None, self._read_at))

    @property
    def result(self) -> R | None:
        """What the task returned, by its return annotation; plain JSON where this process does not know the task.

        Where SQL has written something that is no JSON, it is that text.
        """
        text = self._row[_RESULT]
        if text is None:
            return None
        try:
            return cast("R", codec.decode_plain(text) if self._jobs is None else self._jobs.decode_result(self.task, text))
        except (msgspec.MsgspecError, RecursionError):
            return cast("R", text)

    @property
    def is_finished(self) -> bool:
        """True once the status is final: succeeded, failed or cancelled."""
        return self.status in FINAL

    @property
    def wait_time(self) -> pendulum.Duration | None:
        """How long it waited, from `run_at` to the latest `started_at`; None before a start, and while it waits again."""
        found = self._between("run_at", "started_at")
        return None if found is None or found < timedelta() else found

    @property
    def run_time(self) -> pendulum.Duration | None:
        """How long the latest attempt ran; while it runs, up to the moment this snapshot was read."""
        if self.status == "running":
            return self._between("started_at", "_read_at")
        return self._between("started_at", "finished_at")

    def _between(self, start: str, end: str) -> pendulum.Duration | None:
        first, last = getattr(self, start), getattr(self, end)
        if first is None or last is None:
            return None
        # Standard datetimes, because pendulum's own subtraction breaks under freezegun.
        return pendulum.duration(seconds=(standard(last) - standard(first)).total_seconds())

    def refresh(self) -> Job[R]:
        """Return a new snapshot of the same row.

        Raises:
            NotFound: the row is gone (pruned).
        """
        return self._source.reload(self.id)

    def wait(self, timeout: DurationLike | None = None) -> Job[R]:
        """Return the finished job, whatever its final status.

        Args:
            timeout: a duration; None waits for ever.

        Raises:
            WaitTimeout: it had not ended in time; the job goes on.
            RuntimeError: no timeout, inside a task of the same scheduler: all workers could come to wait for each other.
            NotFound: the row is gone (pruned).
        """
        return self._source.await_end(self.id, None if timeout is None else duration(timeout, "timeout"))

    def get_result(self, timeout: DurationLike | None = None) -> R:
        """Return what the task returned, waiting for it.

        Raises:
            JobFailed: with `.job`, and the task's traceback as a note.
            JobCancelled: with `.job`.
            WaitTimeout, RuntimeError, NotFound: as `wait()`.
        """
        job = self.wait(timeout)
        if job.status == "cancelled":
            raise JobCancelled(job)
        if job.status == "failed":
            failure = JobFailed(job)
            for attempt in job.attempts()[-1:]:
                if attempt.traceback:
                    failure.add_note(attempt.traceback)
            raise failure
        return cast("R", job.result)

    def cancel(self) -> Job[R]:
        """Cancel it and return the new snapshot: a job that has not started never will; a running one gets its flag.

        On a finished job nothing changes. What is running ends when its code looks at `cancelled`, or by itself.
        """
        self._source.cancel(self.id)
        return self.refresh()

    def requeue(self) -> Job[R]:
        """Run a finished job again: the same row, due now, with no failures. An unfinished one is left as it is.

        Raises:
            DuplicateJob: another job holds its unique key.
        """
        self._source.requeue(self.id)
        return self.refresh()

    def update(self, *, priority: int | None = None, run_at: Moment | None = None, queue: str | None = None) -> Job[R]:
        """Change a job that has not ended and return the new snapshot.

        Raises:
            JobFinished: it has ended.
            ValueError, TypeError: as for the same options of a task.
        """
        when = None if run_at is None else moment(run_at)
        return self._source.change(self.id, priority, when, queue)

    def attempts(self) -> list[Attempt]:
        """Return every start of this job, the first one first; the latest may still be running."""
        return self._source.attempts_of(self)

    def explain(self) -> Explanation:
        """Return why it is not running yet, as the database and the nodes are now; see `Explanation`.

        Raises:
            NotFound: the row is gone (pruned).

        >>> add.enqueue(2, 3).explain().code
        'no_node'
        """
        return self._source.explain(self.id)

    def logs(self) -> list[LogLine]:
        """Return what this job has said while it ran, the oldest line first: by `current_job().log(…)` and by `logging`.

        While it runs the lines are here a quarter of a second later. Those of earlier attempts stay.
        """
        return self._source.logs_of(self.id)

    @property
    def _source(self) -> Jobs:
        if self._jobs is None:
            raise NotConfigured(f"job {self.id} was copied between processes. Read it again with scheduler.get({self.id}).")
        return self._jobs


# Past __setattr__; twice as fast as object.__setattr__, which many rows at once notice.
_set_row, _set_jobs, _set_read_at, _set_is_new = (vars(Job)[name].__set__ for name in ("_row", "_jobs", "_read_at", "is_new"))
