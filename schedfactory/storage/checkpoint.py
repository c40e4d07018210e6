"""When the log goes into the file. Not when SQLite would: its own checkpoints can lose commits.

SQLite 3.7.0 to 3.51.2 may lose what was committed when one process checkpoints in the PASSIVE way, as the automatic one
does, while another begins the log anew (sqlite.org/wal.html#walresetbug). The RESTART way does not; it needs the write lock for
a moment, and waits for readers, though here not for long: a reader must not hold up who writes.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from schedfactory.model.clock import Monotonic
from schedfactory.model.errors import StorageError
from schedfactory.storage.locks import lock_file

_PAGES = 1_000
_EVERY_S = 60.0
_AGAIN_S = 1.0
_PATIENCE_MS = 20
_LEADER = 0  # the byte of the lock file whose holder checkpoints; no node has this id


class Checkpoints:
    """Who writes tells how much; now and then the log is put into the file, by one process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pages = 0
        self._changes = 0
        self._last_at = Monotonic.now()

    def after_commit(self, driver: sqlite3.Connection) -> None:
        """Checkpoint where enough has been written, or a minute ago. Called while no transaction is open."""
        changes = driver.total_changes
        # SQLite does not say how many pages a commit wrote; a few for each, and one for about ten rows, is near enough.
        self._pages += 3 + (changes - self._changes) // 10
        self._changes = changes
        self.tend(driver)

    def tend(self, driver: sqlite3.Connection) -> None:
        """Checkpoint if it is time to."""
        since = Monotonic.now() - self._last_at
        if (self._pages >= _PAGES and since >= 0) or (self._pages and since >= _EVERY_S):
            self._last_at = Monotonic.now()
            if self._checkpoint(driver):
                self._pages = 0
            else:
                self._last_at += _AGAIN_S

    def _checkpoint(self, driver: sqlite3.Connection) -> bool:
        """Return whether nothing is left to be done: also where another process is at it."""
        try:
            lock = lock_file(self._path)
        except StorageError:
            return False  # nobody can be kept from doing it at the same time; it can wait
        if not lock.seize(_LEADER):
            return True
        try:
            driver.execute(f"PRAGMA busy_timeout={_PATIENCE_MS}").close()
            is_busy, _, _ = driver.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            return not is_busy
        except sqlite3.Error:
            return False  # what is wrong with the file, the next write will say
        finally:
            driver.execute("PRAGMA busy_timeout=0").close()
            lock.release(_LEADER)
