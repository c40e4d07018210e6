"""What the rows say of limits: settings of queues, slots in use, latest starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, bindparam, delete, insert, or_, select, text, tuple_, update

from schedfactory.model import codec
from schedfactory.model.clock import stamp, unstamp_or_none
from schedfactory.model.limit import Bound, Rate
from schedfactory.model.running_job import CLAIMED
from schedfactory.storage.blocked import queue_key
from schedfactory.storage.statement import Statement, const
from schedfactory.storage.tables import jobs, queues, starts

QUEUE = CLAIMED.index("queue")
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
_PULL_BACK = Statement(
    update(starts)
    .where(starts.c.limit_key == bindparam("key"), starts.c.started_at > bindparam("now"))
    .values(started_at=bindparam("now")),
    "key now",
)
_WALK = Statement(
    select(starts.c.limit_key, starts.c.number)
    .where(tuple_(starts.c.limit_key, starts.c.number) > tuple_(bindparam("key"), bindparam("nth")))
    .order_by(starts.c.limit_key, starts.c.number)
    .limit(bindparam("most")),
    "key nth most",
)
_FORGET_OLD = Statement(
    delete(starts).where(
        tuple_(starts.c.limit_key, starts.c.number) > tuple_(bindparam("key"), bindparam("nth")),
        tuple_(starts.c.limit_key, starts.c.number) <= tuple_(bindparam("last_key"), bindparam("last_nth")),
        starts.c.started_at < bindparam("before"),
    ),
    "key nth last_key last_nth before",
)


def queue_bounds(conn: Connection) -> dict[str, Bound]:
    """Return what bounds the queues that have settings for that, by name."""
    return {
        name: Bound(queue_key(name), concurrency, _rates(rate), bool(paused))
        for name, concurrency, rate, paused in _SETTINGS.run(conn).fetchall()
    }


def _rates(text: str | None) -> tuple[Rate, ...]:
    with suppress(ValueError):  # a number that SQL wrote, and that nobody could reach
        return () if text is None else (Rate.of(text),)
    return ()


def slots_in_use(conn: Connection) -> Counter[str]:
    """Return how many running rows hold each key, code that outlived its timeout included."""
    return Counter(key for row in _RUNNING.run(conn).fetchall() for key in _keys_of(*row))


def held_by(conn: Connection, job_ids: Sequence[int]) -> Counter[str]:
    """Return how many of these jobs hold each key, or held it when they last ran."""
    rows = _HELD.run(conn, (codec.encode(list(job_ids)),)).fetchall()
    return Counter(key for row in rows for key in _keys_of(*row))


def _keys_of(queue: str, limit_keys: str | None) -> list[str]:
    found = None if limit_keys is None else codec.decode_or_none(limit_keys)
    return [queue_key(queue), *(key for key in (found if isinstance(found, list) else ()) if isinstance(key, str))]


def hold(conn: Connection, job_id: int, keys: Iterable[str]) -> None:
    """Note which keys a running job holds, besides that of its queue."""
    _HOLD.run(conn, (codec.encode(list(keys)), job_id))


def latest_start(conn: Connection, key: str, rate: Rate) -> tuple[int, datetime | None]:
    """Return number and moment of the latest start under a rate; 0: none is known."""
    row = _LATEST.run(conn, (_start_key(key, rate),)).fetchone()
    return (0, None) if row is None else (int(row[0]), unstamp_or_none(row[1]))


def started_at(conn: Connection, key: str, rate: Rate, number: int) -> datetime | None:
    """Return when that start was; None where it is long ago."""
    row = _START.run(conn, (_start_key(key, rate), number)).fetchone() if number > 0 else None
    return None if row is None else unstamp_or_none(row[0])


def add_start(conn: Connection, key: str, rate: Rate, now: datetime) -> None:
    """Count one more start under a rate, and forget those that no window can reach any more."""
    number = latest_start(conn, key, rate)[0] + 1
    _ADD_START.run(conn, (_start_key(key, rate), number, stamp(now)))
    _FORGET_STARTS.run(conn, (_start_key(key, rate), number - rate.count))


def pull_back_starts(conn: Connection, key: str, rate: Rate, now: datetime) -> None:
    """Take starts that lie ahead for starts of now: the clock has stepped back, and they must not count for hours."""
    _PULL_BACK.run(conn, (_start_key(key, rate), stamp(now)))


def rates_under(conn: Connection, key: str) -> tuple[Rate, ...]:
    """Return the rates under which starts of this key are counted."""
    keys = _WINDOWS.run(conn, (f"{key} ", f"{key}!")).fetchall()
    return tuple(Rate.of(found.rpartition(" ")[2]) for (found,) in keys if found.rpartition(" ")[0] == key)


def forget_old_starts(conn: Connection, after: tuple[str, int], most: int, now: datetime) -> tuple[str, int]:
    """Forget the starts under keys that nobody uses any more, among `most` of them; return where to go on."""
    rows = _WALK.run(conn, (*after, most)).fetchall()
    if rows:
        _FORGET_OLD.run(conn, (*after, *rows[-1], stamp(now - _KEPT)))
    return rows[-1] if len(rows) == most else ("", 0)


def _start_key(key: str, rate: Rate) -> str:
    return f"{key} {rate.text}"
