"""How a job is to run: what a task's decorator and a call's `.options()` say, checked when it is said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import msgspec

from schedfactory.model.clock import DurationLike, Moment, duration, moment
from schedfactory.model.retry import Retry, retry_of


@dataclass(frozen=True, slots=True)
class Options:
    """The options that a job's row keeps. None leaves the choice to the task of the node that claims it."""

    queue: str = "default"
    priority: int = 0
    tags: tuple[str, ...] = ()
    run_at: datetime | None = None
    delay: timedelta | None = None
    expires: timedelta | datetime | None = None
    timeout: timedelta | None = None
    max_attempts: int | None = None
    retry: str | None = None

    def but(
        self,
        *,
        queue: str | None = None,
        priority: int | None = None,
        run_at: Moment | None = None,
        delay: DurationLike | None = None,
        retry: int | Retry | None = None,
        timeout: DurationLike | None = None,
        expires: DurationLike | Moment | None = None,
        tags: Iterable[str] | None = None,
    ) -> Options:
        """Return these options with those that are given changed.

        Raises:
            ValueError, TypeError: naming the option, its value and what to pass instead.
        """
        if run_at is not None and delay is not None:
            raise ValueError(f"run_at={run_at!r} and delay={delay!r} both say when to start. Pass one of them.")
        new = self
        if queue is not None:
            new = replace(new, queue=check_queue(queue))
        if priority is not None:
            new = replace(new, priority=check_priority(priority))
        if run_at is not None:
            new = replace(new, run_at=moment(run_at, "run_at"), delay=None)
        if delay is not None:
            new = replace(new, delay=duration(delay, "delay"), run_at=None)
        if retry is not None:
            new = _with_retry(new, retry)
        if timeout is not None:
            new = replace(new, timeout=check_timeout(timeout))
        if expires is not None:
            new = replace(new, expires=check_expires(expires))
        if tags is not None:
            new = replace(new, tags=check_tags(tags))
        return new

    def starts_at(self, now: datetime) -> datetime:
        """Return the earliest start of a job that is enqueued `now`."""
        if self.run_at is not None:
            return self.run_at
        return now if self.delay is None else now + self.delay

    def expires_at(self, run_at: datetime) -> datetime | None:
        """Return the moment after which the job no longer starts; a duration counts from `run_at`."""
        return run_at + self.expires if isinstance(self.expires, timedelta) else self.expires


def check_queue(queue: str) -> str:
    """Return a queue's name: text, not empty, not "*"."""
    if not isinstance(queue, str):
        raise TypeError(f'queue={queue!r} is no text. Pass a name such as "mail".')
    if not queue or queue == "*" or len(queue) > 255 or not queue.isprintable():
        raise ValueError(f'queue={queue!r} is no name. Pass 1 to 255 printable characters; "*" means all queues.')
    return queue


def check_priority(priority: int) -> int:
    """Return a priority: an int from -100 to 100, higher runs first."""
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"priority={priority!r} is no integer. Pass one from -100 to 100; higher runs first.")
    if not -100 <= priority <= 100:
        raise ValueError(f"priority={priority} is not in -100…100. Higher runs first; 0 is usual.")
    return int(priority)


def check_timeout(timeout: DurationLike) -> timedelta:
    """Return a run time limit of at least a millisecond, in whole milliseconds."""
    limit = duration(timeout, "timeout")
    if limit < timedelta(milliseconds=1):
        raise ValueError(f"timeout={timeout!r} is below 1 ms. Leave it out for no limit.")
    return limit


def check_expires(expires: DurationLike | Moment) -> timedelta | datetime:
    """Return a duration or a moment; text with a digit, a dash and a digit is a moment."""
    if isinstance(expires, datetime) or (isinstance(expires, str) and "-" in expires.strip()[1:]):
        return moment(expires, "expires")
    return duration(expires, "expires")


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return text labels, each once."""
    if isinstance(tags, (str, bytes)):
        raise TypeError(f"tags={tags!r} is one text. Pass a list: [{tags!r}].")
    found = tuple(dict.fromkeys(tags))
    for tag in found:
        if not isinstance(tag, str) or not tag:
            raise TypeError(f"tags={tags!r}: {tag!r} is no text label.")
    return found


def _with_retry(options: Options, retry: int | Retry) -> Options:
    wanted = retry_of(retry)
    row = msgspec.json.encode(wanted.to_row()).decode() if isinstance(retry, Retry) else None
    return replace(options, max_attempts=wanted.max_attempts, retry=row or options.retry)
