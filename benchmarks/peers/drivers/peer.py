"""What a driver fills in, and what it can use: the tasks that jobs call, worker threads, and rows copied by SQL.

Only the standard library is used here, because drivers run in other environments than the project's.
"""

from __future__ import annotations

import itertools
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

late_ms: queue.SimpleQueue[float] = queue.SimpleQueue()
_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")


class Cannot(Exception):
    """The peer has no feature for this scenario."""


class Queue:
    """What a driver fills in; a method that is left out is a feature that the peer does not have."""

    note = ""

    def __init__(self, place: str, durability: str) -> None:
        self.place, self.durability = place, durability

    def level(self) -> dict[str, str]:
        raise NotImplementedError

    def put(self, task: str, value: float) -> None:
        raise NotImplementedError

    put_many: Callable[[str, list[float]], None] | None = None  # the peer's own way to enqueue many at once
    put_at: Callable[[str, float, float], None] | None = None  # not before a moment, in seconds since 1970
    pile_future: Callable[[int], None] | None = None  # so many jobs that are not due, of higher priority if there is one
    pile_finished: Callable[[int], None] | None = None  # so many jobs that were done long ago
    shares = True  # other processes may enqueue

    def start(self, workers: int) -> None:
        raise NotImplementedError

    def settle(self) -> None:
        """Return when the end of what has run is stored as well."""

    def stop(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the files."""

    def singles(self, count: int) -> None:
        for number in range(count):
            self.put("nothing", number)

    def threads(self, threads: int, each: int) -> None:
        producers = [threading.Thread(target=self.singles, args=(each,)) for _ in range(threads)]
        for producer in producers:
            producer.start()
        for producer in producers:
            producer.join()

    def fill(self, count: int) -> None:
        if self.put_many is None:
            self.singles(count)
        else:
            self.put_many("nothing", list(range(count)))


class Goal:
    """Counts what has run, and says when that was all."""

    def __init__(self) -> None:
        self.reset(0)

    def reset(self, jobs: int) -> None:
        self._number, self._jobs, self._asked, self.reached = itertools.count(1), jobs, 0, threading.Event()

    def hit(self) -> None:
        if next(self._number) == self._jobs:
            self.reached.set()

    def seen(self) -> int:
        self._asked += 1
        return next(self._number) - self._asked


goal = Goal()


def nothing(number: float) -> None:
    goal.hit()


def arrive(sent_at: float) -> None:
    late_ms.put((time.monotonic() - sent_at) * 1000)  # one clock for all processes of the machine


def begin(due_at: float) -> None:
    late_ms.put((time.time() - due_at) * 1000)


TASKS: dict[str, Callable[[float], None]] = {"nothing": nothing, "arrive": arrive, "begin": begin}


def sqlite_level(ask: Callable[[str], Any]) -> dict[str, str]:
    """Return what a connection says of itself; `ask` runs a PRAGMA on it and gives its value."""
    return {"journal": str(ask("PRAGMA journal_mode")), "synchronous": _SYNCHRONOUS[int(ask("PRAGMA synchronous"))]}


def clone(path: str, table: str, where: str, changes: dict[str, str], count: int) -> None:
    """Put copies of one row beside it, straight by SQL, with `changes` (SQL that may use `i`, the number of the copy)."""
    connection = sqlite3.connect(path, timeout=60)
    columns = [
        name
        for _, name, kind, _, _, key in connection.execute(f"PRAGMA table_info({table})")
        if not (key and kind == "INTEGER")
    ]
    (row,) = connection.execute(f"SELECT rowid FROM {table} WHERE {where} ORDER BY rowid DESC LIMIT 1").fetchone()
    values = ", ".join(changes.get(name, name) for name in columns)
    connection.execute(
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table}, n WHERE {table}.rowid = ?",
        (count, row),
    )
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


class Threads:
    """Worker threads for a peer that has none of its own: each calls `work` until it says that there is no more to do."""

    def __init__(self, work: Callable[[threading.Event], None], count: int) -> None:
        self._over = threading.Event()
        self._threads = [threading.Thread(target=work, args=(self._over,), daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def stop(self, wake: Callable[[], object] = lambda: None) -> None:
        self._over.set()
        for _ in self._threads:
            wake()
        for thread in self._threads:
            thread.join(60)
