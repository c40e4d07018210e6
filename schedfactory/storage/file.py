"""The file of a database: its connections, who may use the one that writes, and what a fork does to them."""

from __future__ import annotations

import logging
import sqlite3
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import dropwhile
from pathlib import Path

from sqlalchemy import Connection

from schedfactory.model.errors import StorageError
from schedfactory.storage import fork, sqlite
from schedfactory.storage.checkpoint import Checkpoints
from schedfactory.storage.opening import Connections, connect

_log = logging.getLogger("schedfactory")

# What a fork leaves in the child, never closed: that would drop the locks of this process's other descriptors.
_abandoned: list[object] = []


class DatabaseFile:
    """A file, opened at first use.

    Args:
        path: where it is.
        durability: "full" syncs every commit, "normal" leaves that to the checkpoints.
        lock_timeout_s: seconds that one call waits for other processes.
        may_migrate: bring the tables up to date when it is opened.

    Attributes:
        closes: how often it has been closed; who uses it late can tell that it is its turn to do so.
        seen: its `version` in the transaction that writes, or the latest one that did.
    """

    def __init__(self, path: Path, durability: str, lock_timeout_s: float, may_migrate: bool) -> None:
        self.path = path
        self.log = Path(f"{path}-wal")  # every commit is written there first
        self._durability = durability
        self._lock_timeout_s = lock_timeout_s
        self.may_migrate = may_migrate
        self.closes = 0
        self._is_spoilt = False
        self._reset()
        fork.watch(self)

    def _reset(self) -> None:
        self._opening = threading.Lock()
        self._readers = fork.Readers()
        self._held: list[Callable[[], None]] = []
        self._leading = threading.Lock()
        self._leader = 0  # the thread that holds it while it writes
        self._connections: Connections | None = None
        self.seen: int | None = None
        self._checkpoints = Checkpoints(self.path)

    @contextmanager
    def read(self, *, for_people: bool = False) -> Iterator[Connection]:
        """Give a connection that sees one state of the database and cannot change it.

        Args:
            for_people: the statements are the user's own, and so are most errors.

        Raises:
            StorageError: the database said no.
        """
        readers = self._readers
        readers.enter(is_urgent=self._leader == threading.get_ident())
        used: Connections | None = None
        try:
            used = self._open()
            with used.engine.connect() as connection:
                yield connection
        except Exception as error:
            meaning = self._of_people(error) if for_people else self._meaning(error)
            if meaning is None:
                raise
            raise meaning from error
        finally:
            if readers is self._readers:  # else this is a forked child
                try:
                    if used is not None and used is not self._connections:  # closed meanwhile, all but what was out
                        used.engine.pool.dispose()
                finally:
                    readers.leave()  # last: from now on a fork may come, and its child must inherit no connection

    def open(self, *, migrate: bool = False) -> None:
        """Open it now, instead of at the first use; `migrate` brings the tables up to date whatever was said before.

        Raises:
            StorageError: it cannot be opened.
            SchemaTooOld, SchemaTooNew: the tables do not fit.
        """
        self.may_migrate = self.may_migrate or migrate
        self._open()

    def version(self) -> int | None:
        """Return a number that changes when others commit; None while this process is writing."""
        if not self._leading.acquire(blocking=False):
            return None
        try:
            return None if self._connections is None else sqlite.data_version(self._connections.driver)
        except sqlite3.OperationalError:
            return None
        finally:
            self._leading.release()

    def tend(self) -> None:
        """Put the log into the file if it is time to, also where nothing is written any more."""
        if self._leading.acquire(blocking=False):
            try:
                if self._connections is not None:
                    self._checkpoints.tend(self._connections.driver)
            finally:
                self._leading.release()

    @property
    def is_open(self) -> bool:
        """True between the first use and `close()`, in the process that opened it."""
        return self._connections is not None

    def close(self) -> None:
        """Close all connections; the next use opens them again.

        Raises:
            RuntimeError: as `Database.write`.
        """
        self._refuse_handlers()
        with self._leading, self._opening:
            self.closes += 1
            self._disconnect()

    def _open(self) -> Connections:
        connections = self._connections
        if connections is not None:
            return connections
        if self._is_spoilt:
            raise StorageError(
                f"{self.path}: this process was forked while it read the database, so SQLite's notes of its locks are wrong. "
                "Leave reading() before a fork.",
                str(self.path),
            )
        with self._opening:
            if self._connections is None:
                try:
                    self._connections = connect(self.path, self._durability, self._lock_timeout_s, self.may_migrate)
                    _log.info("schedfactory uses %s", self.path)
                except Exception as error:
                    meaning = self._meaning(error)
                    if meaning is None:
                        raise
                    raise meaning from error
            return self._connections

    def _refuse_handlers(self) -> None:
        """Refuse a signal's handler that has interrupted this very thread in here: it would wait for itself for ever."""
        if not (self._leading.locked() or self._opening.locked()) or threading.current_thread() is not threading.main_thread():
            return
        is_own = [frame.f_locals.get("self") is self for frame, _ in traceback.walk_stack(sys._getframe())]
        if any(dropwhile(bool, is_own)):  # beneath this call, and what is between, an older one goes on
            raise RuntimeError(
                f"{self.path}: a signal's handler wants to write, and has interrupted this very thread while it was writing. "
                "Let the handler only set a flag."
            )

    def _disconnect(self) -> None:
        connections, self._connections = self._connections, None
        self.seen = None
        if connections is not None:
            connections.writer.close()
            connections.engine.pool.dispose()  # the engine's own dispose() makes another pool, which late readers would fill

    def _of_people(self, error: Exception) -> StorageError | None:
        if isinstance(error, StorageError):  # it could not be opened
            return None
        return sqlite.translate_for_people(error, self._open().engine, self.path, self._lock_timeout_s)

    def _meaning(self, error: BaseException) -> StorageError | None:
        return sqlite.translate(error, self.path, self._lock_timeout_s)

    def abandon(self) -> None:
        """Leave to the parent what it had open, and start anew in this forked child."""
        _abandoned.append(self._connections)
        self._is_spoilt |= self._readers.are_there or self._connections is not None
        self._reset()

    def hold_still(self) -> None:
        """Before a fork: close everything, because SQLite's own notes of its locks would be wrong in the child."""
        self._held = [self._readers.go_on]  # what an interrupt of this leaves to be undone, too
        self._readers.hold()
        for lock in (self._leading, self._opening):
            lock.acquire()
            self._held.append(lock.release)
        if not self._readers.are_there:
            self._disconnect()

    def go_on(self) -> None:
        """After a fork, in the parent: use it again."""
        while self._held:
            self._held.pop()()
