"""Orders to nodes, as rows: given by any process, acknowledged and ended by the node, or by who sees that it is gone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, and_, bindparam, case, delete, func, insert, or_, select, update

from schedfactory.model import codec
from schedfactory.model.clock import stamp
from schedfactory.model.command import DIED, DONE, UNDELIVERABLE
from schedfactory.storage import nodes
from schedfactory.storage.locks import LockFile
from schedfactory.storage.statement import Row, Statement, const, listed
from schedfactory.storage.tables import commands

_COLUMNS = tuple(
    commands.c[name] for name in ("id", "kind", "node", "worker", "workers", "force", "given_at", "acknowledged_at", "result")
)
_IS_PENDING = commands.c.result.is_(None)
_IN = commands.c.id.in_(listed("ids"))
_GET = Statement(select(*_COLUMNS).where(_IN).order_by(commands.c.id), "ids")
_LATEST = Statement(select(*_COLUMNS).order_by(commands.c.id.desc()).limit(bindparam("most")), "most")
_UNTAKEN = Statement(
    select(commands.c.id, commands.c.kind, commands.c.worker, commands.c.workers, commands.c.force)
    .where(_IS_PENDING, commands.c.acknowledged_at.is_(None), commands.c.node == bindparam("to_node"))
    .order_by(commands.c.id),
    "to_node",
)
_ACKNOWLEDGE = Statement(
    update(commands).where(_IN, commands.c.acknowledged_at.is_(None), _IS_PENDING).values(acknowledged_at=bindparam("at")),
    "ids at",
)
_END = Statement(
    update(commands).where(commands.c.id == bindparam("order"), _IS_PENDING).values(result=bindparam("how")), "order how"
)
_PENDING = Statement(select(commands.c.node, commands.c.id, commands.c.acknowledged_at).where(_IS_PENDING))


class Order(NamedTuple):
    """What a node reads of an order to it."""

    id: int
    kind: str
    worker: int | None
    workers: int | None
    force: int


def give(
    conn: Connection,
    kind: str,
    node: int | None,
    lock: LockFile,
    now: datetime,
    *,
    worker: int | None = None,
    workers: int | None = None,
    force: bool = False,
) -> list[tuple[int, str | None]]:
    """Store an order to one node, or one to each that runs, and return (id, result) of each.

    It is undeliverable at once where there is no such node, or none at all."""
    order: dict[str, object] = {"kind": kind, "worker": worker, "workers": workers, "force": int(force), "given_at": stamp(now)}
    targets: Sequence[int | None] = nodes.present(conn, lock) if node is None else [node]
    given: list[tuple[int, str | None]] = []
    for target in targets or [None]:
        is_lost = target is None or (node is not None and nodes.is_there(conn, target, lock) is False)
        result = UNDELIVERABLE if is_lost else None
        row = insert(commands).values(order | {"node": target, "result": result}).returning(commands.c.id)
        given.append((int(conn.execute(row).scalar_one()), result))
    return given


def get(conn: Connection, ids: Iterable[int]) -> list[Row]:
    return [tuple(row) for row in _GET.run(conn, (codec.encode(list(ids)),)).fetchall()]


def latest(conn: Connection, limit: int) -> list[Row]:
    return [tuple(row) for row in _LATEST.run(conn, (limit,)).fetchall()]


def untaken(conn: Connection, node: int) -> list[Order]:
    """Return the orders that a node has not acknowledged yet, the oldest first."""
    return [Order(*row) for row in _UNTAKEN.run(conn, (node,)).fetchall()]


def acknowledge(conn: Connection, ids: Sequence[int], now: datetime) -> None:
    _ACKNOWLEDGE.run(conn, (codec.encode(list(ids)), stamp(now)))


def end(conn: Connection, results: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
    """Write what has become of orders, (id, result), and return those of which nobody had said so yet."""
    return [one for one in results if _END.run(conn, one).rowcount]


def end_with(conn: Connection, node: int, now: datetime) -> list[tuple[int, str]]:
    """End what is pending for a node that leaves: it has quit, and what it had taken on, it has done."""
    is_quit = and_(commands.c.kind == const("quit"), commands.c.worker.is_(None))
    is_done = or_(is_quit, commands.c.acknowledged_at.is_not(None))
    ended = conn.execute(
        update(commands)
        .where(commands.c.node == node, _IS_PENDING)
        .values(
            result=case((is_done, const(DONE)), else_=const(UNDELIVERABLE)),
            acknowledged_at=case((is_done, func.coalesce(commands.c.acknowledged_at, stamp(now))), else_=None),
        )
        .returning(commands.c.id, commands.c.result)
    )
    return [(row[0], row[1]) for row in ended]


class Lost(NamedTuple):
    """Orders that nobody will obey: to nodes that are gone; and unheard ones, to nodes of which no lock tells."""

    gone: list[tuple[int, str]]
    unheard: list[int]


def lost(conn: Connection, lock: LockFile) -> Lost:
    """Return the ids of the orders that are lost, or may be, those to the gone with their results. Reads only."""
    found = Lost([], [])
    for node, order, acknowledged_at in _PENDING.run(conn).fetchall():
        is_there = False if node is None else nodes.is_there(conn, node, lock)
        if is_there is False:
            found.gone.append((order, UNDELIVERABLE if acknowledged_at is None else DIED))
        elif is_there is None and acknowledged_at is None:
            found.unheard.append(order)
    return found


def end_unheard(conn: Connection, ids: Sequence[int]) -> list[tuple[int, str]]:
    """End orders as undeliverable that have still not been acknowledged, and return those."""
    ended = conn.execute(
        update(commands)
        .where(commands.c.id.in_(ids), commands.c.acknowledged_at.is_(None), _IS_PENDING)
        .values(result=UNDELIVERABLE)
        .returning(commands.c.id, commands.c.result)
    )
    return [(row[0], row[1]) for row in ended]


def prune(conn: Connection, now: datetime) -> None:
    """Delete what has been over for a week."""
    conn.execute(delete(commands).where(commands.c.result.is_not(None), commands.c.given_at < stamp(now - nodes.KEPT)))
