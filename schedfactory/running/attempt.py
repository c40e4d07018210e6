"""One job becomes one outcome: find the task, read the arguments, call, judge."""

from __future__ import annotations

import signal
import traceback
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from schedfactory.model import codec, outcome
from schedfactory.model.clock import Clock
from schedfactory.model.outcome import Outcome
from schedfactory.model.registry import TaskRegistry
from schedfactory.model.retry import Retry
from schedfactory.model.running_job import RunningJob
from schedfactory.model.task import Task
from schedfactory.running import context


class Executor(Protocol):
    """Where the code of a job runs, if not on the worker's thread."""

    def run(self, job: RunningJob, task: Task[..., Any], retry: Retry, limit: timedelta | None) -> Outcome:
        """Run it, and say how that ended; raise only where it could not be begun."""
        ...

    def close(self) -> object:
        """End what it holds for jobs to come."""
        ...


class Attempts:
    """Runs jobs of these tasks. Whatever their code does comes back as an outcome; nothing is raised.

    Args:
        owner: the scheduler that they run for.
        max_result: bytes of an encoded result.
        capture: the lowest level of `logging` records that are kept with a job; None: none is.
    """

    def __init__(self, tasks: TaskRegistry, owner: object, clock: Clock, max_result: int, capture: int | None) -> None:
        self._tasks = tasks
        self._home = (owner, capture)
        self._clock = clock
        self._max_result = max_result
        self.is_interruptible = False  # on a thread of the user's, whose signals end the run and not the job
        self.interrupt: BaseException | None = None

    def run(self, job: RunningJob, isolated: Executor | None = None) -> Outcome:
        """Run the job's code, and say how that ended.

        Args:
            isolated: runs tasks of `isolation="process"`; None: they run right here, as in such a process itself.
        """
        try:
            task = self._tasks.get(job.task)
            retry = self._retry_of(job, task)
            args, kwargs = task.arguments.loads(job.stored_args)
            # The claim has seen to a row's own `expires_at`
            # (test_the_expiry_of_a_task_holds_for_rows_that_leave_it_to_the_task).
            if job.expires_at is None and task.defaults.expires is not None and _has_expired(job, task, self._clock()):
                return outcome.EXPIRED
        except Exception as error:  # noqa: BLE001 - without retry: the row will not read better next time
            return outcome.failed("error", error)
        try:
            if isolated is not None and task.isolation == "process":
                return isolated.run(job, task, retry, _limit_of(job, task))
            value = context.call(job, self._home, task.function, args, kwargs)
        except BaseException as error:  # noqa: BLE001 - a task may raise anything, and must not end its worker
            if self.is_interruptible and _is_interrupt(error):
                self.interrupt = error
                return outcome.given_back(self._clock())
            return self._judge(job, retry, error)
        return self._store(value)

    def _judge(self, job: RunningJob, retry: Retry, error: BaseException) -> Outcome:
        try:
            return outcome.raised(_from_the_task(error), retry, job.failures + 1, self._clock(), job.cause)
        except BaseException:  # noqa: BLE001 - an error made without its parts, such as a Snooze that lacks its delay
            return outcome.failed("error", error)

    def limit_of(self, job: RunningJob) -> timedelta | None:
        """Return after how long the dispatcher ends the attempt; None: never. Of a process, its executor sees to that."""
        task = self._tasks.find(job.task)
        return None if task is None or task.isolation == "process" else _limit_of(job, task)

    def starts_once(self, name: str) -> bool:
        """Tell whether a task's jobs must not start again after a death of their process."""
        task = self._tasks.find(name)
        return task is not None and task.defaults.on_crash == "fail"

    def is_isolated(self, name: str) -> bool:
        """Tell whether a task's jobs run in processes of their own."""
        task = self._tasks.find(name)
        return task is not None and task.isolation == "process"

    def time_out(self, job: RunningJob, limit: timedelta) -> Outcome:
        """Return how an attempt ends that ran longer than it may."""
        task = self._tasks.get(job.task)
        return outcome.timed_out(limit, self._retry_of(job, task), job.failures + 1, self._clock(), leftover=True)

    @staticmethod
    def _retry_of(job: RunningJob, task: Task[..., Any]) -> Retry:
        retry = task.retry_for(job.max_attempts, job.retry)
        job.max_attempts = retry.max_attempts  # rows that plain SQL or a remote producer wrote leave it to the task
        if not job.snoozes:
            return retry
        return replace(retry, max_attempts=max(retry.max_attempts - job.snoozes, 1))  # each snooze has raised it by one

    def _store(self, value: Any) -> Outcome:
        try:
            text = codec.encode(value)
        except BaseException as error:  # noqa: BLE001 - a class of the user's may raise anything, and must not end the worker
            return outcome.failed("result", f"NotSerializable: the result cannot be stored: {error}")
        if (len(text) if text.isascii() else len(text.encode())) > self._max_result:
            return outcome.failed("result", f"PayloadTooLarge: the result has over {self._max_result} bytes (max_result)")
        return outcome.succeeded(text)


def _is_interrupt(error: BaseException) -> bool:
    """Tell whether a signal's handler raised it: Ctrl-C, or the user's own handler, whose code its traceback goes through."""
    handlers = {getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()}
    frames = (frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__))
    return isinstance(error, KeyboardInterrupt) or any(code in handlers for code in frames)


def _limit_of(job: RunningJob, task: Task[..., Any]) -> timedelta | None:
    try:
        return task.limit_of(job.timeout_ms)
    except OverflowError:  # a number of milliseconds written by SQL
        return None


def _has_expired(job: RunningJob, task: Task[..., Any], now: datetime) -> bool:
    expires_at = task.defaults.expires_at(job.run_at)
    return expires_at is not None and expires_at <= now


def _from_the_task(error: BaseException) -> BaseException:
    """Return the error without the frames of this house, which say nothing about the user's code."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in (__file__, context.__file__):
        trace = trace.tb_next
    return error if trace is None else error.with_traceback(trace)
