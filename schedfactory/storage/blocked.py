"""Due jobs for which a limit has no room: they stand apart, so that a claim never has to pass them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, and_, bindparam, null, select, text, update

from schedfactory.model import codec
from schedfactory.model.running_job import CLAIMED
from schedfactory.storage.statement import Row, Statement, const, listed
from schedfactory.storage.tables import jobs

_IS_BLOCKED = and_(jobs.c.blocked_by.is_not(None), jobs.c.status == const("queued"), jobs.c.node.is_(None))
_PARK = Statement(update(jobs).where(jobs.c.id.in_(listed("jobs"))).values(blocked_by=bindparam("key")), "jobs key")
_LET_OUT = Statement(update(jobs).where(jobs.c.id.in_(listed("jobs"))).values(blocked_by=null()), "jobs")
_OF_KEY = (
    select(*(jobs.c[name] for name in CLAIMED))
    .where(_IS_BLOCKED, jobs.c.blocked_by == bindparam("key"))
    .order_by(jobs.c.priority.desc(), jobs.c.run_at, jobs.c.id)
    .limit(bindparam("most"))
)
_LINE = Statement(_OF_KEY.where(jobs.c.task.in_(listed("tasks"))), "key tasks most")
_LET_OUT_BEST = Statement(
    update(jobs).where(jobs.c.id.in_(_OF_KEY.with_only_columns(jobs.c.id))).values(blocked_by=null()), "key most"
)
_ANY = Statement(select(jobs.c.id).where(_IS_BLOCKED).limit(const(1)))
# From one key to the next in the index, however many jobs each has.
_KEYS = Statement(
    text(
        """
        WITH RECURSIVE keys (key) AS (
            SELECT min(blocked_by) FROM schedfactory_jobs
            WHERE blocked_by > :after AND blocked_by IS NOT NULL AND status = 'queued' AND node IS NULL
            UNION ALL
            SELECT (SELECT min(blocked_by) FROM schedfactory_jobs
                    WHERE blocked_by > key AND blocked_by IS NOT NULL AND status = 'queued' AND node IS NULL)
            FROM keys WHERE key IS NOT NULL
        )
        SELECT key FROM keys WHERE key IS NOT NULL LIMIT :most
        """
    ),
    "after most",
)


def queue_key(queue: str) -> str:
    """Return what a queue's jobs are blocked by."""
    return f"queue:{queue}"


def park(conn: Connection, job_ids: Sequence[int], key: str) -> None:
    """Set due jobs apart until there is room under `key`."""
    _PARK.run(conn, (codec.encode(list(job_ids)), key))


def line(conn: Connection, key: str, tasks: Sequence[str], most: int) -> list[Row]:
    """Return the best of those that wait for `key`, of these tasks."""
    return list(_LINE.run(conn, (key, codec.encode(list(tasks)), most)).fetchall())


def let_out(conn: Connection, job_ids: Sequence[int]) -> None:
    """Let jobs be claimed again."""
    if job_ids:
        _LET_OUT.run(conn, (codec.encode(list(job_ids)),))


def let_out_best(conn: Connection, key: str, most: int) -> int:
    """Let the best of those that wait for `key` be claimed again, whatever else is in their way; return how many that were."""
    return int(_LET_OUT_BEST.run(conn, (key, most)).rowcount) if most > 0 else 0


def are_there(conn: Connection) -> bool:
    """Tell whether any job is blocked."""
    return _ANY.run(conn).fetchone() is not None


def keys(conn: Connection, after: str, most: int) -> list[str]:
    """Return what jobs are blocked by, in order of the alphabet."""
    return [row[0] for row in _KEYS.run(conn, (after, most)).fetchall()]
