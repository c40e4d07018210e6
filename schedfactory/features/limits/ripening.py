"""When windows of rates have room again."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from datetime import datetime

_TAKEN_AT_ONCE = 500


class Ripening:
    """Keys by the moment at which their rate has room: what one process knows of it. What it does not, a sweep finds."""

    def __init__(self) -> None:
        self._moments: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []

    def note(self, moments: Mapping[str, datetime]) -> None:
        """Note when keys have room."""
        for key, at in moments.items():
            if at < self._moments.get(key, datetime.max.replace(tzinfo=at.tzinfo)):
                self._moments[key] = at
                heapq.heappush(self._heap, (at, key))

    def take(self, now: datetime) -> list[str]:
        """Return keys that have room now, and forget them."""
        found: list[str] = []
        while self._heap and self._heap[0][0] <= now and len(found) < _TAKEN_AT_ONCE:
            at, key = heapq.heappop(self._heap)
            if self._moments.get(key) == at:
                del self._moments[key]
                found.append(key)
        return found

    @property
    def next(self) -> datetime | None:
        """When the next one has room."""
        return self._heap[0][0] if self._heap else None
