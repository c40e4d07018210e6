"""What a scheduler is told when it is made, checked then, and kept as a value."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from schedfactory.model.clock import Clock, DurationLike, duration, standard, system_clock
from schedfactory.model.keep import KEPT, Keep, KeepLike, check_keep
from schedfactory.storage import sqlite

if TYPE_CHECKING:
    from sqlalchemy import Engine

_DEFAULT_FILE = "schedfactory.db"
_MEMORY = (None, "", ":memory:")


@dataclass(frozen=True, slots=True)
class Settings:
    """The checked form of `Scheduler(…)`'s arguments; `path` is None for a private temporary file."""

    path: Path | None
    durability: str
    migrate: bool
    lease_s: float
    lock_timeout_s: float
    keep: Keep
    max_payload: int
    max_result: int
    clock: Clock


class Given(TypedDict, total=False):
    """The keyword arguments of `Scheduler(…)`."""

    durability: str
    migrate: bool
    lease: DurationLike
    lock_timeout: DurationLike
    keep: KeepLike | None
    max_payload: int
    max_result: int
    clock: Clock | None


def check(
    database: str | os.PathLike[str] | Engine | None,
    *,
    durability: str = "full",
    migrate: bool = True,
    lease: DurationLike = "15s",
    lock_timeout: DurationLike = "30s",
    keep: KeepLike | None = KEPT,
    max_payload: int = 1_048_576,
    max_result: int = 4_194_304,
    clock: Clock | None = None,
) -> Settings:
    """Return the settings that these arguments mean.

    Raises:
        ValueError, TypeError: naming the argument, its value and what to pass instead.
    """
    if durability not in ("full", "normal"):
        raise ValueError(f'durability={durability!r} is unknown. Pass "full" or "normal".')
    for name, value in (("max_payload", max_payload), ("max_result", max_result)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r} is no number of bytes. Pass an int of 1 or more.")
    lock_timeout_s = duration(lock_timeout, "lock_timeout").total_seconds()
    lease_s = duration(lease, "lease").total_seconds()
    if lease_s < 1:
        raise ValueError(f"lease={lease!r} is below 1 s, in which a busy machine may well be silent. Pass 1 s or more.")
    return Settings(
        path_of(database),
        durability,
        migrate,
        lease_s,
        lock_timeout_s,
        check_keep(keep),
        max_payload,
        max_result,
        checked(clock),
    )


def path_of(database: str | os.PathLike[str] | Engine | None) -> Path | None:
    """Return the absolute path of the file, None for a private temporary one."""
    if database is None:
        database = os.environ.get("SCHEDFACTORY_DATABASE") or _DEFAULT_FILE
    if isinstance(database, (str, os.PathLike)):
        url = sqlite.to_url(database)
    elif hasattr(database, "url"):
        url = sqlite.to_url(database.url.render_as_string(hide_password=False))
        if url.database in _MEMORY:
            raise ValueError(f"{database!r} has its database in memory, which threads cannot share. Pass a path.")
    else:
        raise TypeError(f'database={database!r} is no path, URL or Engine. Pass a path such as "jobs.db".')
    return None if url.database in _MEMORY else sqlite.path_of(url)


def checked(clock: Clock | None) -> Clock:
    """Return a clock that gives standard moments in UTC, the host's one for None."""
    if clock is None:
        return system_clock
    if not callable(clock):
        raise TypeError(f"clock={clock!r} cannot be called. Pass a function that returns an aware datetime.")

    def read() -> datetime:
        now = clock()
        if now.utcoffset() is None:
            raise ValueError(f"the clock gave {now!r}, which has no time zone. Return an aware datetime.")
        return standard(now)

    return read
