"""Retries, snoozes and what ends them, on a clock that the test moves."""

from __future__ import annotations

from datetime import timedelta

import pytest

from schedfactory import Cancel, Fail, Retry, RetryAfter, Scheduler, Snooze, StorageError, current_job
from schedfactory.storage.database import Database


def waits(still, clock, job):
    """Run the job to its end; return the seconds from each failure to the next start that was allowed."""
    found = []
    while True:
        still.run_due()
        job = job.refresh()
        if job.is_finished:
            return found
        found.append((job.run_at - clock.now).total_seconds())
        clock.now = job.run_at


def history(job):
    return [(one.number, one.status, one.reason) for one in job.refresh().attempts()]


@pytest.fixture
def flaky(still):
    """Return a function that registers a task which always fails, with this retry."""

    def register(retry):
        @still.task(name="flaky", retry=retry)
        def flaky() -> None:
            raise ValueError("again")

        return flaky

    return register


@pytest.mark.parametrize(
    ("retry", "expected"),
    [
        (Retry(5, base="10s", jitter=False), [10, 20, 40, 80]),
        (Retry(5, backoff="linear", base="10s", jitter=False), [10, 20, 30, 40]),
        (Retry(5, backoff="constant", base="10s", jitter=False), [10, 10, 10, 10]),
        (Retry(5, base="10s", cap="25s", jitter=False), [10, 20, 25, 25]),
        (Retry(3, backoff=lambda n, error: n * 7, base="10s"), [7, 14]),
        (1, []),
    ],
    ids=["exponential", "linear", "constant", "capped", "callable", "one attempt"],
)
def test_a_failure_waits_as_its_backoff_says(still, clock, flaky, retry, expected):
    job = flaky(retry).enqueue()
    assert waits(still, clock, job) == expected
    job = job.refresh()
    assert (job.status, job.reason) == ("failed", "error")
    assert job.failures == job.attempt == len(expected) + 1


def test_jitter_takes_up_to_half_of_a_wait_away(still, clock, flaky):
    job = flaky(Retry(30, backoff="constant", base="10s")).enqueue()
    found = waits(still, clock, job)
    assert len(found) == 29
    assert all(5 <= wait <= 10 for wait in found)
    assert len(set(found)) > 1


def test_a_retry_never_starts_before_its_wait_is_over(still, clock, flaky):
    job = flaky(Retry(2, base="10s", jitter=False)).enqueue()
    assert still.run_due() == 1
    clock.advance(seconds=9, microseconds=999_999)
    assert still.run_due() == 0
    clock.advance(microseconds=1)
    assert still.run_due() == 1
    assert job.refresh().status == "failed"


def test_a_callable_backoff_is_asked_with_the_number_and_the_error(still, clock, flaky):
    asked = []

    def backoff(n, error):
        asked.append((n, str(error)))
        return timedelta(seconds=1)

    waits(still, clock, flaky(Retry(3, backoff=backoff)).enqueue())
    assert asked == [(1, "again"), (2, "again")]


@pytest.mark.parametrize("answer", [None, "soon", -1, 10**12])
def test_a_backoff_that_answers_nonsense_waits_its_base(still, clock, flaky, answer):
    job = flaky(Retry(2, backoff=lambda n, error: answer, base="9s")).enqueue()
    assert waits(still, clock, job) == [9]


def test_a_retry_given_per_call_counts_instead_of_the_tasks(still, clock, flaky):
    task = flaky(Retry(9, base="10s", jitter=False))
    job = task.options(retry=Retry(3, backoff="linear", base="1s", jitter=False)).enqueue()
    assert waits(still, clock, job) == [1, 2]
    assert waits(still, clock, task.options(retry=2).enqueue()) == [10]


def test_a_row_that_leaves_the_retry_open_takes_the_tasks(still, clock, flaky):
    flaky(Retry(3, base="10s", jitter=False))
    job = still.remote("flaky").enqueue()
    assert job.max_attempts is None
    assert waits(still, clock, job) == [10, 20]
    assert job.refresh().max_attempts == 3


@pytest.mark.parametrize(
    ("error", "attempts"), [(OSError("x"), 3), (FileNotFoundError("x"), 1), (ValueError("x"), 1), (ConnectionError("x"), 3)]
)
def test_only_the_named_exceptions_are_tried_again(still, clock, error, attempts):
    @still.task(name="reads", retry=Retry(3, on=(OSError,), never_on=(FileNotFoundError,)))
    def reads() -> None:
        raise error

    job = reads.enqueue()
    waits(still, clock, job)
    assert job.refresh().attempt == attempts


def test_a_retry_that_succeeds_clears_the_error_and_leaves_it_in_the_history(still, clock):
    tries = []

    @still.task(name="second_time", retry=3)
    def second_time() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("first")
        return "done"

    job = second_time.enqueue()
    waits(still, clock, job)
    job = job.refresh()
    assert (job.status, job.reason, job.result, job.error, job.failures) == ("succeeded", None, "done", None, 1)
    first, second = job.attempts()
    assert (first.number, first.status, first.reason, first.error) == (1, "failed", "error", "ValueError: first")
    assert "raise ValueError" in first.traceback
    assert (second.number, second.status, second.error, second.traceback) == (2, "succeeded", None, None)
    assert first.finished_at <= second.started_at
    assert all(one.worker == 1 and one.node is not None for one in (first, second))


def test_every_failure_has_its_own_traceback(still, clock):
    numbers = iter("abc")

    @still.task(name="counts", retry=3)
    def counts() -> None:
        raise ValueError(next(numbers))

    job = counts.enqueue()
    waits(still, clock, job)
    assert [one.error for one in job.attempts()] == ["ValueError: a", "ValueError: b", "ValueError: c"]
    assert all(one.error in one.traceback for one in job.attempts())


def test_attempts_asked_of_an_older_snapshot_tell_of_the_latest_start_too(still):
    @still.task(name="gives")
    def gives() -> None: ...

    job = gives.enqueue()
    still.run_due()
    assert [one.status for one in job.attempts()] == ["succeeded"]


# Control flow


def test_a_snooze_spends_no_attempt_and_raises_max_attempts(still, clock):
    tries = []

    @still.task(name="patient", retry=Retry(2, base="5s", jitter=False))
    def patient() -> None:
        tries.append(1)
        if len(tries) <= 3:
            raise Snooze("1m")
        raise ValueError("now")

    job = patient.enqueue()
    assert waits(still, clock, job) == [60, 60, 60, 5]
    job = job.refresh()
    assert (job.status, job.attempt, job.failures, job.max_attempts) == ("failed", 5, 2, 5)
    assert history(job) == [
        (1, "snoozed", "snooze"),
        (2, "snoozed", "snooze"),
        (3, "snoozed", "snooze"),
        (4, "failed", "error"),
        (5, "failed", "error"),
    ]


def test_the_last_failures_error_stays_readable_while_a_job_is_snoozed(still, clock):
    errors = iter([ValueError("first"), Snooze("1m")])

    @still.task(name="mixed", retry=Retry(2, base="5s", jitter=False))
    def mixed() -> None:
        raise next(errors)

    job = mixed.enqueue()
    still.run_due()
    clock.advance(seconds=5)
    still.run_due()
    assert [one.error for one in job.attempts()] == ["ValueError: first", None]


def test_retry_after_spends_an_attempt_and_waits_what_it_says(still, clock):
    @still.task(name="limited", retry=Retry(3, base="1s"))
    def limited() -> None:
        raise RetryAfter("30s", "rate limited")

    job = limited.enqueue()
    assert waits(still, clock, job) == [30, 30]
    job = job.refresh()
    assert (job.status, job.reason, job.failures) == ("failed", "error", 3)
    assert job.error == "RetryAfter: rate limited"


def test_retry_after_ends_a_job_of_one_attempt(still):
    @still.task(name="limited")
    def limited() -> None:
        raise RetryAfter("30s")

    job = limited.enqueue()
    still.run_due()
    assert (job.refresh().status, job.refresh().reason) == ("failed", "error")


def test_retry_after_is_tried_again_whatever_the_named_exceptions_are(still, clock):
    @still.task(name="limited", retry=Retry(2, on=(OSError,)))
    def limited() -> None:
        raise RetryAfter("30s")

    assert waits(still, clock, limited.enqueue()) == [30]


@pytest.mark.parametrize(("error", "status"), [(Fail("no"), "failed"), (Cancel("no"), "cancelled")])
def test_fail_and_cancel_are_never_tried_again(still, clock, error, status):
    @still.task(name="ends", retry=9)
    def ends() -> None:
        raise error

    job = ends.enqueue()
    assert waits(still, clock, job) == []
    assert (job.refresh().status, job.refresh().reason, job.refresh().attempt) == (status, "task", 1)


# Requeue


def test_a_requeued_failure_has_all_its_attempts_again_and_keeps_its_history(still, clock, flaky):
    job = flaky(Retry(2, backoff="constant", base="10s", jitter=False)).enqueue()
    waits(still, clock, job)
    again = job.requeue()
    assert (again.status, again.reason, again.failures, again.error, again.finished_at) == ("queued", None, 0, None, None)
    assert again.run_at == clock.now
    assert waits(still, clock, job) == [10]
    assert [one.number for one in job.attempts()] == [1, 2, 3, 4]


def test_a_requeued_success_runs_once_more_and_both_runs_are_in_the_history(still):
    @still.task(name="gives")
    def gives() -> int:
        return 7

    job = gives.enqueue()
    still.run_due()
    assert job.requeue().result is None
    still.run_due()
    assert job.refresh().result == 7
    assert history(job) == [(1, "succeeded", None), (2, "succeeded", None)]


def test_a_requeued_expired_job_no_longer_expires(still, clock):
    @still.task(name="fresh")
    def fresh() -> None: ...

    job = fresh.options(expires="10s").enqueue()
    clock.advance(seconds=11)
    still.run_due()
    assert job.refresh().reason == "expired"
    assert job.requeue().expires_at is None
    still.run_due()
    assert job.refresh().status == "succeeded"


def test_a_job_that_waits_again_has_no_wait_time_yet(still, clock, sql):
    @still.task(name="sleepy")
    def sleepy() -> None:
        if current_job().attempt == 1:
            raise Snooze("1h")

    job = sleepy.enqueue()
    still.run_due()
    assert job.refresh().wait_time is None
    assert sql("SELECT wait_ms FROM schedfactory_history") == [(None,)]
    clock.advance(hours=1, seconds=2)
    still.run_due()
    assert job.refresh().wait_time.total_seconds() == 2
    assert sql("SELECT wait_ms FROM schedfactory_history") == [(2000.0,)]


def test_a_start_that_could_not_be_synced_is_taken_back_and_made_again(path, monkeypatch):
    scheduler = Scheduler(path, durability="normal")
    ran = []

    @scheduler.task(name="once", on_crash="fail")
    def once() -> None:
        ran.append(current_job().attempt)

    sync, failures = Database.sync, [StorageError("the disk is full")]

    def fails_first(database, **how):
        if failures:
            raise failures.pop()
        sync(database, **how)

    monkeypatch.setattr(Database, "sync", fails_first)
    with scheduler.running(workers=1):
        job = once.enqueue().wait("20s")
    scheduler.close()
    assert (job.status, job.attempt, ran) == ("succeeded", 1, [1])
