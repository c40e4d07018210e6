"""PgQueuer on PostgreSQL by asyncpg: its tasks are coroutines, so many at once means coroutines here, not threads."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine
from datetime import timedelta
from time import sleep, time
from typing import Any

import asyncpg
from peer import TASKS, Queue
from pgqueuer import AsyncpgPoolDriver, Job, PgQueuer, Queries
from postgresql_rows import LEVELS, clone_statement, level_of
from serve import serve


class Pgqueuer(Queue):
    note = "on PostgreSQL, whose own CPU and memory are not counted; coroutines instead of threads"

    def __init__(self, place: str, durability: str) -> None:
        super().__init__(place, durability)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._do(self._open())

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self) -> None:
        level = LEVELS[self.durability].removeprefix("-c synchronous_commit=")
        settings = {"synchronous_commit": level}
        self._pool = await asyncpg.create_pool(self.place, server_settings=settings, min_size=1, max_size=40)
        self._queries = Queries(AsyncpgPoolDriver(self._pool))
        if await self._pool.fetchval("SELECT to_regclass('pgqueuer')") is None:
            await self._queries.install()

    def level(self) -> dict[str, str]:
        return level_of(lambda name: self._do(self._pool.fetchval(f"SHOW {name}")))

    async def _put(self, task: str, value: float, after: timedelta | None = None) -> None:
        await self._queries.enqueue(task, json.dumps(value).encode(), 0, after)

    def put(self, task: str, value: float) -> None:
        self._do(self._put(task, value))

    def put_many(self, task: str, values: list[float]) -> None:
        for first in range(0, len(values), 10_000):
            some = [json.dumps(value).encode() for value in values[first : first + 10_000]]
            self._do(self._queries.enqueue([task] * len(some), some, [0] * len(some)))

    def put_at(self, task: str, value: float, run_at: float) -> None:
        self._do(self._put(task, value, timedelta(seconds=run_at - time())))

    def singles(self, count: int) -> None:
        self._do(self._singles(count))

    async def _singles(self, count: int) -> None:
        for number in range(count):
            await self._put("nothing", number)

    def threads(self, threads: int, each: int) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(*(self._singles(each) for _ in range(threads)))

        self._do(all_of_them())

    def pile_future(self, count: int) -> None:
        self._do(self._queries.enqueue("nothing", b"0", 100, timedelta(days=30_000)))
        later = {"execute_after": "execute_after + make_interval(secs => i)"}
        self._clone("pgqueuer", "status = 'queued'", later, count - 1)

    def pile_finished(self, count: int) -> None:
        self._clone("pgqueuer_log", "status = 'successful'", {}, count)

    def _clone(self, table: str, where: str, changes: dict[str, str], count: int) -> None:
        names = f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table}' AND column_name <> 'id'"
        columns = [row["column_name"] for row in self._do(self._pool.fetch(names))]
        self._do(self._pool.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
        self._do(self._pool.execute(clone_statement(table, columns, where, changes, count), timeout=600))
        self._do(self._pool.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER"))
        self._do(self._pool.execute(f"ANALYZE {table}", timeout=600))

    def start(self, workers: int) -> None:
        self._do(self._start())

    async def _start(self) -> None:
        self._application = PgQueuer(AsyncpgPoolDriver(self._pool))
        for name, function in TASKS.items():
            self._application.entrypoint(name)(_as_coroutine(function))
        self._running = asyncio.create_task(self._application.run())

    def settle(self) -> None:
        while self._do(self._pool.fetchval("SELECT count(*) FROM pgqueuer WHERE status = 'picked'")):
            sleep(0.001)

    def stop(self) -> None:
        self._application.shutdown.set()
        self._do(asyncio.wait_for(asyncio.wait([self._running]), 60))

    def close(self) -> None:
        self._do(self._pool.close())


def _as_coroutine(function: Any) -> Any:
    async def run(job: Job) -> None:
        function(json.loads(job.payload))

    return run


if __name__ == "__main__":
    serve(Pgqueuer)
