"""Who holds a key, row by row: what comes back to the queue never takes a key that another job has by now."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from schedfactory import DuplicateJob, Job, RunningJob, Scheduler, StorageError, Task, Unique
from schedfactory.model.clock import stamp
from schedfactory.model.outcome import succeeded
from schedfactory.storage import claim, enqueue, nodes, sqlite, unique
from schedfactory.storage.database import Database
from schedfactory.storage.locks import LockFile, lock_file
from schedfactory.storage.statement import Statement
from schedfactory.storage.ticket import Ticket

Returns = Callable[[Any, RunningJob], Any]


@pytest.fixture
def work(still: Scheduler) -> Task[..., None]:
    @still.task(name="work", unique=Unique("k", until="started"), retry=5)
    def work(how: str = "") -> None: ...

    return work


@pytest.fixture
def lock(still: Scheduler, path: Path) -> Iterator[LockFile]:
    still.counts()
    found = lock_file(path)
    yield found
    found.leave()


@pytest.fixture(params=["give_back", "give_back_others", "rescue"])
def returns(request: pytest.FixtureRequest, lock: LockFile, clock: Any, client: sqlite3.Connection) -> Returns:
    """How a claim comes back that no worker has begun."""

    def rescue(conn: Any, job: RunningJob) -> Any:
        conn.exec_driver_sql("UPDATE schedfactory_jobs SET worker = NULL WHERE id = ?", (job.id,))
        return nodes.rescue(conn, lock, 1, clock())

    ways: dict[str, Returns] = {
        "give_back": lambda conn, job: claim.give_back(conn, [(job.id, job.fence, 1, None)]),
        "give_back_others": lambda conn, job: claim.give_back_others(conn, 1, []),
        "rescue": rescue,
    }
    return ways[request.param]


def is_held(work: Task[..., None]) -> bool:
    """Tell whether a call would meet a job, and leave nothing behind."""
    job = work.enqueue()
    if job.is_new:
        job.cancel()
    return not job.is_new


def test_a_claim_that_comes_back_unbegun_has_its_key_again(
    work: Task[..., None], node: Any, database: Database, returns: Returns
) -> None:
    job = work.enqueue()
    for _ in range(3):
        [running] = node(1).claim()
        assert not is_held(work)
        database.write(lambda conn, running=running: returns(conn, running))  # type: ignore[misc]
        assert (job.refresh().status, job.refresh().attempt, is_held(work)) == ("queued", 0, True)


def test_a_claim_that_comes_back_leaves_the_key_to_who_has_it_by_now(
    work: Task[..., None], node: Any, database: Database, returns: Returns
) -> None:
    first = work.enqueue()
    [running] = node(1).claim()
    second = work.options(delay="1h").enqueue()
    assert second.is_new
    database.write(lambda conn: returns(conn, running))
    assert (first.refresh().status, second.refresh().status, work.enqueue().id) == ("queued", "scheduled", second.id)
    [running] = node(1).claim()
    assert running.id == first.id
    second.cancel()
    database.write(lambda conn: returns(conn, running))
    assert not is_held(work)  # it did not hold the key before this claim, so it has none to get back


def test_a_requeued_job_whose_claim_comes_back_has_its_key_again(
    work: Task[..., None], node: Any, database: Database, returns: Returns
) -> None:
    job = work.enqueue()
    [running] = node(1).claim()
    node(1).finish(running, succeeded("null"))
    job.requeue()
    [running] = node(1).claim()
    assert not is_held(work)
    database.write(lambda conn: returns(conn, running))
    assert (job.refresh().attempt, is_held(work)) == (1, True)


@pytest.mark.parametrize("until", ["started", "finished"])
def test_a_crash_does_not_take_a_key_again_that_was_given_up(
    work: Task[..., None], node: Any, database: Database, lock: LockFile, clock: Any, until: Any
) -> None:
    task = work.options(unique=Unique("k", until=until))
    first = task.enqueue()
    node(1).claim()
    second = task.enqueue("second")
    assert second.is_new is (until == "started")
    database.write(lambda conn: nodes.rescue(conn, lock, 1, clock()))
    assert (first.refresh().reason, first.refresh().crashes) == ("crash", 1)
    assert task.enqueue().id == (second.id if until == "started" else first.id)


def test_all_claims_of_a_dead_node_come_back_where_they_had_the_same_key(
    work: Task[..., None], node: Any, database: Database, lock: LockFile, clock: Any, client: sqlite3.Connection
) -> None:
    jobs: list[Job[Any]] = []
    for _ in range(3):
        jobs.append(work.enqueue())
        node(1).claim()
    client.execute("UPDATE schedfactory_jobs SET worker = NULL")
    database.write(lambda conn: nodes.rescue(conn, lock, 1, clock()))
    assert [job.refresh().status for job in jobs] == ["queued"] * 3
    assert work.enqueue().id == jobs[0].id


def test_the_conditions_of_a_holder_are_those_of_the_index(database: Database, client: sqlite3.Connection) -> None:
    def plan(statement: Statement, values: tuple[Any, ...]) -> str:
        with database.read() as conn:
            sql, order = statement._for(conn)
        return " ".join(row[3] for row in client.execute(f"EXPLAIN QUERY PLAN {sql}", order(values)))

    assert "schedfactory_jobs_unique (task=? AND unique_key=?)" in plan(unique._HOLDER, ("t", "k"))
    assert "schedfactory_jobs_keyed (task=? AND unique_key=?" in plan(unique._FINISHED, ("t", "k", "2026"))


def test_what_the_index_refuses_is_told_from_what_other_constraints_refuse(
    work: Task[..., None], client: sqlite3.Connection, clock: Any
) -> None:
    work.enqueue()
    with pytest.raises(sqlite3.IntegrityError) as caught:
        client.execute("INSERT INTO schedfactory_jobs (task, unique_key, unique_fence) VALUES ('work', 'k', 0)")
    assert unique.is_taken(caught.value)
    with pytest.raises(sqlite3.IntegrityError) as caught:
        client.execute("INSERT INTO schedfactory_jobs (id, task) VALUES (1, 'work')")
    assert not unique.is_taken(caught.value)


def test_a_requeue_that_a_trigger_refuses_is_no_duplicate(
    still: Scheduler, work: Task[..., None], client: sqlite3.Connection
) -> None:
    job = work.enqueue().cancel()
    client.execute(
        "CREATE TRIGGER no BEFORE UPDATE ON schedfactory_jobs WHEN NEW.status = 'queued' BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    with pytest.raises(StorageError, match="a constraint or a trigger refused"):
        job.requeue()


def test_many_jobs_are_requeued_or_none_also_where_the_last_one_is_refused(
    still: Scheduler, work: Task[..., None], client: sqlite3.Connection, clock: Any
) -> None:
    client.executemany(
        "INSERT INTO schedfactory_jobs (task, status, finished_at, unique_key, unique_fence)"
        " VALUES ('work', 'failed', ?, ?, 0)",
        [(stamp(clock()), f"k{number % 1_100}") for number in range(1_101)],
    )
    with pytest.raises(DuplicateJob, match="job 1101 of work cannot run again: job 1 holds, or would get"):
        still.requeue(status="failed")
    assert client.execute("SELECT count(*) FROM schedfactory_jobs WHERE status = 'failed'").fetchone() == (1_101,)


@pytest.mark.parametrize("happens", [True, False], ids=["that happened", "that did not happen"])
def test_an_unclear_commit_is_judged_by_what_it_has_stored_and_not_by_who_was_kept(
    still: Scheduler, work: Task[..., None], clock: Any, monkeypatch: pytest.MonkeyPatch, happens: bool
) -> None:
    there = work.enqueue()
    house = still._house
    commit = sqlite.commit

    def fails(connection: sqlite3.Connection, deadline: float) -> None:
        monkeypatch.setattr(sqlite, "commit", commit)
        if happens:
            commit(connection, deadline)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    def ticket(call: Any) -> Any:
        rows = enqueue.to_rows([call], clock())
        return Ticket(enqueue.store_together, ([call], rows, house.seams, clock()), False, 1e18, enqueue.is_there)

    tickets = {"kept": ticket(work.call()), "new": ticket(work.options(unique="other").call())}
    monkeypatch.setattr(sqlite, "commit", fails)
    house.database._waiting.append(tickets["kept"])
    with house.database._leading:
        house.database._lead(tickets["new"])
    outcome = {name: one.error for name, one in tickets.items()}
    assert (still.get(there.id + 1) is not None) is happens
    if happens:
        assert outcome == {"kept": None, "new": None}
        assert tickets["kept"].value.ids == [there.id]
    else:
        assert "Nothing was stored" in str(outcome["new"])
