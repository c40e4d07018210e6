"""Jobs of `isolation="process"`: each worker thread has a child process for them, started with the first one.

A child can be killed, which a thread cannot: at a timeout, some seconds after a cancel, and with its parent. While it lives
it holds a lock of its own, so that nobody takes its job before its code has ended.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.spawn import get_preparation_data
from pathlib import Path
from typing import Any

from schedfactory.model import outcome
from schedfactory.model.clock import Clock, Monotonic
from schedfactory.model.outcome import Cause, Outcome
from schedfactory.model.retry import Retry
from schedfactory.model.running_job import RunningJob
from schedfactory.model.task import Task

_log = logging.getLogger("schedfactory")
_START_S = 120.0  # to import the program's main module
_LOOK_S = 0.05  # between looks at the job's flag
# From the flag to the kill. A cancel is seen within a second, so such a job is dead five seconds later.
_GRACE_S: dict[Cause, float] = {"user": 3.0, "lost": 3.0, "timeout": 0.0, "shutdown": 0.5}


class Isolated:
    """The child process of one worker.

    Args:
        database: whose lock file tells that the child lives.
        max_result: bytes of an encoded result.
    """

    def __init__(self, database: Path, node: int, worker: int, clock: Clock, max_result: int) -> None:
        self._house = (str(database), node, worker, max_result)
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Connection | None = None

    def run(self, job: RunningJob, task: Task[..., Any], retry: Retry, limit: timedelta | None) -> Outcome:
        """Run the job in the child, and say how that ended.

        Raises:
            RuntimeError: the child could not be started.
        """
        try:
            if self._line is None or self._line.poll():  # it has nothing to say between jobs: its line has ended
                self._start(job)
            return self._follow(job, task, retry, limit)
        except BaseException:  # an interrupt of this thread, or no child: whatever runs there must not go on
            self.close()
            raise

    def close(self) -> int:
        """Kill the child, if there is one, with what it has started; return what `Popen.wait` says of it."""
        process, self._process = self._process, None
        line, self._line = self._line, None
        if line is not None:
            line.close()
        if process is None:
            return 0
        with suppress(ProcessLookupError, PermissionError):  # macOS says so of a group of zombies
            os.killpg(process.pid, signal.SIGKILL)  # before the wait: until then its number is nobody else's
        return process.wait()

    def _start(self, job: RunningJob) -> None:
        self.close()
        if os.name != "posix":
            raise RuntimeError(f'{job.task} cannot run: isolation="process" needs Linux or macOS. Use isolation="thread".')
        ours, theirs = socket.socketpair()
        with theirs:
            self._line = Connection(ours.detach())
            # The path first: the program may have changed it before it could import this package.
            code = (
                f"import sys; sys.path[:] = {sys.path!r}; from schedfactory.running.child import main; main({theirs.fileno()})"
            )
            self._process = subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], process_group=0
            )
        main = {name: value for name, value in get_preparation_data("schedfactory-worker").items() if name != "authkey"}
        if not self._say((main, os.getpid(), self._house)) or not self._line.poll(_START_S):
            raise RuntimeError(f"the worker process of {job.task} did not start within {_START_S:g} s.")
        said = self._hear()
        if said != "ready":
            raise RuntimeError(f"the worker process of {job.task} did not start: {said or self._epitaph()}.")

    def _follow(self, job: RunningJob, task: Task[..., Any], retry: Retry, limit: timedelta | None) -> Outcome:
        assert self._line is not None
        began = Monotonic.now()
        flagged_at: float | None = None
        is_there = self._say((job.row, job.started, task.function.__module__, task.function.__qualname__))
        while is_there:
            if self._line.poll(_LOOK_S):
                said = self._hear()
                if isinstance(said, Outcome):
                    return said.since(job.started, self._clock())
                if said is None:
                    break
                if job.cause not in ("lost", "timeout"):
                    job.set_progress(*said)
            now = Monotonic.now()
            if limit is not None and now - began >= limit.total_seconds():
                self.close()
                return outcome.timed_out(limit, retry, job.failures + 1, self._clock(), leftover=False)
            if job.cause is not None and flagged_at is None:
                flagged_at = now
                self._say(job.cause)
            if job.cause is not None and flagged_at is not None and now - flagged_at >= _GRACE_S[job.cause]:
                self.close()
                return outcome.CANCELLED if job.cause == "user" else outcome.given_back(self._clock())
        epitaph, on_crash = self._epitaph(), job.on_crash or task.defaults.on_crash or "requeue"
        _log.warning("job %d: %s", job.id, epitaph)
        return outcome.crashed(epitaph, job.crashes + 1, on_crash, job.cause, self._clock())

    def _say(self, what: object) -> bool:
        assert self._line is not None
        try:
            self._line.send(what)
        except OSError:
            return False  # it has ended
        return True

    def _hear(self) -> Any:
        """Return what the child says next, None where it has ended."""
        assert self._line is not None
        try:
            return self._line.recv()
        except (EOFError, OSError):
            return None

    def _epitaph(self) -> str:
        code = self.close()
        if code < 0:
            return f"its worker process was killed by signal {-code} ({signal.Signals(-code).name})"
        return f"its worker process ended with the exit code {code}"
