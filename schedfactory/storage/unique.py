"""Unique keys in the rows: who holds one, and what the job that waits with it takes over from a later call.

All of this happens inside a write transaction, so that nobody comes between the look and the change; the unique index is the
last judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, func, null, or_, select, update

from schedfactory.model.clock import stamp
from schedfactory.model.errors import DuplicateJob
from schedfactory.model.job import FINAL
from schedfactory.storage.statement import Statement, const
from schedfactory.storage.tables import jobs


def _is_any(table: Any, *statuses: str) -> ColumnElement[bool]:
    return or_(*(table.c.status == const(status) for status in statuses))


def holds_key(table: Any = jobs) -> ColumnElement[bool]:
    """Return the condition of rows that hold their key, in the words of the unique index, so that SQLite uses it."""
    is_unfinished = _is_any(table, "waiting", "scheduled", "queued", "running")
    return and_(table.c.unique_key.is_not(None), table.c.fence <= table.c.unique_fence, is_unfinished)


_NAMED = select(jobs.c.id, jobs.c.status, jobs.c.created_at).where(
    jobs.c.task == bindparam("of_task"), jobs.c.unique_key == bindparam("key")
)
_HOLDER = Statement(_NAMED.where(holds_key()), "of_task key")
_FINISHED = Statement(
    _NAMED.where(jobs.c.finished_at > bindparam("since"), _is_any(jobs, *FINAL)).order_by(jobs.c.finished_at.desc()).limit(1),
    "of_task key since",
)
_TAKE_OVER = Statement(
    update(jobs)
    .where(jobs.c.id == bindparam("job"))
    .values(
        args=bindparam("new_args"),
        priority=func.coalesce(bindparam("new_priority"), jobs.c.priority),
        run_at=bindparam("new_run_at"),
        expires_at=bindparam("new_expires_at"),
        status=case((jobs.c.status == const("waiting"), jobs.c.status), else_=bindparam("to_status")),
        # What its code, left over by a timeout, counts by still holds.
        limit_keys=case((jobs.c.leftover == const(1), jobs.c.limit_keys), else_=null()),
        blocked_by=null(),
    ),
    "job new_args new_priority new_run_at new_expires_at to_status",
)
# A claim that comes back unstarted gives its job the key again, where that is still free. OR IGNORE leaves the others.
_WAS_HELD = jobs.c.unique_fence == jobs.c.fence - const(1)
_RETURN = update(jobs).prefix_with("OR IGNORE").where(jobs.c.status == const("running"), _WAS_HELD)
_KEEP = Statement(
    _RETURN.where(
        jobs.c.id == bindparam("job"), jobs.c.fence == bindparam("at_fence"), jobs.c.node == bindparam("by_node")
    ).values(unique_fence=jobs.c.fence),
    "job at_fence by_node",
)


class Found(NamedTuple):
    """A job that stands in the way of another one."""

    id: int
    status: str
    created_at: str

    @property
    def waits(self) -> bool:
        """Whether another call may still change it."""
        return self.status in ("waiting", "scheduled", "queued")


def holder(conn: Connection, task: str, key: str) -> Found | None:
    """Return the job that holds a key."""
    row = _HOLDER.run(conn, (task, key)).fetchone()
    return None if row is None else Found(*row)


def finished(conn: Connection, task: str, key: str, since: datetime) -> Found | None:
    """Return the job of that key which ended last, and later than `since`."""
    row = _FINISHED.run(conn, (task, key, stamp(since))).fetchone()
    return None if row is None else Found(*row)


def take_over(conn: Connection, job_id: int, values: dict[str, Any]) -> None:
    """Give a job that waits the `args`, `run_at`, `expires_at`, `status` and, where it is there, `priority` of a later call."""
    new = [values.get(name) for name in ("args", "priority", "run_at", "expires_at", "status")]
    _TAKE_OVER.run(conn, (job_id, *new))


def keep(conn: Connection, claims: Sequence[tuple[int, int, int]]) -> None:
    """Let jobs have their keys again whose claims (id, fence, node) are about to be given back unstarted."""
    _KEEP.run_many(conn, claims)


def keep_where(conn: Connection, condition: ColumnElement[bool]) -> None:
    """As `keep`, for the claims that match."""
    conn.execute(_RETURN.where(condition).values(unique_fence=jobs.c.fence))


def is_taken(error: Exception) -> bool:
    """Tell whether the unique index has refused a change."""
    return "UNIQUE constraint failed: schedfactory_jobs.task, schedfactory_jobs.unique_key" in str(error)


def refusal(conn: Connection, job_ids: Sequence[int]) -> DuplicateJob:
    """Return what to say of finished jobs that cannot all have their keys again."""
    mine, other = jobs.alias("mine"), jobs.alias("other")
    comes_too = and_(other.c.id.in_(job_ids), other.c.unique_fence.is_not(None))
    row = conn.execute(
        select(mine.c.id, mine.c.task, mine.c.unique_key, other.c.id)
        .where(mine.c.id.in_(job_ids), mine.c.unique_fence.is_not(None))
        .where(other.c.task == mine.c.task, other.c.unique_key == mine.c.unique_key, other.c.id != mine.c.id)
        .where(or_(holds_key(other), comes_too))
        .order_by(mine.c.id)
        .limit(1)
    ).one()
    return DuplicateJob(
        f"job {row[0]} of {row[1]} cannot run again: job {row[3]} holds, or would get, the unique key {row[2]!r}. Nothing was "
        "changed. Wait for that job's end or cancel it, or choose fewer jobs.",
        *row[1:],
    )
