"""How fast jobs get into the database: one commit each, beside a bare insert of the same row, and in bulk."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import Bench, Figure
from schedfactory import Scheduler, Task

_CHUNKS = 10
_COLUMNS = "uid, task, queue, priority, status, args, tags, run_at, created_at, expires_at, max_attempts, retry, timeout_ms"


def store(number: int, name: str) -> None:
    pass


class _Bare:
    """The standard driver, with the row of a job and the settings that matter."""

    def __init__(self, path: Path, durability: str) -> None:
        scheduler = Scheduler(path)
        scheduler.task(store).enqueue(1, "one")  # which makes the tables, and the row
        scheduler.close()
        self.connection = sqlite3.connect(path)
        self.connection.execute(f"PRAGMA synchronous={durability}")
        self._row = self.connection.execute(f"SELECT {_COLUMNS} FROM schedfactory_jobs").fetchone()
        self._insert = f"INSERT INTO schedfactory_jobs ({_COLUMNS}) VALUES ({', '.join('?' * len(self._row))})"

    def insert(self, count: int) -> None:
        for _ in range(count):
            self.connection.execute(self._insert, self._row)
            self.connection.commit()


def _enqueue(task: Task[..., Any], count: int) -> None:
    for number in range(count):
        task.enqueue(number, "one")


def _singles(bench: Bench, durability: str, count: int) -> list[Figure]:
    """Take turns within the round too: both see the same disk."""
    scheduler = Scheduler(bench.file(), durability=durability)
    task = scheduler.task(store)
    task.enqueue(0, "one")
    bare = _Bare(bench.file(), durability)
    chunk = bench.many(count // _CHUNKS)
    ours = theirs = 0.0
    for _ in range(_CHUNKS):
        began = time.perf_counter()
        _enqueue(task, chunk)
        between = time.perf_counter()
        bare.insert(chunk)
        ours += between - began
        theirs += time.perf_counter() - between
    scheduler.close()
    bare.connection.close()
    return [
        Figure(f"enqueues of one thread, {durability}", chunk * _CHUNKS / ours, "jobs/s"),
        Figure(f"bare sqlite3 insert and commit, {durability}", chunk * _CHUNKS / theirs, "rows/s"),
        Figure(f"enqueues / bare inserts, {durability}", theirs / ours, "x", at_least=0.5),
    ]


def singles_normal(bench: Bench) -> list[Figure]:
    return _singles(bench, "normal", 10_000)


def singles_full(bench: Bench) -> list[Figure]:
    return _singles(bench, "full", 2_000)


def threads(bench: Bench) -> list[Figure]:
    scheduler = Scheduler(bench.file())
    task = scheduler.task(store)
    task.enqueue(0, "one")
    count = bench.many(1_000)
    producers = [threading.Thread(target=_enqueue, args=(task, count)) for _ in range(8)]
    began = time.perf_counter()
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join()
    took = time.perf_counter() - began
    scheduler.close()
    return [Figure("enqueues of 8 threads, full", len(producers) * count / took, "jobs/s")]


def bulk(bench: Bench) -> list[Figure]:
    scheduler = Scheduler(bench.file())
    task = scheduler.task(store)
    task.enqueue(0, "one")
    count = bench.many(50_000)
    began = time.perf_counter()
    scheduler.enqueue_many([task.call(number, "one") for number in range(count)])
    took = time.perf_counter() - began
    scheduler.close()
    return [Figure("enqueue_many, full", count / took, "jobs/s")]


SCENARIOS = [singles_normal, singles_full, threads, bulk]
