"""What tests of running jobs share: gates for code, looks that are repeated until they are true, a node without threads."""

from __future__ import annotations

import importlib
import queue
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pytest

from schedfactory import RunningJob, Scheduler
from schedfactory.model.slots import Slots
from schedfactory.running.node import Node
from schedfactory.running.waiting import Waiting
from schedfactory.storage import nodes

T = TypeVar("T")
LONG_S = 20.0  # only a hang takes this long


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], ModuleType]]:
    """Write modules of tasks that worker processes can import, too; their schedulers are closed at the end."""
    made: list[ModuleType] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> ModuleType:
        (tmp_path / f"{name}.py").write_text(text)
        made.append(importlib.import_module(name))
        return made[-1]

    yield write
    for module in made:
        module.scheduler.stop("5s")
        module.scheduler.close()
        del sys.modules[module.__name__]


class Gate:
    """Task code that passes here says that it has come, and waits until the test opens."""

    def __init__(self) -> None:
        self._arrived = threading.Semaphore(0)
        self._opened = threading.Event()

    def __call__(self) -> None:
        self._arrived.release()
        assert self._opened.wait(LONG_S), "the test never opened the gate"

    def await_arrivals(self, number: int = 1) -> None:
        """Wait until so many more have come."""
        for _ in range(number):
            assert self._arrived.acquire(timeout=LONG_S), "nobody came to the gate"

    def open(self) -> None:
        """Let pass who waits and who will come."""
        self._opened.set()


@pytest.fixture
def make_gate() -> Iterator[Callable[[], Gate]]:
    """Make gates; all of them are open at the end of the test."""
    made: list[Gate] = []

    def make() -> Gate:
        made.append(Gate())
        return made[-1]

    yield make
    for gate in made:
        gate.open()


@pytest.fixture
def gate(make_gate: Callable[[], Gate]) -> Gate:
    return make_gate()


@pytest.fixture
def eventually() -> Callable[[Callable[[], T | None]], T]:
    """Look at the database again and again until there is what the test waits for."""

    def look_until(look: Callable[[], T | None]) -> T:
        found = Waiting().until(0, lambda: look() or None, lambda: None, LONG_S)
        assert found is not None, f"it did not happen within {LONG_S:g} s"
        return found

    return look_until


@pytest.fixture
def sql(path: Path) -> Callable[..., list[tuple[object, ...]]]:
    """Run one statement on the file as any SQL client would, and return its rows."""

    def run(statement: str, *values: object) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(path, timeout=LONG_S)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    return run


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
