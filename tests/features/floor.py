"""Nodes whose threads the test plays, and what their rows say of limits."""

from __future__ import annotations

import queue
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from schedfactory import RunningJob, Scheduler
from schedfactory.features.limits.guest import Limits
from schedfactory.model.outcome import Outcome
from schedfactory.model.slots import slots_of
from schedfactory.running.node import Node

WINDOWS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Chair:
    """Where a worker would sit."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.quits = False
        self.inbox: queue.SimpleQueue[RunningJob | None] = queue.SimpleQueue()


class Player:
    """A node with so many workers, or slots by queue."""

    def __init__(self, scheduler: Scheduler, clock: Any, workers: int | None = 2, queues: Any = None) -> None:
        self.scheduler = scheduler
        self.clock = clock
        self.node = Node(scheduler._house.shop(scheduler), slots_of(workers, queues))
        self.node._dispatcher.workers = 0
        self.chairs = [Chair(number + 1) for number in range(self.node._slots.workers)]
        self.desk = self.node._desk
        self.desk.idle.extend(self.chairs)
        self.jobs: dict[int, tuple[RunningJob, Chair]] = {}

    def round(self, *, until_done: bool = True) -> list[int]:
        """Do a round, and those that it wants at once; return the ids of the jobs that it started."""
        started = []
        while True:
            self.node._dispatcher.round(self.clock.now)
            for chair in self.chairs:
                while not chair.inbox.empty():
                    job = chair.inbox.get()
                    assert job is not None
                    self.jobs[job.id] = (job, chair)
                    started.append(job.id)
            if not until_done or not self.node._dispatcher.has_more:
                return started

    def end(self, job_id: int, outcome: Outcome | None = None) -> None:
        """Bring the end of a job; the next round stores it."""
        job, chair = self.jobs.pop(job_id)
        self.desk.end(job, outcome or Outcome("succeeded", None), self.clock.now)
        self.desk.idle.append(chair)

    def tick(self) -> datetime | None:
        """Do what the ticks of the limits do."""
        limits = next(one for one in self.scheduler._house.seams.ticking if isinstance(one, Limits))
        return self.scheduler._house.database.write(lambda conn: limits.tick(conn, self.clock.now))

    def vanish(self) -> None:
        """Be dead, as far as others can see."""
        self.close()
        self.jobs.clear()

    def is_rescued(self, by: Player) -> None:
        by.node._rescuer._due_at = 0.0
        by.node._rescuer.round(self.clock.now, is_busy=True)

    def close(self) -> None:
        self.node._wake.close()
        self.node._lock.release(self.node.id)


def most_at_once(spans: Iterable[tuple[str, str | None]]) -> int:
    """Return how many of these (start, end) overlapped at the worst moment; an end counts before a start of the same moment."""
    moments = []
    for start, end in spans:
        moments.append((start, 1))
        if end is not None:
            moments.append((end, -1))
    most = now = 0
    for _, step in sorted(moments):
        now += step
        most = max(most, now)
    return most


def most_in_a_window(starts: Iterable[str], window: timedelta) -> int:
    """Return how many of these moments lie in the fullest stretch as long as `window`, its end not included."""
    moments = sorted(datetime.fromisoformat(one) for one in starts)
    most = first = 0
    for last, moment in enumerate(moments):
        while moment - moments[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most


def attempts_in(path: Path) -> dict[int, list[tuple[str, str | None]]]:
    """Return start and end of every attempt, by job, as the rows have them; one that runs has no end."""
    found: dict[int, list[tuple[str, str | None]]] = defaultdict(list)
    with closing(sqlite3.connect(path)) as connection:
        for job, start, end in connection.execute("SELECT job_id, started_at, finished_at FROM schedfactory_attempts"):
            found[job].append((start, end))
        query = "SELECT id, started_at, finished_at FROM schedfactory_jobs WHERE status IN ('running', 'succeeded')"
        for job, start, end in connection.execute(query):
            found[job].append((start, end))
    return found
