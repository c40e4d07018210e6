"""How a job is to run: what a task's decorator and a call's `.options()` say, checked when it is said."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, TypedDict, Unpack

from schedfactory.model import codec
from schedfactory.model.clock import DurationLike, Moment, duration, moment
from schedfactory.model.job import FINAL
from schedfactory.model.retry import Retry, retry_of
from schedfactory.model.unique import Unique, unique_of

KeepLike = Mapping[str, DurationLike | None] | DurationLike
Keep = Mapping[str, timedelta | None]

KEPT: Mapping[str, DurationLike | None] = MappingProxyType({"succeeded": "30d", "cancelled": "30d", "failed": "90d"})
_OF_TASKS = ("name", "aliases", "on_crash", "isolation", "keep", "limit")  # what a call cannot say
_OF_CALLS = ("run_at", "delay")  # what a task cannot
LARGEST = 2**63 - 1  # what an integer in a row can be


class TaskOptions(TypedDict, total=False):
    """What a task's decorator and `.options(…)` take; None leaves an option as it was.

    Keys:
        queue: a label.
        priority: -100…100, higher runs first; ties: earlier `run_at`, then lower `id`.
        retry: a number of attempts, or a `Retry`; per call one of numbers and names.
        timeout: run time limit, a duration.
        expires: a moment, or a duration from the earliest start on, after which it no longer starts.
        tags: text labels.
        unique: True for all arguments, a key template such as "sync:{account_id}", or a `Unique`; False: none.
    """

    queue: str | None
    priority: int | None
    retry: int | Retry | None
    timeout: DurationLike | None
    expires: DurationLike | Moment | None
    tags: Iterable[str] | None
    unique: bool | str | Unique | None


class CallOptions(TaskOptions, total=False):
    """What `.options(…)` takes: those of a task, and when this call is to start.

    Keys:
        run_at: earliest start, a moment with its time zone.
        delay: earliest start, a duration from the enqueue on.
    """

    run_at: Moment | None
    delay: DurationLike | None


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
    on_crash: str | None = None
    unique: Unique | None = None

    def but(self, **given: Unpack[CallOptions]) -> Options:
        """Return these options with those that are given changed.

        Raises:
            ValueError, TypeError: naming the option, its value and what to pass instead.
        """
        for name in given:
            if name in _OF_TASKS:
                raise TypeError(
                    f"{name}= is for a task, not for one call. Give it to the decorator: @scheduler.task({name}=…)."
                )
        _refuse_unknown(given, _CHECKS)
        said = {name: value for name, value in given.items() if value is not None}
        if "run_at" in said and "delay" in said:
            raise ValueError(f"run_at={said['run_at']!r} and delay={said['delay']!r} both say when to start. Pass one of them.")
        changes: dict[str, Any] = {}
        for name, value in said.items():
            changes |= _CHECKS[name](value)
        return replace(self, **changes)

    def starts_at(self, now: datetime) -> datetime:
        """Return the earliest start of a job that is enqueued `now`."""
        if self.run_at is not None:
            return self.run_at
        return now if self.delay is None else now + self.delay

    def expires_at(self, run_at: datetime) -> datetime | None:
        """Return the moment after which the job no longer starts; a duration counts from `run_at`."""
        return run_at + self.expires if isinstance(self.expires, timedelta) else self.expires


def check_of_task(given: Iterable[str], task: str) -> None:
    """Let pass only names of options that a task's decorator takes."""
    for name in given:
        if name in _OF_CALLS:
            raise TypeError(f"{name}= is for one call, not for a task. Use {task}.options({name}=…).")
    _refuse_unknown(given, [*_OF_TASKS, *(name for name in _CHECKS if name not in _OF_CALLS)])


def _refuse_unknown(given: Iterable[str], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            raise TypeError(f"{name!r} is no option. There are: {', '.join(known)}.")


def check_queue(queue: str) -> str:
    """Return a queue's name: text, not empty, not "*"."""
    if not isinstance(queue, str):
        raise TypeError(f'queue={queue!r} is no text. Pass a name such as "mail".')
    if not queue or queue == "*" or len(queue) > 255 or not queue.isprintable():
        raise ValueError(f'queue={queue!r} is no name. Pass 1 to 255 printable characters, but "*", which means all others.')
    return str.__str__(queue)


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
    """Return a duration or a moment; text with a dash in it is a moment."""
    if isinstance(expires, datetime) or (isinstance(expires, str) and ("-" in expires.strip()[1:] or "T" in expires)):
        return moment(expires, "expires")
    return duration(expires, "expires")


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return text labels, each once."""
    if isinstance(tags, (str, bytes)):
        raise TypeError(f"tags={tags!r} is one text. Pass a list: [{tags!r}].")
    if not isinstance(tags, Iterable):
        raise TypeError(f"tags={tags!r} is no list of texts.")
    found = list(tags)
    for tag in found:
        if not isinstance(tag, str) or not tag or not codec.is_storable(tag):
            raise TypeError(f"tags={found!r}: {tag!r} is no text label.")
    return tuple(dict.fromkeys(map(str.__str__, found)))


def check_keep(given: KeepLike | None) -> Keep:
    """Return how long jobs of the final statuses that are named are kept, of all three for a duration; None: for ever."""
    if given is None or not isinstance(given, Mapping):
        return dict.fromkeys(FINAL, None if given is None else duration(given, "keep"))
    for status in given:
        if status not in FINAL:
            raise ValueError(f"keep={dict(given)!r}: {status!r} is no final status. There are {', '.join(FINAL)}.")
    return {status: None if time is None else duration(time, f"keep[{status!r}]") for status, time in given.items()}


def check_count(value: int, what: str, things: str, instead: str = "") -> int:
    """Return how many there are to be of some things: 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what}={value!r} is no number of {things}. Pass an int of 1 or more.")
    if value < 1:
        raise ValueError(f"{what}={value!r} is fewer than one. Pass 1 or more{instead}.")
    return check_storable(value, what)


def check_storable(value: int, what: str) -> int:
    """Return a number that a row can hold."""
    if value > LARGEST:
        raise ValueError(f"{what}={value!r} is more than a row can hold. Pass less.")
    return value


def check_int(value: int, what: str, least: int) -> int:
    """Return a number that is `least` or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{what}={value!r} is not usable. Pass an int of {least} or more.")
    return value


def check_flag(value: bool, what: str) -> bool:
    """Return what is True or False, and nothing that only counts as such."""
    if not isinstance(value, bool):
        raise TypeError(f"{what}={value!r} is neither True nor False. Pass one of them.")
    return value


def _check_retry(retry: int | Retry) -> dict[str, Any]:
    wanted = retry_of(retry)
    changes: dict[str, Any] = {"max_attempts": wanted.max_attempts}
    return changes | {"retry": codec.encode(wanted.to_row())} if isinstance(retry, Retry) else changes


_CHECKS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "queue": lambda value: {"queue": check_queue(value)},
    "priority": lambda value: {"priority": check_priority(value)},
    "run_at": lambda value: {"run_at": moment(value, "run_at"), "delay": None},
    "delay": lambda value: {"delay": duration(value, "delay"), "run_at": None},
    "retry": _check_retry,
    "timeout": lambda value: {"timeout": check_timeout(value)},
    "expires": lambda value: {"expires": check_expires(value)},
    "tags": lambda value: {"tags": check_tags(value)},
    "unique": lambda value: {"unique": unique_of(value)},
}
