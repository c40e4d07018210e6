"""APScheduler 3: BackgroundScheduler with a thread pool and SQLAlchemyJobStore on SQLite."""

from __future__ import annotations

import logging
import sqlite3
from datetime import datetime, timezone

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from peer import Queue, clone, sqlite_level
from serve import serve
from sqlalchemy import create_engine, event

_SYNCHRONOUS = {"full": "FULL", "normal": "NORMAL"}


class APScheduler(Queue):
    note = "a job is deleted when it is handed to a thread, before it runs: nothing is kept of it"
    shares = False  # "job stores must not be shared between schedulers": another process's job is not noticed

    def __init__(self, place: str, durability: str) -> None:
        super().__init__(place, durability)
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._engine = create_engine(f"sqlite:///{place}", connect_args={"timeout": 60})

        @event.listens_for(self._engine, "connect")
        def set_up(connection: sqlite3.Connection, _record: object) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={_SYNCHRONOUS[durability]}")

        self._start(4)

    def _start(self, workers: int) -> None:
        self._scheduler = BackgroundScheduler(
            jobstores={"default": SQLAlchemyJobStore(engine=self._engine)},
            executors={"default": ThreadPoolExecutor(workers)},
            job_defaults={"misfire_grace_time": None},
            timezone=timezone.utc,
        )
        self._scheduler.start(paused=True)  # or jobs would be kept in memory until it starts

    def level(self) -> dict[str, str]:
        with self._engine.connect() as connection:
            return sqlite_level(lambda pragma: connection.exec_driver_sql(pragma).scalar())

    def put(self, task: str, value: float) -> None:
        self._scheduler.add_job(f"peer:{task}", args=(value,))

    def put_at(self, task: str, value: float, run_at: float) -> None:
        self._scheduler.add_job(f"peer:{task}", "date", run_date=datetime.fromtimestamp(run_at, timezone.utc), args=(value,))

    def pile_future(self, count: int) -> None:
        self.put_at("nothing", 0, datetime(2099, 1, 1, tzinfo=timezone.utc).timestamp())
        changes = {"id": "id || i", "next_run_time": "next_run_time + i"}
        clone(self.place, "apscheduler_jobs", "next_run_time > 4000000000", changes, count - 1)

    def start(self, workers: int) -> None:
        self._scheduler.resume()

    def stop(self) -> None:
        self._scheduler.pause()

    def close(self) -> None:
        self._scheduler.shutdown()
        self._engine.dispose()


if __name__ == "__main__":
    serve(APScheduler)
