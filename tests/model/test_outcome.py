"""How an attempt is judged: one table, and texts that every database takes."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedfactory import Cancel, Fail, Retry, RetryAfter, Scheduler, Snooze
from schedfactory.model import outcome

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
THREE = Retry(3, base="10s", jitter=False, never_on=(KeyError,))
OOPS = OSError("oops")
AGAIN, SNOOZED = ("scheduled", "retry", "failed", "error"), ("scheduled", "snooze", "snoozed", "snooze")
FAILED, BY_TASK = ("failed", "error", "failed", "error"), ("cancelled", "task", "cancelled", "task")
BY_USER, BACK = ("cancelled", "user", "cancelled", "user"), ("queued", "shutdown", "interrupted", "shutdown")


@pytest.mark.parametrize(
    ("error", "tries", "cause", "expected", "wait_s", "failures", "snoozes"),
    [
        (OOPS, 1, None, AGAIN, 10, 1, 0),
        (OOPS, 2, None, AGAIN, 20, 1, 0),
        (OOPS, 3, None, FAILED, None, 1, 0),
        (OOPS, 7, None, FAILED, None, 1, 0),
        (KeyError("never"), 1, None, FAILED, None, 1, 0),
        (KeyboardInterrupt(), 1, None, FAILED, None, 1, 0),
        (SystemExit(1), 1, None, FAILED, None, 1, 0),
        (OOPS, 1, "user", BY_USER, None, 0, 0),
        (OOPS, 1, "shutdown", AGAIN, 10, 1, 0),
        (RetryAfter("1m"), 1, None, AGAIN, 60, 1, 0),
        (RetryAfter(0), 1, None, ("queued", *AGAIN[1:]), 0, 1, 0),
        (RetryAfter("1m"), 3, None, FAILED, None, 1, 0),
        (RetryAfter("1m"), 1, "user", BY_USER, None, 0, 0),
        (Snooze("1m"), 1, None, SNOOZED, 60, 0, 1),
        (Snooze("1m"), 3, None, SNOOZED, 60, 0, 1),
        (Snooze(0), 3, None, ("queued", *SNOOZED[1:]), 0, 0, 1),
        (Fail("why"), 1, None, ("failed", "task", "failed", "task"), None, 1, 0),
        (Fail("why"), 1, "user", ("failed", "task", "failed", "task"), None, 1, 0),
        (Cancel("why"), 1, None, BY_TASK, None, 0, 0),
        (Cancel("why"), 1, "user", BY_USER, None, 0, 0),
        (Cancel("why"), 1, "shutdown", BACK, 0, 0, 0),
    ],
)
def test_an_exception_is_judged_by_its_kind_the_tries_left_and_why_it_was_asked_to_stop(
    error: BaseException, tries: int, cause: Any, expected: Any, wait_s: float | None, failures: int, snoozes: int
) -> None:
    found = outcome.raised(error, THREE, tries, NOW, cause)
    assert (found.status, found.reason, found.attempt_status, found.attempt_reason) == expected
    assert found.run_at == (None if wait_s is None else NOW + timedelta(seconds=wait_s))
    assert (found.failures, found.snoozes, found.leftover) == (failures, snoozes, False)
    assert bool(found.traceback) == (found.attempt_status == "failed" or (cause == "user" and not isinstance(error, Cancel)))


@pytest.mark.parametrize(
    ("tries", "retry", "expected", "wait_s"),
    [
        (1, THREE, ("scheduled", "retry", "failed", "timeout"), 10),
        (3, THREE, ("failed", "timeout", "failed", "timeout"), None),
        (1, Retry(1), ("failed", "timeout", "failed", "timeout"), None),
        (1, Retry(3, never_on=TimeoutError), ("failed", "timeout", "failed", "timeout"), None),
        (1, Retry(3, on=ValueError), ("failed", "timeout", "failed", "timeout"), None),
    ],
)
def test_a_timeout_is_a_failure_that_leaves_its_code_behind(tries: int, retry: Retry, expected: Any, wait_s: Any) -> None:
    found = outcome.timed_out(timedelta(seconds=1.5), retry, tries, NOW, leftover=True)
    assert (found.status, found.reason, found.attempt_status, found.attempt_reason) == expected
    assert found.run_at == (None if wait_s is None else NOW + timedelta(seconds=wait_s))
    assert (found.failures, found.leftover) == (1, True)
    assert found.error == "TimeoutError: ran longer than its timeout of 1.5 s"


def test_the_ends_without_an_exception() -> None:
    assert outcome.succeeded("5") == outcome.Outcome("succeeded", result="5")
    assert outcome.EXPIRED.reason == "expired"
    assert outcome.failed("result", "too large").traceback is None


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError("oops"), "OSError: oops"),
        (OSError(), "OSError"),
        (KeyError("a"), "KeyError: 'a'"),
        (ValueError("nul \x00, half \ud800"), "ValueError: nul \ufffd, half ?"),
        (Unspeakable(), "Unspeakable: (its text could not be read: RuntimeError)"),
    ],
)
def test_an_error_is_its_type_and_message_whatever_that_is(error: BaseException, text: str) -> None:
    assert outcome.describe(error) == text
    assert outcome.format_traceback(error)


@given(st.text(st.characters(), max_size=200), st.integers(0, 250))
def test_a_text_of_any_characters_fits_the_database(text: str, longest: int) -> None:
    found = outcome.clean(text, longest)
    assert "\x00" not in found
    assert len(found) == min(len(text), longest)
    found.encode()


def test_the_end_of_a_long_traceback_is_kept(still: Scheduler) -> None:
    @still.task(name="deep")
    def deep() -> None:
        raise ValueError("x" * 100_000 + "the end")

    job = deep.enqueue()
    still.run_due()
    (attempt,) = job.attempts()
    assert attempt.traceback is not None
    assert attempt.error is not None
    assert (len(attempt.traceback), attempt.traceback[-8:], len(attempt.error)) == (64_000, "the end\n", 4_000)
    assert attempt.error == job.refresh().error


def test_a_traceback_begins_at_the_users_code(still: Scheduler) -> None:
    @still.task(name="fail")
    def fail() -> None:
        raise OOPS

    job = fail.enqueue()
    still.run_due()
    trace = job.attempts()[0].traceback
    assert trace is not None
    assert "schedfactory" not in trace.replace("test_outcome.py", "").replace(__file__, "")
    assert trace.count("File ") == 1


@pytest.mark.parametrize("bad", ["90", -1, None])
def test_a_bad_delay_fails_where_it_is_raised(bad: Any) -> None:
    for signal in (Snooze, RetryAfter):
        with pytest.raises((ValueError, TypeError), match="delay="):
            signal(bad)


@pytest.mark.parametrize("signal", [Snooze, RetryAfter])
def test_a_signal_without_its_delay_is_a_type_error_that_shows_one(signal: Any) -> None:
    for arguments in ({}, {"why": "rate limited"}):
        with pytest.raises(TypeError, match=rf'^{signal.__name__}\(\) does not say when.* {signal.__name__}\("10m"\)'):
            signal(**arguments)
    assert signal(delay="10m").delay == timedelta(minutes=10)


def test_a_signal_of_the_users_own_may_know_its_delay_itself() -> None:
    class RateLimited(RetryAfter):
        def __init__(self) -> None:
            super().__init__("30s", "slow down")

    found = RateLimited()
    assert (found.delay, str(found)) == (timedelta(seconds=30), "slow down")


def test_what_a_task_raises_decides_how_its_job_goes_on(still: Scheduler, clock: Any) -> None:
    said: list[BaseException] = [Snooze("10m"), RetryAfter("30s", "rate limited"), Snooze("1m"), Fail("closed")]

    @still.task(name="speak", retry=2)
    def speak() -> None:
        raise said.pop(0)

    job = speak.enqueue()
    seen = []
    while still.run_due():
        job = job.refresh()
        seen.append((job.status, job.reason, job.attempt, job.failures, job.max_attempts, job.error))
        clock.now = max(clock.now, job.run_at)
    assert seen == [
        ("scheduled", "snooze", 1, 0, 3, None),
        ("scheduled", "retry", 2, 1, 3, "RetryAfter: rate limited"),
        ("scheduled", "snooze", 3, 1, 4, None),
        ("failed", "task", 4, 2, 4, "Fail: closed"),
    ]
    assert [(a.number, a.status, a.reason) for a in job.attempts()] == [
        (1, "snoozed", "snooze"), (2, "failed", "error"), (3, "snoozed", "snooze"), (4, "failed", "task"),
    ]  # fmt: skip


def test_a_task_may_cancel_its_own_job(still: Scheduler) -> None:
    @still.task(name="stop", retry=5)
    def stop() -> None:
        raise Cancel("no longer needed")

    job = stop.enqueue()
    still.run_due()
    job = job.refresh()
    assert (job.status, job.reason, job.error, job.attempt) == ("cancelled", "task", "Cancel: no longer needed", 1)
