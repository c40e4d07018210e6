"""Code that goes on after its job was taken from it changes nothing, whoever runs the job now. The test plays the workers."""

from __future__ import annotations

import pytest

from schedfactory import LostLease, Retry, Snooze, current_job


@pytest.fixture
def task(still):
    """A task that does what its attribute says."""
    then = []

    @still.task(name="task", retry=Retry(5, backoff="constant", base=0))
    def task() -> int:
        if then[0] is not None:
            raise then[0]
        return current_job().attempt

    task.then = then
    return task


@pytest.mark.parametrize("late", [None, ValueError("late"), Snooze("1h")], ids=["returns", "raises", "snoozes"])
@pytest.mark.parametrize("second", [0, 1], ids=["the same node", "another node"])
def test_a_late_worker_cannot_overwrite_the_second_run(still, hands, task, second, late):
    reports = still.reports("job")
    job = task.enqueue()
    old = hands[0].claim()
    hands[0].is_given_up()
    new = hands[second].claim()
    assert (new.id, new.attempt, new.fence) == (job.id, 2, 2)
    during = job.refresh()

    task.then[:] = [late]
    hands[0].end(old)
    assert old.cause == "lost"
    assert job.refresh() == during
    assert [(one.number, one.status) for one in job.attempts()] == [(1, "crashed"), (2, "running")]

    task.then[:] = [None]
    hands[second].end(new)
    assert new.cause is None
    assert job.refresh().result == 2
    still.close()
    assert [one.status for one in reports] == ["queued", "start", "start", "end"]


@pytest.mark.parametrize("second", [0, 1], ids=["the same node", "another node"])
def test_a_late_worker_cannot_overwrite_the_result_of_the_second_run(still, hands, task, second):
    job = task.enqueue()
    old = hands[0].claim()
    hands[0].is_given_up()
    task.then[:] = [None]
    hands[second].end(hands[second].claim())
    after = job.refresh()
    hands[0].end(old)
    assert old.cause == "lost"
    assert job.refresh() == after
    assert still.counts()["succeeded"] == 1


def test_the_second_run_on_the_same_node_is_still_in_its_hand_after_the_late_end(still, hands, task):
    job = task.enqueue()
    old = hands[0].claim()
    hands[0].is_given_up()
    new = hands[0].claim()
    task.then[:] = [None]
    hands[0].end(old)
    assert hands[0].node.busy == 1
    job.cancel()
    hands[0].round()
    assert new.cancelled


@pytest.mark.parametrize("second", [0, 1], ids=["the same node", "another node"])
def test_late_progress_is_not_written_and_the_code_is_told(still, hands, task, second):
    job = task.enqueue()
    old = hands[0].claim()
    hands[0].is_given_up()
    new = hands[second].claim()
    old.set_progress(0.9, "late")
    hands[0].round()
    assert job.refresh().progress is None
    with pytest.raises(LostLease, match="lost"):
        old.set_progress(1.0)
    with pytest.raises(LostLease, match="lost"):
        old.raise_if_cancelled()
    new.set_progress(0.1, "new")
    hands[second].node._dispatcher._notes.noted_at = 0.0
    hands[second].round()
    assert job.refresh().progress_message == "new"


def test_the_end_of_code_left_over_by_an_older_run_does_not_free_the_job_of_a_newer_one(still, hands, task):
    job = task.enqueue()
    old = hands[0].claim()
    hands[0].time_out(old)
    hands[0].is_given_up()
    new = hands[0].claim()
    hands[0].time_out(new)
    held = job.refresh()
    assert (held.status, held.node) == ("queued", hands[0].node.id)
    task.then[:] = [None]
    hands[0].end(old)
    assert job.refresh().node == held.node
    assert hands[0].node.busy == 1
    assert hands[1].claim() is None
    hands[0].end(new)
    assert hands[1].claim().attempt == 3
