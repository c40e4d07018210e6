"""The file itself: who reads, who writes, what is done when it cannot be done."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Pool, text

from schedfactory import DatabaseBusy, NotADatabase, QueueFull, Scheduler, StorageError, UnsafeFilesystem, tables
from schedfactory.storage import checkpoint, sqlite
from schedfactory.storage.database import Database
from schedfactory.storage.fork import Readers


def number_of_jobs(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM schedfactory_jobs").fetchone()[0])


def insert(task: str | None) -> Any:
    return lambda conn: conn.execute(tables.jobs.insert().values(task=task))


# Writing together


def test_what_many_threads_write_at_once_is_all_stored(still: Scheduler, path: Path) -> None:
    work = still.remote("work")
    ids: list[int] = []

    def write(thread: int) -> None:
        ids.extend([work.enqueue(thread=thread, n=n).id for n in range(20)])

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ids) == list(range(1, 241))
    for job in still.jobs(args={"thread": 3}):
        assert job.id in ids
    assert number_of_jobs(path) == 240


@contextmanager
def held(database: Database) -> Iterator[None]:
    """Keep a write under way, so that what other threads bring waits and is carried out together."""
    is_held, may_go = threading.Event(), threading.Event()

    def hold(conn: Any) -> None:
        is_held.set()
        assert may_go.wait(60)

    def write() -> None:
        with suppress(StorageError):  # of the others, whose commit it shares
            database.write(hold)

    holder = threading.Thread(target=write)
    holder.start()
    assert is_held.wait(60)
    try:
        yield
    finally:
        may_go.set()
        holder.join(60)


def opened_files() -> set[str]:
    return {os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")}


def brought_together(database: Database, calls: list[Callable[[], Any]]) -> list[Any]:
    """Make all these calls, which write, in one batch; return what each thread got, a value or an exception."""
    got: list[Any] = [None] * len(calls)
    pause = threading.Event()

    def bring(number: int) -> None:
        try:
            got[number] = calls[number]()
        except Exception as error:
            got[number] = error

    with held(database):
        threads = [threading.Thread(target=bring, args=(number,)) for number in range(len(calls))]
        for number, thread in enumerate(threads, 1):
            thread.start()
            while len(database._waiting) < number:
                pause.wait(0.001)
    for thread in threads:
        thread.join(60)
    return got


def test_threads_that_wait_share_one_commit(database: Database, path: Path) -> None:
    database.open()
    before = database._commits
    brought_together(database, [partial(database.write, insert("work"))] * 8)
    assert number_of_jobs(path) == 8
    assert database._commits == before + 1  # that of the holder


def test_a_thread_that_comes_while_another_writes_shares_its_commit(database: Database, path: Path) -> None:
    database.open()
    before = database._commits
    pause, late = threading.Event(), threading.Thread(target=database.write, args=(insert("late"),))

    def first(conn: Connection) -> None:
        insert("first")(conn)
        late.start()
        while not database._waiting:
            pause.wait(0.001)

    database.write(first)
    late.join(60)
    assert number_of_jobs(path) == 2
    assert database._commits == before + 1


def test_one_bad_work_fails_alone(database: Database, path: Path) -> None:
    def wrong(conn: Any) -> None:
        conn.execute(tables.jobs.insert().values(task="half done"))
        raise KeyError("a mistake")

    works = [insert("good"), wrong, insert("good"), insert(None), lambda conn: 5]
    got = brought_together(database, [partial(database.write, work) for work in works])
    assert [isinstance(one, Exception) for one in got] == [False, True, False, True, False]
    assert (type(got[1]), type(got[3]), got[4]) == (KeyError, StorageError, 5)
    assert got[3].is_refusal
    assert number_of_jobs(path) == 2


def test_enqueues_that_share_a_commit_share_its_statements_and_each_gets_its_own_jobs(still: Scheduler) -> None:
    still.counts()
    mail, work = still.remote("mail").options(queue="mail", priority=9), still.remote("work")
    some = [work.call(n=n) for n in range(30)]
    statements: list[str] = []
    database = still._house.database
    database._open().driver.set_trace_callback(statements.append)
    one, many, other = brought_together(
        database, [partial(work.enqueue, n=-1), partial(still.enqueue_many, some), partial(mail.enqueue, n=-2)]
    )
    assert sum(statement.startswith("INSERT INTO schedfactory_jobs") for statement in statements) == 1
    for job, n in zip([one, *many, other], [-1, *range(30), -2]):
        assert (job.refresh(), job.args) == (job, {"n": n})
    assert (other.task, other.queue, other.priority) == ("mail", "mail", 9)


def test_enqueues_that_share_a_commit_are_refused_each_for_itself(still: Scheduler) -> None:
    still.queues.set("mail", max_size=3)
    mail, work = still.remote("mail").options(queue="mail"), still.remote("work")
    too_many = [mail.call(n=n) for n in range(3)]
    got = brought_together(
        still._house.database,
        [mail.enqueue, partial(still.enqueue_many, too_many), work.enqueue, mail.enqueue, mail.enqueue, mail.enqueue],
    )
    assert [isinstance(one, QueueFull) for one in got] == [False, True, False, False, False, True]
    assert still.counts()["queued"] == 4


def test_enqueues_whose_shared_commit_fails_are_told_so_each_by_an_error_of_its_own(
    still: Scheduler, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: sqlite3.Connection, _deadline: float) -> None:
        connection.rollback()
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    still.counts()
    monkeypatch.setattr(sqlite, "commit", fail)
    got = brought_together(still._house.database, [still.remote("work").enqueue] * 3)
    assert len({id(error) for error in got}) == 3
    for error in got:
        assert str(error).startswith(f"{path}: the commit failed (disk I/O error). Nothing was stored")
        assert (type(error), error.path) == (StorageError, str(path))
    monkeypatch.undo()
    assert still.remote("work").enqueue().id == 1


def test_enqueues_that_share_a_commit_find_each_others_unique_keys(still: Scheduler) -> None:
    plain, only = still.remote("plain"), still.remote("only").options(unique="the one")
    first, one, twin, second = brought_together(
        still._house.database, [plain.enqueue, only.enqueue, only.enqueue, plain.enqueue]
    )
    assert (one.is_new, twin.is_new, twin) == (True, False, one)
    assert [job.refresh().task for job in (first, one, second)] == ["plain", "only", "plain"]
    assert still.counts()["queued"] == 3


def test_bells_ring_after_the_commit_unless_the_write_is_quiet(database: Database, path: Path) -> None:
    heard: list[int] = []

    def bell() -> None:
        heard.append(number_of_jobs(path))

    database.on_commit(bell)
    database.write(insert("work"))
    database.write(insert("work"), quiet=True)
    with pytest.raises(StorageError, match="NOT NULL constraint failed"):
        database.write(insert(None))
    database.off_commit(bell)
    database.off_commit(bell)
    database.write(insert("work"))
    assert heard == [1]


def test_an_interrupt_of_the_thread_that_writes_for_others_costs_them_nothing(database: Database) -> None:
    database.open()
    gate, interrupts, ends = threading.Event(), [KeyboardInterrupt()], []

    def work(conn: Connection, name: str) -> None:
        if name == "first":
            gate.wait(10)
        elif interrupts:
            raise interrupts.pop()
        insert(name)(conn)

    def write(name: str) -> None:
        try:
            database.write(lambda conn: work(conn, name))
            ends.append(name)
        except KeyboardInterrupt:
            ends.append("interrupted")

    threads = [threading.Thread(target=write, args=(name,)) for name in ("first", "second", "third", "fourth")]
    for thread, waiting in zip(threads, range(4)):  # the first one writes, and the others wait for it
        thread.start()
        end = time.monotonic() + 10
        while (not database._leader or len(database._waiting) != waiting) and time.monotonic() < end:
            time.sleep(0.001)
    gate.set()
    for thread in threads:
        thread.join(10)
    with database.read() as conn:
        stored = conn.execute(text("SELECT task FROM schedfactory_jobs")).scalars().all()
    assert ends.count("interrupted") == 1
    assert sorted([*stored, "interrupted"]) == sorted(ends)


def test_an_interrupt_just_after_the_commit_has_nothing_done_twice(database: Database, path: Path) -> None:
    database.open()
    pause, late = threading.Event(), threading.Thread(target=database.write, args=(insert("late"),))

    def first(conn: Connection) -> None:
        insert("first")(conn)
        late.start()
        while not database._waiting:
            pause.wait(0.001)

    interrupts = [KeyboardInterrupt()]

    def bell() -> None:
        if interrupts:
            raise interrupts.pop()

    database.on_commit(bell)
    with pytest.raises(KeyboardInterrupt):
        database.write(first)
    late.join(60)
    database.write(lambda conn: None)
    assert number_of_jobs(path) == 2


# Settings


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("normal", 1)])
def test_each_connection_has_the_settings_of_its_durability(path: Path, durability: str, synchronous: int) -> None:
    database = Database(path, durability, 10, True)
    expected = {
        "journal_mode": "wal", "synchronous": synchronous, "mmap_size": 0, "journal_size_limit": 16_777_216, "foreign_keys": 1,
        "cell_size_check": 1, "trusted_schema": 0, "fullfsync": 1,
    }  # fmt: skip

    def settings(conn: Any) -> dict[str, Any]:
        return {name: conn.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in (*expected, "query_only")}

    assert database.write(settings) == expected | {"query_only": 0}
    with database.read() as one, database.read() as two:
        assert settings(one) == settings(two) == expected | {"query_only": 1}
    database.close()


def test_a_reader_cannot_write_and_sees_one_state(still: Scheduler) -> None:
    still.remote("x").enqueue()
    count = text("SELECT count(*) FROM schedfactory_jobs")
    with still.reading() as connection:
        assert connection.execute(count).scalar_one() == 1
        still.remote("x").enqueue()
        assert connection.execute(count).scalar_one() == 1
    with pytest.raises(StorageError, match="reading\\(\\) cannot write"), still.reading() as connection:
        connection.execute(text("DELETE FROM schedfactory_jobs"))
    with pytest.raises(ZeroDivisionError), still.reading():
        1 / 0  # noqa: B018
    assert still.counts()["queued"] == 2


# Files


def test_a_new_file_is_its_owners_only(still: Scheduler, path: Path) -> None:
    still.task(name="work")(print)
    still.run_due()
    still.remote("x").enqueue()
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.glob("jobs.db*")}
    assert set(modes.values()) == {0o600}
    assert {"jobs.db", "jobs.db-wal", "jobs.db-nodes"} <= set(modes)


def test_an_existing_file_keeps_its_mode(still: Scheduler, path: Path) -> None:
    path.touch()
    path.chmod(0o640)
    still.remote("x").enqueue()
    still.run_due()
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.glob("jobs.db*")} == {0o640}


@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        b"Dear diary,\n" * 500,
        b"\x89PNG\r\n\x1a\n" + bytes(4096),
        b"SQLite format 2\x00" + bytes(4080),
        b"\x00" * 4096,
    ],
    ids=["short", "text", "image", "almost", "zeros"],
)
def test_a_file_that_is_no_database_is_left_untouched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "diary.txt"
    path.write_bytes(content)
    before = path.stat()
    scheduler = Scheduler(path)
    for use in (scheduler.counts, scheduler.remote("x").enqueue, scheduler.run_due, scheduler.start):
        with pytest.raises(NotADatabase, match=r"diary\.txt.*no SQLite database") as caught:
            use()
        assert caught.value.path == str(path)
    scheduler.close()
    assert path.read_bytes() == content
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    scheduler = Scheduler(tmp_path)
    with pytest.raises(StorageError) as caught:
        scheduler.counts()
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["missing/jobs.db", "file/jobs.db", "x" * 300 + ".db"])
def test_a_path_that_cannot_be_made_is_a_storage_error_that_names_it(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / where
    scheduler = Scheduler(path)
    for use in (scheduler.counts, scheduler.remote("x").enqueue, scheduler.start):
        with pytest.raises(StorageError, match="cannot be made") as caught:
            use()
        assert (caught.value.path, str(path) in str(caught.value)) == (str(path), True)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("kind", "is_safe"),
    [
        ("ext4", True), ("btrfs", True), ("tmpfs", True), ("overlay", True), ("fuse.zfs", True), ("nfs", False),
        ("nfs4", False), ("cifs", False), ("9p", False), ("fuse.sshfs", False),
    ],
)  # fmt: skip
def test_a_file_on_a_network_share_is_an_unsafe_filesystem_error_and_is_not_made(
    path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, is_safe: bool
) -> None:
    device, read_text = path.parent.stat().st_dev, Path.read_text
    other = "21 1 0:0 / /proc rw - nfs elsewhere rw\n"
    mounts = other + f"22 1 {os.major(device)}:{os.minor(device)} / /data rw,noatime shared:1 - {kind} server:/ rw\n"

    def read(file: Path, *how: Any, **more: Any) -> str:
        return mounts if file.name == "mountinfo" else read_text(file, *how, **more)

    monkeypatch.setattr(Path, "read_text", read)
    with closing(Scheduler(path)) as scheduler:
        if is_safe:
            assert scheduler.remote("x").enqueue().id == 1
            return
        for use in (scheduler.counts, scheduler.remote("x").enqueue, scheduler.start):
            with pytest.raises(UnsafeFilesystem, match=rf"jobs\.db lies on {kind}, whose locks cannot be trusted") as caught:
                use()
            assert caught.value.path == str(path)
    assert list(path.parent.iterdir()) == []


def test_windows_is_refused_before_anything_is_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with closing(Scheduler(path)) as scheduler, pytest.raises(StorageError, match="cannot be used on Windows"):
        scheduler.start()
    assert list(path.parent.iterdir()) == []


@contextmanager
def as_an_ordinary_user(*owned: Path) -> Iterator[None]:
    """Be somebody whom permissions bind, where the tests are run by root."""
    if os.geteuid() != 0:
        yield
        return
    nobody = 65_534
    for file in owned:
        os.chown(file, nobody, nobody)
    for folder in owned[0].parents:  # pytest's own folders are root's alone
        if folder.name.startswith("pytest-"):
            folder.chmod(0o711)
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_may_not_be_written_is_a_storage_error_that_names_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    scheduler = Scheduler(folder / "jobs.db")
    with as_an_ordinary_user(folder), pytest.raises(StorageError, match=r"locked/jobs\.db.*Permission denied.*may be written"):
        scheduler.counts()
    assert list(folder.iterdir()) == []


def test_a_file_that_may_not_be_written_is_a_storage_error_and_unchanged(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    path = folder / "jobs.db"
    scheduler = Scheduler(path)
    scheduler.remote("x").enqueue()
    scheduler.close()
    content = path.read_bytes()
    path.chmod(0o444)
    folder.chmod(0o555)
    with as_an_ordinary_user(folder, path):
        for use in (scheduler.remote("x").enqueue, scheduler.start, scheduler.run_due):
            with pytest.raises(StorageError, match=r"locked/jobs\.db") as caught:
                use()
            assert type(caught.value) is StorageError
    scheduler.close()
    assert path.read_bytes() == content


# Others who hold it

HOLDER = """
import sqlite3
import sys

connection = sqlite3.connect("jobs.db", isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
connection.close()
"""


def lock_held_by(program: Any) -> Any:
    process = program(HOLDER, name="holder.py")
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("is_fresh", [True, False])
def test_busy_after_the_lock_timeout_means_not_stored_now_or_later(program: Any, path: Path, is_fresh: bool) -> None:
    scheduler = Scheduler(path, lock_timeout="200ms")
    if not is_fresh:
        scheduler.counts()
    holder = lock_held_by(program)
    with pytest.raises(DatabaseBusy, match=r"jobs\.db: others held it for 0\.2 s") as caught:
        scheduler.remote("x").enqueue()
    assert caught.value.path == str(path)
    holder.communicate("\n", timeout=60)
    assert sum(scheduler.counts().values()) == 0
    assert scheduler.remote("x").enqueue().id == 1
    scheduler.close()


def test_threads_that_wait_together_are_all_told_that_it_is_busy(program: Any, path: Path) -> None:
    database = Database(path, "full", 0.2, True)
    database.open()
    holder = lock_held_by(program)
    errors: list[BaseException] = []

    def bring() -> None:
        try:
            database.write(insert("work"))
        except DatabaseBusy as error:
            errors.append(error)

    threads = [threading.Thread(target=bring) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    holder.communicate("\n", timeout=60)
    assert len(errors) == 4
    assert number_of_jobs(path) == 0
    database.close()


def test_a_call_waits_for_others_up_to_its_lock_timeout(program: Any, path: Path) -> None:
    scheduler = Scheduler(path, lock_timeout="60s")
    scheduler.counts()
    holder = lock_held_by(program)
    jobs: list[Any] = []
    waiter = threading.Thread(target=lambda: jobs.append(scheduler.remote("x").enqueue()))
    waiter.start()
    assert scheduler.counts()["queued"] == 0  # readers do not wait
    waiter.join(0.05)
    assert waiter.is_alive()
    holder.communicate("\n", timeout=60)
    waiter.join(60)
    assert [job.id for job in jobs] == [1]
    scheduler.close()


# Lives


FORK = """
import os
from schedfactory import Scheduler

scheduler = Scheduler("jobs.db")
scheduler.remote("x").enqueue(who="parent")
child = os.fork()
if not child:
    assert not scheduler.is_running
    scheduler.remote("x").enqueue(who="child")
    assert scheduler.counts()["queued"] >= 2
    scheduler.close()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
scheduler.remote("x").enqueue(who="parent")
print(sorted(job.args["who"] for job in scheduler.jobs()))
scheduler.close()
"""


def test_after_a_fork_the_child_opens_the_file_anew(program: Any) -> None:
    out, err = program(FORK).communicate(timeout=60)
    assert (out, err) == ("['child', 'parent', 'parent']\n", "")


def test_a_child_of_a_fork_inside_reading_is_told_that_it_cannot_use_the_file(program: Any) -> None:
    forks = """
    import os
    from schedfactory import Scheduler, StorageError

    scheduler = Scheduler("jobs.db")
    with scheduler.reading():
        child = os.fork()
        if not child:
            try:
                scheduler.counts()
            except StorageError as error:
                print(str(error).partition(": ")[2], flush=True)
            os._exit(0)
        os.waitpid(child, 0)
    print(scheduler.counts()["queued"])
    """
    out, err = program(forks).communicate(timeout=60)
    said = "this process was forked while it read the database, so SQLite's notes of its locks are wrong."
    assert (out, err) == (f"{said} Leave reading() before a fork.\n0\n", "")


def test_closing_twice_is_fine_and_the_next_use_opens_again(path: Path) -> None:
    scheduler = Scheduler(path)
    scheduler.close()
    assert not path.exists()
    scheduler.remote("x").enqueue()
    scheduler.close()
    scheduler.close()
    assert [file.name for file in path.parent.glob("jobs.db*") if not file.name.endswith("-nodes")] == ["jobs.db"]
    assert scheduler.counts()["queued"] == 1
    scheduler.close()


def closing_at_connect(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[Pool]:
    """Close the database just before its next reader connects; return its pools, which nobody else may hold any more."""
    kept: list[Pool] = []
    connect = Engine.connect

    def close_and_connect(engine: Engine) -> Any:
        monkeypatch.setattr(Engine, "connect", connect)
        database.close()
        kept.append(engine.pool)
        return connect(engine)

    monkeypatch.setattr(Engine, "connect", close_and_connect)
    return kept


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("closes_first", [True, False], ids=["before it has a connection", "while it has one"])
def test_a_reader_that_outlives_the_close_leaves_no_connection_open(
    database: Database, path: Path, closes_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.open()
    kept = [database._open().engine.pool]
    if closes_first:
        kept = closing_at_connect(database, monkeypatch)
    with database.read() as connection:
        database.close()
        assert connection.scalar(text("SELECT count(*) FROM schedfactory_jobs")) == 0
    assert not opened_files() & {str(path), f"{path}-wal", f"{path}-shm"}
    assert kept


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_of_two_readers_that_outlive_the_close_neither_leaves_a_connection_open(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = database.read(), database.read()
    with first:
        kept = closing_at_connect(database, monkeypatch)
        second.__enter__()
    second.__exit__(None, None, None)
    assert not opened_files() & {str(path), f"{path}-wal", f"{path}-shm"}
    assert kept


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_reader_that_outlives_the_close_lets_a_fork_come_only_once_its_connection_is_closed(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[set[str]] = []
    leave = Readers.leave

    def look_and_leave(readers: Readers) -> None:
        opened.append(opened_files())
        leave(readers)

    monkeypatch.setattr(Readers, "leave", look_and_leave)
    with database.read():
        database.close()
    assert len(opened) == 1
    assert not opened[0] & {str(path), f"{path}-wal", f"{path}-shm"}


def test_making_a_scheduler_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for database in (None, "jobs.db", f"sqlite:///{tmp_path}/jobs.db", ":memory:"):
        Scheduler(database)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_that_cannot_be_opened_costs_no_commit_and_doubles_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "_PAGES", 1)
    Path(f"{path}-nodes").mkdir()
    scheduler = Scheduler(path)
    assert [scheduler.remote("x").enqueue().id for _ in range(3)] == [1, 2, 3]
    assert scheduler.counts()["queued"] == 3
    with pytest.raises(StorageError, match="-nodes: the lock file"):
        scheduler.start()
    scheduler.close()
