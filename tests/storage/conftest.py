"""What the tests of the storage share: a plain SQL client, and a node that does by hand what a dispatcher does."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from schedfactory import RunningJob, Scheduler
from schedfactory.model.outcome import Outcome
from schedfactory.model.slots import Pool
from schedfactory.storage import claim, finish
from schedfactory.storage.claim import Scope
from schedfactory.storage.database import Database


@pytest.fixture
def client(still: Scheduler, path: Path) -> Iterator[sqlite3.Connection]:
    """Any SQL client on the scheduler's file, in autocommit mode."""
    still.counts()  # the first use makes the tables
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    """The same file, as the storage has it."""
    found = Database(path, "full", 10, True)
    yield found
    found.close()


class HandNode:
    """A node without threads: it claims and finishes when the test says so."""

    def __init__(self, number: int, database: Database, clock: Callable[[], Any]) -> None:
        self.number = number
        self.database = database
        self.clock = clock

    def claim(self, most: int = 1, tasks: Sequence[str] = ("work",), queues: Sequence[str] | None = None) -> list[RunningJob]:
        def take(conn: Any) -> list[Any]:
            claim.promote(conn, self.clock())
            rows = Scope(tasks, Pool(None if queues is None else tuple(queues))).due(conn, most)
            claim.take(conn, rows, self.number, range(1, most + 1), self.clock())
            return rows

        rows = self.database.write(take)
        return [RunningJob(row, self.number, worker, self.clock(), lambda job: None) for worker, row in enumerate(rows, 1)]

    def finish(self, job: RunningJob, outcome: Outcome, *, again: bool = False) -> bool:
        """Bring how it ended; return False where the job had been lost."""
        return not self.database.write(lambda conn: finish.finish(conn, [(job, outcome, self.clock())], again=again))


@pytest.fixture
def node(database: Database, clock: Callable[[], Any]) -> Callable[[int], HandNode]:
    return lambda number: HandNode(number, database, clock)
