"""What people change: cancel, requeue, update, prune."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, false, func, insert, null, or_, select, update
from sqlalchemy.exc import IntegrityError

from schedfactory.model.clock import stamp
from schedfactory.model.job import FINAL
from schedfactory.model.options import Keep
from schedfactory.storage import totals, unique
from schedfactory.storage.statement import const
from schedfactory.storage.tables import attempts, jobs, logs

_UNSTARTED = or_(*(jobs.c.status == const(status) for status in ("waiting", "scheduled", "queued")))
_ENDED = or_(*(jobs.c.status == const(status) for status in FINAL))
PRUNED_AT_ONCE = 500


def cancel(conn: Connection, condition: ColumnElement[bool], now: datetime) -> tuple[list[int], list[int]]:
    """Cancel what has not started, flag what runs; return the ids of both."""
    ended = conn.execute(
        update(jobs)
        .where(condition, _UNSTARTED)
        .values(status=const("cancelled"), reason=const("user"), finished_at=stamp(now), cancel_requested_at=stamp(now))
        .returning(jobs.c.queue, jobs.c.status, jobs.c.id)
    ).all()
    totals.add_each(conn, (tuple(row[:2]) for row in ended))
    flagged = conn.execute(
        update(jobs)
        .where(condition, jobs.c.status == const("running"), jobs.c.cancel_requested_at.is_(None))
        .values(cancel_requested_at=stamp(now))
        .returning(jobs.c.id)
    ).all()
    return [row[2] for row in ended], [row[0] for row in flagged]


def requeue(conn: Connection, condition: ColumnElement[bool], now: datetime) -> list[int]:
    """Make finished jobs due again, in their own rows; return their ids.

    A success leaves its line in the attempts, since the row will tell of the next one. A job whose left-over code still
    runs keeps its node, and waits for that code's end.

    Raises:
        DuplicateJob: another job holds the unique key of one of them, or two of them have the same.
    """
    chosen = [row[0] for row in conn.execute(select(jobs.c.id).where(condition, _ENDED)).all()]
    for start in range(0, len(chosen), PRUNED_AT_ONCE):
        some = jobs.c.id.in_(chosen[start : start + PRUNED_AT_ONCE])
        _keep_successes(conn, some)
        totals.add_each(conn, (tuple(row) for row in conn.execute(select(jobs.c.queue, jobs.c.status).where(some))), -1)
        again = (
            update(jobs)
            .where(some)
            .values(
                status=const("queued"),
                reason=null(),
                run_at=stamp(now),
                started_at=null(),
                finished_at=null(),
                expires_at=null(),
                failures=const(0),
                crashes=const(0),
                progress=null(),
                progress_message=null(),
                result=null(),
                error=null(),
                cancel_requested_at=null(),
                blocked_by=null(),
                limit_keys=case((jobs.c.leftover == const(1), jobs.c.limit_keys), else_=null()),
                unique_fence=case((jobs.c.unique_fence < jobs.c.fence, jobs.c.fence), else_=jobs.c.unique_fence),
                node=case((jobs.c.leftover == const(1), jobs.c.node), else_=null()),
                worker=case((jobs.c.leftover == const(1), jobs.c.worker), else_=null()),
            )
        )
        try:
            conn.execute(again)
        except IntegrityError as error:
            if not unique.is_taken(error):
                raise
            raise unique.refusal(conn, chosen[start : start + PRUNED_AT_ONCE]) from error
    return chosen


def change(
    conn: Connection, job_id: int, now: datetime, *, priority: int | None, run_at: datetime | None, queue: str | None
) -> bool:
    """Change a job that has not ended; return False where it has, or is not there."""
    values: dict[str, object] = {"blocked_by": null()}  # which limit it waits for is seen anew at the next claim
    if priority is not None:
        values["priority"] = priority
    if queue is not None:
        values["queue"] = queue
    if run_at is not None:
        # A running job keeps its status; a new start sets its own time (test_an_update_leaves_a_running_job_running).
        values["run_at"] = case((jobs.c.status == const("running"), jobs.c.run_at), else_=stamp(run_at))
        status = "queued" if run_at <= now else "scheduled"
        is_due = or_(jobs.c.status == const("queued"), jobs.c.status == const("scheduled"))
        values["status"] = case((is_due, const(status)), else_=jobs.c.status)
    if len(values) == 1:
        return conn.execute(select(jobs.c.id).where(jobs.c.id == job_id, ~_ENDED)).first() is not None
    return conn.execute(update(jobs).where(jobs.c.id == job_id, ~_ENDED).values(values)).rowcount == 1


def ended_before(moment: datetime, statuses: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition of jobs that ended with one of these final statuses earlier than `moment`."""
    return and_(or_(*(jobs.c.status == const(status) for status in statuses)), jobs.c.finished_at < stamp(moment))


def kept_long_enough(usual: Keep, special: Mapping[str, Keep], now: datetime) -> ColumnElement[bool]:
    """Return the condition of jobs whose time is over, by final status, and by task where that says otherwise."""

    def is_over(keep: Keep) -> ColumnElement[bool]:
        return or_(false(), *(ended_before(now - time, [status]) for status, time in keep.items() if time is not None))

    is_usual = and_(jobs.c.task.not_in(sorted(special)), is_over(usual))
    return or_(is_usual, *(and_(jobs.c.task == task, is_over(keep)) for task, keep in special.items()))


def prune(
    conn: Connection, after_id: int, condition: ColumnElement[bool], *, within: int | None = None
) -> tuple[int, int | None]:
    """Delete finished jobs that match, with their attempts and logs, from `after_id` on.

    Not many at once, so that claiming goes on in between. The newest row always stays: SQLite gives its number plus one to
    the next job, and a number is never used twice.

    Args:
        within: look at so many ids only.

    Returns:
        How many were deleted, and the id to go on after; None at the end.
    """
    newest = conn.execute(select(func.max(jobs.c.id))).scalar() or 0
    end = newest if within is None else min(newest, after_id + within + 1)
    rows = conn.execute(
        select(jobs.c.id, jobs.c.queue, jobs.c.status)
        .where(jobs.c.id > after_id, jobs.c.id < end, _ENDED, condition, jobs.c.leftover == const(0))
        .order_by(jobs.c.id)
        .limit(PRUNED_AT_ONCE)
    ).all()
    gone = _delete(conn, rows)
    totals.add_each(conn, (tuple(row[1:]) for row in gone), -1)
    reached = rows[-1][0] if len(rows) == PRUNED_AT_ONCE else end - 1
    return len(gone), reached if reached < newest - 1 else None


def _delete(conn: Connection, rows: Sequence[Any]) -> Sequence[Any]:
    """Delete jobs, and return those that are gone: what a table of the user's refers to stays."""
    ids = [row[0] for row in rows]
    try:
        with conn.begin_nested():
            conn.execute(delete(attempts).where(attempts.c.job_id.in_(ids)))
            conn.execute(delete(logs).where(logs.c.job_id.in_(ids)))
            conn.execute(delete(jobs).where(jobs.c.id.in_(ids)))
    except IntegrityError:
        half = len(rows) // 2
        return [*_delete(conn, rows[:half]), *_delete(conn, rows[half:])] if half else []
    return rows


def _keep_successes(conn: Connection, some: ColumnElement[bool]) -> None:
    columns = ("job_id", "number", "status", "started_at", "finished_at", "node", "worker")
    of_job = (jobs.c.id, jobs.c.attempt, jobs.c.status, jobs.c.started_at, jobs.c.finished_at, jobs.c.node, jobs.c.worker)
    conn.execute(
        insert(attempts)
        .prefix_with("OR REPLACE")
        .from_select(columns, select(*of_job).where(and_(some, jobs.c.status == const("succeeded"))))
    )


def is_job(job_id: int) -> ColumnElement[bool]:
    """Return the condition of one job."""
    return jobs.c.id == job_id if abs(job_id) < 1 << 63 else false()
