"""What a claim takes, in which order, and who may write about it afterwards."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from schedfactory import Retry, RunningJob, Scheduler, Snooze
from schedfactory.model import outcome
from schedfactory.storage import claim, finish, nodes, notes, read
from schedfactory.storage.claim import Scope
from schedfactory.storage.database import Database
from schedfactory.storage.statement import Statement

Client = sqlite3.Connection


def idle() -> None: ...


def all_of(client: Client) -> list[Any]:
    return [client.execute(f"SELECT * FROM schedfactory_{table}").fetchall() for table in ("jobs", "attempts", "totals")]


# Order


def test_the_best_due_job_comes_first_by_priority_then_run_at_then_id(still: Scheduler, node: Any, clock: Any) -> None:
    chance = random.Random(7)
    work = still.remote("work")
    jobs = still.enqueue_many(
        [
            work.options(
                priority=chance.choice([-100, -1, 0, 1, 100]), run_at=clock.now - timedelta(seconds=chance.randrange(3))
            ).call(n=n)
            for n in range(100)
        ]
    )
    taken: list[int] = []
    while claimed := node(1).claim(most=7):
        taken += [job.id for job in claimed]
    assert taken == [job.id for job in sorted(jobs, key=lambda job: (-job.priority, job.run_at, job.id))]


def test_jobs_run_in_the_order_of_their_claim(still: Scheduler) -> None:
    ran: list[str] = []

    @still.task(name="work")
    def work(name: str) -> None:
        ran.append(name)

    for name, priority in (("usual", 0), ("low", -5), ("high", 9), ("usual too", 0)):
        work.options(priority=priority).enqueue(name)
    still.run_due()
    assert ran == ["high", "usual", "usual too", "low"]


def test_a_better_job_that_comes_meanwhile_is_taken_next(still: Scheduler) -> None:
    ran: list[str] = []

    @still.task(name="work")
    def work(name: str) -> None:
        ran.append(name)
        if name == "first":
            work.options(priority=1).enqueue("urgent")

    for name in ("first", "second"):
        work.enqueue(name)
    still.run_due()
    assert ran == ["first", "urgent", "second"]


# Scope


def test_tasks_that_a_node_does_not_know_are_left(still: Scheduler, node: Any) -> None:
    unknown = still.remote("elsewhere").options(priority=100).enqueue()
    known = still.remote("work").enqueue()
    assert [job.id for job in node(1).claim(most=9)] == [known.id]
    assert unknown.refresh() == unknown
    assert still.run_due() == 0
    assert [job.id for job in node(2).claim(tasks=["elsewhere", "work"])] == [unknown.id]
    assert node(2).claim(tasks=[]) == []


def test_queues_that_a_node_does_not_serve_are_left(still: Scheduler, node: Any) -> None:
    work = still.remote("work")
    mail, sums = (work.options(queue=queue).enqueue() for queue in ("mail", "sums"))
    assert node(1).claim(queues=["other", "quo'ted"]) == []
    assert [job.id for job in node(1).claim(most=9, queues=["sums", "other"])] == [sums.id]
    assert [job.id for job in node(1).claim(most=9)] == [mail.id]


# Taking


def test_a_claim_makes_the_row_running_and_says_by_whom(still: Scheduler, node: Any, client: Client, clock: Any) -> None:
    job = still.remote("work").enqueue()
    clock.advance(seconds=1)
    (taken,) = node(7).claim()
    row = job.refresh()
    assert (row.status, row.reason, row.node, row.worker, row.attempt) == ("running", None, 7, 1, 1)
    assert row.started_at == clock.now
    assert (taken.attempt, taken.fence) == (1, 1)
    assert client.execute("SELECT fence FROM schedfactory_jobs").fetchone() == (1,)


def test_the_fence_grows_with_every_claim(still: Scheduler, node: Any, client: Client, clock: Any) -> None:
    still.remote("work").enqueue()
    for fence in (1, 2, 3):
        (job,) = node(1).claim()
        assert (job.fence, client.execute("SELECT fence FROM schedfactory_jobs").fetchone()) == (fence, (fence,))
        node(1).finish(job, outcome.raised(Snooze(0), Retry(1), 1, clock.now))


def test_a_row_that_is_taken_is_not_taken_again(still: Scheduler, database: Database, client: Client, clock: Any) -> None:
    still.remote("work").enqueue()

    def twice(conn: Any) -> None:
        rows = Scope(["work"]).due(conn, 1)
        claim.take(conn, rows, 1, [1], clock.now)
        for node, workers in ((2, [2]), (3, [])):
            with pytest.raises(RuntimeError, match="stayed queued"):
                claim.take(conn, rows, node, workers, clock.now)

    database.write(twice)
    assert client.execute("SELECT node, worker, fence, attempt FROM schedfactory_jobs").fetchone() == (1, 1, 1, 1)


def test_two_processes_never_take_the_same_job(still: Scheduler, path: Path, clock: Any) -> None:
    jobs = still.enqueue_many([still.remote("work").call(n=n) for n in range(120)])
    taken: dict[int, list[int]] = {1: [], 2: []}

    def drain(number: int) -> None:
        def take(conn: Any) -> list[Any]:
            rows = Scope(["work"]).due(conn, 3)
            claim.take(conn, rows, number, [1, 2, 3], clock.now)
            return rows

        database = Database(path, "normal", 30, True)
        while rows := database.write(take):
            taken[number] += [row[0] for row in rows]
        database.close()

    threads = [threading.Thread(target=drain, args=(number,)) for number in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(taken[1] + taken[2]) == [job.id for job in jobs]
    assert all(job.attempt == 1 for job in still.jobs(limit=200))


# The fence


def outcomes(now: Any) -> dict[str, outcome.Outcome]:
    three = Retry(3, base="1s")
    return {
        "success": outcome.succeeded("1"),
        "retry": outcome.raised(OSError(), three, 1, now),
        "failure": outcome.failed("error", OSError()),
        "snooze": outcome.raised(Snooze("1m"), three, 1, now),
        "timeout": outcome.timed_out(timedelta(seconds=1), Retry(1), 1, now),
        "shutdown": outcome.given_back(now),
    }


STALE_WRITES: dict[str, Callable[[Any, RunningJob, Any], Any]] = {
    name: lambda conn, job, now, name=name: finish.finish(conn, [(job, outcomes(now)[name], now)])
    for name in ("success", "retry", "failure", "snooze", "timeout", "shutdown")
} | {
    "progress": lambda conn, job, now: notes.progress(conn, [job]),
    "give back": lambda conn, job, now: claim.give_back(conn, [(job.id, job.fence, job.node, None)]),
    "label": lambda conn, job, now: claim.label(conn, [(job.id, job.fence, job.node, 9, now)]),
    "release": lambda conn, job, now: finish.release(conn, [job]),
}
TELLS = ("success", "retry", "failure", "snooze", "timeout", "shutdown", "progress")


@pytest.mark.parametrize("how", STALE_WRITES)
@pytest.mark.parametrize("second_node", [1, 2])
def test_an_attempt_that_lost_its_job_writes_nothing(
    still: Scheduler, node: Any, database: Database, client: Client, clock: Any, how: str, second_node: int
) -> None:
    job = still.remote("work").enqueue()
    (late,) = node(1).claim()
    late.set_progress(0.5)
    client.execute("UPDATE schedfactory_jobs SET status = 'queued', node = NULL WHERE id = ?", (job.id,))  # taken over
    (current,) = node(second_node).claim()
    assert current.fence == late.fence + 1
    before = all_of(client)
    told = database.write(lambda conn: STALE_WRITES[how](conn, late, clock.now))
    assert all_of(client) == before
    assert (told == [late]) == (how in TELLS)
    assert node(second_node).finish(current, outcome.succeeded('"mine"'))
    assert job.refresh().result == "mine"


@pytest.mark.parametrize("how", STALE_WRITES)
@pytest.mark.parametrize("change", ["status = 'queued'", "status = 'cancelled'", "node = 2"])
def test_nothing_is_written_about_an_attempt_whose_job_no_longer_runs_here(
    still: Scheduler, node: Any, database: Database, client: Client, clock: Any, how: str, change: str
) -> None:
    job = still.remote("work").enqueue()
    (late,) = node(1).claim()
    late.set_progress(0.5)
    client.execute(f"UPDATE schedfactory_jobs SET {change} WHERE id = ?", (job.id,))
    before = all_of(client)
    told = database.write(lambda conn: STALE_WRITES[how](conn, late, clock.now))
    assert all_of(client) == before
    assert (told == [late]) == (how in TELLS)


@pytest.mark.parametrize("how", ["success", "retry", "failure", "snooze", "timeout", "shutdown"])
def test_an_end_that_was_stored_may_be_brought_again(still: Scheduler, node: Any, client: Client, clock: Any, how: str) -> None:
    """After a commit of which nobody knows whether it happened."""
    still.remote("work").enqueue()
    (job,) = node(1).claim()
    end = outcomes(clock.now)[how]
    assert node(1).finish(job, end)
    before = all_of(client)
    assert node(1).finish(job, end, again=True)
    assert all_of(client) == before


def test_one_lost_job_does_not_spoil_the_batch(
    still: Scheduler, node: Any, database: Database, client: Client, clock: Any
) -> None:
    jobs = still.enqueue_many([still.remote("work").call(n=n) for n in range(4)])
    claimed = node(1).claim(most=4)
    client.execute("UPDATE schedfactory_jobs SET fence = fence + 1 WHERE id IN (1, 3)")
    ended = [(job, outcome.succeeded("1") if job.id < 3 else outcome.failed("error", "x"), clock.now) for job in claimed]
    lost = database.write(lambda conn: finish.finish(conn, ended))
    assert sorted(job.id for job in lost) == [1, 3]
    assert [job.refresh().status for job in jobs] == ["running", "succeeded", "running", "failed"]


@pytest.mark.parametrize("count", [1, 17, 142, 500])
def test_of_many_successes_each_has_its_own_result_and_the_lost_ones_are_told(
    still: Scheduler, node: Any, database: Database, client: Client, clock: Any, count: int
) -> None:
    still.enqueue_many([still.remote("work").call(n=n) for n in range(count)])
    claimed = node(1).claim(most=count)
    lost = list(range(5, count, 100))
    client.executemany("UPDATE schedfactory_jobs SET fence = fence + 1 WHERE id = ?", [(job,) for job in lost])
    ended = [(job, outcome.succeeded(str(job.id)), clock.now) for job in claimed]
    assert [job.id for job in database.write(lambda conn: finish.finish(conn, ended))] == lost
    stored = client.execute("SELECT id, result FROM schedfactory_jobs WHERE status = 'succeeded' ORDER BY id").fetchall()
    assert stored == [(job, str(job)) for job in range(1, count + 1) if job not in lost]


def test_what_a_trigger_makes_of_another_job_at_the_end_of_the_first_one_stays(
    still: Scheduler, node: Any, database: Database, client: Client, clock: Any
) -> None:
    still.enqueue_many([still.remote("work").call(n=n) for n in range(2)])
    claimed = node(1).claim(most=2)
    client.execute(
        "CREATE TRIGGER first_one_wins AFTER UPDATE OF status ON schedfactory_jobs WHEN new.status = 'succeeded' BEGIN"
        " UPDATE schedfactory_jobs SET status = 'cancelled', finished_at = new.finished_at WHERE id <> new.id; END"
    )
    ended = [(job, outcome.succeeded("1"), clock.now) for job in claimed]
    assert [job.id for job in database.write(lambda conn: finish.finish(conn, ended))] == [2]
    found = client.execute("SELECT status, result FROM schedfactory_jobs").fetchall()
    assert found == [("succeeded", "1"), ("cancelled", None)]


# Giving back


def test_a_claim_given_back_was_never_there(still: Scheduler, node: Any, database: Database, clock: Any) -> None:
    job = still.remote("work").enqueue()
    (taken,) = node(1).claim()
    database.write(lambda conn: claim.give_back(conn, [(taken.id, taken.fence, 1, taken.reason)]))
    assert job.refresh() == job
    assert job.attempts() == []
    (again,) = node(2).claim()
    assert (again.attempt, again.fence) == (1, 2)


def test_a_job_held_by_left_over_code_is_not_claimed(still: Scheduler, node: Any, database: Database, clock: Any) -> None:
    job = still.remote("work").enqueue()
    (taken,) = node(1).claim()
    node(1).finish(taken, outcome.timed_out(timedelta(seconds=1), Retry(2, base="0s"), 1, clock.now))
    held = job.refresh()
    assert (held.status, held.reason, held.node) == ("queued", "retry", 1)
    assert node(2).claim() == []
    assert still.counts()["queued"] == 1
    database.write(lambda conn: finish.release(conn, [taken]))
    assert job.refresh().node is None
    assert [one.attempt for one in node(2).claim()] == [2]


def test_the_end_of_older_code_does_not_release_what_newer_code_holds(
    still: Scheduler, node: Any, database: Database, client: Client, clock: Any
) -> None:
    job = still.remote("work").enqueue()
    timed_out = outcome.timed_out(timedelta(seconds=1), Retry(3, base="0s"), 1, clock.now)
    (older,) = node(1).claim()
    node(1).finish(older, timed_out)
    client.execute("UPDATE schedfactory_jobs SET node = NULL, leftover = 0")  # taken over by force
    (newer,) = node(1).claim()
    node(1).finish(newer, timed_out)
    database.write(lambda conn: finish.release(conn, [older]))
    assert job.refresh().node == 1
    database.write(lambda conn: finish.release(conn, [newer]))
    assert job.refresh().node is None


# Promotion, expiry, and clocks that step back


def test_a_job_is_due_at_its_run_at_and_not_before(still: Scheduler, node: Any, clock: Any) -> None:
    job = still.remote("work").options(delay="10m").enqueue()
    clock.advance(minutes=10, microseconds=-1)
    assert node(1).claim() == []
    assert job.refresh().status == "scheduled"
    clock.advance(microseconds=1)
    assert [one.id for one in node(1).claim()] == [job.id]


def test_a_job_once_queued_stays_due_when_the_clock_steps_back(still: Scheduler, clock: Any) -> None:
    job = still.remote("work").options(delay="10m").enqueue()
    clock.advance(minutes=10)
    assert still.run_due() == 0  # this node does not know the task, but promotes its job
    assert job.refresh().status == "queued"
    clock.advance(days=-1)
    still.task(name="work")(idle)
    assert still.run_due() == 1
    assert job.refresh().status == "succeeded"


def test_more_due_jobs_than_one_round_promotes_are_all_run_in_order(
    still: Scheduler, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "PROMOTED_AT_ONCE", 3)
    ran: list[int] = []

    @still.task(name="work")
    def work(n: int) -> None:
        ran.append(n)

    still.enqueue_many([work.options(delay="1m", priority=n).call(n) for n in range(8)])
    clock.advance(minutes=1)
    assert still.run_due() == 8
    assert ran == list(range(7, -1, -1))


@pytest.mark.parametrize("delay", [0, "5m", "10m"])
def test_a_job_that_was_not_started_in_time_is_cancelled(still: Scheduler, clock: Any, delay: Any) -> None:
    still.task(name="work")(idle)
    at = clock.now + timedelta(minutes=10)
    job = still.remote("work").options(delay=delay, expires=at).enqueue()
    clock.advance(minutes=10)
    assert still.run_due() == 0
    job = job.refresh()
    assert (job.status, job.reason, job.finished_at, job.attempt, job.attempts()) == ("cancelled", "expired", at, 0, [])
    assert still.counts()["cancelled"] == 1


def test_a_job_that_was_started_in_time_does_not_expire(still: Scheduler, clock: Any) -> None:
    @still.task(name="work")
    def work() -> None:
        clock.advance(hours=1)
        still.counts()

    job = work.options(expires="10m").enqueue()
    clock.advance(minutes=10, microseconds=-1)
    assert still.run_due() == 1
    assert job.refresh().status == "succeeded"


def test_the_expiry_of_a_task_holds_for_rows_that_leave_it_to_the_task(still: Scheduler, clock: Any) -> None:
    still.task(name="work", expires="10m")(idle)
    job = still.remote("work").enqueue()
    clock.advance(minutes=10)
    still.run_due()
    job = job.refresh()
    assert (job.status, job.reason) == ("cancelled", "expired")


def test_what_is_upcoming_tells_the_next_moment_that_matters(still: Scheduler, database: Database, clock: Any) -> None:
    def next_at() -> Any:
        with database.read() as conn:
            return claim.upcoming(conn, 1).next

    assert next_at() is None
    still.remote("work").options(delay="10m").enqueue()
    assert next_at() == clock.now + timedelta(minutes=10)
    still.remote("work").options(expires="5m").enqueue()
    assert next_at() == clock.now + timedelta(minutes=5)


# Plans

HOT = {
    f"{module.__name__.rpartition('.')[2]}.{name}": statement
    for module in (claim, finish, notes, nodes, read)
    for name, statement in vars(module).items()
    if isinstance(statement, Statement) and statement is not nodes._LISTED  # which people ask for, seldom
}


def plan_of(client: Client, database: Database, statement: Statement) -> list[str]:
    with database.read() as conn:
        sql, _ = statement._for(conn)
    return [line[3] for line in client.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * sql.count("?"))]


@pytest.mark.parametrize("is_analyzed", [False, True])
def test_no_statement_of_the_hot_path_reads_or_sorts_all_jobs(database: Database, client: Client, is_analyzed: bool) -> None:
    if is_analyzed:
        client.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)"
            " INSERT INTO schedfactory_jobs (task, status, priority)"
            " SELECT 'work', iif(i % 9, 'succeeded', 'queued'), i % 7 FROM n"
        )
        client.execute("ANALYZE")
    plans = {name: plan_of(client, database, statement) for name, statement in HOT.items()}
    assert len(plans) > 20
    slow = [
        (name, line)
        for name, plan in plans.items()
        for line in plan
        if ("schedfactory_jobs" in line and "INDEX" not in line and "PRIMARY KEY" not in line) or "B-TREE FOR ORDER BY" in line
    ]
    assert slow == []


@pytest.mark.parametrize("name", ["_DUE_ANYWHERE", "_DUE_IN_QUEUES"])
def test_a_claim_reads_the_partial_index_in_its_order(database: Database, client: Client, name: str) -> None:
    plan = plan_of(client, database, getattr(claim, name))
    assert [line for line in plan if "schedfactory_jobs" in line] == [
        "SCAN schedfactory_jobs USING INDEX schedfactory_jobs_queued"
    ]
    assert not [line for line in plan if "TEMP" in line]
