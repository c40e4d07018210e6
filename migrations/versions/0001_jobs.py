"""Jobs, their attempts, the nodes that run them, totals, and the views for people.

The statements are written out, so that this step stays what it was when it landed, whatever the tables become.
"""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = (
    """
    CREATE TABLE schedfactory_jobs (
        id INTEGER NOT NULL,
        uid TEXT DEFAULT (lower(printf('%08x-%04x-7%03x-%04x-%012x', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) >> 16, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) & 65535, abs(random()) % 4096, 32768 + abs(random()) % 16384, abs(random()) % 281474976710656))) NOT NULL,
        task TEXT NOT NULL,
        queue TEXT DEFAULT 'default' NOT NULL,
        priority INTEGER DEFAULT 0 NOT NULL,
        status TEXT DEFAULT 'scheduled' NOT NULL,
        reason TEXT,
        args TEXT DEFAULT '{}' NOT NULL,
        tags TEXT,
        run_at TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now') || '000') NOT NULL,
        created_at TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now') || '000') NOT NULL,
        started_at TEXT,
        finished_at TEXT,
        expires_at TEXT,
        attempt INTEGER DEFAULT 0 NOT NULL,
        failures INTEGER DEFAULT 0 NOT NULL,
        crashes INTEGER DEFAULT 0 NOT NULL,
        snoozes INTEGER DEFAULT 0 NOT NULL,
        max_attempts INTEGER,
        retry TEXT,
        timeout_ms INTEGER,
        on_crash TEXT,
        progress REAL,
        progress_message TEXT,
        result TEXT,
        error TEXT,
        node INTEGER,
        worker INTEGER,
        fence INTEGER DEFAULT 0 NOT NULL,
        leftover INTEGER DEFAULT 0 NOT NULL,
        cancel_requested_at TEXT,
        PRIMARY KEY (id),
        CONSTRAINT status_is_known CHECK (status = 'waiting' OR status = 'scheduled' OR status = 'queued' OR status = 'running' OR status = 'succeeded' OR status = 'failed' OR status = 'cancelled'),
        CONSTRAINT priority_in_range CHECK (priority BETWEEN -100 AND 100),
        CONSTRAINT run_at_has_its_form CHECK (run_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]' AND run_at > '0001' AND strftime('%Y-%m-%d %H:%M:%S', substr(run_at, 1, 19), '+0 days') IS substr(run_at, 1, 19)),
        CONSTRAINT expires_at_has_its_form CHECK (expires_at IS NULL OR (expires_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]' AND expires_at > '0001' AND strftime('%Y-%m-%d %H:%M:%S', substr(expires_at, 1, 19), '+0 days') IS substr(expires_at, 1, 19)))
    ) STRICT
    """,
    """
    CREATE INDEX schedfactory_jobs_cancelling ON schedfactory_jobs (node) WHERE cancel_requested_at IS NOT NULL AND status = 'running'
    """,
    """
    CREATE INDEX schedfactory_jobs_expiring ON schedfactory_jobs (expires_at) WHERE expires_at IS NOT NULL AND (status = 'queued' OR status = 'scheduled')
    """,
    """
    CREATE INDEX schedfactory_jobs_held ON schedfactory_jobs (node, queue) WHERE leftover = 1
    """,
    """
    CREATE INDEX schedfactory_jobs_queued ON schedfactory_jobs (priority DESC, run_at, id, task, queue) WHERE status = 'queued' AND node IS NULL
    """,
    """
    CREATE INDEX schedfactory_jobs_running ON schedfactory_jobs (node, queue) WHERE status = 'running'
    """,
    """
    CREATE INDEX schedfactory_jobs_scheduled ON schedfactory_jobs (run_at, queue) WHERE status = 'scheduled'
    """,
    """
    CREATE INDEX schedfactory_jobs_unsuccessful ON schedfactory_jobs (status, id) WHERE status = 'failed' OR status = 'cancelled'
    """,
    """
    CREATE INDEX schedfactory_jobs_waiting ON schedfactory_jobs (queue) WHERE status = 'waiting'
    """,
    """
    CREATE TABLE schedfactory_attempts (
        job_id INTEGER NOT NULL,
        number INTEGER NOT NULL,
        status TEXT NOT NULL,
        reason TEXT,
        started_at TEXT,
        finished_at TEXT,
        node INTEGER,
        worker INTEGER,
        error TEXT,
        traceback TEXT,
        PRIMARY KEY (job_id, number)
    ) WITHOUT ROWID, STRICT
    """,
    """
    CREATE TABLE schedfactory_nodes (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        status TEXT NOT NULL,
        host TEXT NOT NULL,
        boot_id TEXT NOT NULL,
        pid INTEGER NOT NULL,
        lock_file TEXT NOT NULL,
        slot INTEGER NOT NULL,
        workers INTEGER NOT NULL,
        queues TEXT,
        beat INTEGER DEFAULT 0 NOT NULL,
        started_at TEXT NOT NULL,
        stopped_at TEXT
    ) STRICT
    """,
    """
    CREATE TABLE schedfactory_totals (
        queue TEXT NOT NULL,
        status TEXT NOT NULL,
        jobs INTEGER NOT NULL,
        PRIMARY KEY (queue, status)
    ) WITHOUT ROWID, STRICT
    """,
    """
    CREATE VIEW schedfactory_history AS
    SELECT id, task, queue, priority, status, reason, args, run_at, created_at, started_at, finished_at,
        CASE WHEN started_at >= run_at THEN
            round((strftime('%s', substr(started_at, 1, 19)) - strftime('%s', substr(run_at, 1, 19))) * 1000
                + (substr(started_at, 21) - substr(run_at, 21)) / 1000.0, 3)
        END AS wait_ms,
        round((strftime('%s', substr(finished_at, 1, 19)) - strftime('%s', substr(started_at, 1, 19))) * 1000
            + (substr(finished_at, 21) - substr(started_at, 21)) / 1000.0, 3) AS run_ms,
        attempt, result, error
    FROM schedfactory_jobs
    """,
    """
    CREATE VIEW schedfactory_failures AS
    SELECT a.job_id, j.task, j.queue, j.args, a.number AS attempt, a.reason, a.started_at, a.finished_at, a.error, a.traceback,
        j.status AS job_status
    FROM schedfactory_attempts AS a JOIN schedfactory_jobs AS j ON j.id = a.job_id
    WHERE a.status IN ('failed', 'crashed')
    ORDER BY a.job_id DESC, a.number DESC
    """,
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
        SELECT queue, 'queued', count(*) FROM schedfactory_jobs WHERE status = 'queued' AND node IS NULL GROUP BY queue
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
