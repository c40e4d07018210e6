"""The machine's limit: syncs a second, and the life of a row (insert, claim, finish) with no queue around it."""

from __future__ import annotations

import functools
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from peer import Queue, sqlite_level
from serve import serve
from sqlalchemy import TextClause, create_engine, event, text

_TABLE = """
    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY, uid TEXT NOT NULL, task TEXT NOT NULL, queue TEXT NOT NULL, priority INTEGER NOT NULL,
        status TEXT NOT NULL, args TEXT NOT NULL, run_at TEXT NOT NULL, created_at TEXT NOT NULL, started_at TEXT,
        finished_at TEXT, attempt INTEGER NOT NULL DEFAULT 0, result TEXT
    )
"""
_INDEX = "CREATE INDEX queued ON jobs (priority DESC, run_at, id) WHERE status = 'queued'"
_INSERT = """
    INSERT INTO jobs (uid, task, queue, priority, status, args, run_at, created_at)
    VALUES (:uid, 'module:nothing', 'default', 0, 'queued', :args, :now, :now)
"""
_CLAIM = """
    UPDATE jobs SET status = 'running', started_at = :now, attempt = attempt + 1
    WHERE id IN (SELECT id FROM jobs WHERE status = 'queued' ORDER BY priority DESC, run_at, id LIMIT :batch)
    RETURNING id, task, args
"""
_FINISH = "UPDATE jobs SET status = 'succeeded', finished_at = :now, result = 'null' WHERE id = :id"
_NOW = "2026-01-01 00:00:00.000000"
_ARGS = '{"number":1}'
_UID = "0193a5b0-0000-7000-8000-000000000000"


class Machine(Queue):
    """Either driver, with the same statements, one transaction for each batch of each step."""

    def __init__(self, place: str, durability: str) -> None:
        super().__init__(place, durability)
        self._bare = sqlite3.connect(place, isolation_level=None)
        _set_up(self._bare, durability)
        if not self._bare.execute("SELECT 1 FROM sqlite_schema WHERE name = 'jobs'").fetchone():
            self._bare.execute(_TABLE)
            self._bare.execute(_INDEX)
        self._engine = create_engine(f"sqlite:///{place}")
        event.listen(self._engine, "connect", lambda connection, _record: _set_up(connection, durability))

    def level(self) -> dict[str, str]:
        return sqlite_level(lambda pragma: self._bare.execute(pragma).fetchone()[0])

    def write(self, through: str, statement: str, rows: list[dict[str, Any]]) -> None:
        if through == "sqlite3":
            self._bare.execute("BEGIN IMMEDIATE")
            self._bare.executemany(statement, rows)
            self._bare.execute("COMMIT")
        else:
            with self._engine.begin() as connection:
                connection.execute(_compiled(statement), rows)

    def claim(self, through: str, batch: int) -> list[int]:
        row = {"now": _NOW, "batch": batch}
        if through == "sqlite3":
            return [claimed[0] for claimed in self._bare.execute(_CLAIM, row).fetchall()]
        with self._engine.begin() as connection:
            return [claimed[0] for claimed in connection.execute(_compiled(_CLAIM), row)]


@functools.cache
def _compiled(statement: str) -> TextClause:
    return text(statement)


def _set_up(connection: sqlite3.Connection, durability: str) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={durability}")


def lifecycle(machine: Machine, through: str, batch: int, jobs: int) -> dict[str, Any]:
    rows = [{"uid": _UID, "now": _NOW, "args": _ARGS}] * batch
    jobs = -(-jobs // batch) * batch
    began = time.perf_counter()
    for _ in range(jobs // batch):
        machine.write(through, _INSERT, rows)
    inserted = time.perf_counter()
    claim_s, finished = 0.0, 0
    while finished < jobs:
        start = time.perf_counter()
        claimed = machine.claim(through, batch)
        claim_s += time.perf_counter() - start
        machine.write(through, _FINISH, [{"id": number, "now": _NOW} for number in claimed])
        finished += len(claimed)
    took = time.perf_counter() - inserted
    return {
        "insert": jobs / (inserted - began),
        "claim": jobs / claim_s,
        "claim_and_finish": jobs / took,
        "rate": jobs / (inserted - began + took),
    }


def syncs(machine: Machine, count: int) -> dict[str, Any]:
    """Write 4 KiB and sync it, again and again, in the folder of the databases."""
    block = os.urandom(4096)
    sync = getattr(os, "fdatasync", os.fsync)
    file = os.open(Path(machine.place).with_name("syncs"), os.O_RDWR | os.O_CREAT)
    for number in range(64):
        os.pwrite(file, block, number * 4096)
    os.fsync(file)
    began = time.perf_counter()
    for number in range(count):
        os.pwrite(file, block, number % 64 * 4096)
        sync(file)
    took = time.perf_counter() - began
    os.close(file)
    return {"rate": count / took}


if __name__ == "__main__":
    serve(Machine, {"lifecycle": lifecycle, "syncs": syncs})
