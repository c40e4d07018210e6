"""What tests of running jobs share: a gate that task code waits at, and a look that is taken again until it is true."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from schedfactory.running.waiting import Waiting

T = TypeVar("T")
LONG_S = 20.0  # only a hang takes this long


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
