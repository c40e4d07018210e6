"""What running attempts say of themselves: their progress."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, update

from schedfactory.model.running_job import RunningJob
from schedfactory.storage.statement import Statement, const
from schedfactory.storage.tables import jobs

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


def progress(conn: Connection, noted: Iterable[RunningJob]) -> list[RunningJob]:
    """Write the progress of running attempts; return those that have lost their job."""
    return [job for job in noted if not _PROGRESS.run(conn, (*job.progress, job.id, job.fence, job.node)).rowcount]
