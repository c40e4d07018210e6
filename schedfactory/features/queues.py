"""Queues are rows: what they may hold and run, changed while the factory runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, and_, bindparam, select, text
from sqlalchemy.dialects.sqlite import insert

from schedfactory.model.errors import QueueFull
from schedfactory.model.limit import Rate, check_concurrency
from schedfactory.model.options import check_flag, check_int, check_queue, check_storable
from schedfactory.storage import blocked
from schedfactory.storage.database import Database
from schedfactory.storage.enqueue import QUEUE
from schedfactory.storage.seams import Feature, Intake
from schedfactory.storage.statement import Statement
from schedfactory.storage.tables import queue_stats, queues

WhenFull = Literal["raise", "wait"]
_LET_OUT_AT_ONCE = 2_000
_UNSAID: Any = object()

_SIZE = Statement(
    select(queues.c.max_size, queues.c.when_full).where(queues.c.name == bindparam("name"), queues.c.max_size.is_not(None)),
    "name",
)
_HAS_NO_SETTING = and_(
    queues.c.max_size.is_(None), queues.c.when_full == "raise", queues.c.concurrency.is_(None), queues.c.rate.is_(None)
)
# Each from the partial index of its status, up to as many as matter.
_HELD = Statement(
    text(
        """
        SELECT count(*) FROM (
            SELECT 1 FROM schedfactory_jobs
            WHERE status = 'queued' AND node IS NULL AND blocked_by IS NULL AND queue = :name
            UNION ALL SELECT 1 FROM schedfactory_jobs
            WHERE blocked_by IS NOT NULL AND status = 'queued' AND node IS NULL AND queue = :name
            UNION ALL SELECT 1 FROM schedfactory_jobs WHERE status = 'scheduled' AND queue = :name
            UNION ALL SELECT 1 FROM schedfactory_jobs WHERE status = 'waiting' AND queue = :name
            LIMIT :most
        )
        """
    ),
    "name most",
)


class QueueSizes(Feature):
    """Refuses what a queue has no room for."""

    def enqueuing(self, conn: Connection, intake: Intake, now: datetime) -> None:  # noqa: ARG002 - a seam
        """Refuse an enqueue that would fill a queue beyond its `max_size`; all of it, because it is one transaction.

        Raises:
            QueueFull: naming the queue.
        """
        for name in {row[QUEUE] for row in intake.rows}:
            if _SIZE.run(conn, (name,)).fetchone() is not None:
                answered = intake.existing.keys() | intake.twins.keys()
                arriving = [index for index, row in enumerate(intake.rows) if row[QUEUE] == name and index not in answered]
                if arriving:
                    refuse_full(conn, name, len(arriving))


def refuse_full(conn: Connection, name: str, more: int) -> None:
    """Let pass what a queue has room for.

    Raises:
        QueueFull: it has none for so many more.
    """
    found = _SIZE.run(conn, (name,)).fetchone()
    if found is not None:
        max_size, when_full = found
        held = int(_HELD.run(conn, (name, max_size)).fetchone()[0])
        if held + more > max_size:
            raise QueueFull(name, max_size, held, more, may_wait=when_full == "wait" and more <= max_size)


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue's settings, and how many jobs it has.

    Attributes:
        max_size: how many jobs that have not started it may hold; None: any number.
        when_full: "raise": an enqueue beyond that is a `QueueFull`; "wait": it waits for room.
        concurrency: how many of its jobs run at the same time, over all nodes.
        rate: how many start in a stretch of time, over all nodes, such as "100/m".
        paused: none starts.
    """

    name: str
    max_size: int | None = None
    when_full: WhenFull = "raise"
    concurrency: int | None = None
    rate: str | None = None
    paused: bool = False
    waiting: int = 0
    queued: int = 0
    scheduled: int = 0
    running: int = 0


class Queues:
    """The queues of a scheduler: `scheduler.queues`. Settings are rows; all nodes heed them at their next claim.

    >>> scheduler.queues.set("mail", max_size=10_000, concurrency=2, rate="100/m").concurrency
    2
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def set(
        self,
        name: str,
        *,
        max_size: int | None = _UNSAID,
        when_full: WhenFull = _UNSAID,
        concurrency: int | None = _UNSAID,
        rate: str | None = _UNSAID,
        keep_existing: bool = False,
    ) -> Queue:
        """Set what a queue may hold and run, and return it. What is not given stays as it is; None takes a bound away.

        Args:
            max_size: how many jobs that have not started it may hold. Jobs that plain SQL adds, those that come back by a
                retry or a requeue, and those that `update(queue=…)` brings, are counted and never refused.
            when_full: "raise", or "wait": an enqueue then waits for room, but inside a task of the same scheduler, where it
                raises: all workers could come to wait for each other.
            concurrency: how many of its jobs run at the same time, over all nodes.
            rate: how many of its jobs start in any second, minute, hour or day, over all nodes: "10/s", "100/m".
            keep_existing: change nothing where the queue has a setting, so that a program's start does not undo what was set
                while it ran. A queue that was only paused, or whose bounds were all taken away, has none.

        Raises:
            ValueError, TypeError: naming the setting and its value.
        """
        check_flag(keep_existing, "keep_existing")
        given = {"max_size": max_size, "when_full": when_full, "concurrency": concurrency, "rate": rate}
        values = {setting: _CHECKS[setting](value) for setting, value in given.items() if value is not _UNSAID}
        return self._change(check_queue(name), values, keep_existing)

    def pause(self, name: str) -> Queue:
        """Let no job of this queue start any more, on any node, until `resume`; those that run go on."""
        return self._change(check_queue(name), {"paused": 1})

    def resume(self, name: str) -> Queue:
        """Let its jobs start again."""
        return self._change(check_queue(name), {"paused": 0})

    def get(self, name: str) -> Queue:
        """Return a queue; one that nobody has heard of has no settings and no jobs."""
        check_queue(name)
        found = [queue for queue in self.list() if queue.name == name]
        return found[0] if found else Queue(name)

    def list(self) -> list[Queue]:
        """Return the queues that have settings or jobs, by name."""
        with self._database.read() as conn:
            settings = {row.name: row._asdict() for row in conn.execute(select(queues))}
            counts = {row.queue: row for row in conn.execute(select(queue_stats))}
        found = []
        for name in sorted(settings.keys() | counts.keys()):
            said = settings.get(name, {"name": name})
            said["paused"] = bool(said.get("paused"))
            row = counts.get(name)
            found.append(Queue(**said) if row is None else Queue(**said, **{status: getattr(row, status) for status in _SHOWN}))
        return found

    def _change(self, name: str, values: dict[str, Any], keep_existing: bool = False) -> Queue:
        def change(conn: Connection) -> None:
            change = insert(queues).values(name=name, **values)
            if values:
                where = _HAS_NO_SETTING if keep_existing else None
                conn.execute(change.on_conflict_do_update(index_elements=[queues.c.name], set_=values, where=where))
            else:
                conn.execute(change.on_conflict_do_nothing())
            # The next claim looks anew who may start; the rest of a long line follows those.
            blocked.let_out_best(conn, blocked.queue_key(name), _let_out_at_once(conn, name))

        self._database.write(change)
        return self.get(name)


def _let_out_at_once(conn: Connection, name: str) -> int:
    row = conn.execute(select(queues.c.paused, queues.c.concurrency, queues.c.rate).where(queues.c.name == name)).one()
    return 0 if row.paused else 1 if row.concurrency or row.rate else _LET_OUT_AT_ONCE


_SHOWN = ("waiting", "queued", "scheduled", "running")


def _check_when_full(value: str) -> str:
    if value not in ("raise", "wait"):
        raise ValueError(f'when_full={value!r} is unknown. Pass "raise" or "wait".')
    return value


_CHECKS: dict[str, Callable[[Any], object]] = {
    "max_size": lambda value: None if value is None else check_storable(check_int(value, "max_size", 1), "max_size"),
    "when_full": _check_when_full,
    "concurrency": check_concurrency,
    "rate": lambda value: None if value is None else Rate.of(value).text,
}
