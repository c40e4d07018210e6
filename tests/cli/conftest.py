"""The real program as a process, in a folder of its own that holds an app."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import warm

COMMAND = (sys.executable, "-m", "schedfactory")

APP = """
    import threading
    from dataclasses import dataclass
    from datetime import datetime
    from pathlib import Path

    from schedfactory import Scheduler, Unique, current_job

    scheduler = Scheduler("jobs.db")
    number = 5

    @dataclass
    class Sum:
        value: int
        at: datetime

    @scheduler.task(name="add", tags=["sums"])
    def add(x: int, y: int = 1) -> int:
        return x + y

    @scheduler.task(name="sync", unique=Unique("sync:{account}"))
    def sync(account: int, deep: bool = False) -> None:
        pass

    @scheduler.task(name="once", unique=Unique(on_conflict="raise"))
    def once() -> None:
        pass

    @scheduler.task(name="sum")
    def sum_at(x: int, at: datetime) -> Sum:
        return Sum(x, at)

    @scheduler.task(name="mail.welcome", queue="mail", priority=7, retry=3, aliases=["welcome"])
    def welcome(name: str) -> None:
        pass

    @scheduler.task(name="fail")
    def fail() -> None:
        raise ValueError("no such page")

    @scheduler.task(name="slow")
    def slow() -> str:
        Path("started").touch()
        while not Path("go").exists():
            threading.Event().wait(0.01)
        return "done"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The working directory of the program, with an app in it."""
    (tmp_path / "app.py").write_text(textwrap.dedent(APP))
    return tmp_path


@pytest.fixture
def cli(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command to its end; `code` is the exit code that it must have, `traceback` whether it must print one."""

    def run(*arguments: Any, code: int = 0, traceback: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
        said = tmp_path_factory.mktemp("said") / "said"
        done = warm.run([*map(str, arguments)], folder, os.environ | environment, said, timeout_s=100)
        assert done.returncode == code, done.stdout + done.stderr
        assert ("Traceback" in done.stderr) is traceback
        return done

    return run


@pytest.fixture
def begin(folder: Path, launch: Callable[..., subprocess.Popen[str]]) -> Callable[..., subprocess.Popen[str]]:
    """Start a command and go on; it is killed at the end."""
    return lambda *arguments: launch([*COMMAND, *arguments], cwd=folder, stdin=subprocess.DEVNULL)


@pytest.fixture
def sql(folder: Path) -> Callable[..., list[tuple[Any, ...]]]:
    """Run SQL on a file of the folder, as any client could; return the rows."""

    def run(file: Path | str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(folder / file)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    return run


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Wait until something holds."""

    def wait(holds: Callable[[], object]) -> None:
        end = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < end, "it never came to hold"
            threading.Event().wait(0.02)

    return wait
