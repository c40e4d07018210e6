"""What a scheduler is built of, made when it is first used: the database, and who waits and listens."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from datetime import datetime
from pathlib import Path

from schedfactory.features.limits.guest import Limits
from schedfactory.features.queues import QueueSizes
from schedfactory.features.retention import Retention
from schedfactory.features.unique import Uniqueness
from schedfactory.model.registry import TaskRegistry
from schedfactory.running.reporter import Reporter
from schedfactory.running.shop import Flag, Shop
from schedfactory.running.waiting import Waiting
from schedfactory.settings import Settings
from schedfactory.storage.database import Database
from schedfactory.storage.seams import Seams


class House:
    """The parts that one scheduler shares between its faces; `furnish` gives it other settings while it is closed."""

    def __init__(self, settings: Settings) -> None:
        self.tasks = TaskRegistry()
        self.settings = settings
        self._database: Database | None = None
        self.seams = Seams()
        self.furnish(settings)
        self.refresh()

    def refresh(self) -> None:
        """Start anew with those who wait and listen, as in a forked child, which has none of the threads."""
        self._guard = threading.RLock()
        self.waiting = Waiting()
        self.reporter = Reporter()
        self.flags: list[Flag] = []

    @property
    def database(self) -> Database:
        """The database of these settings, which opens itself when it is used."""
        database = self._database
        if database is None:
            with self._guard:
                if self._database is None:
                    given = self.settings
                    path = given.path or self._temporary_path()
                    self._database = Database(path, given.durability, given.lock_timeout_s, given.migrate)
                database = self._database
        return database

    @property
    def is_open(self) -> bool:
        """True between the first use and `close()`."""
        return self._database is not None and self._database.is_open

    def clock(self) -> datetime:
        """Return the time, by the scheduler's clock."""
        return self.settings.now()

    def furnish(self, settings: Settings) -> None:
        """Take other settings, for the next use."""
        self.settings = settings
        self._database = None
        # Uniqueness first: what is not stored anew counts for nothing else.
        self.seams = Seams([Uniqueness(self.tasks), Limits(self.tasks), QueueSizes(), Retention(settings.kept, self.tasks)])

    def shop(self, owner: object) -> Shop:
        """Return what a node works with."""
        given = self.settings
        return Shop(
            self.database,
            self.tasks,
            self.clock,
            self.reporter,
            self.waiting,
            owner,
            given.max_result,
            given.lease_s,
            seams=self.seams,
            flags=self.flags,
            capture=given.capture_level,
        )

    def close(self) -> None:
        """End all reports and close the database; a private temporary file goes with the scheduler."""
        self.reporter.close()
        with self._guard:
            if self._database is not None:
                self._database.close()
            if self.settings.path is None:
                self._database = None

    def _temporary_path(self) -> Path:
        folder = tempfile.mkdtemp(prefix="schedfactory-")
        weakref.finalize(self, _remove, folder, os.getpid())
        return Path(folder) / "jobs.db"


def _remove(folder: str, pid: int) -> None:
    if os.getpid() == pid:  # a forked child leaves its parent's file alone
        shutil.rmtree(folder, ignore_errors=True)
