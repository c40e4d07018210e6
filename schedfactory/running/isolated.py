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
from pathlib import Path
from typing import Any

from schedfactory.model import outcome
from schedfactory.model.clock import Clock, Monotonic
from schedfactory.model.outcome import Cause, Outcome
from schedfactory.model.retry import Retry
from schedfactory.model.running_job import RunningJob
from schedfactory.model.task import Task
from schedfactory.running.line import Line

_log = logging.getLogger("schedfactory")
_START_S = 120.0  # to import the program's main module
_LOOK_S = 0.05  # between looks at the job's flag
# From the flag to the kill. A cancel is seen within a second, so such a job is dead five seconds later.
_GRACE_S: dict[Cause, float] = {"user": 3.0, "lost": 3.0, "timeout": 0.0, "shutdown": 0.5}


class Isolated:
    """The child process of one worker.

    Args:
        database: whose lock file tells that the child lives, and whose jobs its code enqueues.
        max_result: bytes of an encoded result.
        capture: the lowest level of `logging` records that are kept with a job; None: none is.
    """

    def __init__(self, database: Path, node: int, worker: int, clock: Clock, max_result: int, capture: int | None) -> None:
        self._house = (str(database), node, worker, max_result, capture)
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Line | None = None

    def run(self, job: RunningJob, task: Task[..., Any], retry: Retry, limit: timedelta | None) -> Outcome:
        """Run the job in the child, and say how that ended.

        Raises:
            RuntimeError: the child could not be started.
        """
        try:
            if self._has_died():
                self._start(job)
            if job.cause is not None:  # while the child started; its code has not begun
                return self._stopped(job.cause)
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
        process.kill()  # it may have left its group
        return process.wait()

    def _start(self, job: RunningJob) -> None:
        self.close()
        if not sys.executable:
            raise RuntimeError(f"{job.task} cannot run: sys.executable is empty, so no worker process can be started.")
        ours, theirs = socket.socketpair()
        line = self._line = Line(ours)
        with theirs:
            # The path first: the program may have changed it before it could import this package.
            path = [place for place in sys.path if isinstance(place, str)]
            code = f"import sys; sys.path[:] = {path!r}; from schedfactory.running import child; child.main({theirs.fileno()})"
            self._process = subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], process_group=0
            )
        line.say((_program(path), os.getpid(), self._house))
        end = Monotonic.now() + _START_S
        while Monotonic.now() < end and job.cause is None:
            for said in line.hear(_LOOK_S):
                if said == "ready":
                    return
                raise RuntimeError(f"the worker process of {job.task} did not start: {said}.")
            if self._has_died():
                raise RuntimeError(f"the worker process of {job.task} did not start: {self._epitaph()}.")
        if job.cause is None:
            raise RuntimeError(f"the worker process of {job.task} did not start within {_START_S:g} s.")
        self.close()

    def _follow(self, job: RunningJob, task: Task[..., Any], retry: Retry, limit: timedelta | None) -> Outcome:
        line = self._line
        assert line is not None
        began = Monotonic.now()
        flagged_at: float | None = None
        name = (job.id, job.fence)
        line.say((name, job.row, job.started, self._clock(), _place(task)))
        while True:
            has_died = self._has_died()  # asked before the line is heard, so that its last words count
            for whose, said in line.hear(0 if has_died else _LOOK_S):
                if whose != name:
                    continue  # of an earlier job, whose threads go on
                if isinstance(said, Outcome):
                    return said.since(job.started, self._clock())
                if job.cause not in ("lost", "timeout"):
                    job.relay(*said)
            if has_died:
                epitaph = self._epitaph()
                _log.warning("job %d: %s", job.id, epitaph)
                on_crash = job.on_crash or task.defaults.on_crash or "requeue"
                return outcome.crashed(epitaph, job.crashes + 1, on_crash, job.cause, self._clock())
            now = Monotonic.now()
            if limit is not None and now - began >= limit.total_seconds():
                self.close()
                return outcome.timed_out(limit, retry, job.failures + 1, self._clock(), leftover=False)
            if job.cause is not None and flagged_at is None:
                flagged_at = now
                line.say((name, job.cause))
            if job.cause is not None and flagged_at is not None and now - flagged_at >= _GRACE_S[job.cause]:
                self.close()
                return self._stopped(job.cause)

    def _stopped(self, cause: Cause) -> Outcome:
        return outcome.CANCELLED if cause == "user" else outcome.given_back(self._clock())

    def _has_died(self) -> bool:
        """Look without a wait, so that its number stays its own; its line may be held open by what it has started."""
        if self._process is None or self._line is None or self._line.has_ended:
            return True
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # somebody else has waited for it
            return True

    def _epitaph(self) -> str:
        code = self.close()
        if code >= 0:
            return f"its worker process ended with the exit code {code}"
        with suppress(ValueError):
            return f"its worker process was killed by signal {-code} ({signal.Signals(-code).name})"
        return f"its worker process was killed by signal {-code}"


def _program(path: list[str]) -> dict[str, Any]:
    """Return what `multiprocessing.spawn.prepare` needs to do in the child what the start of this program did."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    program: dict[str, Any] = {"name": "schedfactory-worker", "sys_path": path, "sys_argv": sys.argv, "dir": os.getcwd()}
    if getattr(main, "__spec__", None) is None and file and Path(file).is_file():
        program["init_main_from_path"] = str(Path(file).absolute())
    return program


def _place(task: Task[..., Any]) -> tuple[str, str]:
    """Return the module and the name in it. A program that was started by `python -m` is imported by its name."""
    module = task.function.__module__
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return (spec.name if module == "__main__" and spec is not None else module, task.function.__qualname__)
