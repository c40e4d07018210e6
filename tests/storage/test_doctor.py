"""`doctor()`: each thing that can be wrong is found, with what to do about it; nothing is found in what is well."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schedfactory import Finding, NotADatabase, Scheduler, StorageError
from schedfactory.storage import checkpoint, sqlite


def found(scheduler: Scheduler) -> dict[str, list[str]]:
    """Return the texts of the findings by code, but for what this machine's SQLite is."""
    by_code: dict[str, list[str]] = {}
    for finding in scheduler.doctor():
        if finding.code != "sqlite":
            by_code.setdefault(finding.code, []).append(str(finding))
    return by_code


@pytest.fixture
def worked(still: Scheduler, client: sqlite3.Connection) -> Scheduler:
    """A scheduler that knows `add`, with jobs of every kind of end."""

    @still.task(name="add")
    def add(x: int, y: int = 1) -> int:
        return x + y

    for x in range(6):
        add.enqueue(x)
    still.remote("add").enqueue(x="no number")
    still.run_due(limit=5)
    still.cancel(6)
    still.run_due()
    add.enqueue(8)
    add.options(delay="1h").enqueue(9)
    return still


def test_nothing_is_found_in_a_database_that_is_well(worked: Scheduler) -> None:
    assert worked.counts() | {"succeeded": 5, "cancelled": 1, "failed": 1, "queued": 1, "scheduled": 1} == worked.counts()
    assert found(worked) == {}


def test_a_finding_is_a_value_whose_text_it_prints() -> None:
    finding = Finding("log", "it is long")
    assert str(finding) == "it is long"
    assert finding == Finding("log", "it is long")


def test_doctor_changes_nothing(worked: Scheduler, path: Path, client: sqlite3.Connection) -> None:
    client.execute("UPDATE schedfactory_totals SET jobs = 9")
    client.execute("INSERT INTO schedfactory_jobs (task, status, node) VALUES ('gone', 'running', 7)")
    client.execute("INSERT INTO schedfactory_jobs (task, args) VALUES ('add', 'nonsense')")
    worked.close()
    Path(f"{path}-nodes").unlink()
    version = client.execute("PRAGMA data_version").fetchone()
    assert sorted(found(worked)) == ["arguments", "counters", "tasks"]
    assert client.execute("PRAGMA data_version").fetchone() == version
    assert not Path(f"{path}-nodes").exists()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc")
def test_doctor_leaves_no_file_open(worked: Scheduler) -> None:
    def number() -> int:
        return len(os.listdir("/proc/self/fd"))

    worked.close()
    before = number()
    found(worked)
    worked.close()
    assert number() == before


def test_no_more_than_a_row_at_a_time_is_held(worked: Scheduler) -> None:
    worked.enqueue_many([worked.remote("add").call(x="x" * 100_000) for _ in range(200)])
    tracemalloc.start()
    try:
        assert "such as job 10, are of the task 'add'" in found(worked)["arguments"][0]
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


# What it lies on


@pytest.mark.parametrize(
    ("version", "is_affected"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 9), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
        ((4, 0, 0), False),
    ],
)
def test_the_versions_that_may_lose_commits_are_known(version: tuple[int, int, int], is_affected: bool) -> None:
    text = ".".join(map(str, version))
    assert sqlite.state(version) == (f"ok (SQLite {text}: see doctor)" if is_affected else "ok")


@pytest.mark.parametrize("state", ["ok (SQLite 3.40.1: see doctor)", "ok"])
def test_such_a_version_is_a_finding_and_named_by_health(still: Scheduler, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    monkeypatch.setattr(sqlite, "state", lambda: state)
    texts = [finding.text for finding in still.doctor() if finding.code == "sqlite"]
    assert [sqlite3.sqlite_version in text and "Let no other program write" in text for text in texts] == [True] * (
        state != "ok"
    )
    assert (still.health().ok, still.health().database) == (True, state)
    with still.running():
        assert (still.health().ok, still.health().database) == (True, state)


def test_a_network_file_system_is_a_finding_and_not_opened(
    still: Scheduler, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = path.parent.stat().st_dev
    mount = f"1 1 {os.major(device)}:{os.minor(device)} / /mnt rw - nfs4 server:/x rw"
    read_text = Path.read_text

    def read(file: Path, *arguments: Any, **more: Any) -> str:
        return mount if str(file) == "/proc/self/mountinfo" else read_text(file, *arguments, **more)

    monkeypatch.setattr(Path, "read_text", read)
    [text] = found(still)["filesystem"]
    assert re.search(r"jobs\.db lies on nfs4, whose locks cannot be trusted\. Pass a path on a local disk", text)
    assert list(path.parent.iterdir()) == []


@pytest.fixture
def unwarned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    umask = os.umask(0)
    yield
    os.umask(umask)


@pytest.mark.usefixtures("unwarned")
def test_what_others_may_write_is_a_finding_each_and_one_warning_in_the_log(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.touch()
    path.chmod(0o666)
    path.parent.chmod(0o777)
    scheduler = Scheduler(path)
    scheduler.task(name="work")(print)
    scheduler.run_due()
    texts = found(scheduler)["permissions"]
    assert [re.search(r"chmod o-w (\S+)$", text)[1] for text in texts] == [  # type: ignore[index]
        str(path), f"{path}-wal", f"{path}-nodes", str(path.parent)
    ]  # fmt: skip
    scheduler.close()
    scheduler.counts()
    scheduler.close()
    [said] = [record.message for record in caplog.records if "may write" in record.message]
    assert said == f"anyone on this host may write to {path}, {path}-wal, {path.parent}. chmod o-w them."


@pytest.mark.parametrize(("file", "folder"), [(0o600, 0o755), (0o660, 0o775), (0o644, 0o1777)])
def test_what_the_owner_and_the_group_may_write_or_a_sticky_folder_is_no_finding(
    path: Path, caplog: pytest.LogCaptureFixture, file: int, folder: int
) -> None:
    path.touch()
    path.chmod(file)
    path.parent.chmod(folder)
    scheduler = Scheduler(path)
    assert found(scheduler) == {}
    scheduler.close()
    assert "may write" not in caplog.text


# The file


def test_a_damaged_page_is_a_finding_and_its_rows_are_not_looked_at(
    worked: Scheduler, path: Path, client: sqlite3.Connection
) -> None:
    [(page,)] = client.execute("SELECT rootpage FROM sqlite_master WHERE name = 'schedfactory_jobs_queued'").fetchall()
    client.execute("UPDATE schedfactory_totals SET jobs = 9")
    client.close()
    worked.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    findings = found(worked)
    assert list(findings) == ["damaged"]
    assert re.search(r"jobs\.db.*damaged.*Restore a backup, or try sqlite3's \.recover\.$", findings["damaged"][0])


def test_a_file_too_damaged_to_be_opened_is_a_finding_too(worked: Scheduler, path: Path, client: sqlite3.Connection) -> None:
    client.close()
    worked.close()
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3_996)
    assert list(found(worked)) == ["damaged"]


def test_tables_of_a_newer_version_are_a_finding_that_says_what_to_do_and_no_damage(
    worked: Scheduler, client: sqlite3.Connection
) -> None:
    worked.close()
    client.execute("UPDATE schedfactory_version SET version_num = '9999'")
    findings = found(worked)
    assert list(findings) == ["newer_schema"]
    assert re.search(r"jobs\.db has the schema 9999.*Install a newer schedfactory\.$", findings["newer_schema"][0])


def test_what_is_no_database_or_not_there_is_an_error_as_for_every_other_use(tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("Dear diary,\n" * 500)
    scheduler = Scheduler(tmp_path / "diary.txt")
    with pytest.raises(NotADatabase):
        scheduler.doctor()
    with pytest.raises(StorageError, match="cannot be made"):
        Scheduler(tmp_path / "missing" / "jobs.db").doctor()


def test_a_long_log_is_a_finding(worked: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "ALARM", 10_000)
    [text] = found(worked)["log"]
    assert re.search(r"jobs\.db-wal has grown to 0 MiB.*some reader does not end.*End it", text)


# The rows


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE schedfactory_totals SET jobs = jobs + 1 WHERE status = 'succeeded'",
        "DELETE FROM schedfactory_totals WHERE status = 'failed'",
        "INSERT INTO schedfactory_totals VALUES ('mail', 'failed', 3)",
        "DELETE FROM schedfactory_jobs WHERE status = 'cancelled'",
        "UPDATE schedfactory_jobs SET queue = 'mail' WHERE status = 'succeeded'",
    ],
)
def test_counters_that_are_off_are_a_finding_whose_sql_counts_anew(
    worked: Scheduler, path: Path, client: sqlite3.Connection, change: str
) -> None:
    client.execute(change)
    [text] = found(worked)["counters"]
    repair = re.search(rf'To count anew: sqlite3 {path} "(.*)"$', text)
    assert repair is not None
    client.executescript(repair[1])
    assert found(worked) == {}
    [(succeeded,)] = client.execute("SELECT count(*) FROM schedfactory_jobs WHERE status = 'succeeded'").fetchall()
    assert worked.counts()["succeeded"] == succeeded


def test_counters_say_which_and_how_much(worked: Scheduler, client: sqlite3.Connection) -> None:
    client.execute("UPDATE schedfactory_totals SET jobs = 9 WHERE status IN ('succeeded', 'failed')")
    [text] = found(worked)["counters"]
    assert "counts 9 failed jobs in the queue 'default', where there are 1, and 1 more like that" in text


def test_unfinished_jobs_of_a_task_that_is_not_known_are_a_finding_for_each_task(
    worked: Scheduler, client: sqlite3.Connection
) -> None:
    for task in ("old", "old", "later"):
        worked.remote(task).options(delay="1h" if task == "later" else None).enqueue()
    client.execute("INSERT INTO schedfactory_jobs (task, status) VALUES ('done', 'succeeded')")
    client.execute("INSERT INTO schedfactory_totals VALUES ('d', 'succeeded', 0)")
    texts = found(worked)["tasks"]
    assert [text.partition(", which")[0] for text in texts] == [
        "job 12 is of the task 'later'",
        "2 jobs, such as job 10, are of the task 'old'",
    ]
    assert "aliases=['old']" in texts[1]


def test_a_scheduler_without_tasks_does_not_miss_any(still: Scheduler) -> None:
    still.remote("old").enqueue(x=1)
    assert found(still) == {}


def test_an_alias_is_a_task_that_is_known(still: Scheduler) -> None:
    still.task(name="new", aliases=["old"])(print)
    still.remote("old").enqueue()
    assert "tasks" not in found(still)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ('{"y": 1}', "missing required field `x`"),
        ('{"x": 1, "z": 1}', "unknown field `z`"),
        ('{"x": "1"}', "Expected `int`, got `str`"),
        ("[1]", "Expected `object`, got `array`"),
        ("nonsense", "JSON is malformed"),
        ("", "Input data was truncated"),
    ],
)
def test_arguments_that_the_task_does_not_take_are_a_finding(
    worked: Scheduler, client: sqlite3.Connection, args: str, said: str
) -> None:
    for _ in range(3):
        client.execute("INSERT INTO schedfactory_jobs (task, args) VALUES ('add', ?)", (args,))
    [text] = found(worked)["arguments"]
    assert text.startswith("3 jobs, such as job 10, are of the task 'add'")
    assert said in text
    for job_id in (10, 11, 12):
        worked.cancel(job_id)
    assert found(worked) == {}


def test_jobs_of_a_dead_process_that_nobody_took_over_are_a_finding(still: Scheduler, program: Any, path: Path) -> None:
    source = """
        import os, sys, threading
        from schedfactory import Scheduler

        scheduler = Scheduler(sys.argv[1])

        @scheduler.task(name="die")
        def die():
            os.kill(os.getpid(), 9)

        @scheduler.task(name="live")
        def live():
            print("running", flush=True)
            threading.Event().wait()

        scheduler.tasks.get(sys.argv[2]).enqueue()
        scheduler.run(workers=1)
    """
    assert program(source, str(path), "live").stdout.readline() == "running\n"
    still.task(name="live")(print)
    still.task(name="die")(print)
    assert found(still) == {}
    other = path.with_name("other.db")
    program(source, str(other), "die", name="other.py").wait()
    scheduler = Scheduler(other)
    [text] = found(scheduler)["orphans"]
    assert text.startswith("job 1 is still marked as running, by node 1, whose process has ended. Start a node")
    scheduler.close()


# gevent

GEVENT = """
import sys, types

sys.modules["gevent"] = types.ModuleType("gevent")
monkey = sys.modules["gevent.monkey"] = types.ModuleType("gevent.monkey")
monkey.is_module_patched = lambda name: name == sys.argv[2]

from schedfactory import Scheduler, StorageError

scheduler = Scheduler(sys.argv[1])
for use in (scheduler.counts, scheduler.remote("x").enqueue, scheduler.start):
    try:
        use()
    except StorageError as error:
        print(error.path, error)
"""


@pytest.mark.parametrize("module", ["threading", "time", "socket", "os"])
def test_a_python_patched_by_gevent_is_refused(path: Path, module: str) -> None:
    done = subprocess.run([sys.executable, "-c", GEVENT, path, module], capture_output=True, text=True, check=True)
    if module == "os":
        assert done.stdout == ""
        return
    assert [line.partition(". ")[0] for line in done.stdout.splitlines()] == [
        f"{path} {path} cannot be used here: gevent has patched {module!r}"
    ] * 3
    assert not path.exists()


def test_a_missing_file_is_not_made_by_the_doctor(path: Path) -> None:
    assert [finding.code for finding in Scheduler(path).doctor() if finding.code != "sqlite"] == []
    assert not path.exists()
