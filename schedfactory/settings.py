"""What a scheduler is told when it is made, checked then, and kept as a value."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from schedfactory.model.clock import Clock, DurationLike, duration, standard, system_clock
from schedfactory.model.log import check_level
from schedfactory.model.options import KEPT, Keep, KeepLike, check_flag, check_int, check_keep
from schedfactory.storage import sqlite

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

_DEFAULT_FILE = "schedfactory.db"
_MEMORY = (None, "", ":memory:")


class Given(TypedDict, total=False):
    """The keyword arguments of `Scheduler(…)`."""

    durability: str
    migrate: bool
    lease: DurationLike
    lock_timeout: DurationLike
    keep: KeepLike | None
    max_payload: int
    max_result: int
    capture_logs: str | int | None
    clock: Clock | None


@dataclass(frozen=True)
class Settings:
    """The arguments of `Scheduler(…)`, and what they mean.

    Raises:
        ValueError, TypeError: naming the argument, its value and what to pass instead.
    """

    database: str | os.PathLike[str] | URL | Engine | None = None
    durability: str = "full"
    migrate: bool = True
    lease: DurationLike = "15s"
    lock_timeout: DurationLike = "30s"
    keep: KeepLike | None = field(default_factory=lambda: KEPT)  # a mapping view is unhashable before Python 3.12
    max_payload: int = 1_048_576
    max_result: int = 4_194_304
    capture_logs: str | int | None = "INFO"
    clock: Clock | None = None

    def __post_init__(self) -> None:
        if self.durability not in ("full", "normal"):
            raise ValueError(f'durability={self.durability!r} is unknown. Pass "full" or "normal".')
        check_flag(self.migrate, "migrate")
        check_int(self.max_payload, "max_payload", 1)
        check_int(self.max_result, "max_result", 1)
        if self.lease_s < 1:
            raise ValueError(
                f"lease={self.lease!r} is below 1 s, in which a busy machine may well be silent. Pass 1 s or more."
            )
        _ = self.path, self.lock_timeout_s, self.kept, self.capture_level, self.now  # checked by being read

    @cached_property
    def path(self) -> Path | None:
        """The absolute path of the file, None for a private temporary one."""
        return path_of(self.database)

    @cached_property
    def lease_s(self) -> float:
        """In seconds."""
        return duration(self.lease, "lease").total_seconds()

    @cached_property
    def lock_timeout_s(self) -> float:
        """In seconds."""
        return duration(self.lock_timeout, "lock_timeout").total_seconds()

    @cached_property
    def kept(self) -> Keep:
        """How long jobs of each final status stay; one that was not named has its usual time."""
        return {**check_keep(KEPT), **check_keep(self.keep)}

    @cached_property
    def capture_level(self) -> int | None:
        """The lowest level of `logging` records that are kept with a job; None: none is."""
        return check_level(self.capture_logs)

    @cached_property
    def now(self) -> Clock:
        """A clock that gives standard moments in UTC."""
        return checked(self.clock)


def path_of(database: str | os.PathLike[str] | URL | Engine | None) -> Path | None:
    """Return the absolute path of the file, None for a private temporary one."""
    if database is None:
        database = os.environ.get("SCHEDFACTORY_DATABASE") or _DEFAULT_FILE
    is_engine = hasattr(database, "url")
    given: Any = getattr(database, "url", database)
    if hasattr(given, "render_as_string"):
        given = given.render_as_string(hide_password=False)
    if not isinstance(given, (str, os.PathLike)):
        raise TypeError(f'database={database!r} is no path, URL or Engine. Pass a path such as "jobs.db".')
    url = sqlite.to_url(given)
    if is_engine and url.database in _MEMORY:
        raise ValueError(f"{database!r} has its database in memory, which threads cannot share. Pass a path.")
    return None if url.database in _MEMORY else sqlite.path_of(url)


def checked(clock: Clock | None) -> Clock:
    """Return a clock that gives standard moments in UTC, the host's one for None."""
    if clock is None:
        return system_clock
    if not callable(clock):
        raise TypeError(f"clock={clock!r} cannot be called. Pass a function that returns an aware datetime.")

    def read() -> datetime:
        now = clock()
        if not isinstance(now, datetime):
            raise TypeError(f"the clock gave {now!r}, which is no datetime. Return an aware one.")
        if now.utcoffset() is None:
            raise ValueError(f"the clock gave {now!r}, which has no time zone. Return an aware datetime.")
        return standard(now)

    return read
