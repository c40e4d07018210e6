"""litequeue; the worker threads are the user's own, in pop, run and done.

Before 0.14 a queue may not be shared by threads: there each has its own.
"""

from __future__ import annotations

import inspect
import json
import threading
import time
from types import SimpleNamespace

from litequeue import LiteQueue
from peer import TASKS, Queue, Threads, clone, sqlite_level
from serve import serve

_SYNCHRONOUS = {"full": "FULL", "normal": "NORMAL"}
_POLL_S = 0.01


class Litequeue(Queue):
    note = "FIFO only; it cannot wait, so the worker threads ask every 10 ms"

    def __init__(self, place: str, durability: str) -> None:
        super().__init__(place, durability)
        self._has_claims = "claim_id" in inspect.signature(LiteQueue.done).parameters
        self._local = SimpleNamespace() if self._has_claims else threading.local()
        _ = self._queue

    @property
    def _queue(self) -> LiteQueue:
        if not hasattr(self._local, "queue"):
            self._local.queue = LiteQueue(self.place, timeout=60)
            self._local.queue.conn.execute(f"PRAGMA synchronous={_SYNCHRONOUS[self.durability]}")
        return self._local.queue

    def level(self) -> dict[str, str]:
        connection = self._queue.conn
        return sqlite_level(lambda pragma: connection.execute(pragma).fetchone()[0])

    def put(self, task: str, value: float) -> None:
        self._queue.put(json.dumps([task, value]))

    def put_many(self, task: str, values: list[float]) -> None:
        queue = self._queue
        with queue.transaction(mode="IMMEDIATE"):
            for value in values:
                queue.put(json.dumps([task, value]))

    def pile_finished(self, count: int) -> None:
        last = "printf('%s-%012x', substr(message_id, 1, 23), i)"  # those ids are the oldest
        clone(self.place, "Queue", "status = 2", {"message_id": last}, count)

    def _work(self, over: threading.Event) -> None:
        queue = self._queue
        while not over.is_set():
            message = queue.pop()
            if message is None:
                time.sleep(_POLL_S)
                continue
            task, value = json.loads(message.data)
            TASKS[task](value)
            if self._has_claims:
                queue.done(message.message_id, claim_id=message.claim_id)
            else:
                queue.done(message.message_id)

    def start(self, workers: int) -> None:
        self._threads = Threads(self._work, workers)

    def settle(self) -> None:
        while self._queue.qsize():
            time.sleep(0.001)

    def stop(self) -> None:
        self._threads.stop()

    def close(self) -> None:
        self._queue.conn.close()
        del self._local.queue


if __name__ == "__main__":
    serve(Litequeue)
