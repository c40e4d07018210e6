"""A run time limit: the attempt ends at once, the job stays held until the old code has ended, and a new worker steps in."""

from __future__ import annotations

import threading

import pytest

from schedfactory import LostLease, Retry, current_job


def ending(job):
    return job.status, job.reason


@pytest.fixture
def stuck(scheduler, make_gate):
    """Return a function that registers a task which passes its limit at a gate of its own, one for each attempt."""

    def register(**options):
        gates = [make_gate() for _ in range(5)]

        @scheduler.task(name="stuck", timeout="20ms", **options)
        def stuck() -> int:
            attempt = current_job().attempt
            gates[attempt - 1]()
            return attempt

        return stuck, gates

    return register


def test_a_job_over_its_timeout_has_failed_by_timeout_at_once_and_wakes_who_waits(scheduler, stuck):
    task, gates = stuck()
    scheduler.start(workers=1)
    job = task.enqueue()
    gates[0].await_arrivals()
    job = job.wait("20s")  # the gate is still closed
    assert ending(job) == ("failed", "timeout")
    assert job.error == "TimeoutError: ran longer than its timeout of 0.02 s"
    assert (job.failures, job.result) == (1, None)
    [attempt] = job.attempts()
    assert (attempt.status, attempt.reason) == ("failed", "timeout")
    assert job.run_time.total_seconds() >= 0.02


def test_the_code_that_runs_on_has_its_flag_set(scheduler):
    seen = threading.Event()

    @scheduler.task(name="looks", timeout="20ms")
    def looks() -> None:
        pause = threading.Event()
        while not current_job().cancelled:
            pause.wait(0.002)
        with pytest.raises(LostLease, match="timeout"):
            current_job().raise_if_cancelled()
        seen.set()

    scheduler.start(workers=1)
    assert ending(looks.enqueue().wait("20s")) == ("failed", "timeout")
    assert seen.wait(20)


def test_what_the_old_code_returns_or_raises_after_its_timeout_is_not_stored(scheduler, stuck):
    task, gates = stuck()
    scheduler.start(workers=1)
    job = task.enqueue().wait("20s")
    gates[0].open()
    scheduler.wait_idle("20s")
    after = job.refresh()
    assert (*ending(after), after.result, after.error) == ("failed", "timeout", None, job.error)
    assert len(after.attempts()) == 1
    assert scheduler.counts()["failed"] == 1


def test_a_job_that_ended_by_its_timeout_keeps_its_node_and_is_not_claimed_until_the_old_code_ends(scheduler, stuck, noop):
    task, gates = stuck(retry=Retry(2, backoff="constant", base="1ms"))
    scheduler.start(workers=1)
    job = task.enqueue()
    gates[0].await_arrivals()
    noop.enqueue().get_result("20s")  # the first attempt has ended, else there were no free worker
    held = job.refresh()
    assert held.status in ("scheduled", "queued")
    assert held.reason == "retry"
    assert held.node is not None
    for _ in range(20):  # it is due, and others are claimed before it
        noop.enqueue().get_result("20s")
    assert job.refresh().attempt == 1
    assert job.refresh().node == held.node
    gates[0].open()
    gates[1].await_arrivals()
    assert job.refresh().attempt == 2
    gates[1].open()
    job = job.wait("20s")
    assert [one.number for one in job.attempts()] == [1, 2]


def test_a_held_job_counts_as_queued_and_keeps_the_scheduler_busy(scheduler, stuck, noop):
    task, gates = stuck(retry=Retry(2, backoff="constant", base="0s"))
    scheduler.start(workers=1)
    job = task.enqueue()
    gates[0].await_arrivals()
    noop.enqueue().get_result("20s")
    assert ending(job.refresh()) == ("queued", "retry")
    assert scheduler.counts()["queued"] == 1
    with pytest.raises(TimeoutError):
        scheduler.wait_idle("50ms")


def test_a_retry_that_is_quicker_than_the_timeout_succeeds(scheduler, stuck, noop):
    task, gates = stuck(retry=Retry(2, backoff="constant", base="0s"))
    gates[1].open()
    scheduler.start(workers=1)
    job = task.enqueue()
    gates[0].await_arrivals()
    noop.enqueue().get_result("20s")
    gates[0].open()
    assert job.get_result("20s") == 2
    assert [(one.status, one.reason) for one in job.refresh().attempts()] == [("failed", "timeout"), ("succeeded", None)]


def test_a_replacement_works_on_while_the_old_code_is_stuck(scheduler, stuck, noop):
    task, gates = stuck()
    scheduler.start(workers=1)
    assert task.enqueue().wait("20s").reason == "timeout"
    done = noop.enqueue().wait("20s")
    assert (done.status, done.worker) == ("succeeded", 2)
    gates[0].open()


def test_no_more_workers_are_replaced_than_there_were(scheduler, make_gate, noop):
    gates = [make_gate() for _ in range(2)]

    @scheduler.task(name="stuck", timeout="20ms")
    def stuck(number: int) -> None:
        gates[number]()

    scheduler.start(workers=1)
    for number in range(2):
        assert stuck.enqueue(number).wait("20s").reason == "timeout"
    waits = noop.enqueue()  # one left over was replaced, the second is one too many
    with pytest.raises(TimeoutError):
        waits.wait("100ms")
    gates[1].open()
    assert waits.get_result("20s") == 1
    gates[0].open()


def test_code_that_ends_because_of_its_flag_does_not_leave_a_worker_too_many(scheduler):
    at_once, most = 0, 0
    guard = threading.Lock()
    pause = threading.Event()

    @scheduler.task(name="cooperates", timeout="20ms")
    def cooperates() -> None:
        job = current_job()
        while not job.cancelled:
            pause.wait(0.0001)

    @scheduler.task(name="counts")
    def counts() -> None:
        nonlocal at_once, most
        with guard:
            at_once += 1
            most = max(most, at_once)
        pause.wait(0.02)
        with guard:
            at_once -= 1

    scheduler.start(workers=1)
    for _ in range(5):
        assert cooperates.enqueue().wait("20s").reason == "timeout"
        for job in [counts.enqueue() for _ in range(3)]:
            assert job.wait("20s").status == "succeeded"
    assert most == 1


def test_a_timeout_given_per_call_counts_instead_of_the_tasks(scheduler, stuck):
    task, gates = stuck()
    scheduler.start(workers=2)
    patient = task.options(timeout="1h").enqueue()
    hasty = task.options(timeout="1ms").enqueue()
    assert ending(hasty.wait("20s")) == ("failed", "timeout")
    gates[0].open()
    assert ending(patient.wait("20s")) == ("succeeded", None)


def test_a_row_that_leaves_the_timeout_open_takes_the_tasks(scheduler, stuck):
    stuck()
    scheduler.start(workers=1)
    assert ending(scheduler.remote("stuck").enqueue().wait("20s")) == ("failed", "timeout")


def test_a_job_that_is_quicker_than_its_timeout_is_not_touched_by_it(scheduler, noop):
    scheduler.start(workers=1)
    assert noop.options(timeout="1h").enqueue().get_result("20s") == 1


def test_a_cancelled_job_over_its_timeout_is_not_tried_again(scheduler, make_gate):
    gate = make_gate()

    @scheduler.task(name="deaf", timeout="100ms", retry=5)
    def deaf() -> None:
        scheduler.cancel(current_job().id)
        gate()

    scheduler.start(workers=1)
    job = deaf.enqueue().wait("20s")
    assert ending(job) == ("cancelled", "user")
    assert job.attempt == 1


def test_a_requeued_job_whose_old_code_still_runs_waits_for_that_end(scheduler, stuck, noop):
    task, gates = stuck()
    scheduler.start(workers=1)
    job = task.enqueue().wait("20s")
    again = job.requeue()
    assert (again.status, again.node) == ("queued", job.node)
    for _ in range(5):
        noop.enqueue().get_result("20s")
    assert job.refresh().attempt == 1
    gates[1].open()
    gates[0].open()
    assert job.get_result("20s") == 2


def test_in_run_due_the_attempt_ends_while_the_code_goes_on(still):
    seen = []

    @still.task(name="waits", timeout="20ms")
    def waits() -> str:
        job = current_job()
        seen.append(still.get(job.id).wait("20s").reason)
        return "too late"

    job = waits.enqueue()
    assert still.run_due() == 1
    assert seen == ["timeout"]
    assert (*ending(job.refresh()), job.refresh().result) == ("failed", "timeout", None)
    assert still.counts()["failed"] == 1
