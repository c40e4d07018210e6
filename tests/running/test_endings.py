"""Every status and reason that a job can come to by what its code does, reached by jobs that really ran."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from schedfactory import Cancel, Fail, JobCancelled, RetryAfter, Scheduler, Snooze, current_job


def run(still, task, *args):
    job = task.enqueue(*args)
    still.run_due()
    return job.refresh()


def ending(job):
    return job.status, job.reason


def history(job):
    return [(one.number, one.status, one.reason) for one in job.refresh().attempts()]


class Custom(BaseException):
    """Not an Exception, so that careless code would let it through."""


@dataclass
class Odd:
    """Refuses a value by an error that no decoder expects."""

    x: int

    def __post_init__(self):
        if self.x == 13:
            raise RuntimeError("unlucky")


class Mute(Exception):
    """Its text cannot be had."""

    def __init__(self, error):
        self.error = error

    def __str__(self):
        raise self.error


# Succeeded, and what stands in the row


def test_a_job_that_returns_has_succeeded_with_its_result(still, clock):
    @still.task(name="add")
    def add(x: int, y: int) -> int:
        clock.advance(seconds=3)
        return x + y

    job = run(still, add, 2, 3)
    assert ending(job) == ("succeeded", None)
    assert (job.result, job.error, job.attempt, job.failures, job.crashes) == (5, None, 1, 0, 0)
    assert job.run_time.total_seconds() == 3
    assert history(job) == [(1, "succeeded", None)]


def test_a_job_that_returns_nothing_has_the_result_none(still):
    @still.task(name="quiet")
    def quiet() -> None: ...

    assert run(still, quiet).result is None


# Failed


def test_a_job_that_raises_has_failed_by_error(still):
    @still.task(name="broken")
    def broken() -> None:
        raise ValueError("no such account")

    job = run(still, broken)
    assert ending(job) == ("failed", "error")
    assert (job.error, job.result, job.failures) == ("ValueError: no such account", None, 1)
    assert history(job) == [(1, "failed", "error")]


def test_the_traceback_of_an_attempt_shows_the_users_code_only(still):
    def inner():
        raise KeyError("k")

    @still.task(name="outer")
    def outer() -> None:
        inner()

    [attempt] = run(still, outer).attempts()
    assert "in outer" in attempt.traceback
    assert "in inner" in attempt.traceback
    assert "schedfactory/running" not in attempt.traceback


def test_the_cause_of_an_error_stands_in_its_traceback(still):
    @still.task(name="chained")
    def chained() -> None:
        try:
            raise OSError("disk")
        except OSError as error:
            raise ValueError("while saving") from error

    [attempt] = run(still, chained).attempts()
    assert "OSError: disk" in attempt.traceback
    assert "direct cause" in attempt.traceback


def test_an_error_without_a_message_is_named_by_its_type(still):
    @still.task(name="bare")
    def bare() -> None:
        raise ValueError

    assert run(still, bare).error == "ValueError"


def test_an_error_group_fails_the_job(still):
    @still.task(name="group")
    def group() -> None:
        raise ExceptionGroup("two", [ValueError("a"), KeyError("b")])

    job = run(still, group)
    assert ending(job) == ("failed", "error")
    assert "ValueError: a" in job.attempts()[0].traceback


@pytest.mark.parametrize("text", ["\ud800 alone", "a\x00b", "x" * 100_000, "ünï\U0001f600", "line\nline"], ids=repr)
def test_any_text_of_an_error_can_be_stored(still, text):
    @still.task(name="odd_text")
    def odd_text() -> None:
        raise ValueError(text)

    job = run(still, odd_text)
    assert ending(job) == ("failed", "error")
    assert job.error.startswith("ValueError: ")
    assert len(job.error) <= 4_000
    assert "\x00" not in job.error
    assert len(job.attempts()[0].traceback) <= 64_000


@pytest.mark.parametrize("inner", [RuntimeError("no"), SystemExit(3), KeyboardInterrupt(), Custom()], ids=repr)
def test_an_error_whose_text_cannot_be_had_fails_the_job(scheduler, inner):
    @scheduler.task(name="mute")
    def mute() -> None:
        raise Mute(inner)

    scheduler.start(workers=1)
    job = mute.enqueue().wait("20s")
    assert ending(job) == ("failed", "error")
    assert job.error.startswith("Mute")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), Custom("c")], ids=repr)
def test_no_exception_of_a_task_ends_its_worker(scheduler, error):
    @scheduler.task(name="drastic")
    def drastic() -> None:
        raise error

    @scheduler.task(name="next_one")
    def next_one() -> int:
        return 1

    scheduler.start(workers=1)
    job = drastic.enqueue().wait("20s")
    assert next_one.enqueue().get_result("20s") == 1
    assert ending(job) == ("failed", "error")
    assert job.error.startswith(type(error).__name__)


def test_no_exception_outside_exception_is_tried_again_unless_named(still):
    @still.task(name="exits", retry=3)
    def exits() -> None:
        raise SystemExit(1)

    assert ending(run(still, exits)) == ("failed", "error")


def test_a_task_that_raises_fail_has_failed_by_task(still):
    @still.task(name="closed", retry=5)
    def closed() -> None:
        raise Fail("the account is closed")

    job = run(still, closed)
    assert ending(job) == ("failed", "task")
    assert job.error == "Fail: the account is closed"
    assert history(job) == [(1, "failed", "task")]


def test_deep_recursion_in_a_task_fails_it(still):
    @still.task(name="deep")
    def deep() -> None:
        def down(n: int) -> int:
            return down(n + 1) + 1

        down(0)

    job = run(still, deep)
    assert ending(job) == ("failed", "error")
    assert job.error.startswith("RecursionError")


# Failed by result


ENDLESS: list = []
ENDLESS.append(ENDLESS)


class Unsure:
    """Says that it can be stored, and then cannot."""

    def model_dump(self, mode):
        raise RuntimeError("not now")


@pytest.mark.parametrize(
    "value",
    [object(), float("nan"), [1, {"a": float("inf")}], "\ud800", {1: object()}, ENDLESS, Unsure()],
    ids=["object", "nan", "infinity", "surrogate", "inner object", "endless", "raising dump"],
)
def test_a_result_that_cannot_be_stored_fails_the_job_by_result(scheduler, value):
    @scheduler.task(name="gives")
    def gives():
        return value

    scheduler.start(workers=1)
    job = gives.enqueue().wait("20s")
    assert ending(job) == ("failed", "result")
    assert job.error.startswith("NotSerializable: ")
    assert history(job) == [(1, "failed", "result")]


def test_a_result_that_cannot_be_stored_is_not_tried_again(still):
    @still.task(name="gives", retry=5)
    def gives():
        return object()

    job = run(still, gives)
    assert (*ending(job), job.attempt) == ("failed", "result", 1)


def test_a_result_over_max_result_fails_the_job_by_result(path):
    scheduler = Scheduler(path, max_result=100)

    @scheduler.task(name="gives")
    def gives(size: int) -> str:
        return "é" * size

    fits, too_large = gives.enqueue(49), gives.enqueue(50)
    scheduler.run_due()
    assert fits.refresh().result == "é" * 49
    assert ending(too_large.refresh()) == ("failed", "result")
    assert too_large.refresh().error.startswith("PayloadTooLarge: ")
    scheduler.close()


# Cancelled


def test_a_task_that_raises_cancel_is_cancelled_by_task(still):
    @still.task(name="void", retry=5)
    def void() -> None:
        raise Cancel("no longer needed")

    job = run(still, void)
    assert ending(job) == ("cancelled", "task")
    assert job.error == "Cancel: no longer needed"
    assert history(job) == [(1, "cancelled", "task")]
    with pytest.raises(JobCancelled, match="cancelled/task: Cancel: no longer needed"):
        job.get_result()


def test_a_job_that_is_not_started_in_time_is_cancelled_by_expiry(still, clock):
    ran = []

    @still.task(name="fresh", expires="10s")
    def fresh() -> None:
        ran.append(1)

    job = fresh.enqueue()
    clock.advance(seconds=10)
    assert still.run_due() == 0
    job = job.refresh()
    assert ending(job) == ("cancelled", "expired")
    assert job.finished_at == clock.now
    assert (job.attempt, job.started_at, ran, history(job)) == (0, None, [], [])


def test_a_job_just_before_its_expiry_still_runs(still, clock):
    @still.task(name="fresh", expires="10s")
    def fresh() -> None: ...

    job = fresh.enqueue()
    clock.advance(seconds=9, milliseconds=999)
    still.run_due()
    assert ending(job.refresh()) == ("succeeded", None)


def test_an_expiry_counts_from_the_earliest_start(still, clock):
    @still.task(name="fresh", expires="10s")
    def fresh() -> None: ...

    job = fresh.options(delay="1h").enqueue()
    clock.advance(hours=1, seconds=5)
    still.run_due()
    assert ending(job.refresh()) == ("succeeded", None)


def test_a_scheduled_job_expires_without_ever_being_due(still, clock):
    @still.task(name="fresh")
    def fresh() -> None: ...

    job = fresh.options(delay="1h", expires=clock.now.isoformat()).enqueue()
    assert still.run_due() == 0
    assert ending(job.refresh()) == ("cancelled", "expired")


def test_a_row_of_plain_sql_takes_its_expiry_from_the_task(still, clock):
    ran = []

    @still.task(name="fresh", expires="10s")
    def fresh() -> None:
        ran.append(1)

    job = still.remote("fresh").enqueue()
    clock.advance(seconds=11)
    still.run_due()
    assert ending(job.refresh()) == ("cancelled", "expired")
    assert not ran


# Not final


def test_a_new_job_is_queued_and_a_later_one_scheduled(still):
    @still.task(name="noop")
    def noop() -> None: ...

    assert ending(noop.enqueue()) == ("queued", None)
    assert ending(noop.options(delay="1s").enqueue()) == ("scheduled", None)


def test_a_waiting_job_neither_runs_nor_expires_however_due_it_is_and_can_be_cancelled(still, clock, sql):
    ran = []

    @still.task(name="work")
    def work(number: int) -> None:
        ran.append(number)

    job = work.options(expires="1h").enqueue(1)
    sql("UPDATE schedfactory_jobs SET status = 'waiting'")
    expires, later = work.options(expires="1h").enqueue(2), work.options(delay="1h").enqueue(3)
    clock.advance(days=1)
    assert still.run_due() == 1
    still.wait_idle(0)
    assert [ending(one.refresh()) for one in (job, expires, later)] == [
        ("waiting", None),
        ("cancelled", "expired"),
        ("succeeded", None),
    ]
    assert (still.counts()["waiting"], ran) == (1, [3])
    assert ending(job.cancel()) == ("cancelled", "user")


def test_a_job_is_running_while_its_code_is(still):
    seen = []

    @still.task(name="looks")
    def looks() -> None:
        job = still.get(current_job().id)
        seen.append((*ending(job), job.worker, history(job)))

    job = run(still, looks)
    assert seen == [("running", None, 1, [(1, "running", None)])]
    assert job.node is not None


def test_a_failure_to_be_tried_again_is_scheduled_by_retry_then_queued_by_retry(still, clock, path):
    @still.task(name="flaky", retry=2)
    def flaky() -> None:
        raise ValueError("once")

    job = run(still, flaky)
    assert ending(job) == ("scheduled", "retry")
    assert (job.error, job.failures, job.finished_at, job.node) == ("ValueError: once", 1, None, None)
    clock.advance(hours=1)
    knows_nothing = Scheduler(path, clock=clock)  # what it promotes stays queued
    knows_nothing.run_due()
    knows_nothing.close()
    assert ending(job.refresh()) == ("queued", "retry")


def test_a_snoozed_job_is_scheduled_by_snooze(still):
    @still.task(name="later")
    def later() -> None:
        raise Snooze("10m", "not ready")

    job = run(still, later)
    assert ending(job) == ("scheduled", "snooze")
    assert (job.failures, job.error, job.max_attempts) == (0, None, 2)
    assert history(job) == [(1, "snoozed", "snooze")]


def test_a_job_snoozed_for_no_time_is_queued_by_snooze(still):
    @still.task(name="later")
    def later() -> None:
        raise Snooze(0)

    job = later.enqueue()
    still.run_due(limit=1)
    assert ending(job.refresh()) == ("queued", "snooze")


def test_a_job_to_retry_after_no_time_is_queued_by_retry(still):
    @still.task(name="again", retry=2)
    def again() -> None:
        raise RetryAfter(0)

    job = again.enqueue()
    still.run_due(limit=1)
    assert ending(job.refresh()) == ("queued", "retry")


class Bare(Snooze):
    """A subclass that forgot to call its parent."""

    def __init__(self):
        pass


def test_a_snooze_without_a_delay_fails_the_job_and_not_its_worker(scheduler):
    @scheduler.task(name="forgetful")
    def forgetful() -> None:
        raise Bare

    scheduler.start(workers=1)
    assert ending(forgetful.enqueue().wait("20s")) == ("failed", "error")


# Rows that do not fit the code


@pytest.mark.parametrize("args", ['{"wrong": 1}', "{}", '{"x": "text"}', "no json", "[1]", '{"x": 1e400}'])
def test_args_that_do_not_bind_fail_the_job_without_retry(scheduler, sql, args):
    @scheduler.task(name="takes", retry=5)
    def takes(x: int) -> None: ...

    job = scheduler.remote("takes").enqueue()
    sql("UPDATE schedfactory_jobs SET args = ?", args)
    scheduler.start(workers=1)
    job = job.wait("20s")
    assert ending(job) == ("failed", "error")
    assert "takes" in job.error


def test_args_whose_class_raises_fail_the_job_and_not_its_worker(scheduler):
    @scheduler.task(name="takes")
    def takes(odd: Odd) -> None: ...

    scheduler.start(workers=1)
    job = scheduler.remote("takes").enqueue(odd={"x": 13}).wait("20s")
    assert ending(job) == ("failed", "error")


def test_a_retry_in_the_row_that_makes_no_sense_fails_the_job(scheduler, sql):
    @scheduler.task(name="noop")
    def noop() -> None: ...

    job = noop.enqueue()
    sql("UPDATE schedfactory_jobs SET retry = ?", '{"nonsense": 1}')
    scheduler.run_due()
    assert ending(job.refresh()) == ("failed", "error")
