"""schedfactory itself, through its public interface."""

from __future__ import annotations

from datetime import datetime, timezone

from peer import TASKS, Queue, clone, sqlite_level
from serve import serve

from schedfactory import Scheduler

_SOON = "strftime('%Y-%m-%d %H:%M:%S', '2099-01-01', '+' || i || ' seconds') || '.000000'"


class Schedfactory(Queue):
    def __init__(self, place: str, durability: str) -> None:
        super().__init__(place, durability)
        self._scheduler = Scheduler(place, durability=durability)
        self._tasks = {name: self._scheduler.task(function) for name, function in TASKS.items()}

    def level(self) -> dict[str, str]:
        with self._scheduler.reading() as connection:
            return sqlite_level(lambda pragma: connection.exec_driver_sql(pragma).scalar())

    def put(self, task: str, value: float) -> None:
        self._tasks[task].enqueue(value)

    def put_many(self, task: str, values: list[float]) -> None:
        call = self._tasks[task].call
        self._scheduler.enqueue_many([call(value) for value in values])

    def put_at(self, task: str, value: float, run_at: float) -> None:
        self._tasks[task].options(run_at=datetime.fromtimestamp(run_at, timezone.utc)).enqueue(value)

    def pile_future(self, count: int) -> None:
        self._tasks["nothing"].options(priority=100, run_at=datetime(2099, 1, 1, tzinfo=timezone.utc)).enqueue(0)
        clone(self.place, "schedfactory_jobs", "status = 'scheduled'", {"run_at": _SOON}, count - 1)

    def pile_finished(self, count: int) -> None:
        clone(self.place, "schedfactory_jobs", "status = 'succeeded'", {}, count)

    def start(self, workers: int) -> None:
        self._scheduler.start(workers=workers)

    def settle(self) -> None:
        self._scheduler.wait_idle("10m")

    def stop(self) -> None:
        self._scheduler.stop()

    def close(self) -> None:
        self._scheduler.close()


if __name__ == "__main__":
    serve(Schedfactory)
