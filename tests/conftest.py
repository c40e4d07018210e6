"""What every test may use: a scheduler on a real file, a clock that the test moves, gates for code, programs run for real."""

from __future__ import annotations

import importlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import freezegun
import pytest

from schedfactory import Scheduler
from schedfactory.running.waiting import Waiting

T = TypeVar("T")
LONG_S = 20.0  # only a hang takes this long

freezegun.configure(extend_ignore_list=["pendulum"])

# A shell that starts the tests in the background has SIGINT ignored, and programs started here would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class ManualClock:
    """A clock that stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **parts: float) -> None:
        """Move it, forward or back, by a timedelta of these parts."""
        self.now += timedelta(**parts)


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: a third of the time of these tests is waiting for others."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def _no_database_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCHEDFACTORY_DATABASE", raising=False)
    monkeypatch.delenv("SCHEDFACTORY_APP", raising=False)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def scheduler(path: Path) -> Iterator[Scheduler]:
    """A scheduler on the host's clock."""
    found = Scheduler(path)
    yield found
    found.stop("5s")
    found.close()


@pytest.fixture
def still(path: Path, clock: ManualClock) -> Iterator[Scheduler]:
    """A scheduler on the manual clock."""
    found = Scheduler(path, clock=clock)
    yield found
    found.stop("5s")
    found.close()


@pytest.fixture
def noop(scheduler: Scheduler) -> Any:
    """A task of `scheduler` that does nothing."""

    @scheduler.task(name="noop")
    def noop() -> int:
        return 1

    return noop


@pytest.fixture
def launch() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a process whose output is read as text; what still runs at the end is killed, and what all said is shown."""
    started: list[subprocess.Popen[str]] = []

    def start(command: Sequence[object], **how: Any) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([str(word) for word in command], text=True, **(pipes | how))
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        said = "".join(filter(None, process.communicate()))
        sys.stdout.write(f"{process.args} ended with {process.returncode}:\n{said}\n")  # shown if the test failed


@pytest.fixture
def program(tmp_path: Path, launch: Callable[..., subprocess.Popen[str]]) -> Callable[..., subprocess.Popen[str]]:
    """Start a Python program from source text, in `tmp_path`, as a process of its own."""

    def start(source: str, *arguments: str, name: str = "app.py") -> subprocess.Popen[str]:
        file = tmp_path / name
        text = textwrap.dedent(source)
        if not file.exists() or file.read_text() != text:  # who was started just before must not read an empty file
            file.write_text(text)
        return launch([sys.executable, file, *arguments], cwd=tmp_path, env=os.environ | {"PYTHONUNBUFFERED": "1"})

    return start


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], ModuleType]]:
    """Write modules of tasks that worker processes can import, too; their schedulers are closed at the end."""
    made: list[ModuleType] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> ModuleType:
        (tmp_path / f"{name}.py").write_text(text)
        made.append(importlib.import_module(name))
        return made[-1]

    yield write
    for module in made:
        module.scheduler.stop("5s")
        module.scheduler.close()
        del sys.modules[module.__name__]


class Gate:
    """Task code that passes here says that it has come, and waits until the test opens."""

    def __init__(self) -> None:
        self._arrived = threading.Semaphore(0)
        self._opened = threading.Event()

    def __call__(self) -> None:
        self._arrived.release()
        assert self._opened.wait(LONG_S), "the test never opened the gate"

    def await_arrivals(self, number: int = 1) -> None:
        """Wait until so many more have come."""
        for _ in range(number):
            assert self._arrived.acquire(timeout=LONG_S), "nobody came to the gate"

    def open(self) -> None:
        """Let pass who waits and who will come."""
        self._opened.set()


@pytest.fixture
def make_gate() -> Iterator[Callable[[], Gate]]:
    """Make gates; all of them are open at the end of the test."""
    made: list[Gate] = []

    def make() -> Gate:
        made.append(Gate())
        return made[-1]

    yield make
    for gate in made:
        gate.open()


@pytest.fixture
def gate(make_gate: Callable[[], Gate]) -> Gate:
    return make_gate()


@pytest.fixture
def eventually() -> Callable[[Callable[[], T | None]], T]:
    """Look at the database again and again until there is what the test waits for."""

    def look_until(look: Callable[[], T | None]) -> T:
        found = Waiting().until(0, lambda: look() or None, lambda: None, LONG_S)
        assert found is not None, f"it did not happen within {LONG_S:g} s"
        return found

    return look_until


@pytest.fixture
def freeze(path: Path) -> Callable[[subprocess.Popen[str]], None]:
    """Stop a process by SIGSTOP, at a moment at which it does not write: else nobody could until it goes on."""

    def stop(process: subprocess.Popen[str]) -> None:
        while True:
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)  # until then it could still begin to write
            with closing(sqlite3.connect(path, timeout=0.05, isolation_level=None)) as connection:
                try:
                    connection.execute("BEGIN IMMEDIATE").connection.rollback()
                    return
                except sqlite3.OperationalError:
                    process.send_signal(signal.SIGCONT)

    return stop


@pytest.fixture
def sql(path: Path) -> Callable[..., list[tuple[object, ...]]]:
    """Run one statement on the file as any SQL client would, and return its rows."""

    def run(statement: str, *values: object) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(path, timeout=LONG_S)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    return run
