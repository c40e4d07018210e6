"""persist-queue: SQLiteAckQueue; the worker threads are the user's own, in get, run and ack."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

from peer import TASKS, Queue, Threads, clone, sqlite_level
from persistqueue import SQLiteAckQueue
from serve import serve

_SYNCHRONOUS = {"full": "FULL", "normal": "NORMAL"}


class PersistQueue(Queue):
    note = "FIFO only: no priority, no retries, no history; a get looks for another process's job every 10 s"

    def __init__(self, place: str, durability: str) -> None:
        super().__init__(place, durability)
        path = Path(place)
        self._queue = SQLiteAckQueue(str(path.parent), multithreading=True, db_file_name=path.name, timeout=60)
        for connection in (self._queue._getter, self._queue._putter):
            connection.execute(f"PRAGMA synchronous={_SYNCHRONOUS[durability]}")

    def level(self) -> dict[str, str]:
        connection: sqlite3.Connection = self._queue._putter
        return sqlite_level(lambda pragma: connection.execute(pragma).fetchone()[0])

    def put(self, task: str, value: float) -> None:
        self._queue.put((task, value))

    def pile_finished(self, count: int) -> None:
        clone(self.place, "ack_queue_default", "status = 5", {}, count)

    def _work(self, over: threading.Event) -> None:
        while not over.is_set():
            item = self._queue.get(raw=True)
            task, value = item["data"]
            if task in TASKS:
                TASKS[task](value)
            self._queue.ack(id=item["pqid"])

    def start(self, workers: int) -> None:
        self._threads = Threads(self._work, workers)

    def settle(self) -> None:
        while self._queue.unack_count():
            time.sleep(0.001)

    def stop(self) -> None:
        self._threads.stop(wake=lambda: self._queue.put(("wake", 0)))

    def close(self) -> None:
        self._queue.close()


if __name__ == "__main__":
    serve(PersistQueue)
