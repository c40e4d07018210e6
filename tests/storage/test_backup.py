"""`backup()`: a copy of one moment, taken while others write, or nothing at all."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from schedfactory import Scheduler, StorageError, StorageFull
from schedfactory.storage import backup


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies" / "copy.db"


@contextmanager
def opened(path: Path, **settings: Any) -> Iterator[Scheduler]:
    with closing(Scheduler(path, **settings)) as found:
        yield found


def sql(path: Path, statement: str) -> list[tuple[Any, ...]]:
    """Ask from another process: closing the file in this one would drop its locks."""
    program = (
        "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1], timeout=0);"
        "print(connection.execute(sys.argv[2]).fetchall()); connection.close()"
    )
    done = subprocess.run([sys.executable, "-c", program, path, statement], capture_output=True, text=True)
    if done.returncode:
        raise sqlite3.OperationalError(done.stderr)
    return eval(done.stdout)  # type: ignore[no-any-return]


def raising(error: OSError) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


# The copy


def test_a_copy_taken_while_others_write_is_one_moment_of_the_queue(scheduler: Scheduler, target: Path) -> None:
    work = scheduler.remote("work")
    stored = [work.enqueue(n=0).id]
    is_over = threading.Event()

    def produce() -> None:
        while not is_over.is_set():
            stored.append(work.enqueue(n=len(stored), padding="x" * 1_000).id)

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        for number in range(5):
            before = len(stored)
            copy = scheduler.backup(target.with_name(f"{number}.db"))
            after = len(stored)
            assert sql(copy, "PRAGMA integrity_check") == [("ok",)]
            [(jobs, last)] = sql(copy, "SELECT count(*), max(id) FROM schedfactory_jobs")
            assert jobs == last
            assert before <= jobs <= after + 1
    finally:
        is_over.set()
        thread.join()
    assert sorted(stored) == list(range(1, len(stored) + 1))


def test_a_copy_is_a_file_of_its_own_that_has_all_its_names_and_nothing_beside_it(scheduler: Scheduler, target: Path) -> None:
    scheduler.remote("work").enqueue()
    assert scheduler.backup(str(target)) == target
    assert list(target.parent.iterdir()) == [target]
    scheduler.remote("work").enqueue()
    with opened(target, migrate=False) as copy:
        assert (copy.counts()["queued"], scheduler.counts()["queued"]) == (1, 2)
        assert copy.remote("work").enqueue().id == 2


def test_a_relative_target_lies_in_the_working_directory(
    scheduler: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert scheduler.backup("a copy?#%.db") == tmp_path / "a copy?#%.db"
    assert sql(tmp_path / "a copy?#%.db", "SELECT count(*) FROM schedfactory_jobs") == [(0,)]


def test_a_database_in_memory_can_be_kept(target: Path) -> None:
    with opened(":memory:") as scheduler:  # type: ignore[arg-type]
        scheduler.remote("work").enqueue()
        scheduler.backup(target)
    with opened(target) as copy:
        assert copy.get(1).task == "work"  # type: ignore[union-attr]


def test_the_rowids_of_other_tables_in_the_file_stay(still: Scheduler, client: sqlite3.Connection, target: Path) -> None:
    client.execute("CREATE TABLE notes (text)")
    client.executemany("INSERT INTO notes VALUES (?)", [("a",), ("b",), ("c",)])
    client.execute("DELETE FROM notes WHERE text = 'b'")
    still.backup(target)
    assert sql(target, "SELECT rowid, text FROM notes") == [(1, "a"), (3, "c")]


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_copy_has_the_permissions_of_the_original(scheduler: Scheduler, path: Path, target: Path, mode: int) -> None:
    scheduler.counts()
    path.chmod(mode)
    umask = os.umask(0o077)
    try:
        scheduler.backup(target)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == mode


def test_a_backup_waits_for_no_writer_and_drops_none_of_this_process_s_locks(
    scheduler: Scheduler, path: Path, target: Path
) -> None:
    scheduler.remote("work").enqueue()

    def work(conn: Any) -> None:
        conn.execute(text("INSERT INTO schedfactory_jobs (task) VALUES ('unfinished')"))
        scheduler.backup(target)
        with pytest.raises(sqlite3.OperationalError, match="database is locked"):
            sql(path, "BEGIN IMMEDIATE")

    scheduler._house.database.write(work)
    assert sql(target, "SELECT task FROM schedfactory_jobs") == [("work",)]
    assert scheduler.counts()["queued"] == 1
    log = os.stat(f"{path}-wal").st_ino
    assert sql(path, "BEGIN IMMEDIATE") == []
    assert os.stat(f"{path}-wal").st_ino == log, "another process took itself for the last one that had the file open"


# Names that are taken


@pytest.mark.parametrize("make", [lambda path: path.write_bytes(b"mine"), Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_is_there_already_is_refused_at_once_and_left_alone(
    scheduler: Scheduler, target: Path, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    monkeypatch.setattr(backup, "_fill", raising(OSError("it was copied all the same")))
    make(target)
    before = target.lstat()
    with pytest.raises(FileExistsError, match=r"copy\.db is there already, and a backup replaces nothing"):
        scheduler.backup(target)
    assert (target.lstat().st_ino, target.lstat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert list(target.parent.iterdir()) == [target]


def test_a_database_is_not_copied_onto_itself(scheduler: Scheduler, path: Path) -> None:
    scheduler.remote("work").enqueue()
    with pytest.raises(FileExistsError):
        scheduler.backup(path)
    assert scheduler.counts()["queued"] == 1


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_comes_while_the_copy_is_made_is_not_replaced(
    scheduler: Scheduler, target: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    fill = backup._fill

    def fill_and_lose(*arguments: Any) -> None:
        fill(*arguments)
        target.write_bytes(b"another's")

    monkeypatch.setattr(backup, "_fill", fill_and_lose)
    if not has_links:
        monkeypatch.setattr(os, "link", raising(PermissionError(errno.EPERM, "no links here")))
    with pytest.raises(FileExistsError, match="is there already"):
        scheduler.backup(target)
    assert target.read_bytes() == b"another's"
    assert list(target.parent.iterdir()) == [target]


def test_a_file_system_without_links_takes_copies_too(
    scheduler: Scheduler, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler.remote("work").enqueue()
    monkeypatch.setattr(os, "link", raising(PermissionError(errno.EPERM, "no links here")))
    scheduler.backup(target)
    assert sql(target, "SELECT task FROM schedfactory_jobs") == [("work",)]
    assert list(target.parent.iterdir()) == [target]


# What goes wrong


def test_a_missing_folder_is_a_storage_error_that_names_the_target(scheduler: Scheduler, tmp_path: Path) -> None:
    target = tmp_path / "missing" / "copy.db"
    with pytest.raises(StorageError, match=r"could not be copied to .*missing/copy\.db.*No such file") as caught:
        scheduler.backup(target)
    assert caught.value.path == str(target)


def test_a_database_that_cannot_be_opened_says_so_itself(tmp_path: Path, target: Path) -> None:
    (tmp_path / "diary.txt").write_text("Dear diary,\n" * 500)
    with opened(tmp_path / "diary.txt") as scheduler, pytest.raises(StorageError, match="is no SQLite database"):
        scheduler.backup(target)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("failing", [0, 1], ids=["the copy", "its folder"])
@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EIO, StorageError)]
)
def test_a_copy_that_cannot_be_synced_is_not_left(
    scheduler: Scheduler, target: Path, monkeypatch: pytest.MonkeyPatch, failing: int, code: int, kind: type[StorageError]
) -> None:
    scheduler.counts()
    synced: list[int] = []

    def fsync(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > failing:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match=r"copy\.db.*No copy was left") as caught:
        scheduler.backup(target)
    assert type(caught.value) is kind
    assert len(synced) == failing + 1
    assert list(target.parent.iterdir()) == []
    scheduler.remote("work").enqueue()


def test_a_disk_that_fills_up_on_the_way_is_storage_full(
    scheduler: Scheduler, path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler.counts()
    connect = sqlite3.connect

    def small(database: str, **settings: Any) -> sqlite3.Connection:
        found = connect(database, **settings)
        if database.endswith("nolock=1"):
            found.execute("PRAGMA max_page_count=10")
        return found

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(StorageFull, match=r"copy\.db: database or disk is full"):
        scheduler.backup(target)
    assert list(target.parent.iterdir()) == []


def test_a_damaged_database_gives_no_copy(scheduler: Scheduler, path: Path, target: Path) -> None:
    for n in range(200):
        scheduler.remote("work").enqueue(n=n)
    scheduler.close()
    damage(path)
    with pytest.raises(StorageError, match=r"jobs\.db could not be copied to .*it is damaged \(.*restore an earlier backup"):
        scheduler.backup(target)
    assert list(target.parent.iterdir()) == []


def damage(path: Path) -> None:
    """Spoil the page in which the index of the queued jobs begins."""
    [(page,)] = sql(path, "SELECT rootpage FROM sqlite_master WHERE name = 'schedfactory_jobs_queued'")
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096 + 8)
        file.write(b"\xff" * 2_000)


def test_a_process_killed_on_the_way_leaves_a_file_whose_name_tells(
    scheduler: Scheduler, path: Path, target: Path, program: Any
) -> None:
    scheduler.counts()
    process = program(
        """
        import sys, threading
        from schedfactory import Scheduler
        from schedfactory.storage import backup

        def hang(_path):
            print("made", flush=True)
            threading.Event().wait()

        backup._sync = hang
        Scheduler(sys.argv[1]).backup(sys.argv[2])
        """,
        str(path),
        str(target),
    )
    assert process.stdout.readline() == "made\n"
    process.kill()
    process.wait()
    [left] = target.parent.iterdir()
    assert left.name.startswith("copy.db.")
    assert left.suffix == ".unfinished"
    scheduler.backup(target)
    assert sql(target, "PRAGMA integrity_check") == [("ok",)]


# What ran when the copy was made


def test_a_job_that_ran_is_a_crash_to_the_copy_once_its_lease_is_over(scheduler: Scheduler, path: Path, target: Path) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    @scheduler.task(name="work")
    def work() -> str:
        has_begun.set()
        may_end.wait(60)
        return "the original"

    @scheduler.task(name="once", on_crash="fail")
    def once() -> str:
        may_end.wait(60)
        return "the original"

    work.enqueue()
    once.enqueue()
    with scheduler.running(workers=2):
        assert has_begun.wait(60)
        while scheduler.counts()["running"] < 2:
            threading.Event().wait(0.01)
        scheduler.backup(target)
        with opened(target, lease="1s") as copy:
            copy.task(name="work")(work_of_the_copy)
            with copy.running(workers=1):
                assert copy.get(1).get_result(timeout="60s") == "the copy"  # type: ignore[union-attr]
                assert copy.get(2).wait(timeout="60s").reason == "crashed"  # type: ignore[union-attr]
            assert [attempt.status for attempt in copy.get(1).attempts()] == ["crashed", "succeeded"]  # type: ignore[union-attr]
        may_end.set()
        assert scheduler.get(1).get_result(timeout="60s") == "the original"  # type: ignore[union-attr]
    assert scheduler.get(1).crashes == 0  # type: ignore[union-attr]


def work_of_the_copy() -> str:
    return "the copy"


def test_in_the_place_of_the_original_what_ran_starts_again_at_once(path: Path, target: Path, program: Any) -> None:
    process = program(
        """
        import sys, threading
        from schedfactory import Scheduler

        scheduler = Scheduler(sys.argv[1])

        @scheduler.task(name="work")
        def work():
            print(scheduler.backup(sys.argv[2]), flush=True)
            threading.Event().wait()

        work.enqueue()
        scheduler.run(workers=1)
        """,
        str(path),
        str(target),
    )
    assert process.stdout.readline() == f"{target}\n"
    process.kill()
    process.wait()
    for name in ("jobs.db", "jobs.db-wal", "jobs.db-shm"):
        path.with_name(name).unlink(missing_ok=True)
    shutil.move(target, path)
    with opened(path, lease="1h") as scheduler:
        scheduler.task(name="work")(work_of_the_copy)
        assert scheduler.run_due() == 1
        assert (scheduler.get(1).result, scheduler.get(1).crashes) == ("the copy", 1)  # type: ignore[union-attr]


@pytest.mark.parametrize("end", ["-wal", "-journal", "-shm", "-nodes"])
def test_what_is_left_of_an_earlier_file_of_that_name_is_refused_since_it_would_be_carried_out_on_the_copy(
    scheduler: Scheduler, target: Path, end: str
) -> None:
    scheduler.remote("x").enqueue()
    left = Path(f"{target}{end}")
    left.write_bytes(b"")
    with pytest.raises(FileExistsError, match=end):
        scheduler.backup(target)
    assert not target.exists()
