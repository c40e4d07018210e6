"""The processes of a harness: each has a seat, and who dies there is replaced by a process with the next number."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from history import History
from witnesses import bear_witness, lines, moment

from schedfactory import Scheduler

_FLOOR = Path(__file__).with_name("factory_floor.py")
Launch = Callable[..., subprocess.Popen[str]]


class Seats:
    """Starts programs of `factory_floor.py` in `folder`, and remembers when it killed which."""

    def __init__(self, folder: Path, launch: Launch, scheduler: Scheduler) -> None:
        self.folder = folder
        self.scheduler = scheduler
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.names: dict[str, str] = {}
        self.killed: dict[str, tuple[int, float]] = {}
        self.armed: set[str] = set()
        self._launch = launch
        self._started = 0
        scheduler.migrate()
        bear_witness(folder / "jobs.db")

    def start(self, seat: str, role: str, **options: Any) -> str:
        """Put a process on a seat, and return its name."""
        self._started += 1
        name = self.names[seat] = f"{seat}.{self._started}"
        if "failpoint" in options:
            self.armed.add(name)
        with (self.folder / "stderr").open("a") as errors:
            self.processes[seat] = self._launch(
                [sys.executable, _FLOOR, json.dumps({"name": name, "role": role, **options})],
                cwd=self.folder,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        return name

    def kill(self, seat: str) -> None:
        """SIGKILL."""
        self.killed[self.names[seat]] = moment()
        self.processes[seat].kill()
        self.processes[seat].wait(30)

    def effects(self) -> list[list[str]]:
        """Return what the processes wrote down so far."""
        return lines(self.folder / "effects")

    def wait_for(self, condition: Callable[[], object], what: str, seconds: float = 30) -> None:
        """Wait until something has come true."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s: {what}. {self.scheduler.counts()}, {self.errors()}"
            time.sleep(0.02)

    def has_settled(self) -> bool:
        """True when no job is left that has not ended."""
        return not any(
            number for status, number in self.scheduler.counts().items() if status not in ("succeeded", "failed", "cancelled")
        )

    def errors(self) -> str:
        """Return the end of what the processes wrote to their standard error."""
        return (self.folder / "stderr").read_text()[-2000:]

    def leave(self) -> History:
        """Let all processes leave in good order, but for those that meet their failpoint; return what is known now."""
        for process in self.processes.values():
            assert process.stdin is not None
            process.stdin.close()
        for seat, process in self.processes.items():
            name, code = self.names[seat], process.wait(30)
            assert code == 0 or (code == -signal.SIGKILL and name in self.armed), f"{name} left with {code}: {self.errors()}"
        return History(self.folder, self.killed, self.scheduler.counts())
