"""When a failed attempt is tried again: the formula of every backoff, and the rules of what a call may say."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedfactory import Retry, Scheduler
from schedfactory.model.retry import retry_of

OOPS = OSError("oops")


def waits(retry: Retry, count: int = 5) -> list[float]:
    return [retry.wait(n, OOPS).total_seconds() for n in range(1, count + 1)]


def test_a_retry_has_the_documented_defaults() -> None:
    retry = Retry()
    assert (retry.max_attempts, retry.backoff, retry.base, retry.cap) == (
        5,
        "exponential",
        timedelta(seconds=1),
        timedelta(hours=1),
    )
    assert (retry.jitter, retry.on, retry.never_on) == (True, (Exception,), ())


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [("exponential", [2, 4, 8, 16, 32]), ("linear", [2, 4, 6, 8, 10]), ("constant", [2, 2, 2, 2, 2])],
)
def test_the_nth_wait_follows_from_its_base_by_the_formula_of_its_backoff(backoff: Any, expected: list[float]) -> None:
    assert waits(Retry(backoff=backoff, base="2s", jitter=False)) == expected


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [("exponential", [2, 4, 5, 5, 5]), ("linear", [2, 4, 5, 5, 5]), ("constant", [2, 2, 2, 2, 2])],
)
def test_no_wait_is_longer_than_the_cap(backoff: Any, expected: list[float]) -> None:
    assert waits(Retry(backoff=backoff, base="2s", cap="5s", jitter=False)) == expected


def test_the_cap_holds_after_a_million_failures_and_for_a_base_above_it() -> None:
    assert Retry(1_000_000, jitter=False).wait(999_999, OOPS) == timedelta(hours=1)
    assert Retry(base="2h", jitter=False).wait(1, OOPS) == timedelta(hours=1)


@given(st.integers(1, 40), st.sampled_from(["exponential", "linear", "constant"]))
def test_jitter_takes_half_of_the_wait_at_most(n: int, backoff: Any) -> None:
    full = Retry(backoff=backoff, base="3s", jitter=False).wait(n, OOPS)
    some = [Retry(backoff=backoff, base="3s").wait(n, OOPS) for _ in range(20)]
    assert all(full / 2 <= one <= full for one in some)
    assert len(set(some)) > 1


def test_a_callable_gets_the_number_and_the_exception_and_its_answer_is_taken_as_it_is() -> None:
    asked: list[tuple[int, BaseException]] = []

    def backoff(n: int, error: BaseException) -> str:
        asked.append((n, error))
        return f"{n * 7}h"

    assert waits(Retry(backoff=backoff, cap="1s"), 2) == [7 * 3600, 14 * 3600]
    assert asked == [(1, OOPS), (2, OOPS)]


@pytest.mark.parametrize(
    "answer", [lambda n, error: "soon", lambda n, error: None, lambda n, error: -1, lambda n, error: 1 / 0]
)
def test_a_callable_that_fails_costs_a_log_line_not_the_job(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "schedfactory"):
        assert Retry(backoff=answer, base="9s").wait(1, OOPS) == timedelta(seconds=9)
    assert "backoff" in caplog.text


@pytest.mark.parametrize(
    ("options", "wanted", "unwanted"),
    [
        ({}, [OOPS, ValueError()], [KeyboardInterrupt(), SystemExit()]),
        ({"on": OSError}, [OOPS, TimeoutError()], [ValueError()]),
        ({"on": [OSError, ValueError]}, [OOPS, ValueError()], [TypeError()]),
        ({"never_on": (TimeoutError,)}, [OOPS], [TimeoutError()]),
        ({"on": BaseException, "never_on": SystemExit}, [KeyboardInterrupt()], [SystemExit()]),
    ],
)
def test_only_exceptions_of_on_and_not_of_never_on_are_tried_again(
    options: dict[str, Any], wanted: list[BaseException], unwanted: list[BaseException]
) -> None:
    retry = Retry(**options)
    assert all(retry.wants(error) for error in wanted)
    assert not any(retry.wants(error) for error in unwanted)


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"max_attempts": 0}, ValueError, "max_attempts=0"),
        ({"max_attempts": 1_000_001}, ValueError, "max_attempts=1000001"),
        ({"max_attempts": "3"}, TypeError, "max_attempts='3'"),
        ({"max_attempts": True}, TypeError, "max_attempts=True"),
        ({"backoff": "quadratic"}, ValueError, "backoff='quadratic'"),
        ({"base": "90"}, ValueError, "base='90'"),
        ({"cap": "1y"}, ValueError, "cap='1y'"),
        ({"on": "OSError"}, TypeError, "on='OSError'"),
        ({"on": (OSError, int)}, TypeError, "int"),
        ({"never_on": OOPS}, TypeError, "never_on="),
    ],
)
def test_a_bad_retry_is_refused_where_it_is_made(options: dict[str, Any], kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        Retry(**options)


def test_a_retry_given_as_an_int_counts_attempts() -> None:
    assert retry_of(3) == Retry(3)
    for wrong in (True, "3", None, 2.0):
        with pytest.raises(TypeError, match="retry="):
            retry_of(wrong)


@pytest.mark.parametrize("number", [0, -1, 1_000_001])
def test_an_int_that_is_no_number_of_attempts_is_a_value_error_that_names_retry(number: int) -> None:
    with pytest.raises(ValueError, match=f"^retry={number} is not in 1…1,000,000"):
        retry_of(number)


@pytest.mark.parametrize(
    "retry", [Retry(backoff=lambda n, error: 1), Retry(on=(OSError,)), Retry(on=OSError), Retry(never_on=(OSError,))]
)
def test_a_call_may_not_bring_what_cannot_live_in_a_row(still: Scheduler, retry: Retry) -> None:
    @still.task(name="fetch", retry=retry)
    def fetch() -> None: ...

    with pytest.raises(ValueError, match="cannot live in a job's row"):
        fetch.options(retry=retry)
    assert fetch.enqueue().max_attempts == 5


def test_a_task_is_tried_again_at_the_times_of_its_backoff_and_then_failed(still: Scheduler, clock: Any) -> None:
    @still.task(name="fetch", retry=Retry(4, base="10s", jitter=False))
    def fetch() -> None:
        raise OOPS

    job = fetch.enqueue()
    planned = []
    for _ in range(3):
        assert still.run_due() == 1
        job = job.refresh()
        assert (job.status, job.reason, job.error) == ("scheduled", "retry", "OSError: oops")
        planned.append((job.run_at - clock.now).total_seconds())
        clock.advance(seconds=planned[-1] - 0.001)
        assert still.run_due() == 0
        clock.advance(seconds=0.001)
    assert planned == [10, 20, 40]
    assert still.run_due() == 1
    job = job.refresh()
    assert (job.status, job.reason, job.attempt, job.failures, job.max_attempts) == ("failed", "error", 4, 4, 4)
    assert [(a.number, a.status, a.reason) for a in job.attempts()] == [(n, "failed", "error") for n in (1, 2, 3, 4)]


def ends_of(scheduler: Scheduler, clock: Any, job: Any) -> tuple[int, list[float]]:
    """Run a job to its end; return its attempts and the waits between them."""
    between: list[float] = []
    while scheduler.run_due():
        job = job.refresh()
        if not job.is_finished:
            between.append((job.run_at - clock.now).total_seconds())
            clock.advance(seconds=between[-1])
    return job.attempt, between


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, (3, [10, 20])),
        (2, (2, [10])),
        (1, (1, [])),
        (Retry(4, backoff="constant", base="7s", jitter=False), (4, [7, 7, 7])),
        (Retry(3, base="1m", cap="90s", jitter=False), (3, [60, 90])),
    ],
)
def test_a_calls_retry_stands_over_its_tasks(still: Scheduler, clock: Any, said: Any, expected: Any) -> None:
    @still.task(name="fetch", retry=Retry(3, base="10s", jitter=False))
    def fetch() -> None:
        raise OOPS

    job = fetch.options(retry=said).enqueue()
    assert ends_of(still, clock, job) == expected


def test_a_calls_numbers_leave_the_tasks_exceptions_in_force(still: Scheduler, clock: Any) -> None:
    @still.task(name="fetch", retry=Retry(3, on=(ValueError,)))
    def fetch() -> None:
        raise OOPS

    assert ends_of(still, clock, fetch.options(retry=Retry(9, base="1s")).enqueue()) == (1, [])


@pytest.mark.parametrize("said", [3, Retry(3, base=0), Retry(max_attempts=3, base=0)])
def test_max_attempts_is_how_many_failures_end_the_job(still: Scheduler, clock: Any, said: Any) -> None:
    @still.task(name="fetch", retry=said)
    def fetch() -> None:
        raise OOPS

    job = fetch.enqueue()
    assert (job.max_attempts, ends_of(still, clock, job)[0]) == (3, 3)
    assert (job.refresh().status, job.refresh().failures) == ("failed", 3)


def test_without_a_retry_a_task_has_one_attempt(still: Scheduler, clock: Any) -> None:
    @still.task(name="fetch")
    def fetch() -> None:
        raise OOPS

    assert ends_of(still, clock, fetch.enqueue()) == (1, [])
