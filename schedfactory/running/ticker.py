"""Calls features when they want to be called."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from schedfactory.model.clock import UTC, Clock
from schedfactory.model.errors import StorageError
from schedfactory.storage import sqlite
from schedfactory.storage.database import Database
from schedfactory.storage.seams import Feature

if TYPE_CHECKING:
    from sqlalchemy import Connection

_log = logging.getLogger("schedfactory")
_AFTER_ERROR = timedelta(seconds=5)
_LONGEST_S = 5.0  # also after any jump of the clock


class Ticker:
    """The ticks of one node's features, each in a transaction of its own, between the dispatcher's rounds."""

    def __init__(self, database: Database, features: Sequence[Feature], clock: Clock, ring: Callable[[], None]) -> None:
        self._database = database
        self._clock = clock
        self._ring = ring
        self._failed: set[Feature] = set()
        self._seen = datetime.min.replace(tzinfo=UTC)
        self._due: dict[Feature, datetime | None] = dict.fromkeys(features)

    def round(self, now: datetime) -> float:
        """Call who is due, and return in how many seconds somebody will be."""
        pause = _LONGEST_S
        if now < self._seen:  # what was to be called at some time is called now, and says anew when again
            self._due = dict.fromkeys(self._due)
        self._seen = now
        for feature, due in list(self._due.items()):
            if due is not None and due > now:
                pause = min(pause, (due - now).total_seconds())
                continue
            try:
                again, has_changed = self._database.write(lambda conn, feature=feature: self._tick(feature, conn), quiet=True)  # type: ignore[misc]
            except Exception as error:  # noqa: BLE001 - logged, and tried again; what is wrong there must not end the node
                if feature not in self._failed:
                    self._failed.add(feature)
                    _log.warning(
                        "%s cannot work: %s", type(feature).__name__, error, exc_info=not isinstance(error, StorageError)
                    )
                self._due[feature] = now + _AFTER_ERROR
                continue
            self._failed.discard(feature)
            if has_changed:  # there may be more to claim now
                self._ring()
            if again is None:
                del self._due[feature]
            else:
                self._due[feature] = again
                pause = min(pause, max((again - now).total_seconds(), 0.0))
        return pause

    def _tick(self, feature: Feature, conn: Connection) -> tuple[datetime | None, bool]:
        before = sqlite.total_changes(conn)
        again = feature.tick(conn, self._clock())  # not earlier than what was committed while this waited for the database
        return again, sqlite.total_changes(conn) != before
