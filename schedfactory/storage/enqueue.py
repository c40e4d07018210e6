"""Calls become rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, text

from schedfactory.model import codec
from schedfactory.model.clock import optional_stamp, stamp
from schedfactory.model.task import Call
from schedfactory.storage.statement import Row, Statement
from schedfactory.storage.tables import jobs

_COLUMNS = (
    "uid", "task", "queue", "priority", "status", "args", "tags", "run_at", "created_at", "expires_at", "max_attempts",
    "retry", "timeout_ms", "on_crash",
)  # fmt: skip
_INSERT = Statement(
    insert(jobs).values({name: bindparam(f"new_{name}") for name in _COLUMNS}), " ".join(f"new_{name}" for name in _COLUMNS)
)
_LAST_ID = Statement(select(func.coalesce(func.max(jobs.c.id), 0)))
_LAST_INSERTED = Statement(text("SELECT last_insert_rowid()"))
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
    )


def insert_rows(conn: Connection, rows: Sequence[Row]) -> Sequence[int]:
    """Store rows of `to_row` and return their ids, in order. The caller commits."""
    if len(rows) == 1:
        return (int(_INSERT.run(conn, rows[0]).lastrowid),)
    before = int(_LAST_ID.run(conn).fetchone()[0])
    _INSERT.insert_many(conn, rows)
    last = int(_LAST_INSERTED.run(conn).fetchone()[0])
    if last - before == len(rows):
        return range(before + 1, last + 1)
    ids = dict(_IDS_AFTER.run(conn, (before,)).fetchall())  # a trigger of the user's has added rows in between
    return [ids[row[0]] for row in rows]


def is_there(conn: Connection, job_id: int, row: Row) -> bool:
    """Tell whether the row of that id is this one: an id alone may have gone to another job."""
    found = _UID.run(conn, (job_id,)).fetchone()
    return found is not None and found[0] == row[0]


def snapshot(job_id: int, row: Row) -> Row:
    """Return the columns of a job just stored, as `read` would give them."""
    uid, task, queue, priority, status, args, tags, run_at, created_at, expires_at, max_attempts = row[:11]
    return (
        job_id, uid, task, queue, priority, status, None, args, tags, run_at, created_at, None, None, expires_at,
        0, 0, 0, max_attempts, None, None, None, None, None, None,
    )  # fmt: skip


def uuid7s(now: datetime, count: int) -> list[str]:
    """Return time-ordered unique ids (RFC 9562, version 7): 48 bits of milliseconds, 74 random ones."""
    head = f"{int(now.timestamp() * 1000) & 0xFFFF_FFFF_FFFF:012x}"
    head = f"{head[:8]}-{head[8:]}-7"
    chance = os.urandom(10 * count).hex()
    return [
        f"{head}{chance[i : i + 3]}-{_VARIANT[chance[i + 3]]}{chance[i + 4 : i + 7]}-{chance[i + 7 : i + 19]}"
        for i in range(0, 20 * count, 20)
    ]


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
