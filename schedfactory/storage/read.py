"""Rows for people: one job, lists of them, counts, attempts. Nothing here writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, exists, func, or_, select, text

from schedfactory.model import codec
from schedfactory.model.clock import stamp
from schedfactory.model.job import COLUMNS, FINAL, STATUSES, Attempt, Job, read_optional_moment
from schedfactory.model.stats import QueueStats
from schedfactory.storage.statement import Row, Statement, const
from schedfactory.storage.tables import attempts, jobs

_columns = tuple(jobs.c[name] for name in COLUMNS)
_BEYOND = 1 << 63  # SQLite's integers end before
_GET = Statement(select(*_columns).where(jobs.c.id == bindparam("job")), "job")
# Each from the partial index of its status; a job held by left-over code stands in an index of its own.
_COUNT = Statement(
    text(
        """
        SELECT 'waiting', count(*) FROM schedfactory_jobs WHERE status = 'waiting'
        UNION ALL SELECT 'scheduled', count(*) FROM schedfactory_jobs WHERE status = 'scheduled'
        UNION ALL SELECT 'queued', count(*) FROM schedfactory_jobs
        WHERE status = 'queued' AND node IS NULL AND blocked_by IS NULL
        UNION ALL SELECT 'queued', count(*) FROM schedfactory_jobs
        WHERE blocked_by IS NOT NULL AND status = 'queued' AND node IS NULL
        UNION ALL SELECT 'queued', count(*) FROM schedfactory_jobs WHERE leftover = 1 AND status = 'queued'
        UNION ALL SELECT 'running', count(*) FROM schedfactory_jobs WHERE status = 'running'
        UNION ALL SELECT status, sum(jobs) FROM schedfactory_totals GROUP BY status
        """
    )
)
_IS_BUSY = Statement(
    text(
        """
        SELECT EXISTS (SELECT 1 FROM schedfactory_jobs WHERE status = 'queued' AND node IS NULL AND blocked_by IS NULL)
        OR EXISTS (SELECT 1 FROM schedfactory_jobs WHERE blocked_by IS NOT NULL AND status = 'queued' AND node IS NULL)
        OR EXISTS (SELECT 1 FROM schedfactory_jobs WHERE status = 'running')
        OR EXISTS (SELECT 1 FROM schedfactory_jobs WHERE leftover = 1)
        OR EXISTS (SELECT 1 FROM schedfactory_jobs WHERE status = 'scheduled' AND run_at <= :now)
        """
    ),
    "now",
)
_STATS = Statement(
    text(
        """
        SELECT s.queue, s.waiting, s.scheduled, s.queued, s.running, s.succeeded, s.failed, s.cancelled, d.run_at
        FROM schedfactory_queue_stats AS s LEFT JOIN (
            SELECT queue, min(run_at) AS run_at FROM (
                SELECT queue, run_at FROM schedfactory_jobs
                WHERE status = 'queued' AND node IS NULL AND blocked_by IS NULL
                UNION ALL SELECT queue, run_at FROM schedfactory_jobs
                WHERE blocked_by IS NOT NULL AND status = 'queued' AND node IS NULL
            ) GROUP BY queue
        ) AS d ON d.queue = s.queue
        """
    )
)
_ATTEMPTS = Statement(
    select(
        attempts.c.number,
        attempts.c.status,
        attempts.c.reason,
        attempts.c.started_at,
        attempts.c.finished_at,
        attempts.c.node,
        attempts.c.worker,
        attempts.c.error,
        attempts.c.traceback,
    )
    .where(attempts.c.job_id == bindparam("job"))
    .order_by(attempts.c.number),
    "job",
)


def get(conn: Connection, job_id: int) -> Row | None:
    """Return the columns of a job, None where there is no such row."""
    if not -_BEYOND <= job_id < _BEYOND:
        return None
    return _GET.run(conn, (job_id,)).fetchone()  # type: ignore[no-any-return]


def stats(conn: Connection) -> list[QueueStats]:
    """Return how many jobs each queue has. It looks through the indexes of what has not ended."""
    found = [
        QueueStats(queue, waiting, scheduled, queued, running, succeeded, failed, cancelled, read_optional_moment(due_at))
        for queue, waiting, scheduled, queued, running, succeeded, failed, cancelled, due_at in _STATS.run(conn).fetchall()
    ]
    return sorted(found, key=lambda one: one.queue)


def find(conn: Connection, condition: ColumnElement[bool], limit: int) -> list[Row]:
    query = select(*_columns).where(condition).order_by(jobs.c.id.desc()).limit(min(limit, _BEYOND - 1))
    return [tuple(row) for row in conn.execute(query)]


def count(conn: Connection) -> dict[str, int]:
    found: dict[str, int] = dict.fromkeys(STATUSES, 0)
    for status, number in _COUNT.run(conn).fetchall():
        found[status] = found.get(status, 0) + (number or 0)  # no number at all: a damaged file
    return found


def is_busy(conn: Connection, now: datetime) -> bool:
    return bool(_IS_BUSY.run(conn, (stamp(now),)).fetchone()[0])


def attempts_of(conn: Connection, job: Job[Any]) -> list[Attempt]:
    """Return the recorded attempts, and the one that the job's own row tells of."""
    found = [
        Attempt(row[0], row[1], row[2], read_optional_moment(row[3]), read_optional_moment(row[4]), *row[5:])
        for row in _ATTEMPTS.run(conn, (job.id,)).fetchall()
    ]
    if job.attempt and job.status in ("running", "succeeded") and all(one.number != job.attempt for one in found):
        found.append(Attempt(job.attempt, job.status, None, job.started_at, job.finished_at, job.node, job.worker, None, None))
    return found


def matching(
    *,
    status: str | Sequence[str] | None = None,
    task: str | None = None,
    queue: str | None = None,
    tag: str | None = None,
    args: dict[str, Any] | None = None,
    created_after: datetime | None = None,
    finished_after: datetime | None = None,
    before_id: int | None = None,
) -> ColumnElement[bool]:
    """Return the condition of these filters; those that are None do not count.

    Raises:
        ValueError, TypeError: naming the filter and its value.
    """
    for name, given in (("task", task), ("queue", queue), ("tag", tag)):
        if given is not None and not isinstance(given, str):
            raise TypeError(f"{name}={given!r} is no text.")
        if given is not None and not codec.is_storable(given):
            raise ValueError(f"{name}={given!r} has a lone surrogate, which no database holds.")
    if args is not None and not isinstance(args, Mapping):
        raise TypeError(f"args={args!r} is no mapping. Pass values by the names of parameters.")
    for key in args or ():
        if not isinstance(key, str) or not codec.is_storable(key):
            raise TypeError(f"args={args!r}: {key!r} is no name of a parameter.")
    if before_id is not None and (isinstance(before_id, bool) or not isinstance(before_id, int)):
        raise TypeError(f"before_id={before_id!r} is no job's id. Pass the integer that job.id gives.")
    terms: list[ColumnElement[bool]] = [const(1) == const(1)]
    if status is not None:
        terms.append(or_(*(jobs.c.status == const(one) for one in check_statuses(status))))
    for column, value in ((jobs.c.task, task), (jobs.c.queue, queue)):
        if value is not None:
            terms.append(column == value)
    if tag is not None:
        tags = case((func.json_valid(jobs.c.tags) == const(1), jobs.c.tags), else_=const("[]"))  # SQL may have written anything
        each = func.json_each(tags).table_valued("value")
        terms.append(exists(select(const(1)).select_from(each).where(each.c.value == tag)))
    for name, value in (args or {}).items():
        terms.append(_argument_is(name, value))
    if created_after is not None:
        terms.append(jobs.c.created_at > stamp(created_after))
    if finished_after is not None:
        terms.append(and_(jobs.c.finished_at > stamp(finished_after), or_(*(jobs.c.status == const(one) for one in FINAL))))
    if before_id is not None:
        terms.append(jobs.c.id < max(min(before_id, _BEYOND - 1), -_BEYOND))
    return and_(*terms)


def check_statuses(status: str | Sequence[str]) -> list[str]:
    """Return the statuses that are named.

    Raises:
        ValueError: an unknown one, or none.
    """
    try:
        wanted = [status] if isinstance(status, str) else list(status)
    except TypeError:
        raise TypeError(f"status={status!r} is neither text nor a list of texts.") from None
    for one in wanted:
        if one not in STATUSES:
            raise ValueError(f"status={one!r} is unknown. Pass one or more of {', '.join(STATUSES)}.")
    if not wanted:
        raise ValueError("status=[] matches nothing. Pass one or more statuses, or leave it out.")
    return wanted


def _argument_is(name: str, value: object) -> ColumnElement[bool]:
    # By type and value, as JSON has them; args that are no JSON (written by SQL) match nothing, instead of failing all.
    if (isinstance(value, str) and "\0" in value) or (isinstance(value, int) and not -_BEYOND <= value < _BEYOND):
        raise ValueError(
            f"args: {name}={value!r} cannot be searched for: SQLite's JSON has no NUL and no integer beyond 64 bits."
        )
    try:
        wanted = codec.encode(value)
    except TypeError as error:
        raise TypeError(f"args: {name!r}={value!r} is nothing that JSON holds: {error}") from error
    readable = case((func.json_valid(jobs.c.args) == const(1), jobs.c.args), else_=const("{}"))
    each = func.json_each(readable).table_valued("key", "value", "type")
    is_it = and_(
        each.c.key == name,
        each.c.type == func.json_type(wanted),
        each.c.value.is_not_distinct_from(func.json_extract(wanted, "$")),
    )
    return exists(select(const(1)).select_from(each).where(is_it))
