"""What must not be queued twice."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from schedfactory.model.clock import DurationLike, duration
from schedfactory.model.keys import KeyTemplate

Until = Literal["finished", "started"]
OnConflict = Literal["keep", "raise", "replace", "debounce"]
_FOR_EVER = 1 << 53  # claims: more than there will be


@dataclass(frozen=True)
class Unique:
    """A key that one job of a task holds at a time; another one with that key is a conflict.

    The database decides, in the transaction of the enqueue: however many processes ask at once, one job gets the key. A
    crash, a retry and a snooze do not give it up, nor take it again. Two tasks never meet, whatever their keys.

    Args:
        key: True for all arguments, or a template such as "sync:{account_id}". Values in it are as in JSON, text as it is.
        until: "finished" holds the key while the job is unfinished; "started" only until its first start, so that one may
            run while one waits.
        within: finished jobs count, too, whatever their end, for this long after it; a duration.
        on_conflict: "keep" gives the job that is there (`job.is_new` is False); "raise" is a `DuplicateJob`; "replace" gives
            the waiting one the new arguments, priority and `run_at`; "debounce" puts it off to the new call's `run_at`,
            with the new arguments. What has started or ended is kept by these two, as it is. `expires` goes along.
        max_wait: how far "debounce" may put a job off, from when it was enqueued; a duration.

    Raises:
        ValueError: an unknown word, text that is no template, a bad duration, "replace" or "debounce" without
            `until="started"`, `max_wait` without "debounce".
        TypeError: a key that is neither True nor text.

    >>> Unique("sync:{account_id}", until="started", on_conflict="debounce", max_wait="5m").max_wait
    datetime.timedelta(seconds=300)
    """

    key: str | Literal[True] = True
    until: Until = "finished"
    within: DurationLike | None = None
    on_conflict: OnConflict = "keep"
    max_wait: DurationLike | None = None

    def __post_init__(self) -> None:
        if self.key is not True and not isinstance(self.key, str):
            raise TypeError(f'unique={self.key!r} is no key. Pass True for all arguments, or text such as "sync:{{id}}".')
        if self.until not in ("finished", "started"):
            raise ValueError(f'until={self.until!r} is unknown. Pass "finished" or "started".')
        if self.on_conflict not in ("keep", "raise", "replace", "debounce"):
            raise ValueError(f'on_conflict={self.on_conflict!r} is unknown. Pass "keep", "raise", "replace" or "debounce".')
        if self.on_conflict in ("replace", "debounce") and self.until != "started":
            raise ValueError(
                f'on_conflict="{self.on_conflict}" changes a job that waits, so it needs until="started". Pass that, too.'
            )
        if self.max_wait is not None and self.on_conflict != "debounce":
            raise ValueError(f'max_wait={self.max_wait!r} is for on_conflict="debounce" only. Leave it out.')
        for name in ("within", "max_wait"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _some_time(getattr(self, name), name))
        self.template(None)

    def template(self, names: Collection[str] | None) -> KeyTemplate | None:
        """Return what makes the key of a call, None where all arguments do; `names` as for `KeyTemplate`."""
        return None if self.key is True else KeyTemplate(self.key, names, "unique")

    @property
    def window(self) -> timedelta | None:
        """For how long after its end a job counts."""
        return None if self.within is None else duration(self.within)

    @property
    def longest(self) -> timedelta | None:
        """How far a job may be put off, from when it was enqueued."""
        return None if self.max_wait is None else duration(self.max_wait)

    @property
    def fence(self) -> int:
        """How often a job may have been claimed and still hold its key."""
        return 0 if self.until == "started" else _FOR_EVER


def _some_time(value: DurationLike, name: str) -> timedelta:
    found = duration(value, name)
    if not found:
        raise ValueError(f"{name}={value!r} is no time at all. Leave it out, or pass a longer one.")
    return found


def unique_of(value: bool | str | Unique) -> Unique | None:
    """Return a `Unique`: True and text are its key, False is none."""
    if isinstance(value, Unique):
        return value
    return None if value is False else Unique(value)
