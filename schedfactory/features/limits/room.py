"""How much room each limit has, as one transaction sees it and goes on using it up."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import Connection

from schedfactory.features.limits import rows
from schedfactory.model.limit import Bound, Rate

# Code begins a little after its claim, not always by the same: its own clock must not find one start too many, either.
MARGIN = timedelta(milliseconds=10)


class Room:
    """What is left under bounds. The latest `rate.count` starts decide a rate: the sliding window is exact, not in steps."""

    def __init__(self, conn: Connection, now: datetime) -> None:
        self._conn = conn
        self._now = now
        self._in_use = rows.slots_in_use(conn)
        self._taken: Counter[str] = Counter()
        self._latest: dict[tuple[str, str], int] = {}

    def left(self, bound: Bound, most: int) -> int:
        """Return how many more may start now, `most` at most."""
        if bound.is_paused:
            return 0
        slots = sys.maxsize if bound.concurrency is None else bound.concurrency - self.running(bound)
        left = min(slots, most)
        if bound.rate is not None:
            free = 0
            while free < left and self._is_past(bound, bound.rate, free):
                free += 1
            left = free
        return max(left, 0)

    def renew(self) -> None:
        """Take back all that was taken."""
        self._taken.clear()

    def running(self, bound: Bound) -> int:
        """Return how many slots are in use."""
        return self._in_use[bound.key] + self._taken[bound.key]

    def again_at(self, bound: Bound) -> datetime | None:
        """Return when the window of a rate has room for one more; None where it has, or no rate is in the way."""
        if bound.rate is None or bound.is_paused:
            return None
        start = self._start_before(bound, bound.rate, 0)
        ripe = None if start is None else start + bound.rate.window + MARGIN
        return ripe if ripe is not None and ripe > self._now else None

    def next_start(self, bound: Bound, rate: Rate, ahead: int) -> datetime:
        """Return when a rate lets one more start, after so many others."""
        windows, rest = divmod(ahead, rate.count)
        start = self._start_before(bound, rate, rest)
        first = self._now if start is None else max(self._now, start + rate.window + MARGIN)
        return first + windows * rate.window

    def take(self, bounds: Iterable[Bound]) -> None:
        """Use up what one job needs."""
        self._taken.update({bound.key for bound in bounds})

    def _is_past(self, bound: Bound, rate: Rate, more: int) -> bool:
        start = self._start_before(bound, rate, more)
        return start is None or start <= self._now - rate.window - MARGIN

    def _start_before(self, bound: Bound, rate: Rate, more: int) -> datetime | None:
        """Return the start that the window of the next start but `more` must not reach; None: there is none."""
        window = (bound.key, rate.text)
        if window not in self._latest:
            self._latest[window] = rows.latest_start(self._conn, bound)
        number = self._latest[window] + self._taken[bound.key] + 1 + more - rate.count
        if number > self._latest[window]:
            return self._now  # one of those that this very transaction starts
        return rows.started_at(self._conn, bound, number)
