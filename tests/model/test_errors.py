"""Each error comes at the place of the mistake, says what and what to do, and belongs to one tree."""

from __future__ import annotations

import inspect
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import schedfactory
from schedfactory import RunningJob, Scheduler, TaskRegistry, Unique, current_job
from schedfactory.model import errors
from schedfactory.model.clock import system_clock
from schedfactory.model.running_job import CLAIMED
from schedfactory.storage import sqlite
from schedfactory.storage.database import Database

TREE = {
    "NotSerializable": TypeError,
    "PayloadTooLarge": ValueError,
    "UnknownTask": LookupError,
    "NotFound": LookupError,
    "NotInJob": LookupError,
    "WaitTimeout": TimeoutError,
    "DatabaseBusy": errors.StorageError,
    "NotADatabase": errors.StorageError,
    "StorageFull": errors.StorageError,
    "UnsafeFilesystem": errors.StorageError,
}


def classes() -> dict[str, type[BaseException]]:
    return {name: one for name, one in vars(errors).items() if inspect.isclass(one) and issubclass(one, BaseException)}


@pytest.mark.parametrize("name", sorted(classes()))
def test_every_error_is_in_the_tree_is_public_and_has_the_parent_that_the_tree_shows(name: str) -> None:
    one = classes()[name]
    assert issubclass(one, errors.SchedfactoryError)
    assert issubclass(one, TREE.get(name, errors.SchedfactoryError))
    assert re.search(rf"\b{name}\b", errors.__doc__ or "")
    assert getattr(schedfactory, name) is one
    assert one.__doc__


_made: list[Scheduler] = []


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while _made:
        _made.pop().close()


def same(value: Any) -> Any:
    return value


def give(path: Path, **options: Any) -> tuple[Scheduler, Any]:
    scheduler = Scheduler(path, **options)
    _made.append(scheduler)
    return scheduler, scheduler.task(name="give")(same)


def not_serializable(path: Path) -> None:
    give(path)[1].enqueue(object())


def too_large(path: Path) -> None:
    give(path, max_payload=10)[1].enqueue("x" * 10)


def unknown_task(path: Path) -> None:
    TaskRegistry().get("nothing")


def not_in_job(path: Path) -> None:
    current_job()


def not_configured(path: Path) -> None:
    TaskRegistry().task(name="same")(same).enqueue(1)


def duplicate(path: Path) -> None:
    _, task = give(path)
    for _ in range(2):
        task.options(unique=Unique(on_conflict="raise")).enqueue(1)


def queue_full(path: Path) -> None:
    scheduler, task = give(path)
    scheduler.queues.set("mail", max_size=1)
    for _ in range(2):
        task.options(queue="mail").enqueue(1)


def finished(path: Path) -> None:
    give(path)[1].enqueue(1).cancel().update(priority=1)


def pruned(path: Path) -> None:
    scheduler, task = give(path)
    job = task.enqueue(1).cancel()
    task.enqueue(2)
    scheduler.prune(older_than=0)
    job.refresh()


def failed(path: Path) -> None:
    scheduler, _ = give(path)
    job = scheduler.remote("give").enqueue(wrong=1)
    scheduler.run_due()
    job.get_result("1s")


def cancelled(path: Path) -> None:
    give(path)[1].enqueue(1).cancel().get_result("1s")


def waited(path: Path) -> None:
    give(path)[1].enqueue(1).wait("1ms")


def lost(path: Path) -> None:
    row = dict.fromkeys(CLAIMED) | {"id": 1, "attempt": 0, "fence": 0}
    job = RunningJob(tuple(row.values()), 1, 1, system_clock(), lambda job: None)
    job.cause = "lost"
    job.raise_if_cancelled()


def with_revision(path: Path, revision: str) -> None:
    scheduler, _ = give(path)
    scheduler.counts()
    scheduler.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE schedfactory_version SET version_num = ?", (revision,))
    connection.commit()
    connection.close()


def too_old(path: Path) -> None:
    with_revision(path, "0000")
    give(path, migrate=False)[1].enqueue(1)


def too_new(path: Path) -> None:
    with_revision(path, "9999")
    give(path)[1].enqueue(1)


def storage(path: Path) -> None:
    give(path / "missing" / "jobs.db")[1].enqueue(1)


def busy(path: Path) -> None:
    scheduler, task = give(path, lock_timeout="50ms")
    scheduler.counts()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        task.enqueue(1)
    finally:
        holder.close()


def not_a_database(path: Path) -> None:
    path.write_text("Dear diary,\n" * 100)
    give(path)[1].enqueue(1)


def full(path: Path) -> None:
    database = Database(path, "full", 30, True)

    def store(conn: Any) -> None:
        conn.exec_driver_sql("INSERT INTO schedfactory_jobs (task, args) VALUES ('give', ?)", ("x" * 100_000,))

    try:
        database.write(lambda conn: conn.exec_driver_sql("PRAGMA max_page_count=1"))  # SQLite takes the present size for it
        database.write(store)
    finally:
        database.close()


def unsafe(path: Path) -> None:
    device = path.parent.stat().st_dev
    mounts = f"1 0 {os.major(device)}:{os.minor(device)} / / rw - nfs4 server:/ rw"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_text", lambda *_: mounts)
        give(path)[1].enqueue(1)


MISTAKES = [
    (not_serializable, errors.NotSerializable, "parameter 'value'.*<object object.*annotat"),
    (too_large, errors.PayloadTooLarge, "the arguments of give have 22 bytes.*max_payload=10.*elsewhere"),
    (unknown_task, errors.UnknownTask, "no task is named 'nothing' here.*register"),
    (not_in_job, errors.NotInJob, "inside a task"),
    (not_configured, errors.NotConfigured, r"'?<Task same>.*scheduler\.include"),
    (
        duplicate,
        errors.DuplicateJob,
        r"give is to be unique, and job 1 \(queued\) has its key '{\"value\":1}'.*on_conflict=\"keep\"",
    ),
    (queue_full, errors.QueueFull, r"the queue 'mail' holds 1 .*of 1 \(max_size\).*Try again later.*max_size=…"),
    (finished, errors.JobFinished, r"job 1 has ended \(cancelled\).*requeue"),
    (pruned, errors.NotFound, "job 1 is gone: it was pruned"),
    (failed, errors.JobFailed, r"job 1 \(give\) failed/error: TypeError: .*wrong"),
    (cancelled, errors.JobCancelled, r"job 1 \(give\) was cancelled/user"),
    (waited, errors.WaitTimeout, "job 1 had not ended after 0.001 s"),
    (lost, errors.LostLease, "job 1: attempt 1"),
    (too_old, errors.SchemaTooOld, "schema 0000.*migrate"),
    (too_new, errors.SchemaTooNew, "schema 9999.*newer schedfactory"),
    (storage, errors.StorageError, r"missing/jobs\.db cannot be made: .*folder"),
    (busy, errors.DatabaseBusy, r"jobs\.db: others held it for 0\.05 s.*lock_timeout"),
    (not_a_database, errors.NotADatabase, r"jobs\.db: this file is no SQLite database.*another path"),
    (full, errors.StorageFull, r"jobs\.db: the disk is full.*free some space"),
    (unsafe, errors.UnsafeFilesystem, r"jobs\.db lies on nfs4, whose locks cannot be trusted.*local disk"),
]


def test_there_is_a_mistake_for_every_error_but_their_root() -> None:
    assert {kind for _, kind, _ in MISTAKES} == set(classes().values()) - {errors.SchedfactoryError}


@pytest.mark.parametrize(("mistake", "kind", "says"), MISTAKES, ids=[kind.__name__ for _, kind, _ in MISTAKES])
def test_each_mistake_has_its_error(path: Path, mistake: Callable[[Path], None], kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says) as caught:
        mistake(path)
    assert type(caught.value) is kind
    if isinstance(caught.value, errors.StorageError):
        assert caught.value.path.startswith(str(path))


def test_a_write_that_did_not_fit_is_not_stored_later(path: Path) -> None:
    with pytest.raises(errors.StorageFull):
        full(path)
    scheduler, task = give(path)
    assert sum(scheduler.counts().values()) == 0
    assert task.enqueue(1).id == 1


@pytest.mark.parametrize("code", sorted(sqlite._MEANINGS))
def test_what_sqlite_says_is_told_with_the_path(code: int) -> None:
    error = sqlite3.OperationalError("what it said")
    error.sqlite_errorcode = code | (7 << 8)
    found = sqlite.translate(error, Path("/data/jobs.db"), 30)
    assert found is not None
    assert (found.path, str(found).startswith("/data/jobs.db: ")) == ("/data/jobs.db", True)


def test_a_mistake_of_our_own_is_not_called_a_storage_error() -> None:
    assert sqlite.translate(sqlite3.IntegrityError("no such"), Path("jobs.db"), 30) is None
    assert sqlite.translate(ValueError("no"), Path("jobs.db"), 30) is None
