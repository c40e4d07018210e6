"""The nodes of a database: who is there, who has died, and what becomes of the jobs of the dead."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, and_, bindparam, case, delete, func, insert, null, or_, select, update

from schedfactory.model import codec
from schedfactory.model.clock import stamp
from schedfactory.model.errors import StorageError
from schedfactory.model.job import read_moment
from schedfactory.model.node import NodeInfo
from schedfactory.model.outcome import MAX_CRASHES
from schedfactory.model.slots import Slots
from schedfactory.storage import totals, unique
from schedfactory.storage.locks import LockFile
from schedfactory.storage.statement import Row, Statement, const
from schedfactory.storage.tables import attempts, jobs, nodes

KEPT = timedelta(days=7)
_OTHERS = Statement(
    select(nodes.c.id, nodes.c.host, nodes.c.boot_id, nodes.c.lock_file, nodes.c.beat).where(
        nodes.c.status == const("running"), nodes.c.id != bindparam("but")
    ),
    "but",
)
_PLACE = Statement(
    select(nodes.c.host, nodes.c.boot_id, nodes.c.lock_file).where(
        nodes.c.id == bindparam("node"), nodes.c.status == const("running")
    ),
    "node",
)
_LISTED = Statement(
    select(
        nodes.c.id, nodes.c.host, nodes.c.boot_id, nodes.c.lock_file, nodes.c.pid, nodes.c.started_at, nodes.c.status,
        nodes.c.paused, nodes.c.workers, nodes.c.queues, nodes.c.tasks,
        select(func.count()).where(jobs.c.node == nodes.c.id, jobs.c.status == const("running")).scalar_subquery(),
    )
    .order_by(nodes.c.status != const("running"), nodes.c.id.desc())
    .limit(bindparam("most")),
    "most",
)  # fmt: skip
_OWNERS = Statement(
    select(jobs.c.node)
    .where(jobs.c.status == const("running"), jobs.c.node != bindparam("but"))
    .union(select(jobs.c.node).where(jobs.c.leftover == const(1), jobs.c.node != bindparam("but"))),
    "but",
)


def register(conn: Connection, lock: LockFile, slots: Slots, tasks: Sequence[str], now: datetime) -> tuple[int, int]:
    """Add this process as a node and return its id, whose lock it holds before anyone can see the row, and its slot."""
    conn.execute(delete(nodes).where(nodes.c.status != const("running"), nodes.c.stopped_at < stamp(now - KEPT)))
    taken = {row[0] for row in conn.execute(select(nodes.c.slot).where(nodes.c.status == const("running")))}
    slot = next(slot for slot in itertools.count() if slot not in taken)
    row = conn.execute(
        insert(nodes)
        .values(
            status="running",
            host=host(),
            boot_id=boot_id(),
            pid=os.getpid(),
            lock_file=lock.name,
            slot=slot,
            workers=slots.workers,
            queues=None if slots.said is None else codec.encode(slots.said),
            tasks=codec.encode(list(tasks)),
            started_at=stamp(now),
        )
        .returning(nodes.c.id)
    ).one()
    node = int(row[0])
    try:
        lock.ring(slot).clear()
        lock.hold(node)
    except OSError as error:
        raise StorageError(f"{lock.path}: the lock file of the nodes cannot be written ({error}).", lock.path) from error
    return node, slot


def describe(conn: Connection, node: int, workers: int, paused: int, tasks: Sequence[str]) -> None:
    """Write what has changed of a node; `paused` is 1 while it claims nothing, 2 where that is because it stops."""
    conn.execute(
        update(nodes).where(nodes.c.id == node).values(workers=workers, paused=paused, tasks=codec.encode(list(tasks)))
    )


def leave(conn: Connection, node: int, now: datetime) -> None:
    conn.execute(
        update(nodes).where(nodes.c.id == node, nodes.c.status == "running").values(status="stopped", stopped_at=stamp(now))
    )


@dataclass
class Others:
    """What the rows and the locks tell of the other nodes.

    Attributes:
        dead: known to be dead, with a row or jobs to clear.
        alive: known to live, on this host.
        silent: the beat of each node of which no lock can tell, where it has jobs: it counts only while they run.
        is_watched: some other node can tell that this one lives by its beat only.
    """

    dead: list[int] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)
    silent: dict[int, int] = field(default_factory=dict)
    is_watched: bool = False


def look_around(conn: Connection, node: int, lock: LockFile) -> Others:
    """Return what is known of the other nodes. Reads only.

    A node of this boot whose lock is in this file is dead when that is free; one of an earlier boot of this host died with
    it. Of another host's node, or one whose lock file was replaced, only its beat tells.
    """
    found = Others()
    owners = {row[0] for row in _OWNERS.run(conn, (node,)).fetchall()}
    for other, *place, beat in _OTHERS.run(conn, (node,)).fetchall():
        has_jobs = other in owners
        owners.discard(other)
        is_alive = _is_alive(other, tuple(place), lock)
        if is_alive is not None:
            (found.alive if is_alive else found.dead).append(other)
        else:
            found.is_watched = True
            if has_jobs:
                found.silent[other] = beat
    found.dead += [owner for owner in owners if not lock.is_alive(owner)]  # whose row says stopped, or is pruned
    return found


def _is_alive(node: int, place: Row, lock: LockFile) -> bool | None:
    """Tell whether a node of that host, boot and lock file lives, None where no lock tells."""
    its_host, its_boot, its_lock = place
    if its_boot == boot_id() and its_lock == lock.name:
        return lock.is_alive(node)
    return False if its_boot != boot_id() and its_host == host() else None


def is_there(conn: Connection, node: int, lock: LockFile) -> bool | None:
    """Tell whether a node runs: its row says so, and its lock; None where no lock tells."""
    row = _PLACE.run(conn, (node,)).fetchone()
    return False if row is None else _is_alive(node, row, lock)


def present(conn: Connection, lock: LockFile) -> list[int]:
    """Return the nodes that run, as far as one can tell."""
    rows = _OTHERS.run(conn, (0,)).fetchall()
    return [row[0] for row in rows if _is_alive(row[0], row[1:4], lock) is not False]


def listed(conn: Connection, lock: LockFile, limit: int) -> list[NodeInfo]:
    """Return the nodes that are there, then those that were, the newest first."""
    found = []
    for row in _LISTED.run(conn, (limit,)).fetchall():
        node, its_host, its_boot, its_lock, pid, started_at, status, paused, workers, queues, tasks, busy = row
        if status == "running":
            is_dead = _is_alive(node, (its_host, its_boot, its_lock), lock) is False
            status = "dead" if is_dead else ("running", "paused", "stopping")[max(0, min(paused, 2))]
        known, said = codec.decode_or_none(tasks or ""), codec.decode_or_none(queues or "")
        started = read_moment(started_at)
        found.append(NodeInfo(node, its_host, pid, started, status, workers, busy, said, tuple(known or ())))
    return found


def beat(conn: Connection, node: int) -> None:
    """Show those who cannot see this node's lock that it lives, also where they have given it up."""
    conn.execute(update(nodes).where(nodes.c.id == node).values(beat=nodes.c.beat + 1, status="running", stopped_at=null()))


def rescue(conn: Connection, lock: LockFile, node: int, now: datetime) -> list[tuple[int, str]]:
    """Take the jobs of a dead node from it, and return (id, new status) of each.

    A job whose code had started is charged with a crash, and ends `failed`/`crashed` with the third one, or at once where
    its task says so; one that was asked to stop ends cancelled. A job that no worker had begun goes back as it came.
    """
    at = stamp(now)
    mine = (jobs.c.node == node, jobs.c.status == const("running"))
    _label_begun(conn, lock, node)
    conn.execute(
        insert(attempts)
        .prefix_with("OR REPLACE")
        .from_select(
            ("job_id", "number", "status", "reason", "started_at", "finished_at", "node", "worker", "error"),
            select(
                jobs.c.id, jobs.c.attempt, const("crashed"), const("crash"), jobs.c.started_at,
                bindparam("at", at), jobs.c.node, jobs.c.worker, const("the process ended while it ran"),
            ).where(*mine, jobs.c.worker.is_not(None)),
        )
    )  # fmt: skip
    is_cancelled = jobs.c.cancel_requested_at.is_not(None)
    has_begun = jobs.c.worker.is_not(None)
    is_last = and_(
        has_begun,
        or_(jobs.c.crashes + const(1) >= const(MAX_CRASHES), jobs.c.on_crash.is_not_distinct_from(const("fail"))),
    )
    ends = or_(is_cancelled, is_last)
    unique.keep_where(conn, and_(jobs.c.node == node, jobs.c.worker.is_(None)))
    rescued = conn.execute(
        update(jobs)
        .where(*mine)
        .values(
            status=case((is_cancelled, const("cancelled")), (is_last, const("failed")), else_=const("queued")),
            # Marked also where it had not begun: such a job is not claimed ahead again, so that its next death counts
            # (test_jobs_that_no_worker_had_begun_are_not_charged_with_the_death).
            reason=case((is_cancelled, const("user")), (is_last, const("crashed")), else_=const("crash")),
            finished_at=case((ends, at), else_=null()),
            error=case((is_last, const("its process ended while it ran")), else_=jobs.c.error),
            crashes=case((has_begun, jobs.c.crashes + const(1)), else_=jobs.c.crashes),
            attempt=case((has_begun, jobs.c.attempt), else_=jobs.c.attempt - const(1)),
            started_at=case((has_begun, jobs.c.started_at), else_=null()),
            node=case((ends, jobs.c.node), else_=null()),
            worker=case((ends, jobs.c.worker), else_=null()),
        )
        .returning(jobs.c.id, jobs.c.queue, jobs.c.status)
    ).all()
    totals.add_each(conn, ((row[1], row[2]) for row in rescued if row[2] != "queued"))
    _let_go(conn, node)
    conn.execute(update(nodes).where(nodes.c.id == node, nodes.c.status == "running").values(status="dead", stopped_at=at))
    return [(row[0], row[2]) for row in rescued]


def _label_begun(conn: Connection, lock: LockFile, node: int) -> None:
    """Say of jobs claimed ahead which worker had begun them when the node died."""
    unknown = conn.execute(
        select(jobs.c.id, jobs.c.fence).where(jobs.c.node == node, jobs.c.status == const("running"), jobs.c.worker.is_(None))
    ).all()
    slot = conn.execute(select(nodes.c.slot).where(nodes.c.id == node)).scalar()
    if unknown and slot is not None:
        begun = lock.ring(slot).read()
        for job, fence in unknown:
            if (job, fence) in begun:
                conn.execute(update(jobs).where(jobs.c.id == job).values(worker=begun[job, fence]))


def _let_go(conn: Connection, node: int) -> None:
    """Free the jobs that left-over code of a dead node had held."""
    is_due = or_(jobs.c.status == const("queued"), jobs.c.status == const("scheduled"))
    conn.execute(
        update(jobs)
        .where(jobs.c.node == node, jobs.c.leftover == const(1))
        .values(
            leftover=const(0),
            node=case((is_due, null()), else_=jobs.c.node),
            worker=case((is_due, null()), else_=jobs.c.worker),
        )
    )


def host() -> str:
    """Return this machine's name, for display and to tell an earlier boot of it."""
    return socket.gethostname()


@cache
def boot_id() -> str:
    """Return what names this boot of this kernel: containers on one kernel share it, and share its locks."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return f"host:{host()}"
