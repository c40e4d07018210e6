"""Calls become rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection, bindparam, func, insert, select

from schedfactory.model import codec
from schedfactory.model.clock import optional_stamp, stamp
from schedfactory.model.options import LARGEST
from schedfactory.model.task import Call
from schedfactory.storage import read, sqlite
from schedfactory.storage.seams import Intake, Seams
from schedfactory.storage.statement import Row, Statement
from schedfactory.storage.tables import jobs

_COLUMNS = (
    "uid", "task", "queue", "priority", "status", "args", "tags", "run_at", "created_at", "expires_at", "max_attempts",
    "retry", "timeout_ms", "on_crash", "unique_key", "unique_fence",
)  # fmt: skip
_INSERT = Statement(
    insert(jobs).values({name: bindparam(f"new_{name}") for name in _COLUMNS}), " ".join(f"new_{name}" for name in _COLUMNS)
)
QUEUE, _UNIQUE_KEY = _COLUMNS.index("queue"), _COLUMNS.index("unique_key")
_LAST_ID = Statement(select(func.coalesce(func.max(jobs.c.id), 0)))
_UID = Statement(select(jobs.c.uid).where(jobs.c.id == bindparam("job")), "job")
_IDS_AFTER = Statement(select(jobs.c.uid, jobs.c.id).where(jobs.c.id > bindparam("last")), "last")


def to_rows(calls: Sequence[Call[Any]], now: datetime) -> list[Row]:
    """Return what `insert_rows` stores of calls that are enqueued `now`.

    Raises:
        ValueError: a delay leads beyond the year 9999.
    """
    at = stamp(now)
    return [_to_row(call, uid, now, at) for call, uid in zip(calls, uuid7s(now, len(calls)))]


def _to_row(call: Call[Any], uid: str, now: datetime, at: str) -> Row:
    options = call.options
    try:
        run_at = options.starts_at(now)
        expires_at = None if options.expires is None else options.expires_at(run_at)
    except OverflowError as error:
        raise ValueError(
            f"delay={options.delay} or expires={options.expires} leads beyond the year 9999. Pass less."
        ) from error
    return (
        uid,
        call.task,
        options.queue,
        options.priority,
        "queued" if run_at <= now else "scheduled",
        call.args,
        codec.encode(options.tags) if options.tags else None,
        at if run_at is now else stamp(run_at),
        at,
        optional_stamp(expires_at),
        options.max_attempts,
        options.retry,
        None if options.timeout is None else round(options.timeout.total_seconds() * 1000),
        options.on_crash,
        call.unique_key,
        None if options.unique is None else options.unique.fence,
    )


def changed(row: Row, values: dict[str, Any]) -> Row:
    """Return a row of `to_rows` with other values, by column."""
    return tuple(values.get(name, value) for name, value in zip(_COLUMNS, row))


# What one enqueue brings: calls, their rows of `to_rows`, what the features have to say to them, and its moment.
Arrival = tuple[Sequence[Call[Any]], Sequence[Row], Seams, datetime]


def store_together(conn: Connection, arrivals: Sequence[Arrival]) -> list[Stored]:
    """Store what several enqueues bring, with as few statements as for one of them where nothing of theirs is unique.

    Raises:
        SchedfactoryError: a feature refuses some of it.
    """
    if len(arrivals) == 1:
        return [store(conn, *arrivals[0])]
    rows = [row for _, some, _, _ in arrivals for row in some]
    if any(row[_UNIQUE_KEY] is not None for row in rows):
        return [store(conn, *arrival) for arrival in arrivals]
    calls = [call for some, _, _, _ in arrivals for call in some]
    _, _, seams, now = arrivals[-1]  # the same features for all: each scheduler has a Database of its own
    stored = store(conn, calls, rows, seams, now)
    ends = list(accumulate(len(some) for _, some, _, _ in arrivals))
    return [stored.part(start, end) for start, end in zip([0, *ends], ends)]


def store(conn: Connection, calls: Sequence[Call[Any]], rows: Sequence[Row], seams: Seams, now: datetime) -> Stored:
    """Store rows of `to_rows`, as the features want it. The caller commits.

    Raises:
        SchedfactoryError: what a feature refuses them with.
    """
    if not seams.enqueuing:
        return Stored(insert_rows(conn, rows), rows, {})
    intake = Intake(calls, list(rows))
    for feature in seams.enqueuing:
        feature.enqueuing(conn, intake, now)
    if not intake.existing and not intake.twins:
        return Stored(insert_rows(conn, intake.rows), intake.rows, {})
    return _store_some(conn, intake)


def _store_some(conn: Connection, intake: Intake) -> Stored:
    answered = intake.existing.keys() | intake.twins.keys()
    new = [index for index in range(len(intake.rows)) if index not in answered]
    ids = intake.existing | dict(zip(new, insert_rows(conn, [intake.rows[index] for index in new]) if new else ()))
    ids |= {index: ids[first] for index, first in intake.twins.items()}
    known = {index: cast("Row", read.get(conn, ids[index])) for index in answered}
    return Stored([ids[index] for index in range(len(intake.rows))], intake.rows, known)


class Stored(NamedTuple):
    """What has become of calls, in their order.

    Attributes:
        ids: of the jobs that answer for them.
        rows: as they were stored.
        known: by index, the columns of jobs that were there before, or stand for an earlier call.
    """

    ids: Sequence[int]
    rows: Sequence[Row]
    known: dict[int, Row]

    def part(self, start: int, end: int) -> Stored:
        """Return what has become of some of them."""
        known = {index - start: row for index, row in self.known.items() if start <= index < end}
        return Stored(self.ids[start:end], self.rows[start:end], known)


def insert_rows(conn: Connection, rows: Sequence[Row]) -> Sequence[int]:
    """Store rows of `to_row` and return their ids, in order. The caller commits.

    Raises:
        sqlite3.IntegrityError: a trigger has left out one of them without a word.
    """
    if len(rows) == 1:
        done = _INSERT.run(conn, rows[0])
        if done.rowcount != 1:
            raise sqlite.left_out()
        return (int(done.lastrowid),)
    before = int(_LAST_ID.run(conn).fetchone()[0])
    last, count = _INSERT.insert_many(conn, rows)
    if count != len(rows):
        raise sqlite.left_out()
    if last - before == count:
        return range(before + 1, last + 1)
    # A trigger of the user's has added rows in between; or the largest id is taken, and SQLite takes any that is free.
    ids = dict(_IDS_AFTER.run(conn, (before if last > before else -LARGEST,)).fetchall())
    if not all(row[0] in ids for row in rows):
        raise sqlite.left_out()
    return [ids[row[0]] for row in rows]


def is_there(conn: Connection, stored: Stored) -> bool | None:
    """Tell whether rows that were stored are there: an id alone may have gone to another job. None: there were none."""
    index = next((index for index in range(len(stored.rows)) if index not in stored.known), None)
    if index is None:
        return None
    found = _UID.run(conn, (stored.ids[index],)).fetchone()
    return found is not None and found[0] == stored.rows[index][0]


def snapshot(job_id: int, row: Row) -> Row:
    """Return the columns of a job just stored, as `read` would give them."""
    uid, task, queue, priority, status, args, tags, run_at, created_at, expires_at, max_attempts = row[:11]
    return (
        job_id, uid, task, queue, priority, status, None, args, tags, run_at, created_at, None, None, expires_at,
        0, 0, 0, max_attempts, None, None, None, None, None, None, row[_UNIQUE_KEY],
    )  # fmt: skip


def uuid7s(now: datetime, count: int) -> list[str]:
    """Return time-ordered unique ids (RFC 9562, version 7): 48 bits of milliseconds, 74 random ones."""
    head = f"{int(now.timestamp() * 1000) & 0xFFFF_FFFF_FFFF:012x}"
    head = f"{head[:8]}-{head[8:]}-7"
    if count != 1:
        return [head + tail for tail in _tails(count)]
    try:
        tail = _spare.pop()
    except IndexError:
        tail, *others = _tails(_SPARE)
        _spare.extend(others)
    return [head + tail]


def _tails(count: int) -> list[str]:
    chance = os.urandom(10 * count).hex()
    return [
        f"{chance[i : i + 3]}-{_VARIANT[chance[i + 3]]}{chance[i + 4 : i + 7]}-{chance[i + 7 : i + 19]}"
        for i in range(0, 20 * count, 20)
    ]


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_SPARE = 64  # drawn at once: each call of the system lets another thread in
_spare: list[str] = []

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_spare.clear)
