"""A claim on standby: who enqueues while a worker is idle claims the job in the same commit."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from schedfactory import DatabaseBusy, Scheduler, StorageError, tables
from schedfactory.storage.database import Database


def insert(task: str | None) -> Any:
    return lambda conn: conn.execute(tables.jobs.insert().values(task=task))


@pytest.fixture
def database(path: Path) -> Any:
    found = Database(path, "full", 10, True)
    found.open()
    yield found
    found.close()


def test_an_enqueue_beside_an_idle_worker_claims_its_job_in_the_same_commit(
    scheduler: Scheduler, gate: Any, eventually: Any
) -> None:
    task = scheduler.task(name="waits")(waits(gate))
    with scheduler.running(workers=1):
        database = scheduler._house.database
        eventually(lambda: database._standing)
        before = database._commits
        job = task.enqueue()
        assert (job.status, job.refresh().status) == ("queued", "running")
        gate.await_arrivals()
        assert database._commits == before + 1
        gate.open()
        assert job.wait("60s").status == "succeeded"


def waits(gate: Any) -> Any:
    def waits() -> None:
        gate()

    return waits


def test_nobody_stands_by_for_workers_that_are_busy(scheduler: Scheduler, gate: Any) -> None:
    task = scheduler.task(name="waits")(waits(gate))
    with scheduler.running(workers=1):
        task.enqueue()
        gate.await_arrivals()
        second = task.enqueue()
        assert second.refresh().status == "queued"
        gate.open()
        assert second.wait("60s").status == "succeeded"


def test_nothing_is_claimed_on_standby_after_a_stop(scheduler: Scheduler, noop: Any, eventually: Any) -> None:
    with scheduler.running(workers=1):
        eventually(lambda: scheduler._house.database._standing)
    assert not scheduler._house.database._standing
    assert noop.enqueue().refresh().status == "queued"


def test_who_listens_hears_of_an_enqueue_before_the_start(scheduler: Scheduler, noop: Any) -> None:
    reports = scheduler.reports("job")
    with scheduler.running(workers=1):
        for _ in range(20):
            noop.enqueue().wait("60s")
    told = [next(reports).status for _ in range(60)]
    assert told == ["queued", "start", "end"] * 20


def test_a_row_that_cannot_be_claimed_does_not_hinder_its_enqueue(
    scheduler: Scheduler, noop: Any, sql: Any, eventually: Any
) -> None:
    noop.enqueue().cancel()
    sql(
        "CREATE TRIGGER no BEFORE UPDATE ON schedfactory_jobs WHEN NEW.status = 'running' AND NEW.priority = 7"
        " BEGIN SELECT RAISE(ABORT, 'not this one'); END"
    )
    with scheduler.running(workers=1):
        eventually(lambda: scheduler._house.database._standing)
        job = noop.options(priority=7).enqueue()
        assert "not this one" in job.wait("60s").error
        assert noop.enqueue().wait("60s").status == "succeeded"


def test_what_stands_by_takes_part_in_the_next_write_of_another(database: Database) -> None:
    heard: list[str] = []

    def ring() -> None:
        heard.append("ring")

    database.on_commit(ring)
    ticket = database.stand_by(lambda conn: heard.append("work"), ring)
    database.write(insert("quiet"), quiet=True)
    assert heard == []
    database.write(insert("work"))
    assert heard == ["ring", "work"]
    assert database.relieve(ticket) == 0
    database.write(insert("work"))
    assert heard == ["ring", "work", "ring"]
    assert database.relieve(ticket) == 1


def test_what_was_relieved_before_its_turn_is_not_done(database: Database) -> None:
    done: list[int] = []
    ticket = database.stand_by(lambda conn: done.append(1), lambda: None)
    assert database.relieve(ticket) is None
    database.write(insert("work"))
    assert done == []


@pytest.mark.parametrize("work", [insert(None), lambda conn: 1 // 0])
def test_a_mistake_of_who_stands_by_is_its_own(database: Database, work: Any) -> None:
    ticket = database.stand_by(work, lambda: None)
    database.write(insert("work"))
    with pytest.raises((StorageError, ZeroDivisionError)):
        database.relieve(ticket)
    with database.read() as conn:
        assert conn.execute(tables.jobs.select()).all()[0].task == "work"


def test_an_interrupt_of_the_thread_that_carries_it_out_leaves_it_to_its_own(database: Database) -> None:
    interrupts, ran_on = [KeyboardInterrupt()], []

    def work(conn: Connection) -> None:
        insert("standby")(conn)
        ran_on.append(threading.current_thread().name)
        if interrupts:
            raise interrupts.pop()

    ticket = database.stand_by(work, lambda: None)
    with pytest.raises(KeyboardInterrupt):
        database.write(insert("interrupted"))
    own = threading.Thread(target=database.relieve, args=(ticket,), name="own")
    own.start()
    own.join(60)
    assert ran_on == ["MainThread", "own"]
    with database.read() as conn:
        assert [row.task for row in conn.execute(tables.jobs.select())] == ["standby"]


def test_what_is_left_to_its_own_thread_waits_no_longer_than_the_lock_timeout(path: Path) -> None:
    database = Database(path, "full", 0.1, True)
    interrupts = [KeyboardInterrupt()]

    def work(conn: Connection) -> None:
        if interrupts:
            raise interrupts.pop()

    ticket = database.stand_by(work, lambda: None)
    with pytest.raises(KeyboardInterrupt):
        database.write(insert("interrupted"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    raised: list[BaseException] = []

    def relieve() -> None:
        with pytest.raises(DatabaseBusy) as caught:
            database.relieve(ticket)
        raised.append(caught.value)

    own = threading.Thread(target=relieve, daemon=True)
    own.start()
    own.join(30)
    other.execute("ROLLBACK")
    other.close()
    own.join(30)
    assert raised
    database.close()
