"""Orders to nodes, settings of queues, unique keys, limits, and what jobs say while they run.

The columns are added without a copy of the table, so that a large file is brought up to date at once.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = (
    "ALTER TABLE schedfactory_jobs ADD COLUMN unique_key TEXT",
    "ALTER TABLE schedfactory_jobs ADD COLUMN unique_fence INTEGER",
    "ALTER TABLE schedfactory_jobs ADD COLUMN limit_keys TEXT",
    "ALTER TABLE schedfactory_jobs ADD COLUMN blocked_by TEXT",
    "ALTER TABLE schedfactory_nodes ADD COLUMN tasks TEXT",
    "ALTER TABLE schedfactory_nodes ADD COLUMN paused INTEGER DEFAULT 0 NOT NULL",
    "DROP INDEX schedfactory_jobs_queued",
    """
    CREATE INDEX schedfactory_jobs_queued ON schedfactory_jobs (priority DESC, run_at, id, task, queue) WHERE status = 'queued' AND node IS NULL AND blocked_by IS NULL
    """,
    """
    CREATE INDEX schedfactory_jobs_blocked ON schedfactory_jobs (blocked_by, priority DESC, run_at, id, queue) WHERE blocked_by IS NOT NULL AND status = 'queued' AND node IS NULL
    """,
    """
    CREATE UNIQUE INDEX schedfactory_jobs_unique ON schedfactory_jobs (task, unique_key) WHERE unique_key IS NOT NULL AND fence <= unique_fence AND (status = 'waiting' OR status = 'scheduled' OR status = 'queued' OR status = 'running')
    """,
    """
    CREATE INDEX schedfactory_jobs_keyed ON schedfactory_jobs (task, unique_key, finished_at) WHERE unique_key IS NOT NULL AND finished_at IS NOT NULL
    """,
    """
    CREATE TABLE schedfactory_queues (
        name TEXT NOT NULL,
        max_size INTEGER,
        when_full TEXT DEFAULT 'raise' NOT NULL,
        concurrency INTEGER,
        rate TEXT,
        paused INTEGER DEFAULT 0 NOT NULL,
        PRIMARY KEY (name),
        CONSTRAINT max_size_is_positive CHECK (max_size >= 1),
        CONSTRAINT when_full_is_known CHECK (when_full IN ('raise', 'wait')),
        CONSTRAINT concurrency_is_positive CHECK (concurrency >= 1),
        CONSTRAINT rate_has_its_form CHECK (rate GLOB '[1-9]*/[smhd]' AND substr(rate, 1, length(rate) - 2) NOT GLOB '*[^0-9]*'),
        CONSTRAINT paused_is_known CHECK (paused IN (0, 1))
    ) WITHOUT ROWID, STRICT
    """,
    """
    CREATE TABLE schedfactory_starts (
        limit_key TEXT NOT NULL,
        number INTEGER NOT NULL,
        started_at TEXT NOT NULL,
        PRIMARY KEY (limit_key, number)
    ) WITHOUT ROWID, STRICT
    """,
    """
    CREATE TABLE schedfactory_commands (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        node INTEGER,
        worker INTEGER,
        workers INTEGER,
        force INTEGER DEFAULT 0 NOT NULL,
        given_at TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now') || '000') NOT NULL,
        acknowledged_at TEXT,
        result TEXT,
        CONSTRAINT kind_is_known CHECK (kind IN ('pause', 'resume', 'scale', 'quit'))
    ) STRICT
    """,
    """
    CREATE TABLE schedfactory_logs (
        job_id INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        number INTEGER NOT NULL,
        at TEXT NOT NULL,
        level TEXT NOT NULL,
        logger TEXT,
        message TEXT NOT NULL,
        PRIMARY KEY (job_id, attempt, number)
    ) WITHOUT ROWID, STRICT
    """,
    """
    CREATE INDEX schedfactory_commands_pending ON schedfactory_commands (node) WHERE result IS NULL
    """,
    "DROP VIEW schedfactory_queue_stats",
    """
    CREATE VIEW schedfactory_queue_stats AS
    SELECT queue,
        sum(CASE status WHEN 'waiting' THEN jobs ELSE 0 END) AS waiting,
        sum(CASE status WHEN 'scheduled' THEN jobs ELSE 0 END) AS scheduled,
        sum(CASE status WHEN 'queued' THEN jobs ELSE 0 END) AS queued,
        sum(CASE status WHEN 'running' THEN jobs ELSE 0 END) AS running,
        sum(CASE status WHEN 'succeeded' THEN jobs ELSE 0 END) AS succeeded,
        sum(CASE status WHEN 'failed' THEN jobs ELSE 0 END) AS failed,
        sum(CASE status WHEN 'cancelled' THEN jobs ELSE 0 END) AS cancelled
    FROM (
        SELECT queue, 'waiting' AS status, count(*) AS jobs FROM schedfactory_jobs WHERE status = 'waiting' GROUP BY queue
        UNION ALL
        SELECT queue, 'scheduled', count(*) FROM schedfactory_jobs WHERE status = 'scheduled' GROUP BY queue
        UNION ALL
        SELECT queue, 'queued', count(*) FROM schedfactory_jobs
        WHERE status = 'queued' AND node IS NULL AND blocked_by IS NULL GROUP BY queue
        UNION ALL
        SELECT queue, 'queued', count(*) FROM schedfactory_jobs
        WHERE blocked_by IS NOT NULL AND status = 'queued' AND node IS NULL GROUP BY queue
        UNION ALL
        SELECT queue, 'queued', count(*) FROM schedfactory_jobs WHERE leftover = 1 AND status = 'queued' GROUP BY queue
        UNION ALL
        SELECT queue, 'running', count(*) FROM schedfactory_jobs WHERE status = 'running' GROUP BY queue
        UNION ALL
        SELECT queue, status, jobs FROM schedfactory_totals
    )
    GROUP BY queue
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
