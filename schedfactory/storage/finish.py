"""How attempts ended becomes part of the rows.

Fence first: a late worker must lose, and is told so (test_a_late_worker_cannot_overwrite_the_second_run).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, func, insert, null, or_, select, update

from schedfactory.model.clock import optional_stamp, stamp
from schedfactory.model.job import FINAL
from schedfactory.model.outcome import Outcome
from schedfactory.model.running_job import RunningJob
from schedfactory.storage import apart, totals
from schedfactory.storage.statement import Statement, const
from schedfactory.storage.tables import attempts, jobs

Ended = tuple[RunningJob, Outcome, datetime]

_MINE = and_(
    jobs.c.id == bindparam("job"),
    jobs.c.fence == bindparam("at_fence"),
    jobs.c.status == const("running"),
    jobs.c.node == bindparam("by_node"),
)
_SUCCEED = Statement(
    update(jobs)
    .where(_MINE)
    .values(
        status=const("succeeded"),
        started_at=bindparam("since"),
        finished_at=bindparam("at"),
        result=bindparam("value"),
        error=null(),
        worker=bindparam("by_worker"),
    ),
    "since at value by_worker job at_fence by_node",
)


def _plus(counter: ColumnElement[int], name: str) -> ColumnElement[int]:
    """Count on, also where SQL has written the largest integer there is."""
    return func.min(counter, 1 << 53) + bindparam(name)


_is_final = or_(*(bindparam("to_status") == const(status) for status in FINAL))
_END = Statement(
    update(jobs)
    .where(_MINE)
    .values(
        status=bindparam("to_status"),
        reason=bindparam("because"),
        started_at=bindparam("since"),
        finished_at=case((_is_final, bindparam("at")), else_=null()),
        result=null(),
        error=bindparam("what"),
        run_at=case((_is_final, jobs.c.run_at), else_=bindparam("again_at")),
        failures=_plus(jobs.c.failures, "failed"),
        crashes=_plus(jobs.c.crashes, "crashed"),
        snoozes=_plus(jobs.c.snoozes, "snoozed"),
        max_attempts=bindparam("of_attempts"),
        leftover=bindparam("is_left"),
        node=case((or_(_is_final, bindparam("is_left") == const(1)), jobs.c.node), else_=null()),
        worker=case((or_(_is_final, bindparam("is_left") == const(1)), bindparam("by_worker")), else_=null()),
    )
    .returning(jobs.c.cancel_requested_at),
    "to_status because since at what again_at failed crashed snoozed of_attempts is_left by_worker job at_fence by_node",
)
_CANCEL_NOW = Statement(
    update(jobs)
    .where(jobs.c.id == bindparam("job"))
    .values(status=const("cancelled"), reason=const("user"), finished_at=bindparam("at")),
    "job at",
)
_HISTORY_COLUMNS = (
    "job_id", "number", "status", "reason", "started_at", "finished_at", "node", "worker", "error", "traceback",
)  # fmt: skip
_RECORD = Statement(
    insert(attempts)
    .prefix_with("OR REPLACE")  # SQL may have made a job start with a number that it had before
    .values({name: bindparam(f"new_{name}") for name in _HISTORY_COLUMNS}),
    " ".join(f"new_{name}" for name in _HISTORY_COLUMNS),
)
_HAS_RECORD = Statement(
    select(attempts.c.number).where(
        attempts.c.job_id == bindparam("job"),
        attempts.c.number == bindparam("of_attempt"),
        attempts.c.started_at == bindparam("since"),
        attempts.c.status != const("crashed"),
    ),
    "job of_attempt since",
)
_HAS_SUCCEEDED = Statement(
    select(jobs.c.id).where(
        jobs.c.id == bindparam("job"), jobs.c.fence == bindparam("at_fence"), jobs.c.status == const("succeeded")
    ),
    "job at_fence",
)
_RELEASE = Statement(
    update(jobs)
    .where(jobs.c.id == bindparam("job"), jobs.c.fence == bindparam("at_fence"), jobs.c.leftover == const(1))
    .values(
        leftover=const(0),
        node=case((or_(*(jobs.c.status == const(status) for status in FINAL)), jobs.c.node), else_=null()),
        worker=case((or_(*(jobs.c.status == const(status) for status in FINAL)), jobs.c.worker), else_=null()),
    ),
    "job at_fence",
)


def finish(conn: Connection, ended: Sequence[Ended], *, again: bool = False) -> list[RunningJob]:
    """Write how attempts ended; return those that had lost their job meanwhile, about which nothing is written.

    A job that was cancelled while its end was on the way, and would start again, is cancelled; its `cause` says so then.

    Args:
        again: some of them may have been written before, by a commit that failed and yet happened.
    """
    new = [one for one in ended if not _is_stored(conn, one[0])] if again else ended
    successes = [one for one in new if one[1].status == "succeeded"]
    lost = _succeed(conn, successes)
    final = [job.id for job, _, _ in successes if job not in lost]
    for job, outcome, at in new:
        if outcome.status != "succeeded":
            status = _end(conn, job, outcome, at)
            if status is None:
                lost.append(job)
            elif status in FINAL:
                final.append(job.id)
    totals.add_jobs(conn, final)
    return lost


def finish_each(conn: Connection, ended: Sequence[Ended], *, again: bool) -> tuple[list[RunningJob], list[Ended], list[Ended]]:
    """Do `finish` one by one; return the lost ones, the ends that are written now, and those that the database refuses."""
    lost: list[RunningJob] = []
    written: list[Ended] = []
    refused: list[Ended] = []
    for one in ended:
        found = apart.attempt(conn, lambda one=one: finish(conn, [one], again=again))  # type: ignore[misc]
        if isinstance(found, Exception):
            refused.append(one)
        else:
            lost += found
            written.append(one)
    return lost, written, refused


def release(conn: Connection, leftovers: Iterable[RunningJob]) -> None:
    """Let go of jobs whose code, left over by a timeout, has ended at last."""
    _RELEASE.run_many(conn, [(job.id, job.fence) for job in leftovers])


def _succeed(conn: Connection, ended: Sequence[Ended]) -> list[RunningJob]:
    changed = _SUCCEED.run_many(
        conn,
        [
            (stamp(job.started), stamp(at), outcome.result, job.worker, job.id, job.fence, job.node)
            for job, outcome, at in ended
        ],
    )
    if changed == len(ended):
        return []
    return [job for job, _, _ in ended if not _is_stored(conn, job)]


def _is_stored(conn: Connection, job: RunningJob) -> bool:
    """Tell whether this attempt's end is in the database: no other attempt has its fence, nor its number."""
    return (
        _HAS_SUCCEEDED.run(conn, (job.id, job.fence)).fetchone() is not None
        or _HAS_RECORD.run(conn, (job.id, job.attempt, stamp(job.started))).fetchone() is not None
    )


def _end(conn: Connection, job: RunningJob, outcome: Outcome, at: datetime) -> str | None:
    """Write an attempt that did not succeed; return the job's new status, None where the job was lost."""
    row = _END.run(
        conn,
        (
            outcome.status, outcome.reason, stamp(job.started), stamp(at), outcome.error, optional_stamp(outcome.run_at),
            outcome.failures, outcome.crashes, outcome.snoozes,
            None if job.max_attempts is None else job.max_attempts + outcome.snoozes, int(outcome.leftover),
            job.worker, job.id, job.fence, job.node,
        ),
    ).fetchone()  # fmt: skip
    if row is None:
        return None
    _RECORD.run(
        conn,
        (
            job.id, job.attempt, outcome.attempt_status, outcome.attempt_reason, stamp(job.started), stamp(at),
            job.node, job.worker, outcome.error, outcome.traceback,
        ),
    )  # fmt: skip
    if row[0] is not None and outcome.status not in FINAL:  # cancelled while its end was on the way
        _CANCEL_NOW.run(conn, (job.id, stamp(at)))
        job.cause = "user"
        return "cancelled"
    return outcome.status
