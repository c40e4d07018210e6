"""How fast workers get through what is queued."""

from __future__ import annotations

import time

from benchmarks.figures import Bench, Figure
from schedfactory import Scheduler


def nothing(number: int) -> None:
    pass


def _drain(bench: Bench, durability: str, at_least: float) -> list[Figure]:
    scheduler = Scheduler(bench.file(), durability=durability)
    task = scheduler.task(nothing)
    jobs = scheduler.enqueue_many([task.call(number) for number in range(bench.many(30_000))])
    began = time.perf_counter()
    with scheduler.running(workers=4):
        jobs[-1].wait("10m")
        scheduler.wait_idle("10m")
        took = time.perf_counter() - began
    assert scheduler.counts()["succeeded"] == len(jobs)
    scheduler.close()
    return [Figure(f"no-ops drained by 4 workers, {durability}", len(jobs) / took, "jobs/s", at_least=at_least)]


def normal(bench: Bench) -> list[Figure]:
    return _drain(bench, "normal", 20_000)


def full(bench: Bench) -> list[Figure]:
    return _drain(bench, "full", 15_000)


SCENARIOS = [normal, full]
