"""What running jobs say of themselves, on its way to their rows: now and then for all at once, and always before their end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from schedfactory.model.clock import Monotonic
from schedfactory.model.running_job import RunningJob
from schedfactory.running.desk import Desk, Note, emptied
from schedfactory.storage import notes
from schedfactory.storage.finish import Ended

if TYPE_CHECKING:
    from sqlalchemy import Connection

_log = logging.getLogger("schedfactory")
NOTE_S = 0.25  # between two writes
MOST_AT_ONCE = 2_000  # lines of jobs that go on, in one round; those that end bring all they have


# How a round makes one move: it may have to go on without it.
Aside = Callable[[Callable[[], list[RunningJob]]], list[RunningJob] | None]


class Notes:
    """The news of one node's jobs: taken from the desk, and kept by the jobs until they are stored.

    Attributes:
        noted_at: when all that were in line had their turn.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.noted_at = 0.0

    def gather(self, ended: Sequence[Ended], in_flight: Mapping[int, RunningJob]) -> list[Note]:
        """Take what is to be written with these ends, and where it is time the news of those that go on, too."""
        last = [(job, job.lines, at) for job, _, at in ended if job.lines is not None]
        if not (last or self._desk.noted):
            return []
        ending = {id(job): job for job, _, _ in ended}
        is_time = Monotonic.now() - self.noted_at >= NOTE_S
        jobs = self._in_line(ending, in_flight, is_time) if self._desk.noted else {}
        for job, said, at in last:
            said.end(at)
            jobs[id(job)] = job
        room = MOST_AT_ONCE
        found = []
        for job in jobs.values():
            job.noted = True  # before it is read: what is said from here on is noted anew
            lines = [] if job.lines is None else job.lines.peek(len(job.lines.pending) if id(job) in ending else room)
            if id(job) not in ending:
                room -= len(lines)
            found.append(Note(job, lines))
        return found

    def _in_line(self, ending: Mapping[int, Any], in_flight: Mapping[int, RunningJob], is_time: bool) -> dict[int, RunningJob]:
        line = [job for job in emptied(self._desk.noted) if not job.settled or in_flight.get(job.id) is job]
        if is_time:
            self.noted_at = Monotonic.now()
            return {id(job): job for job in line}
        self._desk.noted.extend(job for job in line if id(job) not in ending)
        return {id(job): job for job in line if id(job) in ending}

    @staticmethod
    def write(conn: Connection, found: Sequence[Note], aside: Aside) -> list[RunningJob]:
        """Write it, and return the jobs that have been lost. It may be called again after a rollback."""
        lost: list[RunningJob] = []
        for note in found:
            told = aside(lambda note=note: _write(conn, note))  # type: ignore[misc]
            note.is_written = told is not None
            lost += told or []
        return lost

    def settle(self, found: Sequence[Note], ended: Sequence[Ended]) -> None:
        """After the commit, forget what is stored, and keep the rest for another time."""
        if not found:
            return
        for note in found:
            job, lines = note.job, note.job.lines
            if lines is not None and note.is_written:
                lines.discard(len(note.lines))
                if lines.pending and not job.has_ended:
                    self._line_up(job)
        gone = {id(job) for job, _, _ in ended}
        for note in found:
            if not note.is_written and note.lines and id(note.job) in gone:
                _log.warning("job %d: the database refused what it said last (%d lines)", note.job.id, len(note.lines))

    def keep(self, found: Sequence[Note]) -> None:
        """Bring everything again: the round was rolled back."""
        for note in found:
            self._line_up(note.job)

    def pause(self) -> float:
        """Return how many seconds the next round may wait for the sake of who is in line."""
        return NOTE_S - (Monotonic.now() - self.noted_at)

    def _line_up(self, job: RunningJob) -> None:
        if job.noted:
            job.noted = False
            self._desk.noted.append(job)


def _write(conn: Connection, note: Note) -> list[RunningJob]:
    job = note.job
    is_lost = bool(note.lines) and not notes.write_lines(conn, job, note.lines)
    if not is_lost and job.progress != (None, None):
        is_lost = bool(notes.progress(conn, [job]))
    return [job] if is_lost else []
