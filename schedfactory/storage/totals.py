"""How many jobs have ended, by queue and final status. Every change of a final status passes here, in its transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.sqlite import insert

from schedfactory.model import codec
from schedfactory.storage.statement import Statement
from schedfactory.storage.tables import totals

_insert = insert(totals).values(queue=bindparam("of_queue"), status=bindparam("of_status"), jobs=bindparam("more"))
_ADD = Statement(
    _insert.on_conflict_do_update(
        index_elements=[totals.c.queue, totals.c.status], set_={"jobs": totals.c.jobs + _insert.excluded.jobs}
    ),
    "of_queue of_status more",
)
_COUNT = Statement(
    text(
        "SELECT queue, status, count(*) FROM schedfactory_jobs"
        " WHERE id IN (SELECT value FROM json_each(:job_ids)) GROUP BY queue, status"
    ),
    "job_ids",
)


def add(conn: Connection, changes: Mapping[tuple[str, str], int]) -> None:
    """Add to the number of jobs of each (queue, status)."""
    for (queue, status), jobs in changes.items():
        _ADD.run(conn, (queue, status, jobs))


def add_jobs(conn: Connection, job_ids: Sequence[int]) -> None:
    """Add jobs that have just ended, by what their rows say now: someone may have moved one to another queue."""
    if job_ids:
        for queue, status, jobs in _COUNT.run(conn, (codec.encode(list(job_ids)),)).fetchall():
            _ADD.run(conn, (queue, status, jobs))


def add_each(conn: Connection, ended: Iterable[Any], sign: int = 1) -> None:
    changes: dict[tuple[str, str], int] = {}
    for queue, status in ended:
        changes[queue, status] = changes.get((queue, status), 0) + sign
    add(conn, changes)
