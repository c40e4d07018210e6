"""Due rows become running ones, the best first. All of this happens inside one write transaction of the dispatcher."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, null, or_, select, update

from schedfactory.model import codec
from schedfactory.model.clock import stamp, unstamp_or_none
from schedfactory.model.running_job import CLAIMED
from schedfactory.model.slots import Pool
from schedfactory.storage import apart, totals, unique
from schedfactory.storage.statement import Row, Statement, const, listed
from schedfactory.storage.tables import commands, jobs

# Rows that one round promotes; a full batch means that there are more, and then nothing is claimed yet.
PROMOTED_AT_ONCE = 10_000


_expire = (
    update(jobs)
    .where(
        jobs.c.expires_at.is_not(None),
        or_(jobs.c.status == const("queued"), jobs.c.status == const("scheduled")),
        jobs.c.expires_at <= bindparam("now"),
    )
    .values(status=const("cancelled"), reason=const("expired"), finished_at=bindparam("now"))
    .returning(jobs.c.queue, jobs.c.status, jobs.c.id)
)
_EXPIRE, _EXPIRE_ONE = Statement(_expire, "now"), Statement(_expire.where(jobs.c.id == bindparam("job")), "now job")
_PROMOTE = Statement(
    update(jobs)
    .where(
        jobs.c.id.in_(
            select(jobs.c.id)
            .where(jobs.c.status == const("scheduled"), jobs.c.run_at <= bindparam("now"))
            .order_by(jobs.c.run_at)
            .limit(bindparam("most"))
        )
    )
    .values(status=const("queued")),
    "now most",
)
_DUE = (
    select(*(jobs.c[name] for name in CLAIMED))
    .where(
        jobs.c.status == const("queued"), jobs.c.node.is_(None), jobs.c.blocked_by.is_(None), jobs.c.task.in_(listed("tasks"))
    )
    .order_by(jobs.c.priority.desc(), jobs.c.run_at, jobs.c.id)
    .limit(bindparam("most"))
)
_DUE_ANYWHERE = Statement(_DUE, "tasks most")
_DUE_ELSEWHERE = Statement(_DUE.where(jobs.c.queue.not_in(listed("queues"))), "tasks most queues")
_DUE_IN_QUEUES = Statement(_DUE.where(jobs.c.queue.in_(listed("queues"))), "tasks most queues")
_TAKEN = {
    "status": const("running"),
    "reason": null(),
    "attempt": jobs.c.attempt + const(1),
    "fence": jobs.c.fence + const(1),
    "node": bindparam("by_node"),
    "started_at": bindparam("now"),
    "finished_at": null(),
    "progress": null(),
    "progress_message": null(),
}
_TAKE = Statement(
    update(jobs)
    .where(jobs.c.id == bindparam("job"), jobs.c.status == const("queued"), jobs.c.node.is_(None), jobs.c.blocked_by.is_(None))
    .values(_TAKEN | {"worker": bindparam("by_worker")}),
    "job by_node by_worker now",
)
_TAKE_AHEAD = Statement(
    update(jobs)
    .where(jobs.c.id.in_(listed("jobs")), jobs.c.status == const("queued"), jobs.c.node.is_(None), jobs.c.blocked_by.is_(None))
    .values(_TAKEN | {"worker": null()}),
    "jobs by_node now",
)
_REFUSE = Statement(
    update(jobs)
    .where(jobs.c.id == bindparam("job"), jobs.c.status == const("queued"))
    .values(status=const("failed"), reason=const("error"), error=bindparam("what"), finished_at=bindparam("at")),
    "job what at",
)
_FORBID = Statement(update(jobs).where(jobs.c.id.in_(listed("jobs"))).values(on_crash=const("fail")), "jobs")
_GIVE_BACK = Statement(
    update(jobs)
    .where(
        jobs.c.id == bindparam("job"),
        jobs.c.fence == bindparam("at_fence"),
        jobs.c.status == const("running"),
        jobs.c.node == bindparam("by_node"),
    )
    .values(
        status=const("queued"),
        reason=bindparam("was"),
        attempt=jobs.c.attempt - const(1),
        node=null(),
        worker=null(),
        started_at=null(),
    ),
    "job at_fence by_node was",
)
_CANCEL_RETURNED = Statement(
    update(jobs)
    .where(jobs.c.id.in_(listed("jobs")), jobs.c.status == const("queued"), jobs.c.cancel_requested_at.is_not(None))
    .values(status=const("cancelled"), reason=const("user"), finished_at=jobs.c.cancel_requested_at)
    .returning(jobs.c.id),
    "jobs",
)
_CLAIMS = Statement(
    select(jobs.c.id, jobs.c.fence).where(jobs.c.status == const("running"), jobs.c.node == bindparam("by_node")), "by_node"
)
_GIVE_BACK_OTHERS = Statement(
    update(jobs)
    .where(
        jobs.c.status == const("running"),
        jobs.c.node == bindparam("by_node"),
        # By fence too: that commit may have claimed a job anew whose older claim is still in hand.
        func.json_array(jobs.c.id, jobs.c.fence).not_in(listed("in_hand")),
    )
    .values(status=const("queued"), attempt=jobs.c.attempt - const(1), node=null(), worker=null(), started_at=null())
    .returning(jobs.c.id),
    "by_node in_hand",
)
_LABEL = Statement(
    update(jobs)
    .where(
        jobs.c.id == bindparam("job"),
        jobs.c.fence == bindparam("at_fence"),
        jobs.c.status == const("running"),
        jobs.c.node == bindparam("by_node"),
    )
    .values(worker=bindparam("by_worker"), started_at=bindparam("since")),
    "job at_fence by_node by_worker since",
)
_NEXT = Statement(
    select(
        select(func.min(jobs.c.run_at)).where(jobs.c.status == const("scheduled")).scalar_subquery(),
        select(func.min(jobs.c.expires_at))
        .where(jobs.c.expires_at.is_not(None), or_(jobs.c.status == const("queued"), jobs.c.status == const("scheduled")))
        .scalar_subquery(),
        select(func.count())
        .select_from(jobs)
        .where(jobs.c.cancel_requested_at.is_not(None), jobs.c.status == const("running"), jobs.c.node == bindparam("by_node"))
        .scalar_subquery(),
        select(func.count())
        .select_from(commands)
        .where(commands.c.result.is_(None), commands.c.acknowledged_at.is_(None), commands.c.node == bindparam("by_node"))
        .scalar_subquery(),
    ),
    "by_node",
)
_TO_CANCEL = Statement(
    select(jobs.c.id).where(
        jobs.c.cancel_requested_at.is_not(None), jobs.c.status == const("running"), jobs.c.node == bindparam("by_node")
    ),
    "by_node",
)


class Scope:
    """Which jobs a node takes: of the tasks it knows, in the queues of `pool`."""

    def __init__(self, tasks: Sequence[str], pool: Pool = Pool()) -> None:  # noqa: B008 - frozen
        self.tasks = tasks
        self.pool = pool
        self._tasks = codec.encode(list(tasks))
        self._due = _DUE_ELSEWHERE if pool.queues is None else _DUE_IN_QUEUES
        self._queues = codec.encode(list(pool.queues or pool.others))

    def due(self, conn: Connection, most: int) -> list[Row]:
        """Return what a claim would take, the best first: by priority (the higher first), `run_at`, `id`."""
        if self._queues == "[]":
            return list(_DUE_ANYWHERE.run(conn, (self._tasks, most)).fetchall())
        return list(self._due.run(conn, (self._tasks, most, self._queues)).fetchall())


class Upcoming(NamedTuple):
    """The next moments at which something becomes due and expires, and how many cancels and orders there are to obey.

    The moments are as the rows have them, and compare as SQL compares them: a damaged one must not end the round.
    """

    run_at: str | None
    expires_at: str | None
    cancels: int
    orders: int

    @property
    def next(self) -> datetime | None:
        first = min(filter(None, (self.run_at, self.expires_at)), default=None)
        return None if first is None else unstamp_or_none(first)


def upcoming(conn: Connection, node: int) -> Upcoming:
    """Return what will have to be done next. Reads only."""
    return Upcoming(*_NEXT.run(conn, (node,)).fetchone())


def expire(conn: Connection, now: datetime, job_id: int | None = None) -> list[int]:
    """Cancel what was not started in time, all or that one job, and return the ids."""
    rows = (_EXPIRE.run(conn, (stamp(now),)) if job_id is None else _EXPIRE_ONE.run(conn, (stamp(now), job_id))).fetchall()
    totals.add_each(conn, (row[:2] for row in rows))
    return [row[2] for row in rows]


def promote(conn: Connection, now: datetime) -> bool:
    """Make the jobs `queued` whose time has come; return False where there may be more of them.

    A job once queued stays due, even when the clock steps back.
    """
    return int(_PROMOTE.run(conn, (stamp(now), PROMOTED_AT_ONCE)).rowcount) < PROMOTED_AT_ONCE


def take(conn: Connection, rows: Sequence[Row], node: int, workers: Sequence[int], now: datetime) -> None:
    """Make rows of `Scope.due` running: one for each of `workers`, the rest ahead of them, of no worker yet.

    Each job's `fence` grows by one, so that an earlier, slower attempt can no longer finish it.

    Raises:
        RuntimeError: a trigger of the user's has kept rows as they were.
    """
    at = stamp(now)
    taken = _TAKE.run_many(conn, [(row[0], node, worker, at) for row, worker in zip(rows, workers)])
    ahead = rows[len(workers) :]
    if ahead:
        taken += _TAKE_AHEAD.run(conn, (codec.encode([row[0] for row in ahead]), node, at)).rowcount
    if taken != len(rows):
        raise RuntimeError(f"{len(rows) - taken} of {len(rows)} jobs stayed queued when they were claimed")


def take_each(conn: Connection, rows: Sequence[Row], node: int, workers: Sequence[int], now: datetime) -> Each:
    """Take rows one by one, for as many workers; what cannot be taken fails, and its row says so."""
    found = Each([], [], [])
    for row in rows:
        if len(found.taken) == len(workers):
            break
        worker = workers[len(found.taken)]
        error = apart.attempt(conn, lambda row=row, worker=worker: take(conn, [row], node, [worker], now))  # type: ignore[misc]
        if error is None:
            found.taken.append(row)
        else:
            said = f"its row cannot be claimed: {error}"
            is_refused = apart.attempt(conn, lambda row=row, said=said: refuse(conn, row[0], said, now))  # type: ignore[misc]
            (found.refused if is_refused is True else found.hopeless).append(row[0])
    return found


class Each(NamedTuple):
    """What became of rows that were taken one by one: rows, ids that have failed, ids that stay as they are."""

    taken: list[Row]
    refused: list[int]
    hopeless: list[int]


def refuse(conn: Connection, job_id: int, error: str, now: datetime) -> bool:
    """End a job `failed`/`error` that cannot be taken, for what SQL has written into its row; return whether that worked."""
    if not _REFUSE.run(conn, (job_id, error, stamp(now))).rowcount:
        return False
    totals.add_jobs(conn, [job_id])
    return True


def forbid_repeats(conn: Connection, job_ids: Sequence[int]) -> None:
    """Write into rows that leave it to their task that they must not start again after a crash."""
    if job_ids:
        _FORBID.run(conn, (codec.encode(list(job_ids)),))


def give_back(conn: Connection, claims: Sequence[tuple[int, int, int, str | None]]) -> None:
    """Return claims whose code has not started, as if they had never been: (id, fence, node, former reason)."""
    unique.keep(conn, [one[:3] for one in claims])
    _GIVE_BACK.run_many(conn, claims)
    _cancel_returned(conn, [one[0] for one in claims])


def give_back_others(conn: Connection, node: int, in_hand: Sequence[tuple[int, int]]) -> int:
    """Return this node's claims but these (id, fence): a commit made them that failed and yet happened."""
    lost = set(_CLAIMS.run(conn, (node,)).fetchall()).difference(in_hand)
    unique.keep(conn, [(*one, node) for one in lost])
    returned = [row[0] for row in _GIVE_BACK_OTHERS.run(conn, (node, codec.encode(list(in_hand)))).fetchall()]
    _cancel_returned(conn, returned)
    return len(returned)


def _cancel_returned(conn: Connection, job_ids: Sequence[int]) -> None:
    """End those that someone has cancelled meanwhile."""
    ended = _CANCEL_RETURNED.run(conn, (codec.encode(list(job_ids)),)).fetchall()
    totals.add_jobs(conn, [row[0] for row in ended])


def label(conn: Connection, claims: Sequence[tuple[int, int, int, int, datetime]]) -> None:
    """Say which worker runs what was claimed ahead, and since when: (id, fence, node, worker, started_at)."""
    _LABEL.run_many(conn, [(*claim[:4], stamp(claim[4])) for claim in claims])


def to_cancel(conn: Connection, node: int) -> list[int]:
    """Return the ids of this node's running jobs that someone has cancelled."""
    return [row[0] for row in _TO_CANCEL.run(conn, (node,)).fetchall()]
