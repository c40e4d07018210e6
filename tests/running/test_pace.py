"""How many jobs may be claimed ahead, from what was measured."""

from __future__ import annotations

import pytest

from schedfactory.running.pace import AHEAD_JOBS, AHEAD_S, Pace


@pytest.fixture
def pace():
    return Pace()


def test_nothing_lies_ahead_while_nothing_was_measured(pace):
    assert pace.most_ahead(4) == 0
    assert pace.fitting(["new"] * 10, 4, 0.0) == 0


def test_ordinary_jobs_never_lie_ahead(pace):
    pace.observe("ordinary", AHEAD_S)
    assert pace.most_ahead(4) == 0
    assert pace.fitting(["ordinary"] * 10, 4, 0.0) == 0


def test_at_most_five_milliseconds_of_work_a_worker_lie_ahead(pace):
    pace.observe("quick", 0.001)
    assert pace.most_ahead(4) == 20
    assert pace.fitting(["quick"] * 100, 4, 0.0) in (19, 20)  # a float's rounding apart


def test_no_ops_are_bounded_by_their_number_too(pace):
    pace.observe("noop", 0.0)
    assert pace.most_ahead(1) <= AHEAD_JOBS
    assert pace.most_ahead(2) <= 2 * AHEAD_JOBS
    assert pace.fitting(["noop"] * 10_000, 1, 0.0) <= 250


def test_without_workers_nothing_lies_ahead(pace):
    pace.observe("noop", 0.0)
    assert pace.most_ahead(0) == 0
    assert pace.fitting(["noop"], 0, 0.0) == 0


def test_what_lies_ahead_already_counts(pace):
    pace.observe("quick", 0.001)
    assert pace.seconds(["quick"] * 3) == pytest.approx(0.003)
    assert pace.fitting(["quick"] * 100, 1, pace.seconds(["quick"] * 3)) in (1, 2)
    assert pace.fitting(["quick"] * 100, 1, AHEAD_S) == 0


def test_the_first_ordinary_job_in_line_ends_what_fits(pace):
    pace.observe("quick", 0.0001)
    pace.observe("ordinary", 1.0)
    assert pace.fitting(["quick", "quick", "ordinary", "quick"], 4, 0.0) == 2
    assert pace.fitting(["new", "quick"], 4, 0.0) == 0


def test_a_task_that_gets_slow_stops_lying_ahead(pace):
    pace.observe("task", 0.0001)
    for _ in range(100):
        pace.observe("task", 1.0)
    assert pace.fitting(["task"], 4, 0.0) == 0


def test_one_slow_run_of_a_quick_task_changes_little(pace):
    for _ in range(10):
        pace.observe("quick", 0.0001)
    pace.observe("quick", 10.0)
    assert pace.fitting(["quick"] * 10, 4, 0.0) == 10


def test_a_task_that_gets_quick_lies_ahead_after_a_while(pace):
    pace.observe("task", 0.05)
    for _ in range(50):
        pace.observe("task", 0.00001)
    assert pace.fitting(["task"] * 10, 4, 0.0) == 10
