"""A commit that fails may have happened all the same: nothing is run twice, and nothing is lost. The test plays the workers."""

from __future__ import annotations

import sqlite3

import pytest

from schedfactory.storage import sqlite


@pytest.fixture
def ahead(still, hands):
    """One job in the hand of the first node, and four that it has claimed ahead, longer ago than they may lie there."""

    @still.task(name="quick")
    def quick(number: int) -> int:
        return number

    dispatcher = hands[0].node._dispatcher
    dispatcher._pace.observe("quick", 0.00002)
    dispatcher.workers = 1
    jobs = still.enqueue_many([quick.call(number) for number in range(5)])
    assert hands[0].claim().id == jobs[0].id
    assert [job.id for job in hands[0].node._desk.ahead] == [job.id for job in jobs[1:]]
    dispatcher._claimed_ahead_at = 0.0
    dispatcher.workers = 0
    return jobs[1:]


@pytest.fixture
def fail_commit(monkeypatch):
    """Let the next commit fail with an I/O error, after it has happened or before."""
    commit, next_ones = sqlite.commit, []

    def fails(connection, deadline):
        if not next_ones:
            return commit(connection, deadline)
        if next_ones.pop():
            commit(connection, deadline)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    monkeypatch.setattr(sqlite, "commit", fails)
    return next_ones.append


def where(job):
    job = job.refresh()
    return job.status, job.attempt, job.node


@pytest.mark.parametrize("happens", [True, False], ids=["that happened", "that did not happen"])
def test_a_job_given_back_by_an_unclear_commit_never_runs_here(still, hands, ahead, fail_commit, happens):
    here, there = hands
    fail_commit(happens)
    here.round()
    assert here.node._dispatcher.trouble is not None
    assert {where(job) for job in ahead} == {("queued", 0, None) if happens else ("running", 1, here.node.id)}

    assert here.take_ahead() is None  # another node may have it by now
    assert here.claim() is None  # the round brings its return again
    taken = there.claim()
    assert taken.id == ahead[0].id
    assert where(ahead[0]) == ("running", 1, there.node.id)

    found = [here.claim().id for _ in range(3)]
    assert found == [job.id for job in ahead[1:]]
    assert here.claim() is None
    there.end(taken)
    assert taken.cause is None
    assert [(one.number, one.status) for one in ahead[0].attempts()] == [(1, "succeeded")]


@pytest.mark.parametrize("happens", [True, False], ids=["that happened", "that did not happen"])
def test_an_end_brought_by_an_unclear_commit_is_stored_once(still, hands, ahead, fail_commit, happens):
    here, _ = hands
    [running] = [job for job in here.node._dispatcher.hand.in_flight.values() if not job.is_ahead]
    fail_commit(happens)
    here.end(running)
    assert here.node._dispatcher.trouble is not None
    here.round()
    assert here.node._dispatcher.trouble is None
    job = still.get(running.id)
    assert (job.status, job.result, job.attempt, running.cause) == ("succeeded", 0, 1, None)
    assert still.counts()["succeeded"] == 1
    assert [(one.number, one.status) for one in job.attempts()] == [(1, "succeeded")]


@pytest.mark.parametrize("happens", [True, False], ids=["that happened", "that did not happen"])
def test_a_claim_of_an_unclear_commit_is_given_back_and_made_again(still, hands, fail_commit, happens):
    here, there = hands

    @still.task(name="work")
    def work() -> int:
        return 1

    job = work.enqueue()
    fail_commit(happens)
    assert here.claim() is None
    assert where(job) == (("running", 1, here.node.id) if happens else ("queued", 0, None))
    here.round()
    assert where(job) == ("queued", 0, None)
    again = there.claim()
    assert (again.id, again.attempt) == (job.id, 1)
    there.end(again)
    assert job.refresh().result == 1
