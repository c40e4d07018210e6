"""What a node makes of the silence of others: the lease counts for nodes of other hosts only, on a steady clock."""

from __future__ import annotations

import pytest

from schedfactory import Scheduler
from schedfactory.model.clock import Monotonic


@pytest.fixture(params=[{}, {"lease": "1m"}], ids=["the usual lease", "a lease of 60 s"])
def still(path, clock, request):
    found = Scheduler(path, clock=clock, **request.param)
    found.lease_s = 60 if request.param else 15
    yield found
    found.close()


@pytest.fixture
def pass_seconds(monkeypatch):
    """The steady clock stands still; call this to let seconds pass on it."""
    now = [1_000.0]
    monkeypatch.setattr(Monotonic, "now", lambda: now[0])

    def go_on(seconds):
        now[0] += seconds

    return go_on


@pytest.fixture
def work(still):
    @still.task(name="work")
    def work() -> None: ...

    return work


@pytest.fixture
def elsewhere(hands, sql):
    """The second node, as if it were on another host, and stopped dead: no lock tells of it."""
    sql(
        "UPDATE schedfactory_nodes SET host = 'far', boot_id = 'another', lock_file = 'another' WHERE id = ?",
        hands[1].node.id,
    )
    return hands[1]


def state(job):
    job = job.refresh()
    return job.status, job.reason, job.crashes


def beats(sql, hand):
    return sql("SELECT beat FROM schedfactory_nodes WHERE id = ?", hand.node.id)[0][0]


def test_a_node_of_another_host_loses_its_jobs_when_it_was_silent_for_the_lease(still, hands, elsewhere, work, pass_seconds):
    job = work.enqueue()
    elsewhere.claim()
    hands[0].look_around()
    pass_seconds(still.lease_s - 0.1)
    hands[0].look_around()
    assert state(job) == ("running", None, 0)
    pass_seconds(0.2)
    hands[0].look_around()
    assert state(job) == ("queued", "crash", 1)


def test_a_node_of_another_host_that_beats_within_the_lease_keeps_its_jobs(still, hands, elsewhere, work, pass_seconds, sql):
    job = work.enqueue()
    elsewhere.claim()
    for _ in range(5):
        hands[0].look_around()
        pass_seconds(still.lease_s - 0.1)
        sql("UPDATE schedfactory_nodes SET beat = beat + 1 WHERE id = ?", elsewhere.node.id)
    hands[0].look_around()
    assert state(job) == ("running", None, 0)


def test_the_lease_of_a_node_that_was_silent_without_jobs_begins_with_its_job(still, hands, elsewhere, work, pass_seconds):
    hands[0].look_around()
    pass_seconds(3_600)
    hands[0].look_around()
    job = work.enqueue()
    elsewhere.claim()
    hands[0].look_around()
    pass_seconds(still.lease_s - 0.1)
    hands[0].look_around()
    assert state(job) == ("running", None, 0)


def test_the_lease_does_not_count_for_a_node_of_this_host_that_lives(hands, work, pass_seconds):
    job = work.enqueue()
    hands[1].claim()
    for _ in range(3):
        hands[0].look_around()
        pass_seconds(3_600)
    assert state(job) == ("running", None, 0)


def test_the_jobs_of_an_earlier_boot_of_this_host_do_not_wait_for_the_lease(hands, work, pass_seconds, sql):
    job = work.enqueue()
    hands[1].claim()
    sql("UPDATE schedfactory_nodes SET boot_id = 'earlier' WHERE id = ?", hands[1].node.id)
    hands[0].look_around()
    assert state(job) == ("queued", "crash", 1)


def test_a_busy_node_beats_three_times_in_a_lease_where_another_host_watches(still, hands, elsewhere, work, pass_seconds, sql):
    work.enqueue()
    hands[0].claim()
    seen = []
    for _ in range(30):
        hands[0].look_around()
        seen.append(beats(sql, hands[0]))
        pass_seconds(still.lease_s / 15)
    assert seen[0] == 1
    assert seen[15] - seen[0] == seen[29] - seen[14] == 3


def test_no_node_beats_where_it_has_no_job_or_nobody_needs_it(hands, work, pass_seconds, sql):
    work.enqueue()
    hands[0].claim()
    for _ in range(3):
        pass_seconds(60)
        hands[0].look_around()  # the other one sees its lock
    assert beats(sql, hands[0]) == 0
    sql("UPDATE schedfactory_nodes SET host = 'far', boot_id = 'another', lock_file = 'another' WHERE id = ?", hands[0].node.id)
    for _ in range(3):
        pass_seconds(60)
        hands[1].look_around()  # which has no job
    assert beats(sql, hands[1]) == 0
