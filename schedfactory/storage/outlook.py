"""What goes before a job, and how long that usually takes. Nothing here writes."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select, text

from schedfactory.model import codec
from schedfactory.storage.statement import Statement
from schedfactory.storage.tables import jobs

_PLACE = Statement(
    select(
        jobs.c.status, jobs.c.task, jobs.c.queue, jobs.c.args, jobs.c.priority, jobs.c.run_at, jobs.c.node, jobs.c.leftover,
        jobs.c.blocked_by,
    ).where(jobs.c.id == bindparam("job")),
    "job",
)  # fmt: skip
# By the promoted and by those that a node is about to promote, as a claim would see them; each from its partial index.
_GOES_FIRST = """
    (priority > :priority OR (priority = :priority AND (run_at < :run_at OR (run_at = :run_at AND id < :job))))
"""
_AHEAD = Statement(
    text(
        f"""
        SELECT task, queue, count(*) FROM (
            SELECT task, queue FROM schedfactory_jobs
            WHERE status = 'queued' AND node IS NULL AND blocked_by IS NULL AND {_GOES_FIRST}
            UNION ALL
            SELECT task, queue FROM schedfactory_jobs WHERE status = 'scheduled' AND run_at <= :now AND {_GOES_FIRST}
        )
        WHERE task IN (SELECT value FROM json_each(:tasks))
        GROUP BY task, queue
        """
    ),
    "job priority run_at now tasks",
)
_BLOCKED_AHEAD = Statement(
    text(
        f"""
        SELECT count(*) FROM schedfactory_jobs
        WHERE blocked_by = :key AND blocked_by IS NOT NULL AND status = 'queued' AND node IS NULL AND {_GOES_FIRST}
        """
    ),
    "job priority run_at key",
)
_RUNNING_ON = Statement(
    text("SELECT queue, count(*) FROM schedfactory_jobs WHERE status = 'running' AND node = :by_node GROUP BY queue"), "by_node"
)
# Of the latest jobs only: the walk along the ids costs the same beside any history.
_USUAL = Statement(
    text(
        """
        SELECT task, avg((julianday(finished_at) - julianday(started_at)) * 86400) FROM (
            SELECT task, status, started_at, finished_at FROM schedfactory_jobs ORDER BY id DESC LIMIT :latest
        )
        WHERE status = 'succeeded' GROUP BY task
        """
    ),
    "latest",
)
_LATEST = 2_000


class Place(NamedTuple):
    """Where a job stands."""

    status: str
    task: str
    queue: str
    args: str
    priority: int
    run_at: str
    node: int | None
    leftover: int
    blocked_by: str | None


def place(conn: Connection, job_id: int) -> Place | None:
    """Return where a job stands; None where it is gone."""
    row = _PLACE.run(conn, (job_id,)).fetchone()
    return None if row is None else Place(*row)


def ahead(conn: Connection, job_id: int, job: Place, now: str, tasks: Collection[str]) -> list[tuple[str, str, int]]:
    """Return how many due jobs of these tasks go first, by task and queue."""
    values = (job_id, job.priority, job.run_at, now, codec.encode(sorted(tasks)))
    return list(_AHEAD.run(conn, values).fetchall())


def blocked_ahead(conn: Connection, job_id: int, job: Place, key: str) -> int:
    """Return how many of those that wait for the same room go first."""
    return int(_BLOCKED_AHEAD.run(conn, (job_id, job.priority, job.run_at, key)).fetchone()[0])


def running_on(conn: Connection, node: int) -> dict[str, int]:
    """Return how many jobs of each queue a node runs."""
    return dict(_RUNNING_ON.run(conn, (node,)).fetchall())


def usual_seconds(conn: Connection) -> dict[str, float]:
    """Return how long the latest successful jobs of each task ran, on average."""
    return {task: max(seconds, 0.0) for task, seconds in _USUAL.run(conn, (_LATEST,)).fetchall() if seconds is not None}
