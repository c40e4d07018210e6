"""A durable job queue inside your program: one SQLite file, no server.

>>> from schedfactory import Scheduler
>>> scheduler = Scheduler("jobs.db")
"""

from schedfactory.model.errors import (
    DatabaseBusy,
    JobCancelled,
    JobFailed,
    JobFinished,
    LostLease,
    NotADatabase,
    NotConfigured,
    NotInJob,
    NotSerializable,
    PayloadTooLarge,
    SchedfactoryError,
    SchemaTooNew,
    SchemaTooOld,
    StorageError,
    StorageFull,
    UnknownTask,
    UnsafeFilesystem,
    WaitTimeout,
)
from schedfactory.model.health import Finding, Health
from schedfactory.model.job import Attempt, Job, LogLine
from schedfactory.model.outcome import Cancel, Fail, RetryAfter, Snooze
from schedfactory.model.registry import TaskRegistry
from schedfactory.model.reports import StatusReport
from schedfactory.model.retry import Retry
from schedfactory.model.running_job import RunningJob
from schedfactory.model.stats import QueueStats
from schedfactory.model.task import Call, RemoteTask, Task
from schedfactory.running.context import current_job
from schedfactory.scheduler import Scheduler
from schedfactory.storage import tables

__all__ = [
    "Attempt", "Call", "Cancel", "DatabaseBusy", "Fail", "Finding", "Health", "Job", "JobCancelled", "JobFailed", "JobFinished",
    "LogLine", "LostLease", "NotADatabase", "NotConfigured", "NotInJob", "NotSerializable", "PayloadTooLarge", "QueueStats",
    "RemoteTask", "Retry", "RetryAfter", "RunningJob", "SchedfactoryError", "Scheduler", "SchemaTooNew", "SchemaTooOld",
    "Snooze", "StatusReport", "StorageError", "StorageFull", "Task", "TaskRegistry", "UnknownTask", "UnsafeFilesystem",
    "WaitTimeout", "current_job", "tables",
]  # fmt: skip
