"""What PostgreSQL does with the life of a row (insert, claim, finish) from one connection, and how much it logs of it."""

from __future__ import annotations

import time
from typing import Any

import psycopg
from peer import Queue
from postgresql_rows import LEVELS, level_of
from serve import serve

_TABLE = """
    CREATE TABLE jobs (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, uid uuid NOT NULL, task text NOT NULL, queue text NOT NULL,
        priority integer NOT NULL, status text NOT NULL, args text NOT NULL, run_at timestamptz NOT NULL,
        created_at timestamptz NOT NULL, started_at timestamptz, finished_at timestamptz,
        attempt integer NOT NULL DEFAULT 0, result text
    )
"""
_INDEX = "CREATE INDEX queued ON jobs (priority DESC, run_at, id) WHERE status = 'queued'"
_INSERT = """
    INSERT INTO jobs (uid, task, queue, priority, status, args, run_at, created_at)
    SELECT gen_random_uuid(), 'module:nothing', 'default', 0, 'queued', args, now(), now() FROM unnest(%s::text[]) AS args
"""
_CLAIM = """
    UPDATE jobs SET status = 'running', started_at = now(), attempt = attempt + 1
    WHERE id IN (
        SELECT id FROM jobs WHERE status = 'queued' ORDER BY priority DESC, run_at, id LIMIT %s FOR UPDATE SKIP LOCKED
    )
    RETURNING id, task, args
"""
_FINISH = "UPDATE jobs SET status = 'succeeded', finished_at = now(), result = 'null' WHERE id = ANY(%s)"


class Rows(Queue):
    """One connection, one transaction for each batch of each step."""

    def __init__(self, place: str, durability: str) -> None:
        super().__init__(place, durability)
        self.connection = psycopg.connect(place, options=LEVELS[durability], autocommit=True)
        self.connection.execute(_TABLE)
        self.connection.execute(_INDEX)

    def level(self) -> dict[str, str]:
        return level_of(lambda name: self._value(f"SHOW {name}"))

    def logged(self) -> int:
        """Return how many bytes of its log the server has written in all."""
        return int(self._value("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))

    def _value(self, statement: str) -> Any:
        row = self.connection.execute(statement).fetchone()
        assert row is not None
        return row[0]


def lifecycle(rows: Rows, through: str, batch: int, jobs: int) -> dict[str, Any]:
    execute = rows.connection.execute
    before = rows.logged()
    jobs = -(-jobs // batch) * batch
    began = time.perf_counter()
    for _ in range(jobs // batch):
        execute(_INSERT, (['{"number":1}'] * batch,))
    inserted = time.perf_counter()
    finished = 0
    while finished < jobs:
        claimed = [row[0] for row in execute(_CLAIM, (batch,)).fetchall()]
        execute(_FINISH, (claimed,))
        finished += len(claimed)
    took = time.perf_counter() - inserted
    return {
        "insert": jobs / (inserted - began),
        "claim_and_finish": jobs / took,
        "rate": jobs / (inserted - began + took),
        "log_bytes": (rows.logged() - before) / jobs,
    }


if __name__ == "__main__":
    serve(Rows, {"lifecycle": lifecycle})
