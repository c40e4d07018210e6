"""The tables and views, as SQLAlchemy sees them. The migrations make them; a test holds the two against each other.

Times are UTC text `YYYY-MM-DD HH:MM:SS.ffffff` on SQLite: they sort, its date functions work on them, any client reads them.

>>> from sqlalchemy import select
>>> from schedfactory import tables
>>> with scheduler.reading() as connection:
...     rows = connection.execute(select(tables.history.c.task, tables.history.c.run_ms)).all()
"""

from __future__ import annotations

from sqlalchemy import REAL, CheckConstraint, Column, Index, Integer, MetaData, Table, Text, text

from schedfactory.model.job import STATUSES

metadata = MetaData()

# The one form of a moment: 2026-12-24 17:00:00.000000, and a day that exists.
NOW = "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"
_DIGITS = "[0-9][0-9]"
MOMENT_FORM = (
    f"{{0}} GLOB '{_DIGITS * 2}-{_DIGITS}-{_DIGITS} {_DIGITS}:{_DIGITS}:{_DIGITS}.{_DIGITS * 3}'"
    " AND {0} > '0001' AND strftime('%Y-%m-%d %H:%M:%S', substr({0}, 1, 19), '+0 days') IS substr({0}, 1, 19)"
)
# RFC 9562, version 7: 48 bits of milliseconds, then random ones. Rows written by plain SQL get theirs here.
UUID7 = (
    "(lower(printf('%08x-%04x-7%03x-%04x-%012x',"
    " CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) >> 16,"
    " CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) & 65535,"
    " abs(random()) % 4096, 32768 + abs(random()) % 16384, abs(random()) % 281474976710656)))"
)
# A chain of ORs, because SQLite builds a table for a long IN at every statement (2 µs a row).
_KNOWN_STATUS = " OR ".join(f"status = '{status}'" for status in STATUSES)

HOLDS_KEY = (
    "unique_key IS NOT NULL AND fence <= unique_fence"
    " AND (status = 'waiting' OR status = 'scheduled' OR status = 'queued' OR status = 'running')"
)

jobs = Table(
    "schedfactory_jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uid", Text, nullable=False, server_default=text(UUID7)),
    Column("task", Text, nullable=False),
    Column("queue", Text, nullable=False, server_default=text("'default'")),
    Column("priority", Integer, nullable=False, server_default=text("0")),
    Column("status", Text, nullable=False, server_default=text("'scheduled'")),
    Column("reason", Text),
    Column("args", Text, nullable=False, server_default=text("'{}'")),
    Column("tags", Text),
    Column("run_at", Text, nullable=False, server_default=text(NOW)),
    Column("created_at", Text, nullable=False, server_default=text(NOW)),
    Column("started_at", Text),
    Column("finished_at", Text),
    Column("expires_at", Text),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("crashes", Integer, nullable=False, server_default=text("0")),
    Column("snoozes", Integer, nullable=False, server_default=text("0")),
    Column("max_attempts", Integer),
    Column("retry", Text),
    Column("timeout_ms", Integer),
    Column("on_crash", Text),
    Column("progress", REAL),
    Column("progress_message", Text),
    Column("result", Text),
    Column("error", Text),
    Column("node", Integer),
    Column("worker", Integer),
    Column("fence", Integer, nullable=False, server_default=text("0")),
    Column("leftover", Integer, nullable=False, server_default=text("0")),
    Column("cancel_requested_at", Text),
    Column("unique_key", Text),
    Column("unique_fence", Integer),
    Column("limit_keys", Text),
    Column("blocked_by", Text),
    CheckConstraint(_KNOWN_STATUS, name="status_is_known"),
    CheckConstraint("priority BETWEEN -100 AND 100", name="priority_in_range"),
    CheckConstraint(MOMENT_FORM.format("run_at"), name="run_at_has_its_form"),
    CheckConstraint(f"expires_at IS NULL OR ({MOMENT_FORM.format('expires_at')})", name="expires_at_has_its_form"),
    sqlite_strict=True,
)

# What is claimed, in the order in which it is. `task` and `queue` ride along so that a node skips what is not its own
# without reading the rows. A row that still has a node is held by code that outlived its timeout; one that is blocked waits
# for room in a limit, and stands apart so that what is not limited never has to pass it.
queued = Index(
    "schedfactory_jobs_queued",
    jobs.c.priority.desc(),
    jobs.c.run_at,
    jobs.c.id,
    jobs.c.task,
    jobs.c.queue,
    sqlite_where=text("status = 'queued' AND node IS NULL AND blocked_by IS NULL"),
)
blocked = Index(
    "schedfactory_jobs_blocked",
    jobs.c.blocked_by,
    jobs.c.priority.desc(),
    jobs.c.run_at,
    jobs.c.id,
    jobs.c.queue,
    sqlite_where=text("blocked_by IS NOT NULL AND status = 'queued' AND node IS NULL"),
)
# A key is held while the job is unfinished, and has not been claimed more often than `unique_fence` says.
unique = Index("schedfactory_jobs_unique", jobs.c.task, jobs.c.unique_key, unique=True, sqlite_where=text(HOLDS_KEY))
keyed = Index(
    "schedfactory_jobs_keyed",
    jobs.c.task,
    jobs.c.unique_key,
    jobs.c.finished_at,
    sqlite_where=text("unique_key IS NOT NULL AND finished_at IS NOT NULL"),
)
scheduled = Index("schedfactory_jobs_scheduled", jobs.c.run_at, jobs.c.queue, sqlite_where=text("status = 'scheduled'"))
running = Index("schedfactory_jobs_running", jobs.c.node, jobs.c.queue, sqlite_where=text("status = 'running'"))
waiting = Index("schedfactory_jobs_waiting", jobs.c.queue, sqlite_where=text("status = 'waiting'"))
expiring = Index(
    "schedfactory_jobs_expiring",
    jobs.c.expires_at,
    sqlite_where=text("expires_at IS NOT NULL AND (status = 'queued' OR status = 'scheduled')"),
)
cancelling = Index(
    "schedfactory_jobs_cancelling",
    jobs.c.node,
    sqlite_where=text("cancel_requested_at IS NOT NULL AND status = 'running'"),
)
held = Index("schedfactory_jobs_held", jobs.c.node, jobs.c.queue, sqlite_where=text("leftover = 1"))
unsuccessful = Index(
    "schedfactory_jobs_unsuccessful", jobs.c.status, jobs.c.id, sqlite_where=text("status = 'failed' OR status = 'cancelled'")
)

# Every attempt but the latest successful or running one, which is the job's own row.
attempts = Table(
    "schedfactory_attempts",
    metadata,
    Column("job_id", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Column("started_at", Text),
    Column("finished_at", Text),
    Column("node", Integer),
    Column("worker", Integer),
    Column("error", Text),
    Column("traceback", Text),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# A node's id is never used again, and is the byte of the lock file that the process holds while it lives.
nodes = Table(
    "schedfactory_nodes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("status", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("lock_file", Text, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("workers", Integer, nullable=False),
    Column("queues", Text),
    Column("beat", Integer, nullable=False, server_default=text("0")),
    Column("started_at", Text, nullable=False),
    Column("stopped_at", Text),
    Column("tasks", Text),
    Column("paused", Integer, nullable=False, server_default=text("0")),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

# How many jobs have ended, by queue and final status, so that counting them costs the same beside any history.
totals = Table(
    "schedfactory_totals",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("status", Text, primary_key=True),
    Column("jobs", Integer, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# What a queue may hold and run, over all nodes; one without a row may do anything.
queues = Table(
    "schedfactory_queues",
    metadata,
    Column("name", Text, primary_key=True),
    Column("max_size", Integer),
    Column("when_full", Text, nullable=False, server_default=text("'raise'")),
    Column("concurrency", Integer),
    Column("rate", Text),
    Column("paused", Integer, nullable=False, server_default=text("0")),
    CheckConstraint("max_size >= 1", name="max_size_is_positive"),
    CheckConstraint("when_full IN ('raise', 'wait')", name="when_full_is_known"),
    CheckConstraint("concurrency >= 1", name="concurrency_is_positive"),
    CheckConstraint(
        "rate GLOB '[1-9]*/[smhd]' AND substr(rate, 1, length(rate) - 2) NOT GLOB '*[^0-9]*'", name="rate_has_its_form"
    ),
    CheckConstraint("paused IN (0, 1)", name="paused_is_known"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# The latest starts under a rate, numbered by key, so that the one that a window ends with is found at once.
starts = Table(
    "schedfactory_starts",
    metadata,
    Column("limit_key", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("started_at", Text, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# Orders to nodes. `result` is NULL until the order has been carried out, or cannot be.
commands = Table(
    "schedfactory_commands",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("node", Integer),
    Column("worker", Integer),
    Column("workers", Integer),
    Column("force", Integer, nullable=False, server_default=text("0")),
    Column("given_at", Text, nullable=False, server_default=text(NOW)),
    Column("acknowledged_at", Text),
    Column("result", Text),
    CheckConstraint("kind IN ('pause', 'resume', 'scale', 'quit')", name="kind_is_known"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)
pending = Index("schedfactory_commands_pending", commands.c.node, sqlite_where=text("result IS NULL"))

# What jobs said while they ran, by attempt.
logs = Table(
    "schedfactory_logs",
    metadata,
    Column("job_id", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", Text, nullable=False),
    Column("level", Text, nullable=False),
    Column("logger", Text),
    Column("message", Text, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

views = MetaData()
_VIEW_TYPES = {"wait_ms": REAL, "run_ms": REAL, **dict.fromkeys(("id", "job_id", "priority", "attempt", *STATUSES), Integer)}


def _view(name: str, *columns: str) -> Table:
    return Table(name, views, *(Column(column, _VIEW_TYPES.get(column, Text)) for column in columns))


# Every job, with how long it waited and ran in milliseconds.
history = _view(
    "schedfactory_history",
    "id", "task", "queue", "priority", "status", "reason", "args", "run_at", "created_at", "started_at", "finished_at",
    "wait_ms", "run_ms", "attempt", "result", "error",
)  # fmt: skip

# Every attempt that failed or crashed, the newest first, and what has become of its job.
failures = _view(
    "schedfactory_failures",
    "job_id", "task", "queue", "args", "attempt", "reason", "started_at", "finished_at", "error", "traceback", "job_status",
)  # fmt: skip

# How many jobs each queue has, by status.
queue_stats = _view("schedfactory_queue_stats", "queue", *STATUSES)
