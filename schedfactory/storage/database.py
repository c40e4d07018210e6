"""One database: who reads, who writes, and when a write is done.

There is no writer thread. A thread that writes puts its work on a list; the first one there carries out the work of all
that wait in one transaction, so that many threads share one commit, and one fsync (group commit: DeWitt et al.,
"Implementation Techniques for Main Memory Database Systems", 1984).
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from sqlalchemy import Connection

from schedfactory.model.clock import Monotonic
from schedfactory.model.errors import StorageError
from schedfactory.storage import fork, sqlite
from schedfactory.storage.checkpoint import Checkpoints
from schedfactory.storage.opening import Connections, connect

_log = logging.getLogger("schedfactory")
T = TypeVar("T")
Work = Callable[[Connection], T]
Stored = Callable[[Connection, T], bool]

_FORK_S = 5.0  # that a fork waits for other threads to have read
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
        self._is_spoilt = False
        self._reset()
        fork.watch(self)

    def _reset(self) -> None:
        self._opening = threading.Lock()
        self._gate = threading.Condition()
        self._readers: dict[int, int] = {}  # how many connections each thread reads with
        self._is_held = False
        self._leading = threading.Lock()
        self._leader = 0  # the thread that holds it while it writes
        self._waiting: deque[_Ticket[Any]] = deque()
        self._connections: Connections | None = None
        self._commits = 0
        self._checkpoints = Checkpoints(self.path)

    def write(self, work: Work[T], *, quiet: bool = False, was_stored: Stored[T] | None = None) -> T:
        """Run `work(connection)` in a transaction that takes the write lock at its begin; return what it returns.

        The work of several threads may share the transaction. It is run again, alone, when the shared one fails, so it
        must do nothing but use the connection. After the commit the bells ring, unless `quiet`.

        Args:
            was_stored: looks, on a new connection, whether a commit that failed has happened all the same, as it may after an
                I/O error.

        Raises:
            DatabaseBusy, StorageFull: nothing was stored, now or later.
            StorageError: the database said no; it says where it is not known whether the change was stored.
        """
        self._open()
        if self._leader == threading.get_ident():  # it would wait for itself for ever
            raise RuntimeError(
                f"{self.path}: a signal's handler wants to write, and has interrupted this very thread while it was writing. "
                "Let the handler only set a flag."
            )
        ticket = _Ticket(work, quiet, Monotonic.now() + self._lock_timeout_s, was_stored)
        self._waiting.append(ticket)
        with self._leading:
            if not ticket.is_done:
                self._leader = threading.get_ident()
                try:
                    self._lead(ticket)
                finally:
                    self._leader = 0
        if ticket.error is not None:
            raise ticket.error
        return cast("T", ticket.value)

    def sync(self, *, prove: bool = False) -> None:
        """Make sure that all commits so far survive a power loss, also where `durability` leaves that for later.

        Args:
            prove: write and sync in any case: a commit that changes nothing says nothing about the disk.

        Raises:
            StorageError: the database said no.
        """
        if self._durability == "full" and not prove:
            return
        with self._leading:
            driver = self._open().driver
            try:
                driver.execute("PRAGMA synchronous=FULL").close()
                sqlite.begin_immediate(driver, Monotonic.now() + self._lock_timeout_s)
                # A commit that changes nothing is not synced; this one changes a row to what it is.
                driver.execute("UPDATE schedfactory_version SET version_num = version_num").close()
                driver.execute("COMMIT").close()
            except sqlite3.Error as error:
                self._roll_back()
                raise self._meaning(error) or error from error
            finally:
                driver.execute(f"PRAGMA synchronous={self._durability}").close()

    @contextmanager
    def read(self, *, for_people: bool = False) -> Iterator[Connection]:
        """Give a connection that sees one state of the database and cannot change it.

        Args:
            for_people: the statements are the user's own, and so are most errors.

        Raises:
            StorageError: the database said no.
        """
        thread = threading.get_ident()
        with self._gate:
            self._gate.wait_for(lambda: not self._is_held or thread in self._readers)
            self._readers[thread] = self._readers.get(thread, 0) + 1
        try:
            with self._open().engine.connect() as connection:
                yield connection
        except Exception as error:
            meaning = self._of_people(error) if for_people else self._meaning(error)
            if meaning is None:
                raise
            raise meaning from error
        finally:
            with self._gate:
                self._readers[thread] -= 1
                if not self._readers[thread]:
                    del self._readers[thread]
                    self._gate.notify_all()

    def open(self, *, migrate: bool = False) -> None:
        """Open it now, instead of at the first use; `migrate` brings the tables up to date whatever was said before.

        Raises:
            StorageError: it cannot be opened.
            SchemaTooOld, SchemaTooNew: the tables do not fit.
        """
        self._may_migrate = self._may_migrate or migrate
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
            return None if self._connections is None else data_version(self._connections.writer)
        except sqlite3.OperationalError:
            return None
        finally:
            self._leading.release()

    def state(self) -> tuple[int, int] | None:
        """Return what changes with every commit, of this process or another; None while this process is writing."""
        version = self.version()
        return None if version is None else (version, self._commits)

    def tend(self) -> None:
        """Put the log into the file if it is time to, also where nothing is written any more."""
        if self._leading.acquire(blocking=False):
            try:
                if self._connections is not None:
                    self._checkpoints.tend(self._connections.driver)
            finally:
                self._leading.release()

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
        return self._connections is not None

    def close(self) -> None:
        """Close all connections; the next use opens them again."""
        with self._leading, self._opening:
            self._disconnect()

    def _disconnect(self) -> None:
        connections, self._connections = self._connections, None
        if connections is not None:
            connections.writer.close()
            connections.engine.dispose()

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
                    self._connections = connect(self.path, self._durability, self._lock_timeout_s, self._may_migrate)
                    _log.info("schedfactory uses %s", self.path)
                except Exception as error:
                    meaning = self._meaning(error)
                    if meaning is None:
                        raise
                    raise meaning from error
            return self._connections

    def _lead(self, own: _Ticket[Any]) -> None:
        batch: list[_Ticket[Any]] = []
        while self._waiting:
            batch.append(self._waiting.popleft())
        try:
            if not self._carry_out(batch):
                for ticket in batch:  # alone each, so that one's mistake is only its own
                    self._carry_out([ticket])
        except BaseException:  # an interrupt of this thread; the others go on without it
            self._waiting.extendleft(ticket for ticket in batch if ticket is not own and not ticket.is_done)
            raise

    def _carry_out(self, batch: list[_Ticket[Any]]) -> bool:
        """Run and commit the work of `batch`; return False where it must be tried one by one."""
        driver: sqlite3.Connection | None = None
        is_committing = False
        try:
            _, writer, driver = self._open()
            deadline = max(ticket.deadline for ticket in batch)
            sqlite.begin_immediate(driver, deadline)
            for ticket in batch:
                ticket.value = ticket.work(writer)
            is_committing = True
            sqlite.commit(driver, deadline)
        except Exception as error:  # noqa: BLE001 - handed to who waits for it
            self._roll_back()
            is_unclear = is_committing and sqlite.is_unclear(error)
            if sqlite.is_broken(error):
                with suppress(sqlite3.Error):
                    self._disconnect()
            if is_unclear:
                self._find_out(batch, error)
                return True
            if driver is not None and sqlite.is_unreadable(error) and sqlite.read_leniently(driver):
                return False
            if len(batch) > 1 and not sqlite.is_busy(error):
                return False
            for ticket in batch:
                ticket.finish(self._meaning(error) or error)
            return True
        except BaseException:
            if is_committing and driver is not None and not driver.in_transaction:
                self._finish(batch)  # the interrupt came just after the commit
            else:
                self._roll_back()
            raise
        self._finish(batch)
        self._checkpoints.after_commit(driver)  # what goes wrong there is no matter of what was just stored
        return True

    def _find_out(self, batch: list[_Ticket[Any]], error: Exception) -> None:
        """Look whether a commit that failed has happened: all of the batch has, or none."""
        for ticket in batch:
            if ticket.was_stored is not None:
                try:
                    with self.read() as conn:
                        is_stored = ticket.was_stored(conn, ticket.value)
                except StorageError:
                    break
                if is_stored:
                    self._finish(batch)
                    return
                error = StorageError(f"{self.path}: the commit failed ({error}). Nothing was stored.", str(self.path))
                break
        for ticket in batch:
            ticket.finish(self._meaning(error) or error)

    def _finish(self, batch: list[_Ticket[Any]]) -> None:
        for ticket in batch:
            ticket.finish(None)
        self._commits += 1
        if not all(ticket.quiet for ticket in batch):
            for bell in tuple(self._bells):
                bell()

    def _roll_back(self) -> None:
        if self._connections is not None and self._connections.driver.in_transaction:
            with suppress(sqlite3.Error):  # SQLite has rolled back by itself
                self._connections.driver.rollback()

    def _of_people(self, error: Exception) -> StorageError | None:
        if sqlite.is_refused_write(error):
            return StorageError(f"{self.path}: reading() cannot write ({error}). Use a connection of your own.", str(self.path))
        return self._meaning(error) if sqlite.is_trouble(error) else None

    def _meaning(self, error: BaseException) -> StorageError | None:
        return sqlite.translate(error, self.path, self._lock_timeout_s)

    def abandon(self) -> None:
        """Leave to the parent what it had open, and start anew in this forked child."""
        _abandoned.append(self._connections)
        self._bells = []
        self._is_spoilt = self._is_spoilt or bool(self._readers)
        self._reset()

    def hold_still(self) -> None:
        """Before a fork: close everything, because SQLite's own notes of its locks would be wrong in the child."""
        thread = threading.get_ident()
        self._leading.acquire()
        with self._gate:
            self._is_held = True
            self._gate.wait_for(lambda: not self._readers.keys() - {thread}, _FORK_S)
        self._opening.acquire()
        if not self._readers:
            self._disconnect()

    def go_on(self) -> None:
        """After the fork, in the parent: let others open it again."""
        self._opening.release()
        with self._gate:
            self._is_held = False
            self._gate.notify_all()
        self._leading.release()
        for bell in self._bells:  # a dispatcher watches the log, which may be another file now
            bell()


def data_version(conn: Connection) -> int:
    """Return the number that changes when others commit, as the transaction that is under way sees it."""
    driver = cast("sqlite3.Connection", conn.connection.driver_connection)
    return int(driver.execute("PRAGMA data_version").fetchone()[0])


class _Ticket(Generic[T]):
    __slots__ = ("deadline", "error", "is_done", "quiet", "value", "was_stored", "work")

    def __init__(self, work: Work[T], quiet: bool, deadline: float, was_stored: Stored[T] | None) -> None:
        self.work = work
        self.quiet = quiet
        self.deadline = deadline
        self.was_stored = was_stored
        self.value: T | None = None
        self.error: BaseException | None = None
        self.is_done = False

    def finish(self, error: BaseException | None) -> None:
        self.error = error
        self.is_done = True
