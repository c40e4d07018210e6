"""What can go wrong, as one tree.

SchedfactoryError
├── NotSerializable (TypeError)      an argument that cannot be stored and come back as it was
├── PayloadTooLarge (ValueError)     encoded arguments over `max_payload`
├── UnknownTask (LookupError)        a task name that this process has not registered
├── NotFound (LookupError)           a job or an order whose row is gone
├── NotInJob (LookupError)           `current_job()` outside a running task
├── NotConfigured                    a task or scheduler that has no database yet
├── DuplicateJob                     a job whose unique key another one holds
├── QueueFull                        a queue holds as many jobs as its `max_size` says
├── JobFinished                      a change to a job that has ended
├── JobFailed, JobCancelled          what `get_result()` raises; both carry `.job`
├── WaitTimeout (TimeoutError)       a wait that was given up; the job goes on
├── LostLease                        the attempt is no longer this worker's
└── StorageError                     the database said no; names its path
    ├── DatabaseBusy                 locked by others for longer than `lock_timeout`; nothing was stored
    ├── NotADatabase                 the file is something else, and was left untouched
    ├── StorageFull                  the disk is full; nothing was stored
    ├── SchemaTooOld, SchemaTooNew   the tables and this version do not fit together
    └── UnsafeFilesystem             a place where file locks cannot be trusted
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schedfactory.model.job import Job


class SchedfactoryError(Exception):
    """The root of every error this library raises of its own."""


class NotSerializable(SchedfactoryError, TypeError):
    """An argument that JSON cannot hold, or that would come back as something else. Nothing was stored."""


class PayloadTooLarge(SchedfactoryError, ValueError):
    """The encoded arguments are larger than the scheduler's `max_payload`. Nothing was stored."""


class UnknownTask(SchedfactoryError, LookupError):
    """No task of that name is registered with this scheduler."""


class NotFound(SchedfactoryError, LookupError):
    """The row of a job or an order is gone: it was pruned, or never there."""


class NotInJob(SchedfactoryError, LookupError):
    """`current_job()` was called where no job runs."""


class NotConfigured(SchedfactoryError):
    """A task of a registry that no scheduler has included yet."""


class DuplicateJob(SchedfactoryError):
    """Another job holds the unique key of this one. Nothing was stored or changed.

    `task` and `unique_key` say which key that is; `job_id` is the job that holds it, None where it is another call of the same
    `enqueue_many`.
    """

    def __init__(self, message: str, task: str = "", unique_key: str = "", job_id: int | None = None) -> None:
        super().__init__(message)
        self.task = task
        self.unique_key = unique_key
        self.job_id = job_id


class QueueFull(SchedfactoryError):
    """The queue has no room for the job; nothing was stored. `queue` is its name, `max_size` how many it may hold.

    `may_wait` says that the queue's `when_full` is "wait", and that there could be room some time for all `more` of them.
    """

    def __init__(self, queue: str, max_size: int, held: int, more: int, *, may_wait: bool) -> None:
        super().__init__(
            f"the queue {queue!r} holds {held} unfinished jobs that have not started, of {max_size} (max_size), and has no room"
            f" for {more} more. Try again later, or let it grow: scheduler.queues.set({queue!r}, max_size=…)."
        )
        self.queue = queue
        self.max_size = max_size
        self.more = more
        self.may_wait = may_wait


class JobFinished(SchedfactoryError):
    """The job has ended, so it can no longer be changed; `requeue()` runs it again."""


class JobFailed(SchedfactoryError):
    """The job ended `failed`. `job` is its last snapshot; the task's traceback is attached as a note."""

    def __init__(self, job: Job[Any]) -> None:
        super().__init__(job)
        self.job = job

    def __str__(self) -> str:
        return f"job {self.job.id} ({self.job.task}) failed/{self.job.reason}: {self.job.error}"


class JobCancelled(SchedfactoryError):
    """The job ended `cancelled`. `job` is its last snapshot."""

    def __init__(self, job: Job[Any]) -> None:
        super().__init__(job)
        self.job = job

    def __str__(self) -> str:
        why = f": {self.job.error}" if self.job.error else ""
        return f"job {self.job.id} ({self.job.task}) was cancelled/{self.job.reason}{why}"


class WaitTimeout(SchedfactoryError, TimeoutError):
    """What was waited for did not happen in time. The job itself goes on."""


class LostLease(SchedfactoryError):
    """This attempt no longer owns its job: it was taken over, or ended by a timeout. What it says is not stored."""


class StorageError(SchedfactoryError):
    """The database could not do it. `path` names the file.

    `is_final` says that trying again cannot help; `is_refusal` that the file is well, and a constraint or a trigger said no.
    """

    def __init__(self, message: str, path: str = "", *, is_final: bool = False, is_refusal: bool = False) -> None:
        super().__init__(message)
        self.path = path
        self.is_final = is_final
        self.is_refusal = is_refusal


class DatabaseBusy(StorageError):
    """Others held the database for longer than `lock_timeout`. Nothing was stored, now or later."""


class NotADatabase(StorageError):
    """The file exists and is no SQLite database. It was left untouched."""


class StorageFull(StorageError):
    """The disk is full. Nothing was stored, now or later."""


class UnsafeFilesystem(StorageError):
    """The file lies where locks or syncs cannot be trusted, such as a network share."""


class SchemaTooOld(StorageError):
    """The tables are older than this version needs, and `migrate=False` forbids to change them."""


class SchemaTooNew(StorageError):
    """The tables were made by a newer version of schedfactory. They were left as they are."""
