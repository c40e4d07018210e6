"""The other end of `isolated`: what runs in a worker process. It takes jobs from its parent, one at a time."""

from __future__ import annotations

import ctypes
import importlib
import os
import queue
import signal
import sys
import threading
from contextlib import suppress
from datetime import datetime, timedelta
from multiprocessing import spawn
from operator import attrgetter
from pathlib import Path
from typing import Any, NoReturn

from schedfactory.model import outcome
from schedfactory.model.clock import Clock, Monotonic
from schedfactory.model.outcome import Outcome
from schedfactory.model.registry import TaskRegistry
from schedfactory.model.running_job import RunningJob
from schedfactory.model.task import Task
from schedfactory.running import capture, context, signals
from schedfactory.running.attempt import Attempts
from schedfactory.running.line import ChildLine
from schedfactory.storage.locks import child_byte, lock_file

_PR_SET_PDEATHSIG = 1
_LOCK_S = 10.0  # for an earlier child of the same worker to be gone


def main(descriptor: int) -> NoReturn:
    """Serve the parent at the other end of `descriptor` until it is gone."""
    context.is_worker_process = context.is_importing = True
    line = ChildLine(descriptor)
    program, parent, house = line.hear()
    _die_with(parent)
    with signals.handled(lambda *_: None):  # they are meant for the parent, which lets the job end
        try:
            spawn.prepare(program)  # the parent's main module, under another name, as multiprocessing does it
            _take_lock(*house[:3])
        except BaseException as error:  # noqa: BLE001 - told to the parent, whose job fails by it
            line.say(outcome.describe(error))
            os._exit(1)
        context.is_importing = False
        line.say("ready")
        _Server(line, *house).serve()


def _die_with(parent: int) -> None:
    if sys.platform.startswith("linux"):  # also where code that holds the interpreter's lock keeps the line from being read
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _take_lock(database: str, node: int, worker: int) -> None:
    lock, end = lock_file(Path(database)), Monotonic.now() + _LOCK_S
    while not lock.seize(child_byte(node, worker)):
        if Monotonic.now() > end:
            raise TimeoutError("another process holds the lock of this worker's process")
        Monotonic.sleep(0.01)


class _Server:
    def __init__(self, line: ChildLine, database: str, node: int, worker: int, max_result: int, level: int | None) -> None:
        self._line = line
        self._level = level
        self._database = database
        self._worker = (node, worker)
        self._max_result = max_result
        self._orders: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._job: RunningJob | None = None
        self._cause: tuple[Any, Any] = (None, None)  # of which job: it may come before the job has begun
        self._guard = threading.Lock()

    def serve(self) -> NoReturn:
        threading.Thread(target=self._listen, name="schedfactory-line", daemon=True).start()
        if self._level is not None:
            capture.begin(self)
        while True:
            name, row, started, now, place = self._orders.get()
            clock = _going_on(now)
            job = self._job = RunningJob(row, *self._worker, started, self._note, clock)
            self._pass_on()
            ending = self._run(job, *place)
            if job.lines is not None:
                job.lines.end(clock())
                job.noted = False
                self._note(job)
            self._job = None
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):  # closed by the task, or a full disk: the job has ended all the same
                    stream.flush()
            self._say(name, ending)

    def _listen(self) -> None:
        """Take orders: a job, or why the one that runs should stop."""
        with suppress(EOFError, OSError):
            while True:
                said = self._line.hear()
                if len(said) > 2:
                    self._orders.put(said)
                else:
                    self._cause = said
                    self._pass_on()
        if os.getpgrp() == os.getpid():  # the parent is gone, and what this process has started goes with it
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def _pass_on(self) -> None:
        (name, cause), job = self._cause, self._job
        if job is not None and name == (job.id, job.fence):
            job.cause = cause

    def _run(self, job: RunningJob, module: str, qualname: str) -> Outcome:
        registry = TaskRegistry()
        try:
            task = _find(module, qualname)
            registry.add(task)
            if task.home is not None:
                task.home.work_on(self._database)
        except Exception as error:  # noqa: BLE001 - without retry: it will not be found next time either
            return outcome.failed("error", error)
        started: datetime = job.started
        return Attempts(registry, task.home, lambda: started, self._max_result, self._level).run(job)

    def _note(self, job: RunningJob) -> None:
        """Pass on what the job says, unless another thread is about to: that one then does it."""
        if not self._line.is_ours or job is not self._job:  # a forked copy, or a thread that an earlier job has left behind
            job.noted = True
            return
        while not job.noted and self._guard.acquire(blocking=False):  # a signal's handler may come to here at any time
            try:
                job.noted = True  # before it is read: what is said from here on is noted anew
                lines = [] if job.lines is None else job.lines.peek(len(job.lines.pending))
                self._line.say(((job.id, job.fence), (job.progress, lines)))
                if job.lines is not None:
                    job.lines.discard(len(lines))
            finally:
                self._guard.release()

    def _say(self, name: tuple[int, int], what: object) -> None:
        with self._guard:
            self._line.say((name, what))


def _going_on(now: datetime) -> Clock:
    """Return the parent's clock, as far as it can be known here."""
    began = Monotonic.now()
    return lambda: now + timedelta(seconds=Monotonic.now() - began)


def _find(module: str, qualname: str) -> Task[..., Any]:
    try:
        found = attrgetter(qualname)(sys.modules["__main__"] if module == "__main__" else importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise LookupError(
            f"{module}.{qualname} cannot be found in a worker process ({error}). Put it at the top of a module."
        ) from error
    if not isinstance(found, Task):
        raise TypeError(
            f"{module}.{qualname} is not the task itself, so a worker process cannot find it. Decorate the function, "
            "or give the task the function's own name in its module."
        )
    return found
