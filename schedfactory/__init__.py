"""A durable job queue inside your program: one SQLite file, no server.

>>> from schedfactory import Scheduler
>>> scheduler = Scheduler("jobs.db")
"""

from schedfactory.features.queues import Queue, Queues
from schedfactory.model.command import Command
from schedfactory.model.errors import (
    DatabaseBusy,
    DuplicateJob,
    JobCancelled,
    JobFailed,
    JobFinished,
    LostLease,
    NotADatabase,
    NotConfigured,
    NotFound,
    NotInJob,
    NotSerializable,
    PayloadTooLarge,
    QueueFull,
    SchedfactoryError,
    SchemaTooNew,
    SchemaTooOld,
    StorageError,
    StorageFull,
    UnknownTask,
    UnsafeFilesystem,
    WaitTimeout,
)
from schedfactory.model.explanation import Explanation
from schedfactory.model.health import Finding, Health
from schedfactory.model.job import Attempt, Job, LogLine
from schedfactory.model.limit import Limit
from schedfactory.model.node import NodeInfo
from schedfactory.model.outcome import Cancel, Fail, RetryAfter, Snooze
from schedfactory.model.registry import TaskRegistry
from schedfactory.model.reports import StatusReport
from schedfactory.model.retry import Retry
from schedfactory.model.running_job import RunningJob
from schedfactory.model.stats import QueueStats
from schedfactory.model.task import Call, RemoteTask, Task
from schedfactory.model.unique import Unique
from schedfactory.nodes import Commands, Nodes
from schedfactory.running.context import current_job
from schedfactory.running.reporter import Reports
from schedfactory.scheduler import Scheduler
from schedfactory.storage import tables

__all__ = [
    "Attempt", "Call", "Cancel", "Command", "Commands", "DatabaseBusy", "DuplicateJob", "Explanation", "Fail", "Finding",
    "Health", "Job", "JobCancelled", "JobFailed", "JobFinished", "Limit", "LogLine", "LostLease", "NodeInfo", "Nodes",
    "NotADatabase", "NotConfigured", "NotFound", "NotInJob", "NotSerializable", "PayloadTooLarge", "Queue", "QueueFull",
    "QueueStats", "Queues", "RemoteTask", "Reports", "Retry", "RetryAfter", "RunningJob", "SchedfactoryError", "Scheduler",
    "SchemaTooNew", "SchemaTooOld", "Snooze", "StatusReport", "StorageError", "StorageFull", "Task", "TaskRegistry",
    "Unique", "UnknownTask", "UnsafeFilesystem", "WaitTimeout", "current_job", "tables",
]  # fmt: skip
