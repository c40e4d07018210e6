"""huey: SqliteHuey with its consumer of worker threads, as its documentation starts it, at its default polling."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timezone

from huey import SqliteHuey
from peer import TASKS, Queue, clone, sqlite_level
from serve import serve

_SYNCHRONOUS = {"full": "FULL", "normal": "NORMAL"}


class Huey(Queue):
    note = "a job is deleted when a worker takes it, before it runs: nothing is kept of it"

    def __init__(self, place: str, durability: str) -> None:
        super().__init__(place, durability)
        self._huey = SqliteHuey(filename=place, timeout=60)
        self._huey.storage.conn.execute(f"PRAGMA synchronous={_SYNCHRONOUS[durability]}")  # `fsync=` knows FULL and OFF only
        self._tasks = {name: self._huey.task()(function) for name, function in TASKS.items()}

    def level(self) -> dict[str, str]:
        connection: sqlite3.Connection = self._huey.storage.conn
        return sqlite_level(lambda pragma: connection.execute(pragma).fetchone()[0])

    def put(self, task: str, value: float) -> None:
        self._tasks[task](value)

    def put_at(self, task: str, value: float, run_at: float) -> None:
        self._tasks[task].schedule((value,), eta=datetime.fromtimestamp(run_at, timezone.utc))

    def pile_future(self, count: int) -> None:
        self._huey.storage.add_to_schedule(self._huey.serialize_task(self._tasks["nothing"].s(0)), datetime(2099, 1, 1))
        clone(self.place, "schedule", "1", {"timestamp": "timestamp + i"}, count - 1)

    def start(self, workers: int) -> None:
        self._consumer = self._huey.create_consumer(workers=workers, periodic=False)
        self._consumer.start()

    def stop(self) -> None:
        self._consumer.stop(graceful=True)

    def close(self) -> None:
        self._huey.storage.close()


if __name__ == "__main__":
    serve(Huey)
