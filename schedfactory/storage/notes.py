"""What running attempts say of themselves: their progress, and their lines of log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, bindparam, insert, select, update

from schedfactory.model.clock import stamp
from schedfactory.model.job import LogLine, read_moment
from schedfactory.model.log import Line
from schedfactory.model.running_job import RunningJob
from schedfactory.storage.statement import Statement, const
from schedfactory.storage.tables import jobs, logs

_PROGRESS = Statement(
    update(jobs)
    .where(
        jobs.c.id == bindparam("job"),
        jobs.c.fence == bindparam("at_fence"),
        jobs.c.status == const("running"),
        jobs.c.node == bindparam("by_node"),
    )
    .values(progress=bindparam("done"), progress_message=bindparam("message")),
    "done message job at_fence by_node",
)
# A second time, after a commit that failed and yet happened, changes nothing.
_LINE = Statement(
    insert(logs)
    .prefix_with("OR REPLACE")
    .from_select(
        ("job_id", "attempt", "number", "at", "level", "logger", "message"),
        select(
            jobs.c.id,
            bindparam("of_attempt"),
            bindparam("as_number"),
            bindparam("said_at"),
            bindparam("of_level"),
            bindparam("of_logger"),
            bindparam("said"),
        ).where(
            jobs.c.id == bindparam("job"),
            jobs.c.fence == bindparam("at_fence"),
            jobs.c.status == const("running"),
            jobs.c.node == bindparam("by_node"),
        ),
    ),
    "of_attempt as_number said_at of_level of_logger said job at_fence by_node",
)
_LINES = Statement(
    select(logs.c.attempt, logs.c.at, logs.c.level, logs.c.logger, logs.c.message)
    .where(logs.c.job_id == bindparam("job"))
    .order_by(logs.c.attempt, logs.c.number),
    "job",
)


def progress(conn: Connection, noted: Iterable[RunningJob]) -> list[RunningJob]:
    """Write the progress of running attempts; return those that have lost their job."""
    return [job for job in noted if not _PROGRESS.run(conn, (*job.progress, job.id, job.fence, job.node)).rowcount]


def write_lines(conn: Connection, job: RunningJob, lines: Sequence[Line]) -> bool:
    """Write lines of a running attempt; return False where it has lost its job, and then none is written."""
    rows = [
        (job.attempt, number, stamp(at), level, logger, message, job.id, job.fence, job.node)
        for number, at, level, logger, message in lines
    ]
    return _LINE.run_many(conn, rows) == len(rows)


def lines_of(conn: Connection, job_id: int) -> list[LogLine]:
    """Return what a job has said, the oldest line first."""
    return [LogLine(attempt, read_moment(at), *said) for attempt, at, *said in _LINES.run(conn, (job_id,)).fetchall()]
