"""One database: who reads, who writes, and when a write is done.

There is no writer thread. A thread that writes puts its work on a list; the first one there carries out the work of all
that wait in one transaction, so that many threads share one commit, and one fsync (group commit: DeWitt et al.,
"Implementation Techniques for Main Memory Database Systems", 1984).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from sqlalchemy import Connection, Engine

from schedfactory.model.clock import Monotonic
from schedfactory.model.errors import StorageError
from schedfactory.storage import migrate, sqlite

T = TypeVar("T")
Work = Callable[[Connection], T]

# What a fork leaves in the child: never closed, because closing a descriptor drops the locks of this process's other ones.
_abandoned: list[object] = []


class Database:
    """A file, opened at first use.

    Args:
        path: where it is.
        durability: "full" syncs every commit, "normal" leaves that to the checkpoints.
        lock_timeout_s: seconds that one call waits for other processes.
        may_migrate: bring the tables up to date when it is opened.
    """

    def __init__(self, path: Path, durability: str, lock_timeout_s: float, may_migrate: bool) -> None:
        self.path = path
        self._durability = durability
        self._lock_timeout_s = lock_timeout_s
        self._may_migrate = may_migrate
        self._bells: list[Callable[[], None]] = []
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._opening = threading.Lock()
        self._leading = threading.Lock()
        self._waiting: deque[_Ticket[Any]] = deque()
        self._engine: Engine | None = None
        self._writer: Connection | None = None
        self._driver: sqlite3.Connection | None = None
        self._commits = 0

    def write(self, work: Work[T], *, quiet: bool = False) -> T:
        """Run `work(connection)` in a transaction that takes the write lock at its begin; return what it returns.

        The work of several threads may share the transaction. It is run again, alone, when the shared one fails, so it
        must do nothing but use the connection. After the commit the bells ring, unless `quiet`.

        Raises:
            DatabaseBusy, StorageFull: nothing was stored, now or later.
            StorageError: the database said no.
        """
        self._open()
        ticket = _Ticket(work, quiet, Monotonic.now() + self._lock_timeout_s)
        self._waiting.append(ticket)
        with self._leading:
            if not ticket.is_done:
                self._lead()
        if ticket.error is not None:
            raise ticket.error
        return cast("T", ticket.value)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the database and cannot change it.

        Raises:
            StorageError: the database said no.
        """
        engine = self._open()
        try:
            with engine.connect() as connection:
                yield connection
        except Exception as error:
            raise self._explained(error) from error

    def open(self) -> None:
        """Open it now, instead of at the first use.

        Raises:
            StorageError: it cannot be opened.
            SchemaTooOld, SchemaTooNew: the tables do not fit.
        """
        self._open()

    @property
    def log(self) -> Path:
        """The file that every commit is written to first."""
        return Path(f"{self.path}-wal")

    def version(self) -> int | None:
        """Return a number that changes when others commit; None while this process is writing."""
        if not self._leading.acquire(blocking=False):
            return None
        try:
            return None if self._driver is None else int(self._driver.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.OperationalError:
            return None
        finally:
            self._leading.release()

    def state(self) -> tuple[int, int] | None:
        """Return what changes with every commit, of this process or another; None while this process is writing."""
        version = self.version()
        return None if version is None else (version, self._commits)

    def on_commit(self, bell: Callable[[], None]) -> None:
        """Ring `bell` after every commit of this process that is not quiet."""
        self._bells.append(bell)

    def off_commit(self, bell: Callable[[], None]) -> None:
        """Ring it no more."""
        with suppress(ValueError):
            self._bells.remove(bell)

    @property
    def is_open(self) -> bool:
        """True between the first use and `close()`, in the process that opened it."""
        return self._engine is not None and self._pid == os.getpid()

    def close(self) -> None:
        """Close all connections; the next use opens them again."""
        if self._pid != os.getpid():
            self._abandon()
        with self._leading, self._opening:
            engine, writer = self._engine, self._writer
            self._engine = self._writer = self._driver = None
            if writer is not None:
                writer.close()
            if engine is not None:
                engine.dispose()

    def _open(self) -> Engine:
        if self._pid != os.getpid():
            self._abandon()
        engine = self._engine
        if engine is not None:
            return engine
        with self._opening:
            if self._engine is None:
                try:
                    self._connect()
                except Exception as error:
                    raise self._explained(error) from error
            return cast("Engine", self._engine)

    def _connect(self) -> None:
        is_new = sqlite.make_file(self.path)
        engine = sqlite.make_engine(self.path, self._durability, self._lock_timeout_s)
        writer: Connection | None = None
        try:
            writer = engine.connect()
            driver = sqlite.take_over(writer)
            # A plain read first: a file that is no database is found out here, before anything could be written.
            driver.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if not migrate.is_current(driver):
                self._migrate(writer, driver)
            sqlite.make_writable(driver)
        except BaseException:
            if writer is not None:
                writer.close()
            engine.dispose()
            if is_new and not self.path.stat().st_size:
                self.path.unlink(missing_ok=True)
            raise
        self._engine, self._writer, self._driver = engine, writer, driver

    def _migrate(self, writer: Connection, driver: sqlite3.Connection) -> None:
        migrate.refuse(driver, str(self.path), self._may_migrate)
        sqlite.make_writable(driver)
        deadline = Monotonic.now() + self._lock_timeout_s
        # Fully synced whatever the durability: a power loss may then drop the newest jobs, never the tables.
        driver.execute("PRAGMA synchronous=FULL").close()
        sqlite.begin_immediate(driver, deadline)
        try:
            if not migrate.is_current(driver):
                migrate.upgrade(writer)
            sqlite.commit(driver, deadline)
        except BaseException:
            driver.rollback()
            raise
        driver.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        driver.execute(f"PRAGMA synchronous={self._durability}").close()

    def _lead(self) -> None:
        batch: list[_Ticket[Any]] = []
        while self._waiting:
            batch.append(self._waiting.popleft())
        if self._carry_out(batch):
            return
        for ticket in batch:  # alone each, so that one's mistake is only its own
            if not ticket.is_done:
                self._carry_out([ticket])

    def _carry_out(self, batch: list[_Ticket[Any]]) -> bool:
        """Run and commit the work of `batch`; return False where it must be tried one by one."""
        writer, driver = self._writer, self._driver
        committing = False
        try:
            if writer is None or driver is None:
                raise StorageError(f"{self.path}: closed while a write was under way. Nothing was stored.", str(self.path))
            deadline = max(ticket.deadline for ticket in batch)
            sqlite.begin_immediate(driver, deadline)
            for ticket in batch:
                ticket.value = ticket.work(writer)
            committing = True
            sqlite.commit(driver, deadline)
        except BaseException as error:
            is_stored = committing and not isinstance(error, sqlite3.Error) and driver is not None and not driver.in_transaction
            if not is_stored:
                self._roll_back()
                if len(batch) > 1 and not sqlite.is_busy(error):
                    return False
                for ticket in batch:
                    ticket.finish(self._explained(error))
                if not isinstance(error, Exception):
                    raise
                return True
            self._finish(batch)
            raise  # an interrupt that came just after the commit
        self._finish(batch)
        return True

    def _finish(self, batch: list[_Ticket[Any]]) -> None:
        for ticket in batch:
            ticket.finish(None)
        self._commits += 1
        if not all(ticket.quiet for ticket in batch):
            for bell in self._bells:
                bell()

    def _roll_back(self) -> None:
        if self._driver is not None and self._driver.in_transaction:
            with suppress(sqlite3.Error):  # SQLite has rolled back by itself
                self._driver.rollback()

    def _explained(self, error: BaseException) -> BaseException:
        return sqlite.translate(error, self.path, self._lock_timeout_s) or error

    def _abandon(self) -> None:
        """Leave to the parent what it had open, and start anew in this forked child."""
        _abandoned.extend((self._engine, self._writer, self._driver))
        self._bells = []
        self._reset()


def data_version(conn: Connection) -> int:
    """Return the number that changes when others commit, as the transaction that is under way sees it."""
    driver = cast("sqlite3.Connection", conn.connection.driver_connection)
    return int(driver.execute("PRAGMA data_version").fetchone()[0])


class _Ticket(Generic[T]):
    __slots__ = ("deadline", "error", "is_done", "quiet", "value", "work")

    def __init__(self, work: Work[T], quiet: bool, deadline: float) -> None:
        self.work = work
        self.quiet = quiet
        self.deadline = deadline
        self.value: T | None = None
        self.error: BaseException | None = None
        self.is_done = False

    def finish(self, error: BaseException | None) -> None:
        self.error = error
        self.is_done = True
