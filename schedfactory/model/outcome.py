"""How one attempt ended: the only thing a worker hands back. Judged here, purely; written elsewhere."""

from __future__ import annotations

import traceback as _traceback
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from schedfactory.model.clock import DurationLike, duration
from schedfactory.model.job import JobStatus
from schedfactory.model.retry import Retry

Cause = Literal["user", "timeout", "shutdown", "lost"]
MAX_CRASHES = 3  # deaths of its process that end a job
_LONGEST_ERROR = 4_000
_LONGEST_TRACEBACK = 64_000


_UNSAID: Any = object()


class ControlFlow(Exception):
    """What a task raises to say how it goes on. Not an error: nothing is logged as one."""


class _Later(ControlFlow):
    def __init__(self, delay: DurationLike = _UNSAID, why: str = "") -> None:
        if delay is _UNSAID:
            raise TypeError(f'{type(self).__name__}() does not say when. Pass a duration: {type(self).__name__}("10m").')
        super().__init__(why)
        self.delay = duration(delay, "delay")


class Snooze(_Later):
    """Run this job again after `delay`; no attempt is spent (`max_attempts` grows by one).

    >>> raise Snooze("10m")  # doctest: +SKIP
    """


class RetryAfter(_Later):
    """Run this job again after `delay`; it counts as a failure, and the last allowed one ends the job.

    >>> raise RetryAfter("30s", "rate limited")  # doctest: +SKIP
    """


class Fail(ControlFlow):
    """End this job `failed`/`task`, whatever its retry says.

    >>> raise Fail("the account is closed")  # doctest: +SKIP
    """


class Cancel(ControlFlow):
    """End this job `cancelled`/`task`. `raise_if_cancelled()` raises it too, and then the cause decides.

    >>> raise Cancel("no longer needed")  # doctest: +SKIP
    """


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of the job, and how the attempt reads in its history (`attempt_status`, `attempt_reason`)."""

    status: JobStatus
    reason: str | None = None
    attempt_status: str = "succeeded"
    attempt_reason: str | None = None
    result: str | None = None
    error: str | None = None
    traceback: str | None = None
    run_at: datetime | None = None
    failures: int = 0
    snoozes: int = 0
    crashes: int = 0
    leftover: bool = False

    def since(self, then: datetime, now: datetime) -> Outcome:
        """Return an outcome that was judged as of `then` as it is `now`: what runs again does so as much later."""
        return self if self.run_at is None else replace(self, run_at=self.run_at + (now - then))


def succeeded(result: str) -> Outcome:
    """The code returned; `result` is JSON text."""
    return Outcome("succeeded", result=result)


# Someone cancelled the job; it was not started in time.
CANCELLED = Outcome("cancelled", "user", "cancelled", "user")
EXPIRED = Outcome("cancelled", "expired", "cancelled", "expired")


def given_back(now: datetime) -> Outcome:
    """The code was stopped by a shutdown; the job runs again from its beginning."""
    return Outcome("queued", "shutdown", "interrupted", "shutdown", run_at=now)


def failed(reason: str, error: BaseException | str) -> Outcome:
    """The job ends here, without another try."""
    text = error if isinstance(error, str) else describe(error)
    trace = None if isinstance(error, str) else format_traceback(error)
    return Outcome("failed", reason, "failed", reason, error=clean(text, _LONGEST_ERROR), traceback=trace, failures=1)


def raised(error: BaseException, retry: Retry, tries: int, now: datetime, cause: Cause | None = None) -> Outcome:
    """Judge an exception.

    Args:
        retry: the job's own, with its number of attempts.
        tries: failures so far, this one included.
        cause: why the job's `cancelled` flag was set, if it was.
    """
    if isinstance(error, Snooze):
        return Outcome(_when(error.delay), "snooze", "snoozed", "snooze", run_at=now + error.delay, snoozes=1)
    if isinstance(error, Fail):
        return failed("task", error)
    if isinstance(error, Cancel):
        return _stopped(error, now, cause)
    if cause == "user":
        return Outcome("cancelled", "user", "cancelled", "user", error=describe(error), traceback=format_traceback(error))
    if isinstance(error, RetryAfter):
        return _again(error, error.delay, now) if tries < retry.max_attempts else failed("error", error)
    if retry.wants(error) and tries < retry.max_attempts:
        return _again(error, retry.wait(tries, error), now)
    return failed("error", error)


def crashed(error: str, crashes: int, on_crash: str, cause: Cause | None, now: datetime) -> Outcome:
    """The process that ran the code has died. `crashes` counts this one."""
    if cause in ("user", "shutdown"):
        return CANCELLED if cause == "user" else given_back(now)
    ends = crashes >= MAX_CRASHES or on_crash == "fail"
    status: JobStatus = "failed" if ends else "queued"
    return Outcome(status, "crashed" if ends else "crash", "crashed", "crash", error=error, run_at=now, crashes=1)


def timed_out(limit: timedelta, retry: Retry, tries: int, now: datetime, *, leftover: bool = True) -> Outcome:
    """The attempt ran over its time. Where its code still runs (`leftover`), the job stays held until that ends."""
    error = TimeoutError(f"ran longer than its timeout of {limit.total_seconds():g} s")
    if retry.wants(error) and tries < retry.max_attempts:
        again = _again(error, retry.wait(tries, error), now)
        return replace(again, attempt_reason="timeout", traceback=None, leftover=leftover)
    return Outcome("failed", "timeout", "failed", "timeout", error=describe(error), failures=1, leftover=leftover)


def _again(error: BaseException, wait: timedelta, now: datetime) -> Outcome:
    told = (describe(error), format_traceback(error))
    return Outcome(_when(wait), "retry", "failed", "error", None, *told, run_at=now + wait, failures=1)


def _when(wait: timedelta) -> JobStatus:
    return "scheduled" if wait else "queued"


def _stopped(error: Cancel, now: datetime, cause: Cause | None) -> Outcome:
    if cause == "shutdown":
        return given_back(now)
    reason = "user" if cause == "user" else "task"
    return Outcome("cancelled", reason, "cancelled", reason, error=describe(error) if str(error) else None)


def describe(error: BaseException) -> str:
    """Return "ExceptionType: message", fit for any database."""
    try:
        message = str(error)
    except BaseException as broken:  # noqa: BLE001 - a user's __str__ may raise anything; its job must still end
        message = f"(its text could not be read: {type(broken).__name__})"
    name = type(error).__name__
    return clean(f"{name}: {message}" if message else name, _LONGEST_ERROR)


def format_traceback(error: BaseException) -> str:
    """Return the traceback, its end where it is too long."""
    try:
        text = "".join(_traceback.format_exception(error))
    except BaseException as broken:  # noqa: BLE001 - as above
        text = f"(the traceback could not be read: {type(broken).__name__})"
    return clean(text[-_LONGEST_TRACEBACK:], _LONGEST_TRACEBACK)


def clean(text: str, longest: int) -> str:
    """Return text that every database takes: no lone surrogates, no NUL, not too long."""
    return text[:longest].encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
