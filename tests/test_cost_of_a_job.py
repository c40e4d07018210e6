"""What one job costs on the hot path, counted instead of timed: calls of Python functions, and steps of SQLite's machine.

The bounds are a few percent above what was counted when they were written. Who makes a job dearer has to raise one of them,
and to say why.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from schedfactory import Scheduler
from schedfactory.model.slots import Slots
from schedfactory.running.node import Node

JOBS = 1_000


@contextmanager
def counted(scheduler: Scheduler) -> Iterator[Callable[[], tuple[float, float]]]:
    """Count calls of Python and C functions in this thread, and SQLite's steps in tens, on the writing connection."""
    driver: sqlite3.Connection = scheduler._house.database._open().driver
    calls = steps = 0

    def on_call(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    def on_step() -> int:
        nonlocal steps
        steps += 10
        return 0

    driver.set_progress_handler(on_step, 10)
    sys.setprofile(on_call)
    try:
        yield lambda: (calls / JOBS, steps / JOBS)
    finally:
        sys.setprofile(None)
        driver.set_progress_handler(None, 10)


@pytest.fixture
def task(scheduler: Scheduler) -> Any:
    scheduler.counts()

    @scheduler.task(name="noop")
    def noop(number: int) -> None: ...

    return noop


def test_the_cost_of_an_enqueue(scheduler: Scheduler, task: Any) -> None:
    task.enqueue(0)
    with counted(scheduler) as cost:
        for number in range(JOBS):
            task.enqueue(number)
    calls, steps = cost()
    assert calls <= ENQUEUE[0]
    assert steps <= ENQUEUE[1]


def test_the_cost_of_a_job_enqueued_in_bulk(scheduler: Scheduler, task: Any) -> None:
    task.enqueue(0)  # which builds the statements
    calls_ahead = [task.call(number) for number in range(JOBS)]
    with counted(scheduler) as cost:
        scheduler.enqueue_many(calls_ahead)
    calls, steps = cost()
    assert calls <= BULK[0]
    assert steps <= BULK[1]


def test_the_cost_of_a_job_claimed_run_and_stored(scheduler: Scheduler, task: Any) -> None:
    scheduler.enqueue_many([task.call(number) for number in range(JOBS)])
    node = Node(scheduler._house.shop(scheduler), Slots(4))
    dispatcher, desk, worker = node._dispatcher, node._desk, node._worker(1)
    dispatcher._pace.observe("noop", 0.00002)
    with counted(scheduler) as cost:
        while True:
            desk.idle.append(worker)
            dispatcher.round(scheduler._house.clock())
            if worker in desk.idle:
                break
            worker.do(worker.inbox.get())
            while desk.ahead:  # as the worker's thread does
                worker.do(worker._next())
    calls, steps = cost()
    desk.idle.clear()
    assert scheduler.counts()["succeeded"] == JOBS
    node.stop(0)
    assert calls <= DRAIN[0]
    assert steps <= DRAIN[1]


# Calls of functions, steps of SQLite; for one job.
COMPREHENSION = 1 if sys.version_info < (3, 12) else 0  # is a call, too
# Of an enqueue 4 and 3 look whether a newer version has changed the tables, 2 whether a signal's handler has come in between.
ENQUEUE = (118 + 4 * COMPREHENSION, 185)
BULK = (21.5, 125)
DRAIN = (112 + COMPREHENSION, 335)
