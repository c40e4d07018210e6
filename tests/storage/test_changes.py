"""Cancel, requeue, update, prune; and totals that are right after everything."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from schedfactory import Fail, JobFinished, Scheduler, Snooze
from schedfactory.model import outcome
from schedfactory.storage import changes, claim, finish
from schedfactory.storage.database import Database

Client = sqlite3.Connection


@pytest.fixture
def work(still: Scheduler) -> Any:
    @still.task(name="work", retry=2)
    def work(how: str = "well") -> str:
        if how == "fail":
            raise Fail("no")
        if how == "error":
            raise OSError("no")
        return how

    return work


def recount(client: Client) -> Counter[tuple[str, str]]:
    rows = client.execute("SELECT queue, status FROM schedfactory_jobs WHERE status IN ('succeeded', 'failed', 'cancelled')")
    return Counter(rows.fetchall())


def totals(client: Client) -> dict[tuple[str, str], int]:
    return {(q, s): n for q, s, n in client.execute("SELECT queue, status, jobs FROM schedfactory_totals WHERE jobs <> 0")}


# Cancel


def test_what_has_not_started_never_will(still: Scheduler, work: Any, client: Client, clock: Any) -> None:
    queued, later = work.enqueue(), work.options(delay="1h").enqueue()
    client.execute("INSERT INTO schedfactory_jobs (task, status) VALUES ('work', 'waiting')")
    assert (still.cancel(queued.id), still.cancel(status=["scheduled", "waiting"])) == (1, 2)
    clock.advance(hours=2)
    assert still.run_due() == 0
    for job in still.jobs():
        assert (job.status, job.reason, job.attempt) == ("cancelled", "user", 0)
    assert later.refresh().finished_at == clock.now - timedelta(hours=2)


def test_a_running_job_gets_its_flag_and_is_counted_once(still: Scheduler, work: Any, node: Any, client: Client) -> None:
    job = work.enqueue()
    node(1).claim()
    assert [still.cancel(job.id), still.cancel(job.id)] == [1, 0]
    assert job.refresh().status == "running"
    assert client.execute("SELECT cancel_requested_at IS NOT NULL FROM schedfactory_jobs").fetchone() == (1,)


def test_a_running_job_that_ignores_its_cancel_has_succeeded(still: Scheduler, work: Any, node: Any) -> None:
    job = work.enqueue()
    (running,) = node(1).claim()
    job.cancel()
    node(1).finish(running, outcome.succeeded('"done"'))
    assert (job.refresh().status, job.refresh().result) == ("succeeded", "done")


@pytest.mark.parametrize("end", ["retry", "snooze", "shutdown"])
def test_a_cancelled_job_does_not_start_again(
    still: Scheduler, work: Any, node: Any, clock: Any, client: Client, end: str
) -> None:
    ends = {
        "retry": outcome.raised(OSError(), work.retry, 1, clock.now),
        "snooze": outcome.raised(Snooze(0), work.retry, 1, clock.now),
        "shutdown": outcome.given_back(clock.now),
    }
    job = work.enqueue()
    (running,) = node(1).claim()
    job.cancel()
    node(1).finish(running, ends[end])
    job = job.refresh()
    assert (job.status, job.reason, job.finished_at) == ("cancelled", "user", clock.now)
    assert node(1).claim() == []
    assert totals(client) == recount(client)


def test_finished_jobs_do_not_change(still: Scheduler, work: Any) -> None:
    jobs = [work.enqueue(), work.enqueue("fail"), work.enqueue().cancel()]
    still.run_due()
    before = [job.refresh() for job in jobs]
    assert [still.cancel(job.id) for job in jobs] == [0, 0, 0]
    assert still.cancel(queue="default") == 0
    assert [job.refresh() for job in jobs] == before


def test_all_that_match_a_filter_are_cancelled(still: Scheduler, work: Any) -> None:
    still.enqueue_many([work.options(queue=queue, tags=[queue]).call(how) for queue in ("a", "b") for how in ("well", "fail")])
    assert still.cancel(queue="a", args={"how": "fail"}) == 1
    assert still.cancel(tag="b") == 2
    assert [(job.id, job.status) for job in still.jobs()] == [
        (4, "cancelled"), (3, "cancelled"), (2, "cancelled"), (1, "queued"),
    ]  # fmt: skip
    assert still.cancel(99) == 0


@pytest.mark.parametrize("verb", ["cancel", "requeue"])
def test_neither_an_id_nor_a_filter_is_a_type_error(still: Scheduler, work: Any, verb: str) -> None:
    job = work.enqueue()
    change = getattr(still, verb)
    for given in ({}, {"status": None}, {"queue": None, "task": None}):
        with pytest.raises(TypeError, match=f"{verb}.*neither a job's id nor a filter"):
            change(**given)
    with pytest.raises(TypeError, match="both the id 1 and filters"):
        change(1, queue="default")
    with pytest.raises(TypeError, match="nonsense"):
        change(nonsense=1)
    for wrong in ("1", True, 1.0):
        with pytest.raises(TypeError, match="job_id="):
            change(wrong)
    with pytest.raises(ValueError, match="status='new' is unknown"):
        change(status="new")
    assert job.refresh() == job


# Requeue


@pytest.mark.parametrize("how", ["well", "fail", "error", "cancel", "expire"])
def test_a_finished_job_runs_again_in_its_own_row(still: Scheduler, work: Any, clock: Any, client: Client, how: str) -> None:
    job = work.options(priority=4, tags=["t"], expires="10m").enqueue("well" if how in ("cancel", "expire") else how)
    if how == "cancel":
        job.cancel()
    if how == "expire":
        clock.advance(minutes=10)
    while still.run_due():
        clock.advance(minutes=5)
    ended = job.refresh()
    assert ended.is_finished
    clock.advance(hours=1)
    again = job.requeue()
    assert (again.status, again.reason, again.run_at, again.attempt) == ("queued", None, clock.now, ended.attempt)
    assert (again.failures, again.crashes, again.result, again.error, again.expires_at) == (0, 0, None, None, None)
    assert (again.started_at, again.finished_at, again.node, again.worker, again.progress) == (None, None, None, None, None)
    kept = ("id", "uid", "task", "queue", "priority", "args", "tags", "created_at")
    assert [getattr(again, name) for name in kept] == [getattr(ended, name) for name in kept]
    assert totals(client) == recount(client) == {}
    assert [a.number for a in again.attempts()] == list(range(1, ended.attempt + 1))
    while still.run_due():
        clock.advance(minutes=5)
    last = job.refresh()
    assert last.attempt == ended.attempt + max(ended.attempt, 1)
    assert [a.number for a in last.attempts()] == list(range(1, last.attempt + 1))
    assert totals(client) == recount(client) == {("default", last.status): 1}


def test_a_cancel_does_not_outlive_the_requeue(still: Scheduler, work: Any) -> None:
    job = work.enqueue("error").cancel().requeue()
    assert still.run_due() == 1
    job = job.refresh()
    assert (job.status, job.reason, job.failures) == ("scheduled", "retry", 1)


def test_unfinished_jobs_are_not_requeued(still: Scheduler, work: Any, node: Any) -> None:
    running, queued, later = work.enqueue(), work.enqueue(), work.options(delay="1h").enqueue()
    node(1).claim()
    before = [job.refresh() for job in (running, queued, later)]
    assert [still.requeue(job.id) for job in before] == [0, 0, 0]
    assert still.requeue(task="work") == 0
    assert [job.requeue() for job in before] == before


def test_as_many_as_match_are_requeued(still: Scheduler, client: Client) -> None:
    many = 2 * changes.PRUNED_AT_ONCE + 7
    still.enqueue_many([still.remote("work").options(queue=f"q{n % 3}").call(n=n) for n in range(many)])
    assert still.cancel(status="queued") == many
    assert still.requeue(status="cancelled", queue="q0") == 336
    assert still.requeue(status="cancelled") == many - 336
    assert still.counts() == dict.fromkeys(still.counts(), 0) | {"queued": many}
    assert totals(client) == {}


def test_a_requeued_job_waits_for_code_that_outlived_its_timeout(
    still: Scheduler, work: Any, node: Any, database: Database, clock: Any
) -> None:
    job = work.enqueue()
    (running,) = node(1).claim()
    node(1).finish(running, outcome.timed_out(timedelta(seconds=1), work.retry, 2, clock.now))
    assert (job.refresh().status, job.refresh().reason) == ("failed", "timeout")
    assert job.requeue().node == 1
    assert node(2).claim() == []
    database.write(lambda conn: finish.release(conn, [running]))
    assert [one.id for one in node(2).claim()] == [job.id]


# Update


def test_an_update_changes_what_it_names_and_nothing_else(still: Scheduler, work: Any, clock: Any) -> None:
    job = work.options(priority=1, queue="a").enqueue()
    assert job.update() == job
    changed = job.update(priority=9)
    assert (changed.priority, changed.queue, changed.run_at, changed.status) == (9, "a", job.run_at, "queued")
    changed = job.update(queue="b")
    assert (changed.priority, changed.queue) == (9, "b")


def test_an_update_of_run_at_decides_anew_whether_a_job_is_due(still: Scheduler, work: Any, clock: Any) -> None:
    job = work.enqueue()
    later = job.update(run_at=clock.now + timedelta(hours=1))
    assert (later.status, still.run_due()) == ("scheduled", 0)
    now = later.update(run_at=clock.now)
    assert (now.status, now.run_at) == ("queued", clock.now)
    assert still.run_due() == 1


def test_an_update_leaves_a_running_job_running(still: Scheduler, work: Any, node: Any, clock: Any) -> None:
    job = work.enqueue()
    (running,) = node(1).claim()
    changed = job.update(priority=7, queue="late", run_at=clock.now + timedelta(hours=1))
    assert (changed.status, changed.priority, changed.queue) == ("running", 7, "late")
    assert node(1).finish(running, outcome.succeeded("1"))
    assert job.refresh().status == "succeeded"


def test_totals_follow_a_job_whose_queue_is_changed_while_it_runs(
    still: Scheduler, work: Any, node: Any, client: Client
) -> None:
    jobs = [work.enqueue(), work.enqueue()]
    running = node(1).claim(most=2)
    for job in jobs:
        job.update(queue="other")
    node(1).finish(running[0], outcome.succeeded("1"))
    node(1).finish(running[1], outcome.failed("error", "no"))
    assert totals(client) == recount(client) == {("other", "succeeded"): 1, ("other", "failed"): 1}


def test_a_job_that_is_not_there_cannot_be_updated(still: Scheduler, work: Any) -> None:
    job = work.enqueue().cancel()
    with pytest.raises(JobFinished):
        job.update(priority=1)


# Prune


def finished(still: Scheduler, work: Any, clock: Any, *hows: str) -> None:
    """Make jobs that end a day apart, the oldest first."""
    for how in hows:
        job = work.enqueue("well" if how == "cancel" else how)
        if how == "cancel":
            job.cancel()
        while still.run_due():
            clock.advance(seconds=10)
        clock.advance(days=1)


def test_what_ended_longer_ago_than_said_is_deleted(still: Scheduler, work: Any, clock: Any, client: Client) -> None:
    finished(still, work, clock, "well", "fail", "cancel", "well")
    unfinished = work.options(delay="9999d").enqueue()
    assert still.prune(older_than="100d") == 0
    assert still.prune(older_than=timedelta(days=2, hours=12)) == 2
    assert [job.id for job in still.jobs()] == [5, 4, 3]
    assert client.execute("SELECT count(*) FROM schedfactory_attempts").fetchone() == (0,)
    clock.advance(days=28, hours=12)
    assert still.prune() == 1
    assert [job.id for job in still.jobs()] == [5, 4]
    assert totals(client) == recount(client)
    clock.advance(days=9000)
    still.prune()
    assert still.jobs() == [unfinished.refresh()]


def test_only_the_named_statuses_are_deleted(still: Scheduler, work: Any, clock: Any) -> None:
    finished(still, work, clock, "well", "fail", "cancel", "well")
    assert still.prune(older_than=0, status="failed") == 1
    assert still.prune(older_than=0, status=["cancelled", "failed"]) == 1
    assert [job.status for job in still.jobs()] == ["succeeded", "succeeded"]


def test_a_job_that_ended_exactly_so_long_ago_stays(still: Scheduler, work: Any, clock: Any) -> None:
    finished(still, work, clock, "cancel", "cancel")
    assert still.prune(older_than="2d") == 0
    clock.advance(microseconds=1)
    assert still.prune(older_than="2d") == 1


def test_the_highest_row_is_kept_so_that_no_id_is_used_twice(still: Scheduler, work: Any, clock: Any) -> None:
    finished(still, work, clock, "well", "cancel", "fail")
    assert still.prune(older_than=0) == 2
    assert [job.id for job in still.jobs()] == [3]
    assert work.enqueue().id == 4
    finished(still, work, clock, "well")
    assert still.prune(older_than=0) == 2
    assert [work.enqueue().id, *(job.id for job in still.enqueue_many([work.call(), work.call()]))] == [6, 7, 8]


def test_any_number_is_deleted_in_batches(still: Scheduler, clock: Any, client: Client) -> None:
    many = 3 * changes.PRUNED_AT_ONCE
    still.enqueue_many([still.remote("work").call() for _ in range(many + 1)])
    still.cancel(status="queued")
    clock.advance(days=1)
    assert still.prune(older_than="1h") == many
    assert (still.counts()["cancelled"], totals(client)) == (1, {("default", "cancelled"): 1})


def test_a_job_whose_left_over_code_still_runs_is_kept(still: Scheduler, work: Any, node: Any, clock: Any) -> None:
    work.enqueue()
    (running,) = node(1).claim()
    node(1).finish(running, outcome.timed_out(timedelta(seconds=1), work.retry, 2, clock.now))
    work.enqueue().cancel()
    work.enqueue()
    clock.advance(days=1)
    assert still.prune(older_than=0) == 1
    assert [job.id for job in still.jobs()] == [3, 1]


@pytest.mark.parametrize(
    "given", [{"status": "queued"}, {"status": "new"}, {"status": []}, {"older_than": "1y"}, {"older_than": -1}]
)
def test_a_prune_that_makes_no_sense_is_a_value_error(still: Scheduler, work: Any, clock: Any, given: Any) -> None:
    finished(still, work, clock, "well", "well")
    with pytest.raises(ValueError, match=next(iter(given))):
        still.prune(**({"older_than": 0} | given))
    assert len(still.jobs()) == 2


# Totals


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_totals_are_right_after_everything(
    still: Scheduler, work: Any, node: Any, client: Client, clock: Any, seed: int
) -> None:
    chance = random.Random(seed)
    hands = node(7)
    running: list[Any] = []
    highest = 0

    def some_id() -> int:
        return chance.randint(1, max(highest, 1))

    def enqueue() -> None:
        nonlocal highest
        options = work.options(
            queue=chance.choice("abc"), delay=chance.choice([0, 0, 60]), expires=chance.choice([None, 30, 300])
        )
        highest = options.enqueue(chance.choice(["well", "fail", "error"])).id

    def end() -> None:
        if running:
            ends = [outcome.succeeded("1"), outcome.failed("error", "no"), outcome.raised(OSError(), work.retry, 1, clock.now)]
            hands.finish(running.pop(), chance.choice(ends))

    def move() -> None:
        for job in still.jobs(status=chance.choice(["queued", "scheduled", "running"]), limit=2):
            job.update(queue=chance.choice("abc"))

    steps = [
        enqueue,
        enqueue,
        enqueue,
        end,
        end,
        lambda: running.extend(hands.claim(most=2)),
        lambda: hands.database.write(lambda conn: claim.expire(conn, clock.now)),
        lambda: still.cancel(some_id()),
        lambda: still.requeue(some_id()),
        lambda: still.requeue(queue="a", status="failed"),
        lambda: still.cancel(queue=chance.choice("abc"), status="queued"),
        move,
        move,
        lambda: clock.advance(seconds=chance.choice([1, 40])),
        lambda: still.prune(older_than="1m"),
    ]
    for _ in range(300):
        chance.choice(steps)()
        assert totals(client) == recount(client)
    by_status = Counter(status for (status,) in client.execute("SELECT status FROM schedfactory_jobs"))
    assert still.counts() == dict.fromkeys(still.counts(), 0) | by_status
