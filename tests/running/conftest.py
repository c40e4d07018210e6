"""What tests of running jobs share: a node without threads."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from schedfactory import RunningJob, Scheduler
from schedfactory.model.slots import Slots
from schedfactory.running.node import Node
from schedfactory.storage import nodes


class Chair:
    """Where a worker would sit."""

    def __init__(self) -> None:
        self.number = 1
        self.quits = False
        self.inbox: queue.SimpleQueue[RunningJob | None] = queue.SimpleQueue()


class Hand:
    """A node whose threads the test plays."""

    def __init__(self, scheduler: Scheduler, clock: Any) -> None:
        self.scheduler = scheduler
        self.clock = clock
        self.node = Node(scheduler._house.shop(scheduler), Slots(1))
        self.node._dispatcher.workers = 0

    def claim(self) -> RunningJob | None:
        """Do a round with a worker that is idle, and return the job it got."""
        return self.node._dispatcher.claim_for(Chair(), self.clock.now)

    def take_ahead(self) -> RunningJob | None:
        """Do what a worker does that has finished: take the first job that was claimed ahead."""
        return self.node._desk.ahead.popleft() if self.node._desk.ahead else None

    def end(self, job: RunningJob) -> None:
        """Run the job's code, and bring how that ended."""
        self.node._desk.end(job, self.node._attempts.run(job), self.clock.now)
        self.round()

    def time_out(self, job: RunningJob) -> None:
        """Let the job run over its timeout."""
        assert self.node._desk.settle(job)
        job.cause = "timeout"
        limit = timedelta(seconds=1)
        self.node._desk.ended.append((job, self.node._attempts.time_out(job, limit), self.clock.now))
        self.round()

    def round(self) -> None:
        """Do a round of the dispatcher."""
        self.node._dispatcher.round(self.clock.now)

    def look_around(self) -> None:
        """Do a round of the rescuer, whenever the last one was."""
        self.node._rescuer._due_at = 0.0
        self.node._rescuer.round(self.clock.now, is_busy=bool(self.node.busy))

    def is_given_up(self) -> None:
        """Others take its jobs, as if it were dead."""
        node = self.node
        self.scheduler._house.database.write(lambda conn: nodes.rescue(conn, node._lock, node.id, self.clock.now))

    def close(self) -> None:
        self.node._wake.close()
        self.node._lock.release(self.node.id)


@pytest.fixture
def hands(still: Scheduler, clock: Any) -> Iterator[list[Hand]]:
    found = [Hand(still, clock), Hand(still, clock)]
    yield found
    for hand in found:
        hand.close()
