"""How many jobs may run at the same time, and how many may start in a stretch of time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Any

from schedfactory.model.arguments import Arguments
from schedfactory.model.keys import KeyTemplate
from schedfactory.model.options import check_count

_FORM = re.compile(r"([1-9][0-9]{0,8})/([smhd])")
_WINDOWS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


@dataclass(frozen=True)
class Rate:
    """So many starts in any stretch of time as long as `window`."""

    count: int
    window: timedelta
    text: str

    @staticmethod
    def of(text: str, what: str = "rate") -> Rate:
        """Return the rate that text such as "100/m" says.

        Raises:
            ValueError, TypeError: naming it.
        """
        if not isinstance(text, str):
            raise TypeError(f'{what}={text!r} is no rate. Pass text such as "100/m".')
        found = _FORM.fullmatch(text)
        if found is None:
            raise ValueError(f'{what}={text!r} is not understood. Pass starts by s, m, h or d, such as "100/m".')
        return Rate(int(found[1]), _WINDOWS[found[2]], text)


@dataclass(frozen=True)
class Limit:
    """What bounds the jobs of a task, over all nodes.

    Args:
        concurrency: so many run at the same time.
        key: a template such as "account:{account_id}": the limit counts for each key by itself, and tasks that give the same
            key share it; they should give the same limit, too, because their jobs wait in one line, and each rate counts the
            starts of the tasks that have it. None: for the task as a whole.
        rate: so many start in any second, minute, hour or day: "10/s", "100/m", "5/h", "1000/d". Failed starts count.

    Slots are counted from running rows, so that a death frees them; code that has outlived its timeout holds its slot until
    it ends. A job whose limit has no room stays queued, and holds up no other.

    Raises:
        ValueError: neither a concurrency nor a rate, a number below 1, a rate of another form.

    >>> Limit(2, key="account:{account_id}", rate="100/m").concurrency
    2
    """

    concurrency: int | None = None
    key: str | None = None
    rate: str | None = None

    def __post_init__(self) -> None:
        if self.concurrency is None and self.rate is None:
            raise ValueError('Limit() limits nothing. Pass how many may run, a rate such as "100/m", or both.')
        check_concurrency(self.concurrency)
        if self.rate is not None:
            Rate.of(self.rate)
        if self.key is not None:
            KeyTemplate(self.key, None, "key")


@dataclass(frozen=True)
class Bound:
    """A limit as it counts for one job: what it counts by, and how much that allows."""

    key: str
    concurrency: int | None = None
    rates: tuple[Rate, ...] = ()
    is_paused: bool = False

    def with_another(self, other: Bound) -> Bound:
        """Return what both allow, where they count by the same key."""
        given = [one for one in (self.concurrency, other.concurrency) if one is not None]
        return replace(self, concurrency=min(given, default=None), rates=tuple(dict.fromkeys(self.rates + other.rates)))


class TaskLimit:
    """A limit with its template checked against the parameters of its task."""

    def __init__(self, limit: Limit, task: str, arguments: Arguments) -> None:
        self._limit = limit
        self._task = task
        self._arguments = arguments
        self._template = None if limit.key is None else KeyTemplate(limit.key, arguments.names, "key")
        self._rates = () if limit.rate is None else (Rate.of(limit.rate),)

    def bound(self, args: str) -> Bound:
        """Return what counts for a job with these stored arguments, as the task's types read them.

        Raises:
            Exception: whatever the types say of arguments that do not fit; a ValueError where one is not there.
        """
        if self._template is None:
            return Bound(f"task:{self._task}", self._limit.concurrency, self._rates)
        return Bound(f"limit:{self._template.render(self._read(args))}", self._limit.concurrency, self._rates)

    @cached_property
    def _read(self) -> Callable[[str], dict[str, Any]]:
        return self._arguments.reader(() if self._template is None else self._template.names)


def limits_of(given: Limit | Sequence[Limit] | None, task: str, arguments: Arguments) -> tuple[TaskLimit, ...]:
    """Return a task's limits.

    Raises:
        TypeError: something that is no `Limit`.
        ValueError: a key names a parameter that there is not.
    """
    wanted = () if given is None else (given,) if isinstance(given, Limit) else given
    if not isinstance(wanted, Sequence) or not all(isinstance(one, Limit) for one in wanted):
        raise TypeError(f'limit={given!r} is no limit. Pass Limit(2), Limit(rate="100/m"), or a list of such.')
    return tuple(TaskLimit(one, task, arguments) for one in wanted)


def check_concurrency(value: int | None) -> int | None:
    """Return how many may run at the same time: 1 or more, None for no bound."""
    return None if value is None else check_count(value, "concurrency", "jobs", "; pause what is not to run")
