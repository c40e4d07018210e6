"""Where the time of one job goes: each stage of its way, on one thread, without waiting for anybody."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.figures import Bench, Figure
from schedfactory import Scheduler
from schedfactory.model.slots import Slots
from schedfactory.running.attempt import Attempts
from schedfactory.running.choice import Choice
from schedfactory.running.dispatcher import Dispatcher
from schedfactory.running.node import Node
from schedfactory.storage import enqueue, finish, sqlite


def nothing(number: int) -> None:
    pass


class _Watch:
    """Adds up how long functions take, those that they call and that are watched apart."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = 0.0

    def around(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            outer, self._inner = self._inner, 0.0
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.perf_counter() - began
                self.seconds[stage] = self.seconds.get(stage, 0.0) + took - self._inner
                self._inner = outer + took

        return timed

    @contextmanager
    def on(self, *places: tuple[str, Any, str]) -> Iterator[None]:
        """Watch (stage, object, name of the function) inside the block."""
        before = [(owner, name, getattr(owner, name)) for _, owner, name in places]
        for (stage, owner, name), (_, _, function) in zip(places, before):
            setattr(owner, name, self.around(stage, function))
        try:
            yield
        finally:
            for owner, name, function in before:
                setattr(owner, name, function)


def single(bench: Bench) -> list[Figure]:
    """One enqueue after the other; `durability` does not count here, since "normal" does not wait for the disk."""
    scheduler, task, count = _scheduler(bench)
    watch = _Watch()
    database = scheduler._house.database
    places = (
        ("bind", task.arguments, "bind"),
        ("encode the arguments", task.arguments, "dumps"),
        ("make the row", enqueue, "to_rows"),
        ("begin", sqlite, "begin_immediate"),
        ("ask the features", enqueue, "store"),
        ("insert", enqueue, "insert_rows"),
        ("commit", sqlite, "commit"),
        ("look after the log", database._checkpoints, "after_commit"),
        ("share the commit", database, "write_together"),
    )
    with watch.on(*places):
        whole = _timed(lambda: [task.enqueue(number) for number in range(count)])
    scheduler.close()
    return _figures("one enqueue", watch, whole, count)


def bulk(bench: Bench) -> list[Figure]:
    scheduler, task, count = _scheduler(bench)
    calls = [task.call(number) for number in range(count)]
    watch = _Watch()
    with watch.on(
        ("make the row", enqueue, "to_rows"),
        ("insert", enqueue, "insert_rows"),
        ("commit", sqlite, "commit"),
    ):
        whole = _timed(lambda: scheduler.enqueue_many(calls))
    scheduler.close()
    return _figures("enqueue_many", watch, whole, count)


def drained(bench: Bench) -> list[Figure]:
    """The dispatcher's rounds and a worker's work by turns; with threads they overlap, and switch."""
    scheduler, task, count = _scheduler(bench)
    scheduler.enqueue_many([task.call(number) for number in range(count)])
    node = Node(scheduler._house.shop(scheduler), Slots(4))
    dispatcher, desk, worker = node._dispatcher, node._desk, node._worker(1)
    dispatcher._pace.observe(task.name, 0.00002)
    watch = _Watch()

    def drain() -> None:
        while True:
            desk.idle.append(worker)
            dispatcher.round(scheduler._house.clock())
            if worker in desk.idle:
                desk.idle.clear()
                return
            worker.do(worker.inbox.get())
            while desk.ahead:
                worker.do(worker._next())

    with watch.on(
        ("claim", Choice, "take"),
        ("finish", finish, "finish"),
        ("commit", sqlite, "commit"),
        ("hand over", Dispatcher, "_hand_over"),
        ("take in what is stored", Dispatcher, "_settle"),
        ("encode the result", Attempts, "_store"),
        ("read the arguments and call", Attempts, "run"),
    ):
        whole = _timed(drain)
    node.stop(0)
    scheduler.close()
    return _figures("a job claimed, run and stored", watch, whole, count)


def _scheduler(bench: Bench) -> tuple[Scheduler, Any, int]:
    scheduler = Scheduler(bench.file(), durability="normal")
    scheduler.counts()
    task = scheduler.task(nothing)
    task.enqueue(0)
    scheduler.run_due()
    return scheduler, task, bench.many(10_000)


def _timed(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _figures(what: str, watch: _Watch, whole: float, count: int) -> list[Figure]:
    stages = {**watch.seconds, "the rest": whole - sum(watch.seconds.values())}
    found = [Figure(f"{what}: {stage}", seconds / count * 1e6, "µs") for stage, seconds in stages.items()]
    return [*found, Figure(f"{what}: in all", whole / count * 1e6, "µs")]


SCENARIOS = [single, bulk, drained]
