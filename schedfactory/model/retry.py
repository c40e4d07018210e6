"""When a failed attempt is tried again."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from schedfactory.model.clock import DurationLike, duration

Backoff = Literal["exponential", "linear", "constant"] | Callable[[int, BaseException], DurationLike]
Exceptions = type[BaseException] | tuple[type[BaseException], ...]

MOST_ATTEMPTS = 1_000_000
_log = logging.getLogger("schedfactory")


@dataclass(frozen=True)
class Retry:
    """How often, after which wait and for which exceptions a task is tried again.

    The n-th wait is base·2ⁿ⁻¹ (exponential), base·n (linear) or base (constant), at most `cap`; `jitter` multiplies it
    by a random 0.5 to 1, so that what failed together does not come back together ("equal jitter", M. Brooker,
    "Exponential Backoff and Jitter", AWS Architecture Blog, 2015). A callable gets `(n, exception)` and returns a duration.

    Args:
        max_attempts: how many failures end the job; 1 means no retry.
        on: only these exceptions are tried again.
        never_on: these are not, even when `on` names a parent of theirs.

    Raises:
        ValueError: `max_attempts` below 1, an unknown backoff, a bad duration.
        TypeError: `on` or `never_on` hold something that is no exception class.

    >>> Retry(5, base="2s", jitter=False).wait(3, OSError())
    datetime.timedelta(seconds=8)
    """

    max_attempts: int = 5
    backoff: Backoff = "exponential"
    base: DurationLike = "1s"
    cap: DurationLike = "1h"
    jitter: bool = True
    on: Exceptions = (Exception,)
    never_on: Exceptions = ()

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int):
            raise TypeError(f"max_attempts={self.max_attempts!r} is no number of attempts. Pass an int of 1 or more.")
        if not 1 <= self.max_attempts <= MOST_ATTEMPTS:
            raise ValueError(f"max_attempts={self.max_attempts} is not in 1…1,000,000. 1 means: no retry.")
        if not callable(self.backoff) and self.backoff not in ("exponential", "linear", "constant"):
            raise ValueError(f'backoff={self.backoff!r} is unknown. Pass "exponential", "linear", "constant" or a callable.')
        for name in ("base", "cap"):
            object.__setattr__(self, name, duration(getattr(self, name), name))
        for name in ("on", "never_on"):
            object.__setattr__(self, name, _classes(name, getattr(self, name)))
        if not isinstance(self.jitter, bool):
            raise TypeError(f"jitter={self.jitter!r} is neither True nor False.")

    def wants(self, error: BaseException) -> bool:
        """Tell whether `error` is one to try again after."""
        return isinstance(error, self.on) and not isinstance(error, self.never_on)

    def wait(self, n: int, error: BaseException) -> timedelta:
        """Return the wait before the next attempt, after the `n`-th failure (from 1)."""
        base, cap = duration(self.base), duration(self.cap)
        if callable(self.backoff):
            return self._asked(n, error)
        factor = {"exponential": 2 ** min(n - 1, 60), "linear": n, "constant": 1}[self.backoff]
        seconds = min(base.total_seconds() * factor, cap.total_seconds())
        return timedelta(seconds=seconds * (random.uniform(0.5, 1) if self.jitter else 1))

    def _asked(self, n: int, error: BaseException) -> timedelta:
        assert callable(self.backoff)
        try:
            return duration(self.backoff(n, error), "the backoff's answer")
        except BaseException:  # noqa: BLE001 - logged, and it goes on
            _log.exception("backoff %r failed; waiting for base=%s instead", self.backoff, self.base)
            return duration(self.base)

    def to_row(self) -> dict[str, Any]:
        """Return what a job's row keeps of a retry given for one call.

        Raises:
            ValueError: a callable or exception classes, which cannot live in a row.
        """
        if callable(self.backoff):
            raise ValueError(
                f"backoff={self.backoff!r} cannot live in a job's row. Set it on the task, or pass a name per call."
            )
        if self.on != (Exception,) or self.never_on != ():
            raise ValueError(
                "on= and never_on= cannot live in a job's row. Set them on the task; per call, pass numbers and names."
            )
        return {
            "max_attempts": self.max_attempts,
            "backoff": self.backoff,
            "base": duration(self.base).total_seconds(),
            "cap": duration(self.cap).total_seconds(),
            "jitter": self.jitter,
        }


def retry_of(value: int | Retry) -> Retry:
    """Return a `Retry`: an int counts attempts."""
    if isinstance(value, Retry):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"retry={value!r} is neither a number of attempts nor a Retry(…).")
    if not 1 <= value <= MOST_ATTEMPTS:
        raise ValueError(f"retry={value!r} is not in 1…1,000,000. 1 means: no retry.")
    return Retry(value)


def _classes(name: str, given: Exceptions) -> tuple[type[BaseException], ...]:
    classes = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    for one in classes:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise TypeError(f"{name}={given!r}: {one!r} is no exception class.")
    return classes


ONCE = Retry(1)
