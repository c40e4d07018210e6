"""What SQL of the user's does to rows and tables stops that one job, and nothing else."""

from __future__ import annotations

import ast
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

import schedfactory
from schedfactory import Fail, Job, Scheduler, StorageError, current_job
from schedfactory.model.slots import Slots
from schedfactory.running.node import Node
from schedfactory.storage import claim
from schedfactory.storage.database import Database


@pytest.fixture
def sql(path: Path, still: Scheduler) -> Callable[..., None]:
    """Carry out statements as another program would."""
    still.counts()

    def execute(script: str) -> None:
        with closing(sqlite3.connect(path)) as other:
            other.executescript(script)

    return execute


@pytest.fixture
def ok(still: Scheduler) -> Any:
    @still.task(name="ok")
    def ok(x: int = 1) -> int:
        return x

    return ok


def _is_well(scheduler: Scheduler, task: Any) -> bool:
    job = task.enqueue(5)
    scheduler.run_due()
    return bool(job.refresh().result == 5)


def test_a_job_that_a_table_of_the_users_refers_to_is_not_pruned_and_all_others_are(
    still: Scheduler, ok: Any, sql: Callable[..., None], clock: Any
) -> None:
    jobs: list[Job[Any]] = [ok.enqueue() for _ in range(9)]
    still.run_due()
    sql(
        "CREATE TABLE orders (job_id INTEGER REFERENCES schedfactory_jobs (id));"
        f"INSERT INTO orders VALUES ({jobs[2].id}), ({jobs[5].id});"
    )
    clock.advance(days=40)
    assert still.prune(older_than="1d") == 6  # the newest row stays, too
    assert [job.id for job in still.jobs()] == [jobs[8].id, jobs[5].id, jobs[2].id]
    assert still.counts()["succeeded"] == 3
    assert _is_well(still, ok)


def test_text_that_is_no_utf_8_fails_its_job_and_is_read_with_marks(
    still: Scheduler, ok: Any, sql: Callable[..., None]
) -> None:
    sql("INSERT INTO schedfactory_jobs (task, args, status) VALUES ('ok', CAST(x'7b22ff223a317d' AS TEXT), 'queued')")
    assert _is_well(still, ok)
    bad = still.jobs(status="failed")
    assert [job.reason for job in bad] == ["error"]
    assert "�" in str(bad[0].args)


def test_a_queue_that_is_no_utf_8_expires_as_any_other(still: Scheduler, ok: Any, sql: Callable[..., None]) -> None:
    sql(
        "INSERT INTO schedfactory_jobs (task, queue, expires_at)"
        " VALUES ('ok', CAST(x'ff' AS TEXT), '2001-01-01 00:00:00.000000')"
    )
    assert _is_well(still, ok)
    assert [job.reason for job in still.jobs(status="cancelled")] == ["expired"]


def test_a_job_that_sql_runs_again_with_a_number_it_had_ends_as_it_does(still: Scheduler, sql: Callable[..., None]) -> None:
    @still.task(name="fails")
    def fails() -> None:
        raise Fail("again")

    job = fails.enqueue()
    still.run_due()
    sql("UPDATE schedfactory_jobs SET status = 'queued', attempt = 0, node = NULL")
    assert still.run_due() == 1
    assert [attempt.number for attempt in job.attempts()] == [1]


@pytest.mark.parametrize("node", [-1, 0, 1 << 62])
def test_a_running_row_of_a_node_that_cannot_be_is_taken_from_it(
    still: Scheduler, ok: Any, sql: Callable[..., None], node: int
) -> None:
    sql(f"INSERT INTO schedfactory_jobs (task, status, node) VALUES ('ok', 'running', {node})")
    assert _is_well(still, ok)
    assert still.counts()["succeeded"] == 2


def test_a_row_that_cannot_be_claimed_fails_and_says_so(still: Scheduler, ok: Any, sql: Callable[..., None]) -> None:
    sql(f"INSERT INTO schedfactory_jobs (task, status, priority, attempt) VALUES ('ok', 'queued', 100, {(1 << 63) - 1})")
    assert _is_well(still, ok)
    [job] = still.jobs(status="failed")
    assert job.error is not None
    assert job.error.startswith("its row cannot be claimed: ")
    assert still.counts()["failed"] == 1


def test_an_end_that_a_trigger_refuses_is_kept_and_the_others_are_stored(
    scheduler: Scheduler, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schedfactory.running.dispatcher.RETRY_S", (0.01, 0.01))

    @scheduler.task(name="work")
    def work(fails: bool) -> None:
        if fails:
            raise ValueError

    with closing(sqlite3.connect(path)) as other, scheduler.running(workers=2):
        other.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON schedfactory_jobs WHEN new.status = 'failed'"
            " BEGIN SELECT RAISE(ABORT, 'no failures here'); END"
        )
        bad = work.enqueue(True)
        assert [work.enqueue(False).wait("60s").status for _ in range(5)] == ["succeeded"] * 5
        assert bad.refresh().status == "running"
        assert scheduler.health().dispatcher == "running"
        other.execute("DROP TRIGGER refuse")
        work.enqueue(False)
        assert bad.wait("60s").reason == "error"
    assert "no failures here" in caplog.text


def test_a_death_whose_rescue_a_trigger_refuses_stops_nobody(
    still: Scheduler, ok: Any, sql: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    sql(
        "INSERT INTO schedfactory_jobs (task, status, node, worker, crashes) VALUES ('ok', 'running', 77, 1, 2);"
        "CREATE TRIGGER refuse BEFORE UPDATE ON schedfactory_jobs WHEN new.status = 'failed'"
        " BEGIN SELECT RAISE(ABORT, 'no failures here'); END;"
    )
    assert _is_well(still, ok)
    assert "the jobs of node 77, which has died, cannot be taken from it" in caplog.text


def test_nothing_in_a_row_is_imported_unpickled_or_evaluated(still: Scheduler, ok: Any, sql: Callable[..., None]) -> None:
    sys.modules.pop("this", None)  # a module that anybody may import, and nobody has
    values = (
        "this",
        "this:s",
        '{"x": {"__class__": "this", "py/object": "this.s"}}',
        '{"backoff": "this", "on": ["this"]}',
        "gASVBA==",
    )
    columns = ("task", "args", "retry", "tags", "on_crash", "result", "error")
    for column in columns:
        for value in values:
            given = {"task": "ok", "status": "queued"} | {column: value}
            names, texts = ", ".join(given), ", ".join(f"'{text}'" for text in given.values())
            sql(f"INSERT INTO schedfactory_jobs ({names}) VALUES ({texts})")
    assert _is_well(still, ok)
    for job in still.jobs(limit=1_000):
        with suppress(ValueError):
            str((job.args, job.tags, job.error, job.result, job.attempts()))
    assert "this" not in sys.modules


def test_no_module_could_unpickle_evaluate_or_import_by_name_but_those_that_find_code_by_the_programs_own_word() -> None:
    package = Path(schedfactory.__file__).parent
    found = set()
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            names += [node.func.id] if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else []
            if {"pickle", "marshal", "shelve", "importlib", "runpy", "eval", "exec", "compile", "__import__"} & set(names):
                found.add(str(file.relative_to(package)))
    # --app of the command line, the module in which a registered task was defined, and what it says to its own process.
    assert found == {"cli/source.py", "running/child.py", "running/line.py"}


@pytest.mark.parametrize(
    "when",
    [
        "BEFORE UPDATE OF progress ON schedfactory_jobs WHEN new.id = 1 BEGIN SELECT RAISE(ABORT, 'no')",
        "BEFORE UPDATE ON schedfactory_jobs WHEN new.id = 2 AND new.status = 'queued' BEGIN SELECT RAISE(ABORT, 'no')",
        "BEFORE UPDATE ON schedfactory_jobs WHEN new.id = 3 AND new.status = 'cancelled' BEGIN SELECT RAISE(ABORT, 'no')",
        "BEFORE UPDATE ON schedfactory_jobs WHEN new.id = 4 BEGIN SELECT RAISE(ABORT, 'no')",
        "BEFORE UPDATE ON schedfactory_jobs WHEN new.id = 4 AND new.status = 'running' BEGIN SELECT RAISE(IGNORE)",
        "BEFORE UPDATE ON schedfactory_jobs WHEN new.id = 4 BEGIN SELECT RAISE(IGNORE)",
    ],
    ids=["progress", "what has become due", "what has expired", "any change", "a claim that is ignored", "all is ignored"],
)
def test_a_trigger_that_refuses_a_change_of_one_job_stops_no_other(scheduler: Scheduler, path: Path, when: str) -> None:
    gate, ran = threading.Event(), []

    @scheduler.task(name="talks")
    def talks() -> None:
        current_job().set_progress(0.5)
        gate.wait(60)

    @scheduler.task(name="work")
    def work(number: int) -> None:
        ran.append(number)

    talks.enqueue()
    work.options(delay="200ms").enqueue(2)
    scheduler.remote("nobody's").options(expires="100ms").enqueue()
    work.options(priority=50).enqueue(4)
    with closing(sqlite3.connect(path)) as other:
        other.executescript(f"CREATE TRIGGER refuse {when}; END")
    with scheduler.running(workers=2):
        for number in range(10, 20):
            assert work.enqueue(number).wait("60s").status == "succeeded"
        assert scheduler.health().dispatcher == "running"
        gate.set()
    assert ran.count(4) <= 1
    assert set(range(10, 20)) <= set(ran)


def test_an_end_that_is_refused_is_a_problem_of_health_and_said_once(
    scheduler: Scheduler, path: Path, eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @scheduler.task(name="work")
    def work() -> None: ...

    scheduler.counts()
    with closing(sqlite3.connect(path)) as other, scheduler.running(workers=1):
        other.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON schedfactory_jobs WHEN new.status = 'succeeded' AND new.id = 1"
            " BEGIN SELECT RAISE(ABORT, 'no successes here'); END"
        )
        work.enqueue()
        eventually(lambda: scheduler.health().unsaved == 1)
        for _ in range(10):  # rounds that have nothing to do with it change nothing of that
            work.enqueue().wait("60s")
            health = scheduler.health()
            assert (health.ok, health.unsaved) == (False, 1)
            assert "no successes here" in health.problems[0]
        assert caplog.text.count("no successes here") == 1
        other.execute("DROP TRIGGER refuse")


def test_what_a_round_found_that_was_rolled_back_is_not_handed_over(
    still: Scheduler, ok: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok.options(delay="1s").enqueue()
    clock.advance(seconds=2)
    node = Node(still._house.shop(still), Slots(1))
    write = Database.write

    def twice(database: Database, work: Any, **how: Any) -> Any:
        def roll_back(conn: Any) -> None:
            work(conn)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            write(database, roll_back, **how)
        with monkeypatch.context() as patch:
            patch.setattr(claim, "promote", lambda conn, now: False)  # more has become due meanwhile than one round takes
            return write(database, work, **how)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", twice)
        assert node._dispatcher.claim_for(node._worker(1), clock.now) is None
    assert node._dispatcher.hand.in_flight == {}
    node.stop(0)


def test_a_call_that_a_trigger_refuses_is_a_storage_error_that_says_so(
    still: Scheduler, ok: Any, sql: Callable[..., None]
) -> None:
    job = ok.enqueue()
    sql(
        "CREATE TRIGGER refuse BEFORE UPDATE ON schedfactory_jobs WHEN new.status = 'cancelled'"
        " BEGIN SELECT RAISE(ABORT, 'nobody cancels here'); END"
    )
    with pytest.raises(StorageError, match=r"a constraint or a trigger refused the change \(nobody cancels here\)") as refused:
        job.cancel()
    assert refused.value.is_refusal
    assert _is_well(still, ok)


def test_a_definition_that_is_damaged_is_told_from_a_mistake_in_ones_own_statement(
    still: Scheduler, ok: Any, sql: Callable[..., None]
) -> None:
    ok.enqueue()
    with pytest.raises(OperationalError, match="no such column: colour"), still.reading() as connection:
        connection.execute(text("SELECT colour FROM schedfactory_jobs"))
    sql(
        "PRAGMA writable_schema = ON;"
        "UPDATE sqlite_master SET sql = replace(sql, 'FROM schedfactory_jobs', 'FROM schedfactory_jobz')"
        " WHERE name = 'schedfactory_history'; PRAGMA schema_version = 999"
    )
    with pytest.raises(StorageError, match="the file is damaged"), still.reading() as connection:
        connection.execute(text("SELECT * FROM schedfactory_history"))
