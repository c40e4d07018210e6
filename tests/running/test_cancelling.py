"""What a cancel does to a job, whatever the job is doing."""

from __future__ import annotations

import threading

import pytest

from schedfactory import Fail, JobCancelled, Retry, RetryAfter, Scheduler, Snooze, current_job


def ending(job):
    return job.status, job.reason


@pytest.fixture
def held(scheduler, gate):
    """Return a function that starts a job whose code waits at the gate and then does what it is told."""

    def start(then, **options):
        @scheduler.task(name="held", **options)
        def held() -> object:
            gate()
            return then()

        scheduler.start(workers=1)
        job = held.enqueue()
        gate.await_arrivals()
        return job

    return start


def stops():
    job = current_job()
    wait_for_flag(job)
    job.raise_if_cancelled()


def wait_for_flag(job):
    """Task code that looks at its flag again and again, as cooperative code does."""
    pause = threading.Event()
    while not job.cancelled:
        pause.wait(0.002)


def raises(error):
    def then():
        wait_for_flag(current_job())
        raise error

    return then


# Before its start


@pytest.mark.parametrize("delay", ["0s", "1h"], ids=["queued", "scheduled"])
def test_a_job_cancelled_before_its_start_never_starts(still, clock, delay):
    ran = []

    @still.task(name="noop")
    def noop() -> None:
        ran.append(1)

    job = noop.options(delay=delay).enqueue()
    cancelled = job.cancel()
    assert ending(cancelled) == ("cancelled", "user")
    assert cancelled.finished_at == clock.now
    assert (cancelled.attempt, cancelled.started_at, cancelled.attempts()) == (0, None, [])
    clock.advance(hours=2)
    assert still.run_due() == 0
    assert not ran


def test_a_job_that_waits_for_its_retry_can_be_cancelled(still, clock):
    @still.task(name="flaky", retry=9)
    def flaky() -> None:
        raise ValueError("first")

    job = flaky.enqueue()
    still.run_due()
    assert ending(job.cancel()) == ("cancelled", "user")
    clock.advance(days=1)
    assert still.run_due() == 0
    assert [one.status for one in job.refresh().attempts()] == ["failed"]


def test_a_job_cancelled_by_a_job_that_ran_before_it_never_starts(still):
    ran = []

    @still.task(name="second")
    def second() -> None:
        ran.append(1)

    @still.task(name="first", priority=1)
    def first() -> int:
        return still.cancel(task="second")

    jobs = [second.enqueue(), second.enqueue(), first.enqueue()]
    assert still.run_due() == 1
    assert jobs[2].refresh().result == 2
    assert not ran


def test_a_job_cancelled_while_it_is_claimed_ahead_of_a_busy_worker_never_starts(scheduler, gate, eventually):
    ran = []

    @scheduler.task(name="quick")
    def quick(number: int, holds: bool = False) -> None:
        ran.append(number)
        if holds:
            gate()

    scheduler.start(workers=1)
    for job in scheduler.enqueue_many([quick.call(-1) for _ in range(300)]):
        job.wait("20s")  # the pace of the task is known now, so that its jobs are claimed ahead
    ran.clear()
    jobs = scheduler.enqueue_many([quick.call(number, holds=number == 0) for number in range(40)])
    gate.await_arrivals()
    for job in jobs[1:]:
        job.cancel()
    eventually(lambda: scheduler.counts()["cancelled"] == 39)
    gate.open()
    jobs[0].wait("20s")
    assert ran == [0]
    assert {ending(job.refresh()) for job in jobs[1:]} == {("cancelled", "user")}


# While it runs


def test_a_running_job_sees_its_flag_and_ends_cancelled_by_the_user(scheduler, held, gate):
    job = held(stops)
    flagged = job.cancel()
    assert flagged.status == "running"
    gate.open()
    assert ending(job.wait("20s")) == ("cancelled", "user")
    [attempt] = job.refresh().attempts()
    assert (attempt.status, attempt.reason) == ("cancelled", "user")


def test_the_cancel_of_another_process_reaches_a_running_job(scheduler, path, held, gate):
    job = held(stops)
    other = Scheduler(path)
    assert other.cancel(job.id) == 1
    other.close()
    gate.open()
    assert ending(job.wait("20s")) == ("cancelled", "user")


def test_code_that_ignores_its_flag_and_returns_has_succeeded(scheduler, held, gate):
    def returns():
        wait_for_flag(current_job())
        return 7

    job = held(returns)
    job.cancel()
    gate.open()
    assert job.get_result("20s") == 7
    assert ending(job.refresh()) == ("succeeded", None)


@pytest.mark.parametrize(
    "error", [ValueError("because of it"), RetryAfter("1s"), Snooze("1s"), SystemExit()], ids=lambda one: type(one).__name__
)
def test_a_cancelled_job_that_raises_is_not_tried_again(scheduler, held, gate, error):
    job = held(raises(error), retry=Retry(5, base="1ms"))
    job.cancel()
    gate.open()
    job = job.wait("20s")
    assert ending(job) == ("cancelled", "user")
    assert job.attempt == 1


def test_a_cancelled_job_that_raises_fail_has_failed(scheduler, held, gate):
    job = held(raises(Fail("cannot be undone")))
    job.cancel()
    gate.open()
    assert ending(job.wait("20s")) == ("failed", "task")


def test_a_cancel_that_its_code_has_no_time_to_see_still_forbids_the_retry(still):
    @still.task(name="flaky", retry=5)
    def flaky() -> None:
        still.cancel(current_job().id)
        raise ValueError("at once")

    job = flaky.enqueue()
    still.run_due()
    assert ending(job.refresh()) == ("cancelled", "user")
    assert still.counts()["cancelled"] == 1


def test_a_job_may_cancel_itself(scheduler, held, gate):
    def cancels():
        scheduler.cancel(current_job().id)
        stops()

    job = held(cancels)
    gate.open()
    assert ending(job.wait("20s")) == ("cancelled", "user")


def test_the_flag_of_one_attempt_is_down_in_the_next_one(scheduler, held, gate):
    seen = []

    def notes():
        job = current_job()
        seen.append(job.cancelled)
        if job.attempt == 1:
            stops()

    job = held(notes)
    job.cancel()
    gate.open()
    job.wait("20s")
    job.requeue()
    assert job.wait("20s").status == "succeeded"
    assert seen[1] is False


# After its end, and many at once


@pytest.mark.parametrize("error", [None, ValueError("x")])
def test_a_cancel_of_a_finished_job_changes_nothing(still, error):
    @still.task(name="ends")
    def ends() -> None:
        if error:
            raise error

    job = ends.enqueue()
    still.run_due()
    before = job.refresh()
    assert still.cancel(job.id) == 0
    assert job.cancel() == before


def test_a_running_job_is_counted_by_the_first_cancel_only(scheduler, held, gate):
    job = held(stops)
    assert scheduler.cancel(job.id) == 1
    assert scheduler.cancel(job.id) == 0
    gate.open()
    assert job.wait("20s").status == "cancelled"


def test_get_result_of_a_cancelled_job_raises_job_cancelled_with_the_job(still):
    @still.task(name="noop")
    def noop() -> None: ...

    job = noop.enqueue().cancel()
    with pytest.raises(JobCancelled, match="cancelled/user") as caught:
        job.get_result("20s")
    assert caught.value.job == job
