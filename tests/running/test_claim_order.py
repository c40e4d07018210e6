"""Which job starts next, when, and how far ahead of the workers jobs are claimed."""

from __future__ import annotations

import random
import threading
from datetime import datetime, timedelta, timezone

import pytest

from schedfactory import Scheduler, current_job


@pytest.fixture
def order():
    return []


@pytest.fixture
def note(still, order):
    """A task that notes its number when it runs."""

    @still.task(name="note")
    def note(number: int) -> None:
        order.append(number)

    return note


# The order of a claim


def test_a_higher_priority_runs_first(still, note, order):
    for priority in (0, -100, 7, 100, -1):
        note.options(priority=priority).enqueue(priority)
    still.run_due()
    assert order == [100, 7, 0, -1, -100]


def test_equal_priorities_run_in_the_order_they_were_due(still, clock, note, order):
    for delay in (30, 10, 20):
        note.options(delay=delay).enqueue(delay)
    clock.advance(minutes=1)
    still.run_due()
    assert order == [10, 20, 30]


def test_what_is_due_at_the_same_moment_runs_in_the_order_of_the_ids(still, note, order):
    for number in range(20):
        note.enqueue(number)
    still.run_due()
    assert order == list(range(20))


def test_a_random_lot_runs_in_the_order_of_priority_moment_and_id(still, clock, note, order):
    jobs = []
    for number in range(200):
        job = note.options(priority=random.randint(-3, 3), delay=random.randint(0, 3)).enqueue(number)
        jobs.append((-job.priority, job.run_at, job.id, number))
    clock.advance(seconds=3)
    still.run_due()
    assert order == [job[-1] for job in sorted(jobs)]


def test_an_urgent_job_enqueued_by_a_job_runs_next(still, note, order):
    @still.task(name="spawns")
    def spawns() -> None:
        note.options(priority=9).enqueue(9)
        note.options(priority=-9).enqueue(-9)

    spawns.options(priority=1).enqueue()
    note.enqueue(0)
    assert still.run_due() == 4
    assert order == [9, 0, -9]


def test_an_update_of_the_priority_counts_for_the_next_claim(still, note, order):
    jobs = [note.enqueue(number) for number in range(3)]
    jobs[2].update(priority=5)
    jobs[0].update(priority=-5)
    still.run_due()
    assert order == [2, 1, 0]


def test_a_high_priority_does_not_start_a_job_before_its_time(still, clock, note, order):
    note.options(priority=100, delay="10s").enqueue(1)
    note.options(priority=-100).enqueue(2)
    still.run_due()
    assert order == [2]
    clock.advance(seconds=10)
    still.run_due()
    assert order == [2, 1]


def test_workers_take_ordinary_jobs_strictly_by_priority(scheduler, gate):
    order = []

    @scheduler.task(name="blocks", priority=100)
    def blocks() -> None:
        gate()

    @scheduler.task(name="ordinary")
    def ordinary(number: int) -> None:
        order.append(number)
        threading.Event().wait(0.006)

    scheduler.start(workers=1)
    blocks.enqueue()
    gate.await_arrivals()
    numbers = [random.randint(-100, 100) for _ in range(30)]
    jobs = [ordinary.options(priority=number).enqueue(number) for number in numbers]
    gate.open()
    for job in jobs:
        job.wait("20s")
    assert order == sorted(numbers, reverse=True)


def test_an_urgent_job_overtakes_ordinary_ones_that_wait(scheduler):
    order = []

    @scheduler.task(name="ordinary")
    def ordinary(number: int) -> None:
        order.append(number)
        if number == 5:
            ordinary.options(priority=1).enqueue(-1)
        threading.Event().wait(0.006)

    scheduler.start(workers=1)
    for job in scheduler.enqueue_many([ordinary.call(number) for number in range(10)]):
        job.wait("20s")
    assert order == [0, 1, 2, 3, 4, 5, -1, 6, 7, 8, 9]


# Queues and tasks


def test_a_node_takes_only_jobs_of_its_queues(scheduler):
    @scheduler.task(name="noop")
    def noop() -> None: ...

    other = noop.options(queue="other", priority=9).enqueue()
    scheduler.start(workers=1, queues=["mail", "default"])
    for queue in ("mail", "default"):
        assert noop.options(queue=queue).enqueue().wait("20s").status == "succeeded"
    assert other.refresh().status == "queued"


def test_a_node_leaves_jobs_of_tasks_that_it_does_not_know(scheduler):
    @scheduler.task(name="known")
    def known() -> None: ...

    unknown = scheduler.remote("unknown").options(priority=9).enqueue()
    scheduler.start(workers=1)
    assert known.enqueue().wait("20s").status == "succeeded"
    assert (unknown.refresh().status, unknown.refresh().attempt) == ("queued", 0)


def test_a_task_registered_while_the_node_runs_is_served_from_then_on(scheduler):
    job = scheduler.remote("later").enqueue()
    scheduler.start(workers=1)

    @scheduler.task(name="later")
    def later() -> int:
        return 1

    later.enqueue()
    assert job.get_result("20s") == 1


def test_an_alias_runs_rows_of_the_older_name(scheduler):
    @scheduler.task(name="new", aliases=["old"])
    def new() -> str:
        return current_job().task

    job = scheduler.remote("old").enqueue()
    scheduler.run_due()
    assert job.refresh().result == "old"


# How far ahead


def test_nothing_is_claimed_ahead_of_a_free_worker_with_ordinary_jobs(scheduler, gate):
    blocked, most = threading.Event(), []

    @scheduler.task(name="ordinary")
    def ordinary() -> None:
        most.append(scheduler.counts()["running"])
        threading.Event().wait(0.006)
        if blocked.is_set():
            gate()

    scheduler.start(workers=2)
    for job in scheduler.enqueue_many([ordinary.call() for _ in range(20)]):
        job.wait("20s")  # how long the task takes is known now
    assert max(most) <= 2
    blocked.set()
    jobs = scheduler.enqueue_many([ordinary.call() for _ in range(20)])
    gate.await_arrivals(2)
    assert (scheduler.counts()["running"], scheduler.counts()["queued"]) == (2, 18)
    gate.open()
    for job in jobs:
        job.wait("20s")
    assert max(most) <= 2


def test_nothing_is_claimed_ahead_of_a_task_that_was_never_measured(scheduler, gate):
    @scheduler.task(name="new")
    def new() -> None:
        gate()

    jobs = scheduler.enqueue_many([new.call() for _ in range(20)])
    scheduler.start(workers=2)
    gate.await_arrivals(2)
    assert (scheduler.counts()["running"], scheduler.counts()["queued"]) == (2, 18)
    gate.open()
    assert {job.wait("20s").attempt for job in jobs} == {1}


def test_jobs_claimed_ahead_of_one_that_takes_long_are_given_back_as_they_came(scheduler, gate, eventually):
    @scheduler.task(name="quick")
    def quick(holds: bool = False) -> int | None:
        if holds:
            gate()
        return current_job().worker

    scheduler.start(workers=1)
    for job in scheduler.enqueue_many([quick.call() for _ in range(500)]):
        job.wait("20s")
    jobs = scheduler.enqueue_many([quick.call(holds=number == 0) for number in range(50)])
    gate.await_arrivals()
    eventually(lambda: scheduler.counts()["queued"] == 49)
    for job in scheduler.jobs(status="queued"):
        assert (job.reason, job.attempt, job.started_at, job.node, job.worker) == (None, 0, None, None, None)
        assert job.attempts() == []
    gate.open()
    ended = [job.wait("20s") for job in jobs]
    assert {(job.status, job.attempt, job.worker) for job in ended} == {("succeeded", 1, 1)}


def test_jobs_claimed_ahead_are_in_their_rows_what_ran_them_and_when(scheduler):
    @scheduler.task(name="quick")
    def quick() -> int | None:
        return current_job().worker

    scheduler.start(workers=3)
    for job in scheduler.enqueue_many([quick.call() for _ in range(1000)]):
        job = job.wait("20s")
        assert job.worker == job.result
        assert job.created_at <= job.started_at <= job.finished_at


# Time


def test_a_delayed_job_never_starts_early(scheduler):
    @scheduler.task(name="tells")
    def tells() -> str:
        return datetime.now(timezone.utc).isoformat()

    scheduler.start(workers=2)
    jobs = [tells.options(delay=timedelta(milliseconds=random.randint(1, 400))).enqueue() for _ in range(40)]
    assert jobs[-1].status == "scheduled"
    for job in jobs:
        job = job.wait("20s")
        assert job.started_at >= job.run_at
        assert datetime.fromisoformat(job.result) >= job.run_at


def test_a_delayed_job_survives_a_restart(scheduler, path):
    @scheduler.task(name="noop")
    def noop() -> None: ...

    scheduler.start(workers=1)
    job = noop.options(delay="300ms").enqueue()
    scheduler.close()
    again = Scheduler(path)
    again.task(name="noop")(noop.function)
    with again.running(workers=1):
        done = again.get(job.id).wait("20s")
    assert done.status == "succeeded"
    assert done.started_at >= job.run_at
    again.close()


def test_a_sooner_job_wakes_a_node_that_sleeps_until_a_later_one(scheduler):
    @scheduler.task(name="noop")
    def noop() -> None: ...

    scheduler.start(workers=1)
    late = noop.options(delay="1h").enqueue()
    soon = noop.options(delay="200ms").enqueue()
    assert soon.wait("20s").status == "succeeded"
    assert late.refresh().status == "scheduled"


def test_an_update_of_run_at_counts(still, clock, note, order):
    soon = note.enqueue(1)
    late = note.options(delay="1h").enqueue(2)
    assert soon.update(run_at=clock.now + timedelta(hours=1)).status == "scheduled"
    assert late.update(run_at=clock.now).status == "queued"
    assert still.run_due() == 1
    assert order == [2]
    clock.advance(hours=1)
    still.run_due()
    assert order == [2, 1]


def test_a_job_once_queued_stays_due_when_the_clock_steps_back(still, clock, note, order):
    note.options(delay="1h").enqueue(1)
    note.enqueue(0)
    clock.advance(hours=1)
    still.run_due(limit=1)
    clock.advance(days=-1)
    still.run_due()
    assert sorted(order) == [0, 1]


def test_a_scheduled_job_stays_scheduled_when_the_clock_steps_back(still, clock, note, order):
    note.options(delay="1h").enqueue(1)
    clock.advance(hours=-5)
    assert still.run_due() == 0
    clock.advance(hours=6)
    assert still.run_due() == 1


def test_a_jump_of_the_clock_forward_makes_what_it_passes_due(still, clock, note, order):
    note.options(delay="365d").enqueue(1)
    clock.advance(days=3650)
    assert still.run_due() == 1


def test_more_due_jobs_than_one_round_promotes_still_run_in_order(still, clock, note, order):
    calls = [note.options(delay=delay, priority=delay % 3).call(delay) for delay in range(1, 10_051)]
    still.enqueue_many(calls)
    clock.advance(days=1)
    still.run_due(limit=20)
    assert order == [delay for delay in range(1, 10_051) if delay % 3 == 2][:20]
