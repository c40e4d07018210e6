"""What happens to jobs, seen from outside: the file is looked at again whenever somebody has written to it.

There is no list of events in the file. What is known of the unfinished jobs is held against what is there now, and a job that
is different tells by its own columns, its attempts and its log what has happened since.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from schedfactory import Attempt, Job, LogLine, Scheduler

if TYPE_CHECKING:
    from sqlalchemy import Connection

WINDOW = 10_000  # of the jobs of each kind, those that are next: more do not come and go between two looks
_PAGE = 1_000
# Each from the index of its status, in the order in which they run.
_UNFINISHED = (
    "status = 'queued' AND node IS NULL AND blocked_by IS NULL {} ORDER BY priority DESC, run_at, id",
    "blocked_by IS NOT NULL AND status = 'queued' AND node IS NULL {}",
    "leftover = 1 AND status = 'queued' {}",
    "status = 'scheduled' {} ORDER BY run_at",
    "status = 'waiting' {}",
    "status = 'running' {}",
)
_ORDER = ("new", "start", "log", "end")
_AGAIN = {"failed": "retry", "snoozed": "snooze", "crashed": "crash", "interrupted": "shutdown"}
State = tuple[str, int]  # status and attempt


@dataclass(frozen=True)
class Event:
    """One thing that has happened: `kind` is "new", "start", "log" or "end"; `status` is the job's from then on."""

    at: datetime
    kind: str
    job: Job[Any]
    status: str
    attempt: int = 0
    reason: str | None = None
    took_s: float | None = None
    error: str | None = None
    line: LogLine | None = None


class Follower:
    """Looks at the jobs of a scheduler's file, whoever runs them.

    Args:
        task, queue: only jobs of these; None: all.
    """

    def __init__(self, scheduler: Scheduler, task: str | None, queue: str | None) -> None:
        self._scheduler = scheduler
        given: dict[str, Any] = {"task": task, "queue": queue}
        self._filters = {name: value for name, value in given.items() if value is not None}
        self._version: tuple[int, int] | None = None
        newest = scheduler.jobs(limit=1)
        self._last_id = newest[0].id if newest else 0
        self._known = self._changes() or {}
        self._running = {job.id: job for job in scheduler.jobs(status="running", limit=WINDOW, **self._filters)}
        self._said = {job.id: len(job.logs()) for job in self._running.values()}

    def look(self) -> list[Event]:
        """Return what has happened since the last look, in the order of time."""
        now = self._changes()
        if now is None:
            return []
        known = self._known
        events: list[Event] = []
        changed = (self._scheduler.get(job_id) for job_id, state in known.items() if now.get(job_id) != state)
        seen = [*self._new_jobs(), *(job for job in changed if job is not None)]
        for job in seen:
            events += self._since(job, known.get(job.id))
            self._note(job, now)
        for job in self._running.values():
            events += self._lines(job, job.attempt)
        self._known = now
        self._running |= {job.id: job for job in seen}
        self._running = {job_id: job for job_id, job in self._running.items() if now.get(job_id, ("",))[0] == "running"}
        self._said = {job_id: said for job_id, said in self._said.items() if job_id in now}
        return sorted(events, key=lambda event: (event.at, event.attempt, _ORDER.index(event.kind)))

    def _changes(self) -> dict[int, State] | None:
        """Return what is unfinished now, None where nothing has been written since the last time."""
        with self._scheduler.reading() as connection:
            version = connection.exec_driver_sql("PRAGMA data_version").scalar_one()
            seen = (id(connection.connection.driver_connection), version)
            if seen == self._version:
                return None
            self._version = seen
            return dict(self._unfinished(connection))

    def _unfinished(self, connection: Connection) -> Iterator[tuple[int, State]]:
        narrower = "".join(f" AND {name} = ?" for name in self._filters)
        for condition in _UNFINISHED:
            sql = f"SELECT id, status, attempt FROM schedfactory_jobs WHERE {condition.format(narrower)} LIMIT {WINDOW}"
            for job_id, status, attempt in connection.exec_driver_sql(sql, tuple(self._filters.values())):
                yield job_id, (status, attempt)

    def _new_jobs(self) -> list[Job[Any]]:
        found: list[Job[Any]] = []
        while True:
            before = found[-1].id if found else None
            page = self._scheduler.jobs(limit=_PAGE, before_id=before, **self._filters)
            found += [job for job in page if job.id > self._last_id]
            if len(page) < _PAGE or page[-1].id <= self._last_id:
                break
        self._last_id = found[0].id if found else self._last_id
        return found[::-1]

    def _note(self, job: Job[Any], now: dict[int, State]) -> None:
        """Hold what this job's row says, which was read after the others."""
        self._running.pop(job.id, None)
        if job.is_finished:
            now.pop(job.id, None)
        else:
            now[job.id] = (job.status, job.attempt)

    def _since(self, job: Job[Any], known: State | None) -> Iterator[Event]:
        status, before = known or ("", 0)
        if known is None:
            yield Event(job.created_at, "new", job, _first_status(job))
        has_ended = False
        if job.attempt > before or status == "running":
            for one in job.attempts():  # which are read after the row: what that does not say yet is told the next time
                if before < one.number <= job.attempt:
                    yield Event(one.started_at or job.created_at, "start", job, "running", one.number)
                is_news = one.number > before or status == "running"
                if is_news and before <= one.number <= job.attempt - (job.status == "running"):
                    has_ended = True
                    yield _end(job, one)
            yield from self._lines(job, before)
        if job.is_finished and not has_ended:
            yield Event(job.finished_at or job.created_at, "end", job, job.status, job.attempt, job.reason, error=job.error)

    def _lines(self, job: Job[Any], before: int) -> Iterator[Event]:
        """Yield what it has said since the last time, at the first time since that attempt."""
        lines = job.logs()
        said = self._said.get(job.id)
        for line in [line for line in lines if line.attempt > before] if said is None else lines[said:]:
            yield Event(line.at, "log", job, "running", line.attempt, line=line)
        self._said[job.id] = len(lines)


def _first_status(job: Job[Any]) -> str:
    if job.status == "waiting":
        return "waiting"
    return "scheduled" if job.run_at > job.created_at and not job.attempt else "queued"


def _end(job: Job[Any], one: Attempt) -> Event:
    took = (one.finished_at - one.started_at).total_seconds() if one.started_at and one.finished_at else None
    at = one.finished_at or one.started_at or job.created_at
    if one.number == job.attempt:
        return Event(at, "end", job, job.status, one.number, job.reason, took, job.error)
    if one.status == "succeeded":  # and requeued since
        return Event(at, "end", job, "succeeded", one.number, None, took)
    return Event(at, "end", job, "queued", one.number, _AGAIN.get(one.status), took, one.error)
