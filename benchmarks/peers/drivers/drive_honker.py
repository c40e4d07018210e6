"""honker: worker threads claim and acknowledge in batches while there is work, and wait in its `claim` when there is none."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import honker
from peer import TASKS, Queue, Threads, clone, sqlite_level
from serve import serve

_BATCH = 32


class Honker(Queue):
    note = "an acknowledged job is deleted; it has no setting for its level of durability; a run_at is a whole second"

    def __init__(self, place: str, durability: str) -> None:
        super().__init__(place, durability)
        self._database = honker.open(place)
        self._queue = self._database.queue("jobs")
        self._claims: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

    def level(self) -> dict[str, str]:
        def ask(pragma: str) -> Any:
            with self._database.transaction() as writer:
                return next(iter(writer.query(pragma)[0].values()))

        return sqlite_level(ask)

    def put(self, task: str, value: float) -> None:
        self._queue.enqueue([task, value])

    def put_many(self, task: str, values: list[float]) -> None:
        with self._database.transaction() as writer:
            for value in values:
                self._queue.enqueue([task, value], tx=writer)

    def put_at(self, task: str, value: float, run_at: float) -> None:
        self._queue.enqueue([task, value], run_at=int(run_at))

    def pile_future(self, count: int) -> None:
        self._queue.enqueue(["nothing", 0], run_at=4_070_908_800, priority=100)
        clone(self.place, "_honker_live", "run_at = 4070908800", {"run_at": "run_at + i"}, count - 1)

    def _work(self, over: threading.Event) -> None:
        asyncio.run(self._work_on(over, f"worker-{threading.get_ident()}"))

    async def _work_on(self, over: threading.Event, name: str) -> None:
        waiting = self._queue.claim(name)
        while not over.is_set():
            jobs = self._queue.claim_batch(name, _BATCH)
            if not jobs:
                claim = asyncio.ensure_future(waiting.__anext__())
                self._claims.append((asyncio.get_running_loop(), claim))
                try:
                    jobs = [await claim]
                except asyncio.CancelledError:
                    return
            for job in jobs:
                task, value = job.payload
                TASKS[task](value)
            self._queue.ack_batch([job.id for job in jobs], name)

    def start(self, workers: int) -> None:
        self._threads = Threads(self._work, workers)

    def stop(self) -> None:
        for loop, claim in self._claims:
            if not loop.is_closed():
                loop.call_soon_threadsafe(claim.cancel)
        self._claims.clear()
        self._threads.stop()


if __name__ == "__main__":
    serve(Honker)
