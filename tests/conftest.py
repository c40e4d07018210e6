"""What every test may use: a scheduler on a real file, a clock that the test moves, and programs run for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import freezegun
import pytest

from schedfactory import Scheduler

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
    """Start a process whose output is read as text; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(command: Sequence[object], **how: Any) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([str(word) for word in command], text=True, **(pipes | how))
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def program(tmp_path: Path, launch: Callable[..., subprocess.Popen[str]]) -> Callable[..., subprocess.Popen[str]]:
    """Start a Python program from source text, in `tmp_path`, as a process of its own."""

    def start(source: str, *arguments: str, name: str = "app.py") -> subprocess.Popen[str]:
        file = tmp_path / name
        file.write_text(textwrap.dedent(source))
        return launch([sys.executable, file, *arguments], cwd=tmp_path, env=os.environ | {"PYTHONUNBUFFERED": "1"})

    return start
