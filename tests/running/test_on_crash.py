"""What becomes of a job whose process died under it: `on_crash` decides. The test plays the workers and the deaths."""

from __future__ import annotations

import pytest

from schedfactory import Retry


@pytest.fixture
def dies(hands):
    """Let the job that is due start, and its process die before its end is recorded; return whether there was one."""

    def start_and_die():
        job = hands[0].claim()
        hands[0].is_given_up()
        hands[0].node._dispatcher.hand.in_flight.clear()  # a new process in the place of the old one knows nothing of it
        hands[0].node._dispatcher._choice.suspects.clear()
        return job is not None

    return start_and_die


@pytest.fixture
def runs(hands):
    """Let the job that is due run to its recorded end; return whether there was one."""

    def start_and_end():
        job = hands[1].claim()
        if job is not None:
            hands[1].end(job)
        return job is not None

    return start_and_end


def task_that(still, fails=0, **options):
    left = [OSError("not yet")] * fails

    @still.task(name="work", **options)
    def work() -> str:
        if left:
            raise left.pop()
        return "done"

    return work


def state(job):
    job = job.refresh()
    return job.status, job.reason, job.crashes, job.failures


def history(job):
    return [(one.number, one.status, one.reason) for one in job.refresh().attempts()]


@pytest.mark.parametrize("options", [{}, {"on_crash": "requeue"}], ids=["by default", "said"])
def test_on_crash_requeue_runs_a_job_again_and_ends_it_failed_by_crashed_the_third_time(still, dies, runs, options):
    job, lucky = task_that(still, **options).options(priority=1).enqueue(), still.remote("work").enqueue()
    for crashes in (1, 2):
        assert dies()
        assert state(job) == ("queued", "crash", crashes, 0)
    assert dies()
    assert state(job) == ("failed", "crashed", 3, 0)
    assert history(job) == [(number, "crashed", "crash") for number in (1, 2, 3)]
    assert dies()
    assert dies()
    assert runs()
    assert (*state(lucky), lucky.refresh().result) == ("succeeded", None, 2, 0, "done")


def test_on_crash_fail_ends_a_job_failed_by_crashed_the_first_time(still, dies, runs):
    job = task_that(still, on_crash="fail", retry=9).enqueue()
    assert dies()
    assert state(job) == ("failed", "crashed", 1, 0)
    assert history(job) == [(1, "crashed", "crash")]
    assert not runs()
    assert still.counts()["failed"] == 1


def test_on_crash_fail_leaves_the_retries_of_recorded_failures(still, dies, runs):
    job = task_that(still, fails=2, on_crash="fail", retry=Retry(3, base=0)).enqueue()
    assert runs()
    assert runs()
    assert state(job) == ("queued", "retry", 0, 2)
    assert runs()
    assert state(job) == ("succeeded", None, 0, 2)


def test_on_crash_fail_counts_for_a_retry_too(still, dies, runs):
    job = task_that(still, fails=1, on_crash="fail", retry=Retry(3, base=0)).enqueue()
    assert runs()
    assert dies()
    assert state(job) == ("failed", "crashed", 1, 1)
    assert history(job) == [(1, "failed", "error"), (2, "crashed", "crash")]
    assert not runs()


def test_on_crash_fail_of_the_task_counts_for_a_row_that_leaves_it_open(still, dies, runs):
    task_that(still, on_crash="fail")
    job = still.remote("work").enqueue()
    assert dies()
    assert state(job) == ("failed", "crashed", 1, 0)
    assert not runs()


def test_on_crash_fail_lets_a_job_run_again_that_somebody_requeues(still, dies, runs):
    job = task_that(still, on_crash="fail").enqueue()
    assert dies()
    job.requeue()
    assert runs()
    assert state(job) == ("succeeded", None, 0, 0)


@pytest.mark.parametrize("on_crash", ["requeue", "fail"])
def test_a_cancelled_job_ends_cancelled_by_a_crash_whatever_on_crash_says(still, hands, on_crash):
    job = task_that(still, on_crash=on_crash).enqueue()
    hands[0].claim()
    job.cancel()
    hands[0].is_given_up()
    assert state(job) == ("cancelled", "user", 1, 0)
