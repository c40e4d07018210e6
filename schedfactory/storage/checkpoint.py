"""When the log goes into the file. Not when SQLite would: its own checkpoints can lose commits.

SQLite 3.7.0 to 3.51.2 may lose what was committed when one process checkpoints in the PASSIVE way, as the automatic one
does, while another begins the log anew (sqlite.org/wal.html#walresetbug). The RESTART way does not; it needs the write lock for
a moment, and waits for readers, though here not for long: a reader must not hold up who writes.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path

from schedfactory.model.clock import Monotonic
from schedfactory.model.errors import StorageError
from schedfactory.storage.locks import lock_file

ALARM = 64 << 20  # bytes
_LIMIT = 16 << 20  # journal_size_limit: a longer log has not been begun anew for long
_PAGES = 1_000
_EVERY_S = 60.0
_LOOK_EVERY = 8  # commits
_AGAIN_S = 1.0
_PATIENCE_MS = 20
_LEADER = 0  # the byte of the lock file whose holder checkpoints; no node has this id
_log = logging.getLogger("schedfactory")


def alarm(database: Path) -> str | None:
    """Return what is wrong with a log that does not stop growing, None for one of a usual length."""
    log = f"{database}-wal"
    size = _length(log)
    if size <= ALARM:
        return None
    return (
        f"{log} has grown to {size >> 20} MiB. Most likely some reader does not end, such as a transaction that was"
        " left open in a shell or in reading(). End it; a running node, or the next write, then cuts the log back."
    )


def _length(log: str) -> int:
    try:
        return os.stat(log).st_size  # never opened: closing it would drop SQLite's locks
    except OSError:
        return 0


class Checkpoints:
    """Who writes tells how much; now and then the log is put into the file, by one process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = f"{path}-wal"
        self._pages = 0
        self._changes = 0
        self._looks = 0
        self._has_failed = False
        self._is_alarmed = False
        self._last_at = Monotonic.now()

    def after_commit(self, driver: sqlite3.Connection) -> None:
        """Checkpoint where enough has been written, or a minute ago. Called while no transaction is open."""
        changes = driver.total_changes
        # SQLite does not say how many pages a commit wrote: 2.3 for an enqueue, and one for about ten rows of many.
        self._pages += 2 + max(changes - self._changes, 0) // 10
        self._changes = changes
        self.tend(driver)

    def tend(self, driver: sqlite3.Connection) -> None:
        """Checkpoint if it is time to."""
        since = Monotonic.now() - self._last_at
        is_much = self._pages >= _PAGES or (self._pages and (self._has_failed or self._is_long()))
        if (is_much and since >= 0) or (self._pages and since >= _EVERY_S):
            self._last_at = Monotonic.now()
            self._has_failed = not self._checkpoint(driver)
            if self._has_failed:
                self._last_at += _AGAIN_S
            else:
                self._pages = 0
            self._tell()

    def _is_long(self) -> bool:
        """Look now and then, and first of all: rows may be large, and of many short processes none writes much."""
        self._looks += 1
        return self._looks % _LOOK_EVERY == 1 and _length(self._log) > _LIMIT

    def _tell(self) -> None:
        """Say once that the log does not stop growing, and once that it is well again."""
        said = alarm(self._path)
        if said and self._has_failed and not self._is_alarmed:
            self._is_alarmed = True
            _log.warning("%s", said)
        elif self._is_alarmed and not said:
            self._is_alarmed = False
            _log.warning("%s has been cut back", self._log)

    def _checkpoint(self, driver: sqlite3.Connection) -> bool:
        """Return whether nothing is left to be done: also where another process is at it."""
        try:
            lock = lock_file(self._path)
        except StorageError:
            return False  # nobody can be kept from doing it at the same time; it can wait
        if not lock.seize(_LEADER):
            lock.leave()
            return True
        try:
            driver.execute(f"PRAGMA busy_timeout={_PATIENCE_MS}").close()
            is_busy, _, _ = driver.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            if not is_busy and _length(self._log) > ALARM:  # the next commit cuts it back, so let there be one
                driver.execute("UPDATE schedfactory_version SET version_num = version_num").close()
            return not is_busy
        except sqlite3.Error:
            return False  # what is wrong with the file, the next write will say
        finally:
            driver.execute("PRAGMA busy_timeout=0").close()
            lock.release(_LEADER)
            lock.leave()
