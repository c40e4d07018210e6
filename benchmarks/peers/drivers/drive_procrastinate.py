"""Procrastinate on PostgreSQL: sync tasks in threads of its worker, `defer` and `batch_defer` by its sync connector."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timezone
from time import sleep

import procrastinate
from peer import TASKS, Queue
from postgresql_rows import LEVELS, clone_statement, level_of
from serve import serve


class Procrastinate(Queue):
    note = "on PostgreSQL, whose own CPU and memory are not counted"

    def __init__(self, place: str, durability: str) -> None:
        super().__init__(place, durability)
        self._connector = procrastinate.SyncPsycopgConnector(
            conninfo=place, kwargs={"options": LEVELS[durability]}, min_size=1, max_size=40
        )
        self._app = procrastinate.App(connector=self._connector)
        self._tasks = {name: self._app.task(name=name)(function) for name, function in TASKS.items()}
        self._app.open()
        if not self._connector.execute_query_one("SELECT to_regclass('procrastinate_jobs') IS NOT NULL AS there")["there"]:
            self._app.schema_manager.apply_schema()

    def level(self) -> dict[str, str]:
        return level_of(lambda name: self._connector.execute_query_one(f"SHOW {name}")[name])

    def put(self, task: str, value: float) -> None:
        self._tasks[task].defer(**{_ARGUMENTS[task]: value})

    def put_many(self, task: str, values: list[float]) -> None:
        for first in range(0, len(values), 10_000):
            self._tasks[task].batch_defer(*({_ARGUMENTS[task]: value} for value in values[first : first + 10_000]))

    def put_at(self, task: str, value: float, run_at: float) -> None:
        moment = datetime.fromtimestamp(run_at, timezone.utc)
        self._tasks[task].configure(schedule_at=moment).defer(**{_ARGUMENTS[task]: value})

    def pile_future(self, count: int) -> None:
        far = datetime(2099, 1, 1, tzinfo=timezone.utc)
        self._tasks["nothing"].configure(schedule_at=far, priority=100).defer(number=0)
        self._clone("status = 'todo'", {"scheduled_at": "scheduled_at + make_interval(secs => i)"}, count - 1)

    def pile_finished(self, count: int) -> None:
        self._clone("status = 'succeeded'", {}, count)

    def _clone(self, where: str, changes: dict[str, str], count: int) -> None:
        rows = self._connector.execute_query_all(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'procrastinate_jobs'"
        )
        columns = [row["column_name"] for row in rows if row["column_name"] != "id"]
        self._connector.execute_query("ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER")  # no event for each row
        self._connector.execute_query(clone_statement("procrastinate_jobs", columns, where, changes, count))
        self._connector.execute_query("ALTER TABLE procrastinate_jobs ENABLE TRIGGER USER")
        self._connector.execute_query("ANALYZE procrastinate_jobs")

    def start(self, workers: int) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(workers)), daemon=True)
        self._thread.start()

    async def _run(self, workers: int) -> None:
        connector = procrastinate.PsycopgConnector(conninfo=self.place, kwargs={"options": LEVELS[self.durability]})
        self._loop = asyncio.get_running_loop()
        app = self._app.with_connector(connector)
        async with app.open_async():
            self._task = asyncio.create_task(app.run_worker_async(concurrency=workers, install_signal_handlers=False))
            self._ready.set()
            await asyncio.wait([self._task])

    def settle(self) -> None:
        unfinished = "SELECT count(*) AS n FROM procrastinate_jobs WHERE status = 'doing'"
        while self._connector.execute_query_one(unfinished)["n"]:
            sleep(0.001)

    def stop(self) -> None:
        self._ready.wait(60)
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(60)

    def close(self) -> None:
        self._app.close()


_ARGUMENTS = {"nothing": "number", "arrive": "sent_at", "begin": "due_at"}

if __name__ == "__main__":
    serve(Procrastinate)
