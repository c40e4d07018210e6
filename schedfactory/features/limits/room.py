"""How much room each limit has, as one transaction sees it and goes on using it up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cached_property

from sqlalchemy import Connection

from schedfactory.features.limits import rows
from schedfactory.model.limit import Bound, Rate

# Code begins a little after its claim, not always by the same: its own clock must not find one start too many, either.
MARGIN = timedelta(milliseconds=10)
# Whoever counts reads the clock when nobody else can start anything: a start later than that was before a step back.
STEP = timedelta(seconds=1)


class Room:
    """What is left under bounds. The latest `rate.count` starts decide a rate: the sliding window is exact, not in steps."""

    def __init__(self, conn: Connection, now: datetime) -> None:
        self._conn = conn
        self._now = now
        self._taken: Counter[str] = Counter()
        self._latest: dict[tuple[str, Rate], int] = {}
        self._starts: dict[tuple[str, Rate, int], datetime | None] = {}

    @cached_property
    def in_use(self) -> Counter[str]:
        """How many slots of each key are in use, without what this transaction takes."""
        return rows.slots_in_use(self._conn)

    def is_left(self, bound: Bound) -> bool:
        """Tell whether one more may start now."""
        if bound.is_paused:
            return False
        if bound.concurrency is not None and self.in_use[bound.key] + self._taken[bound.key] >= bound.concurrency:
            return False
        return all(self._again_at(bound.key, rate) is None for rate in bound.rates)

    def again_at(self, bound: Bound) -> datetime | None:
        """Return when the windows of its rates have room for one more; None where they have, or no rate is in the way."""
        if bound.is_paused or not bound.rates:
            return None
        return max((at for rate in bound.rates if (at := self._again_at(bound.key, rate)) is not None), default=None)

    def next_start(self, key: str, rate: Rate, ahead: int) -> datetime:
        """Return when a rate lets one more start, after so many others. Reads only."""
        windows, rest = divmod(ahead, rate.count)
        number = rows.latest_start(self._conn, key, rate)[0] + 1 + rest - rate.count
        start = rows.started_at(self._conn, key, rate, number)
        first = self._now if start is None else max(self._now, start + rate.window + MARGIN)
        return first + windows * rate.window

    def take(self, bounds: Iterable[Bound]) -> None:
        """Use up what one job needs."""
        self._taken.update(bound.key for bound in bounds)

    def renew(self) -> None:
        """Take back all that was taken."""
        self._taken.clear()

    def _again_at(self, key: str, rate: Rate) -> datetime | None:
        """Return when a window has room for one more; None: now."""
        latest = self._latest_start(key, rate)
        number = latest + self._taken[key] + 1 - rate.count
        start = self._now if number > latest else self._start(key, rate, number)  # one that this very transaction starts
        ripe = None if start is None else start + rate.window + MARGIN
        return ripe if ripe is not None and ripe > self._now else None

    def _latest_start(self, key: str, rate: Rate) -> int:
        if (key, rate) not in self._latest:
            number, at = rows.latest_start(self._conn, key, rate)
            if at is not None and at > self._now + STEP:
                rows.pull_back_starts(self._conn, key, rate, self._now)
            self._latest[key, rate] = number
        return self._latest[key, rate]

    def _start(self, key: str, rate: Rate, number: int) -> datetime | None:
        if (key, rate, number) not in self._starts:
            self._starts[key, rate, number] = rows.started_at(self._conn, key, rate, number)
        return self._starts[key, rate, number]
