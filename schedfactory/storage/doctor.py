"""What is wrong with a database, its rows, and what it lies on. Nothing here writes."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection

from schedfactory.model import codec
from schedfactory.model.errors import NotADatabase, SchemaTooNew, StorageError, UnsafeFilesystem
from schedfactory.model.health import Finding
from schedfactory.model.job import FINAL
from schedfactory.model.registry import TaskRegistry
from schedfactory.storage import checkpoint, nodes, sqlite, surroundings
from schedfactory.storage.database import Database
from schedfactory.storage.locks import lock_file

_FINAL = ", ".join(f"'{status}'" for status in FINAL)
_COUNTERS = f"""
    SELECT queue, status, sum(jobs), sum(said) FROM (
        SELECT queue, status, count(*) AS jobs, 0 AS said FROM schedfactory_jobs WHERE status IN ({_FINAL}) GROUP BY 1, 2
        UNION ALL SELECT queue, status, 0, jobs FROM schedfactory_totals
    ) GROUP BY 1, 2 HAVING sum(jobs) <> sum(said)
"""
_COUNT_ANEW = (
    "BEGIN IMMEDIATE; DELETE FROM schedfactory_totals; INSERT INTO schedfactory_totals SELECT queue, status, count(*)"
    f" FROM schedfactory_jobs WHERE status IN ({_FINAL}) GROUP BY 1, 2; COMMIT;"
)
_ORPHANS = """
    SELECT node, count(*), min(id) FROM schedfactory_jobs
    WHERE status = 'running' AND node IN (SELECT value FROM json_each(?)) GROUP BY node
"""
_TASKS = f"SELECT task, count(*), min(id) FROM schedfactory_jobs WHERE status NOT IN ({_FINAL}) GROUP BY task"
_ARGUMENTS = f"SELECT id, task, args FROM schedfactory_jobs WHERE status NOT IN ({_FINAL}, 'running')"


def examine(database: Database, tasks: TaskRegistry) -> list[Finding]:
    """Return all that is found.

    Raises:
        StorageError: it cannot be opened, for another reason than one that is found here.
    """
    path = database.path
    found = list(_build())
    try:
        surroundings.refuse_unsafe(path)
        if database.may_migrate and not path.exists() and path.parent.is_dir():
            return found  # which opening it would make
        with database.read() as conn:
            found += _permissions(path)
            found += _damage(path, conn) or [*_log(path), *_counters(path, conn), *_orphans(path, conn), *_tasks(conn, tasks)]
    except UnsafeFilesystem as error:
        found.append(Finding("filesystem", str(error)))
    except SchemaTooNew as error:
        found.append(Finding("newer_schema", str(error)))
    except StorageError as error:
        if isinstance(error, NotADatabase) or not error.is_final:
            raise
        found.append(Finding("damaged", str(error)))
    return found


def _build() -> Iterator[Finding]:
    if sqlite.state() != "ok":
        yield Finding(
            "sqlite",
            f"this Python has SQLite {sqlite3.sqlite_version}, which may lose commits when another program checkpoints the file"
            " while it is written to, as Litestream or a shell that writes does (sqlite.org/wal.html#walresetbug); schedfactory"
            " itself checkpoints in a way that does not. Let no other program write to the file, or use a Python with SQLite"
            " 3.51.3 or newer, 3.50.7 or 3.44.6.",
        )


def _permissions(path: Path) -> list[Finding]:
    return [
        Finding("permissions", f"anyone on this host may write to {file}, and so run your tasks. chmod o-w {file}")
        for file in surroundings.writable_by_others(path)
    ]


def _damage(path: Path, conn: Connection) -> list[Finding]:
    said = conn.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    if said == "ok":
        return []
    return [Finding("damaged", f"{path} is damaged: {' '.join(said.split())}. Restore a backup, or try sqlite3's .recover.")]


def _log(path: Path) -> Iterator[Finding]:
    said = checkpoint.alarm(path)
    if said is not None:
        yield Finding("log", said)


def _counters(path: Path, conn: Connection) -> Iterator[Finding]:
    off = conn.exec_driver_sql(_COUNTERS).all()
    if off:
        queue, status, jobs, said = off[0]
        more = f", and {len(off) - 1} more like that" if len(off) > 1 else ""
        yield Finding(
            "counters",
            f"schedfactory_totals counts {said} {status} jobs in the queue {queue!r}, where there are {jobs}{more}: finished"
            " rows were changed by SQL. What counts() says is off, and nothing else. To count anew:"
            f' sqlite3 {shlex.quote(str(path))} "{_COUNT_ANEW}"',
        )


def _orphans(path: Path, conn: Connection) -> Iterator[Finding]:
    if Path(f"{path}-nodes").exists():  # else it would be made
        lock = lock_file(path)
        try:
            dead = nodes.look_around(conn, 0, lock).dead
        finally:
            lock.leave()
        for node, jobs, first in conn.exec_driver_sql(_ORPHANS, (codec.encode(dead),)):
            yield Finding(
                "orphans",
                f"{_jobs(jobs, first)} still marked as running, by node {node}, whose process has ended. Start a node: it"
                " takes them at once.",
            )


def _tasks(conn: Connection, tasks: TaskRegistry) -> Iterator[Finding]:
    if not tasks.names():
        return
    for name, jobs, first in conn.exec_driver_sql(_TASKS):
        if tasks.find(name) is None:
            yield Finding(
                "tasks",
                f"{_jobs(jobs, first)} of the task {name!r}, which is not registered here, and waits for a node that"
                f" knows it. Import its module; if it was renamed, give it aliases=[{name!r}].",
            )
    faults: dict[str, tuple[int, int, str]] = {}  # how many, the first one, and what it says
    for job_id, name, args in conn.exec_driver_sql(_ARGUMENTS):  # row by row, not all at once
        task = tasks.find(name)
        if task is not None:
            try:
                task.arguments.loads(args)
            except TypeError as error:
                jobs, first, said = faults.get(name, (0, job_id, str(error)))
                faults[name] = jobs + 1, first, said
    for name, (jobs, first, said) in faults.items():
        yield Finding(
            "arguments",
            f"{_jobs(jobs, first)} of the task {name!r} with arguments that it does not take, and will fail: {said}. Let it"
            " take them again, or cancel what has them.",
        )


def _jobs(number: int, example: int) -> str:
    return f"job {example} is" if number == 1 else f"{number} jobs, such as job {example}, are"
