"""The tables come from the migrations only, and are what the code declares."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from schedfactory import Scheduler, SchemaTooNew, SchemaTooOld, tables
from schedfactory.storage import migrate

ROOT = Path(__file__).parents[2]


def schema(path: Path, *kinds: str) -> dict[str, str]:
    """Return the statements that made the tables, indexes or views of a file, by name, with blanks evened out."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE name LIKE 'schedfactory%'").fetchall()
    return {
        name: re.sub(r"\s*([(),])\s*", r"\1", re.sub(r"\s+", " ", sql)).strip()
        for kind, name, sql in rows
        if kind in kinds and name != "schedfactory_version"
    }


def parts(sql: str) -> list[str]:
    """Return what a CREATE TABLE says, part by part in order of the alphabet: a column that was added later stands last."""
    head, _, rest = sql.partition("(")
    inside, _, tail = rest.rpartition(")")
    found, depth = [""], 0
    for sign in inside:
        depth += (sign == "(") - (sign == ")")
        if sign == "," and depth == 0:
            found.append("")
        else:
            found[-1] += sign
    return [head, tail, *sorted(found)]


@pytest.fixture
def migrated(tmp_path: Path) -> Path:
    path = tmp_path / "migrated.db"
    scheduler = Scheduler(path)
    scheduler.counts()
    scheduler.close()
    return path


def test_the_migrated_schema_is_the_declared_one(tmp_path: Path, migrated: Path) -> None:
    declared = tmp_path / "declared.db"
    engine = create_engine(f"sqlite:///{declared}")
    tables.metadata.create_all(engine)
    engine.dispose()
    assert schema(migrated, "index") == schema(declared, "index")
    found, wanted = schema(migrated, "table"), schema(declared, "table")
    assert {name: parts(sql) for name, sql in found.items()} == {name: parts(sql) for name, sql in wanted.items()}
    assert set(schema(migrated, "table")) == set(tables.metadata.tables)


@pytest.mark.parametrize("view", sorted(tables.views.tables))
def test_a_migrated_view_has_the_declared_columns(migrated: Path, view: str) -> None:
    with closing(sqlite3.connect(migrated)) as connection:
        found = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({view})")]
    assert found == [column.name for column in tables.views.tables[view].columns]


def test_there_are_no_other_views(migrated: Path) -> None:
    assert set(schema(migrated, "view")) == set(tables.views.tables)


def alembic(*arguments: str, folder: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), *arguments],
        cwd=folder, capture_output=True, text=True, env=os.environ, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def everything(path: Path) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        return (
            connection.execute("SELECT version_num FROM schedfactory_version").fetchall(),
            connection.execute("PRAGMA journal_mode").fetchone(),
            schema(path, "table", "index", "view"),
        )


def test_the_alembic_command_makes_what_the_library_makes(tmp_path: Path, migrated: Path) -> None:
    path = tmp_path / "by_hand.db"
    for _ in range(2):  # the second time there is nothing to do
        alembic("-x", f"database={path}", "upgrade", "head", folder=tmp_path)
        assert everything(path) == everything(migrated)
    assert "(head)" in alembic("-x", f"database={path}", "current", folder=tmp_path)
    scheduler = Scheduler(path, migrate=False)
    assert scheduler.counts()["queued"] == 0
    scheduler.close()


def test_the_printed_sql_runs_as_it_stands(tmp_path: Path, migrated: Path) -> None:
    for name, sql in (("library.db", migrate.script()), ("command.db", alembic("upgrade", "head", "--sql"))):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            connection.executescript(sql)
        assert everything(tmp_path / name)[::2] == everything(migrated)[::2]


def test_the_newest_revision_is_the_one_that_alembic_leads_to(migrated: Path) -> None:
    assert everything(migrated)[0] == [(migrate.head(),)]


def set_revision(path: Path, revision: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE schedfactory_version SET version_num = ?", (revision,))


@pytest.mark.parametrize("may_migrate", [True, False])
def test_a_newer_schema_is_refused_and_left_as_it_is(migrated: Path, may_migrate: bool) -> None:
    set_revision(migrated, "9999")
    before = everything(migrated)
    scheduler = Scheduler(migrated, migrate=may_migrate)
    for use in (scheduler.counts, scheduler.remote("x").enqueue, scheduler.run_due, scheduler.start, scheduler.migrate):
        with pytest.raises(SchemaTooNew, match=r"schema 9999.*newer schedfactory"):
            use()
    scheduler.close()
    assert everything(migrated) == before


def test_a_schema_that_becomes_newer_while_it_is_used_is_written_to_no_more(migrated: Path) -> None:
    scheduler = Scheduler(migrated)
    job = scheduler.remote("x").enqueue()
    set_revision(migrated, "9999")
    before = everything(migrated)
    for use in (scheduler.remote("x").enqueue, job.cancel, scheduler.run_due, scheduler.start):
        with pytest.raises(SchemaTooNew, match=r"schema 9999.*newer schedfactory"):
            use()
    assert job.refresh().status == "queued"
    scheduler.close()
    assert everything(migrated) == before


@pytest.mark.parametrize("odd", ["SELECT '9999'", "SELECT X'FF'"], ids=["a second one", "no text"])
def test_an_odd_revision_counts_as_a_newer_one(migrated: Path, odd: str) -> None:
    scheduler = Scheduler(migrated)
    scheduler.counts()
    with closing(sqlite3.connect(migrated, isolation_level=None)) as connection:
        connection.execute(f"INSERT INTO schedfactory_version {odd}")
    for each in (scheduler, Scheduler(migrated)):
        with pytest.raises(SchemaTooNew):
            each.remote("x").enqueue()
        each.close()


def test_only_a_commit_of_others_has_the_revision_looked_at(migrated: Path) -> None:
    scheduler = Scheduler(migrated)
    work = scheduler.remote("x")
    work.enqueue()
    statements: list[str] = []
    scheduler._house.database._open().driver.set_trace_callback(statements.append)
    work.enqueue()
    assert not any("schedfactory_version" in statement for statement in statements)
    with closing(sqlite3.connect(migrated, isolation_level=None)) as connection:
        connection.execute("INSERT INTO schedfactory_jobs (task) VALUES ('y')")
    work.enqueue()
    assert sum("FROM schedfactory_version" in statement for statement in statements) == 1
    scheduler.close()


def test_an_older_schema_is_refused_without_migrate(migrated: Path) -> None:
    set_revision(migrated, "0000")
    scheduler = Scheduler(migrated, migrate=False)
    with pytest.raises(SchemaTooOld, match=f"schema 0000.*needs {migrate.head()}.*schedfactory migrate"):
        scheduler.remote("x").enqueue()
    scheduler.close()
    assert everything(migrated)[0] == [("0000",)]


def test_without_migrate_nothing_is_made(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    scheduler = Scheduler(path, migrate=False)
    with pytest.raises(SchemaTooOld, match=r"none\.db is missing"):
        scheduler.counts()
    assert list(tmp_path.iterdir()) == []
    scheduler.migrate()
    assert scheduler.counts()["queued"] == 0
    scheduler.close()


def test_tables_of_the_users_live_beside_ours(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
        connection.execute("INSERT INTO users VALUES (1, 'Ada')")
    scheduler = Scheduler(path)
    scheduler.remote("x").enqueue()
    scheduler.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM users").fetchall() == [(1, "Ada")]
        assert connection.execute("SELECT task FROM schedfactory_jobs").fetchall() == [("x",)]


def test_a_migration_that_fails_leaves_nothing_behind(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE VIEW schedfactory_history AS SELECT 1")  # in the way of one of the last statements
    scheduler = Scheduler(path)
    with pytest.raises(Exception, match="already exists"):
        scheduler.counts()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("schedfactory_history",)]
        connection.execute("DROP VIEW schedfactory_history")
    assert scheduler.counts()["queued"] == 0
    scheduler.close()


FIRST_USE = """
import sys
from schedfactory import Scheduler

print("ready", flush=True)
for name in sys.stdin:
    scheduler = Scheduler(name.strip())
    print(scheduler.remote("x").enqueue(who=sys.argv[1]).id, flush=True)
    scheduler.close()
"""


def test_processes_that_open_a_fresh_file_at_once_all_work(program: Any) -> None:
    processes = [program(FIRST_USE, str(number), name=f"app{number}.py") for number in range(4)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 4
    for number in range(10):
        for process in processes:
            process.stdin.write(f"jobs{number}.db\n")
            process.stdin.flush()
        assert sorted(process.stdout.readline() for process in processes) == ["1\n", "2\n", "3\n", "4\n"]
    assert [process.communicate(timeout=60)[1] for process in processes] == [""] * 4
