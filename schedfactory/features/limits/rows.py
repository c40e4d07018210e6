"""What the rows say of limits: settings of queues, slots in use, latest starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, bindparam, delete, insert, or_, select, text, update

from schedfactory.model import codec
from schedfactory.model.clock import stamp, unstamp
from schedfactory.model.limit import Bound, Rate
from schedfactory.storage.blocked import queue_key
from schedfactory.storage.statement import Statement, const
from schedfactory.storage.tables import jobs, queues, starts

_KEPT = timedelta(days=1)  # the longest window
_SETTINGS = Statement(
    select(queues.c.name, queues.c.concurrency, queues.c.rate, queues.c.paused).where(
        or_(queues.c.concurrency.is_not(None), queues.c.rate.is_not(None), queues.c.paused == const(1))
    )
)
_IS_LEFT_OVER = and_(jobs.c.leftover == const(1), jobs.c.status != const("running"))
# Each half from the partial index of what it names.
_RUNNING = Statement(
    select(jobs.c.queue, jobs.c.limit_keys)
    .where(jobs.c.status == const("running"))
    .union_all(select(jobs.c.queue, jobs.c.limit_keys).where(_IS_LEFT_OVER))
)
_HELD = Statement(
    text("SELECT queue, limit_keys FROM schedfactory_jobs WHERE id IN (SELECT value FROM json_each(:job_ids))"), "job_ids"
)
_HOLD = Statement(update(jobs).where(jobs.c.id == bindparam("job")).values(limit_keys=bindparam("keys")), "keys job")
_LATEST = Statement(
    select(starts.c.number, starts.c.started_at)
    .where(starts.c.limit_key == bindparam("key"))
    .order_by(starts.c.number.desc())
    .limit(const(1)),
    "key",
)
_START = Statement(
    select(starts.c.started_at).where(starts.c.limit_key == bindparam("key"), starts.c.number == bindparam("nth")), "key nth"
)
_ADD_START = Statement(
    insert(starts).values(limit_key=bindparam("key"), number=bindparam("nth"), started_at=bindparam("at")), "key nth at"
)
_FORGET_STARTS = Statement(
    delete(starts).where(starts.c.limit_key == bindparam("key"), starts.c.number <= bindparam("nth")), "key nth"
)
_WINDOWS = Statement(
    select(starts.c.limit_key)
    .distinct()
    .where(starts.c.limit_key > bindparam("after"), starts.c.limit_key < bindparam("before")),
    "after before",
)
_FORGET_OLD = Statement(delete(starts).where(starts.c.started_at < bindparam("before")), "before")


def queue_bounds(conn: Connection) -> dict[str, Bound]:
    """Return what bounds the queues that have settings for that, by name."""
    return {
        name: Bound(queue_key(name), concurrency, None if rate is None else Rate.of(rate), bool(paused))
        for name, concurrency, rate, paused in _SETTINGS.run(conn).fetchall()
    }


def slots_in_use(conn: Connection) -> Counter[str]:
    """Return how many running rows hold each key, code that outlived its timeout included."""
    return Counter(key for row in _RUNNING.run(conn).fetchall() for key in _keys_of(*row))


def held_by(conn: Connection, job_ids: Sequence[int]) -> set[str]:
    """Return the keys that these jobs hold, or held when they last ran."""
    rows = _HELD.run(conn, (codec.encode(list(job_ids)),)).fetchall()
    return {key for row in rows for key in _keys_of(*row)}


def _keys_of(queue: str, limit_keys: str | None) -> list[str]:
    found = None if limit_keys is None else codec.decode_or_none(limit_keys)
    return [queue_key(queue), *(found if isinstance(found, list) else [])]


def hold(conn: Connection, job_id: int, keys: Iterable[str]) -> None:
    """Note which keys a running job holds, besides that of its queue."""
    _HOLD.run(conn, (codec.encode(list(keys)), job_id))


def latest_start(conn: Connection, bound: Bound) -> int:
    """Return the number of the latest start under a rate; 0: none is known."""
    row = _LATEST.run(conn, (_start_key(bound),)).fetchone()
    return 0 if row is None else int(row[0])


def started_at(conn: Connection, bound: Bound, number: int) -> datetime | None:
    """Return when that start was; None where it is long ago."""
    row = _START.run(conn, (_start_key(bound), number)).fetchone() if number > 0 else None
    return None if row is None else unstamp(row[0])


def add_start(conn: Connection, bound: Bound, now: datetime) -> None:
    """Count one more start under a rate, and forget those that no window can reach any more."""
    assert bound.rate is not None
    number = latest_start(conn, bound) + 1
    _ADD_START.run(conn, (_start_key(bound), number, stamp(now)))
    _FORGET_STARTS.run(conn, (_start_key(bound), number - bound.rate.count))


def forget_old_starts(conn: Connection, now: datetime) -> None:
    """Forget the starts under keys that nobody uses any more."""
    _FORGET_OLD.run(conn, (stamp(now - _KEPT),))


def rates_under(conn: Connection, key: str) -> list[Rate]:
    """Return the rates under which starts of this key are counted."""
    keys = _WINDOWS.run(conn, (f"{key} ", f"{key}!")).fetchall()
    return [Rate.of(found.rpartition(" ")[2]) for (found,) in keys if found.rpartition(" ")[0] == key]


def _start_key(bound: Bound) -> str:
    assert bound.rate is not None
    return f"{bound.key} {bound.rate.text}"
