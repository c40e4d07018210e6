"""The log is in the file, and begun anew, within a minute of a long reader's end, whoever writes; else it is said."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from schedfactory import Scheduler
from schedfactory.storage import checkpoint

MIB = 1 << 20
LARGE = "x" * 1_000_000


class Steady:
    """A steady clock that the test moves."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def now(self) -> float:
        return self.at


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> Steady:
    found = Steady()
    monkeypatch.setattr(checkpoint, "Monotonic", found)
    return found


@pytest.fixture
def produce(path: Path) -> Iterator[Callable[..., None]]:
    """Store jobs, one by one, as a program does that only enqueues."""
    scheduler = Scheduler(path, durability="normal")
    work = scheduler.remote("work")

    def enqueue(number: int = 1, **arguments: Any) -> None:
        for _ in range(number):
            work.enqueue(**arguments)

    yield enqueue
    scheduler.close()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Be a reader that does not end."""
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM schedfactory_jobs").fetchone()
        yield


def length(path: Path) -> int:
    return os.stat(f"{path}-wal").st_size


def in_the_file(path: Path) -> int:
    """Return how many jobs the file has without its log; another process looks, for its closing drops no locks here."""
    program = (
        "import sqlite3, sys; connection = sqlite3.connect(f'file:{sys.argv[1]}?immutable=1', uri=True);"
        "print(connection.execute('SELECT count(*) FROM schedfactory_jobs').fetchone()[0])"
    )
    return int(subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True).stdout)


# Where only producers write


def test_who_writes_once_a_minute_puts_the_log_into_the_file(path: Path, steady: Steady, produce: Callable[..., None]) -> None:
    produce()
    assert in_the_file(path) == 0
    steady.at += 59.9
    produce()
    assert in_the_file(path) == 0
    steady.at += 0.1
    produce()
    assert in_the_file(path) == 3


def test_within_a_minute_of_a_long_reader_s_end_the_log_is_in_the_file(
    path: Path, steady: Steady, produce: Callable[..., None]
) -> None:
    produce()
    with reading(path):
        for _ in range(3):
            steady.at += 60
            produce()
        assert in_the_file(path) < 4
    steady.at += 59
    produce()
    assert in_the_file(path) == 5
    before = length(path)
    produce()
    assert length(path) == before, "the log goes on where it should have been begun anew"


def test_who_cannot_finish_tries_again_after_a_second_and_not_at_every_commit(
    path: Path, steady: Steady, produce: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []
    once = checkpoint.Checkpoints._checkpoint

    def note(self: checkpoint.Checkpoints, driver: sqlite3.Connection) -> bool:
        tried.append(steady.at)
        return once(self, driver)

    monkeypatch.setattr(checkpoint.Checkpoints, "_checkpoint", note)
    produce()
    with reading(path):
        produce()
        steady.at += 60
        for _ in range(40):
            produce()
            steady.at += 0.125
    assert tried == [1060, 1061, 1062, 1063, 1064]


def test_large_rows_do_not_make_a_long_log(path: Path, produce: Callable[..., None]) -> None:
    produce(40, text=LARGE)
    assert 16 * MIB <= length(path) <= 24 * MIB


def test_many_short_processes_beside_an_idle_one_do_not_make_a_long_log(path: Path) -> None:
    with closing(Scheduler(path)) as idle:
        idle.counts()
        for _ in range(30):
            with closing(Scheduler(path, durability="normal")) as short:
                short.remote("work").enqueue(text=LARGE)
        assert length(path) <= 24 * MIB
        assert idle.counts()["queued"] == 30


def test_the_count_of_what_was_written_goes_on_after_a_new_connection(
    path: Path, steady: Steady, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler(path)
    scheduler.enqueue_many([scheduler.remote("work").call(n=n) for n in range(3_000)])
    scheduler.close()
    monkeypatch.setattr(checkpoint, "_PAGES", 350)
    for _ in range(30):
        scheduler.remote("work").enqueue()
    assert in_the_file(path) == 3_024
    scheduler.close()


# The alarm


def test_a_log_that_cannot_be_cut_back_is_said_once_named_by_health_and_said_once_when_it_is_well(
    path: Path, steady: Steady, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "ALARM", 20 * MIB)
    scheduler = Scheduler(path, durability="normal")
    work = scheduler.remote("work")
    work.enqueue()

    def write(number: int) -> None:
        for _ in range(number):
            work.enqueue(text=LARGE)
            steady.at += 2

    def said() -> list[str]:
        return [record.message for record in caplog.records if "jobs.db-wal" in record.message]

    with reading(path):
        write(15)
        assert (said(), scheduler.health().problems) == ([], ())
        write(15)
        [problem] = scheduler.health().problems
        assert problem.startswith(f"{path}-wal has grown to 2")
        assert "End it; a running node, or the next write, then cuts the log back" in problem
        assert not scheduler.health().ok
        assert scheduler.health().database.startswith("ok")
        assert len(said()) == 1
    for _ in range(2):
        steady.at += 60
        work.enqueue()
    assert length(path) == 16 * MIB
    assert said()[1:] == [f"{path}-wal has been cut back"]
    assert (scheduler.health().ok, scheduler.health().problems) == (True, ())
    scheduler.close()
    assert scheduler.health().ok


def test_a_running_node_cuts_the_log_back_when_the_reader_ends_also_where_nobody_writes(
    scheduler: Scheduler, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "ALARM", 20 * MIB)
    monkeypatch.setattr(checkpoint, "_AGAIN_S", 0.0)

    @scheduler.task(name="work")
    def work(text: str) -> int:
        return len(text)

    work.enqueue("")
    with scheduler.running(workers=1):
        with reading(path):
            scheduler.enqueue_many([work.call(LARGE) for _ in range(25)])
            scheduler.wait_idle(timeout="60s")
            assert scheduler.health().problems[0].startswith(f"{path}-wal")
        for _ in range(3_000):
            if scheduler.health().ok:
                break
            threading.Event().wait(0.02)
        assert (scheduler.health().ok, length(path)) == (True, 16 * MIB)
