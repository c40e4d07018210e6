"""One database: who reads, who writes, and when a write is done.

There is no writer thread. A thread that writes puts its work on a list; the first one there carries out the work of all
that wait in one transaction, so that many threads share one commit, and one fsync (group commit: DeWitt et al.,
"Implementation Techniques for Main Memory Database Systems", 1984). Each of the others sleeps at a lock of its own until its
work is done, or it is the next to lead: at a common one they would wake each other one by one.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Connection

from schedfactory.model.clock import Monotonic
from schedfactory.model.errors import StorageError
from schedfactory.storage import fork, sqlite
from schedfactory.storage.checkpoint import Checkpoints
from schedfactory.storage.opening import Connections, connect
from schedfactory.storage.ticket import Stored, Ticket, Work, all_of, find_out, join

_log = logging.getLogger("schedfactory")
T = TypeVar("T")

# What a fork leaves in the child, never closed: that would drop the locks of this process's other descriptors.
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
        self.log = Path(f"{path}-wal")  # every commit is written there first
        self._durability = durability
        self._lock_timeout_s = lock_timeout_s
        self.may_migrate = may_migrate
        self._bells: list[Callable[[], None]] = []
        self._is_spoilt = False
        self._reset()
        fork.watch(self)

    def _reset(self) -> None:
        self._opening = threading.Lock()
        self._readers = fork.Readers()
        self._held: list[Callable[[], None]] = []
        self._leading = threading.Lock()
        self._leader = 0  # the thread that holds it while it writes
        self._waiting: deque[Ticket[Any]] = deque()
        self._standing: deque[Ticket[Any]] = deque()
        self._connections: Connections | None = None
        self._commits = 0
        self._checkpoints = Checkpoints(self.path)

    def write(self, work: Work[T], *, quiet: bool = False, was_stored: Stored[T] | None = None) -> T:
        """Run `work(connection)` in a transaction that takes the write lock at its begin; return what it returns.

        The work of several threads may share the transaction. It is run again, alone, when the shared one fails, so it
        must do nothing but use the connection. After the commit the bells ring, unless `quiet`.

        Args:
            was_stored: looks, on a new connection, whether a commit that failed has happened all the same, as it may after an
                I/O error; None where it cannot tell.

        Raises:
            DatabaseBusy, StorageFull: nothing was stored, now or later.
            StorageError: the database said no; it says where it is not known whether the change was stored.
        """
        if self._connections is None:
            self._open()
        if self._leader == threading.get_ident():  # it would wait for itself for ever
            raise RuntimeError(
                f"{self.path}: a signal's handler wants to write, and has interrupted this very thread while it was writing. "
                "Let the handler only set a flag."
            )
        ticket = Ticket(work, quiet, Monotonic.now() + self._lock_timeout_s, was_stored)
        self._waiting.append(ticket)
        self._see_done(ticket)
        return cast("T", ticket.value)

    def stand_by(self, work: Work[T], bell: Callable[[], None]) -> Ticket[T]:
        """Let `work` take part in another thread's next write that is not quiet; `bell` rings then, not after its commit."""
        ticket = Ticket(work, True, Monotonic.now() + self._lock_timeout_s, None, bell)
        self._standing.append(ticket)
        return ticket

    def relieve(self, ticket: Ticket[Any]) -> int | None:
        """Take back what stands by. Return how many commits of this process came after its own, None where it has none."""
        try:
            self._standing.remove(ticket)
        except ValueError:
            self._see_done(ticket)
            return self._commits - ticket.commit
        return None

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
                sqlite.sync(driver, self._durability, Monotonic.now() + self._lock_timeout_s)
            except sqlite3.Error as error:
                with suppress(sqlite3.Error):
                    self._disconnect()  # the next use opens it anew, with its own durability
                raise self._meaning(error) or error from error

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
        try:
            with self._open().engine.connect() as connection:
                yield connection
        except Exception as error:
            meaning = self._of_people(error) if for_people else self._meaning(error)
            if meaning is None:
                raise
            raise meaning from error
        finally:
            if readers is self._readers:  # else this is a forked child
                readers.leave()

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
            return None if self._connections is None else sqlite.data_version(self._connections.writer)
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
                    self._connections = connect(self.path, self._durability, self._lock_timeout_s, self.may_migrate)
                    _log.info("schedfactory uses %s", self.path)
                except Exception as error:
                    meaning = self._meaning(error)
                    if meaning is None:
                        raise
                    raise meaning from error
            return self._connections

    def _see_done(self, ticket: Ticket[Any]) -> None:
        while not ticket.is_done:
            if self._leader and self._leading.locked():
                ticket.wait(lambda: bool(self._leader))
            else:
                with self._leading:
                    if not ticket.is_done:
                        self._lead(ticket)
        if ticket.error is not None:
            raise ticket.error

    def _lead(self, own: Ticket[Any]) -> None:
        batch: list[Ticket[Any]] = []
        try:
            self._leader = threading.get_ident()
            join(self._waiting, batch)
            if own not in batch:  # its leader was interrupted
                batch.append(own)
            if not self._carry_out(batch, others_join=True):
                for ticket in batch:  # alone each, so that one's mistake is only its own
                    self._carry_out([ticket])
        except BaseException:  # an interrupt of this thread; the others, whose tickets are not done, go on without it
            self._roll_back()
            self._waiting.extendleft(one for one in reversed(batch) if one is not own and not one.is_done)
            raise
        finally:
            self._leader = 0
            if self._waiting:
                self._waiting[0].call()

    def _carry_out(self, batch: list[Ticket[Any]], *, others_join: bool = False) -> bool:
        """Run and commit the work of `batch`, which grows by who comes meanwhile; False: it must be tried one by one."""
        committing: sqlite3.Connection | None = None
        try:
            _, writer, driver = self._open()
            deadline = batch[-1].deadline
            sqlite.begin_immediate(driver, deadline)
            for ticket in batch:
                ticket.value = ticket.work(writer)
                if others_join and self._waiting:
                    join(self._waiting, batch)
            if others_join and self._standing and not all(ticket.quiet for ticket in batch):
                for ticket in all_of(self._standing):
                    batch.append(ticket)
                    ticket.ring()
                    ticket.value = ticket.work(writer)
            committing = driver
            sqlite.commit(driver, deadline)
        except Exception as error:  # noqa: BLE001 - handed to who waits for it
            return self._fail(batch, error, committing is not None)
        except BaseException:
            if committing is not None and not committing.in_transaction:  # the interrupt came just after the commit
                self._finish(batch)
            raise
        try:
            self._finish(batch)
        except BaseException:  # so did this one
            self._finish(batch)
            raise
        self._checkpoints.after_commit(driver)  # what goes wrong there is no matter of what was just stored
        return True

    def _fail(self, batch: list[Ticket[Any]], error: Exception, is_committing: bool) -> bool:
        """Tell what has become of `batch`; return False where it must be tried one by one."""
        self._roll_back()
        if sqlite.is_broken(error):
            with suppress(sqlite3.Error):
                self._disconnect()
        is_readable_now = self._connections is not None and sqlite.read_leniently(self._connections.driver, error)
        if is_committing and sqlite.is_unclear(error):
            unstored = find_out(batch, self.read, error, self.path)
            if unstored is None:
                self._finish(batch)
                return True
            error = unstored
        elif is_readable_now or (len(batch) > 1 and not sqlite.is_busy(error)):
            return False
        for ticket in batch:
            ticket.error = self._meaning(error) or error
            ticket.is_done = True
            ticket.call()
        return True

    def _finish(self, batch: list[Ticket[Any]]) -> None:
        self._commits += 1
        for ticket in batch:  # before anything else: an interrupt must not have it done again
            ticket.commit = self._commits
            ticket.is_done = True
        if self._bells and not all(ticket.quiet for ticket in batch):
            rung = [ticket.bell for ticket in batch]
            for bell in tuple(self._bells):
                if bell not in rung:
                    bell()
        for ticket in batch:
            ticket.call()

    def _roll_back(self) -> None:
        if self._connections is not None and self._connections.driver.in_transaction:
            with suppress(sqlite3.Error):  # SQLite has rolled back by itself
                self._connections.driver.rollback()

    def _of_people(self, error: Exception) -> StorageError | None:
        if isinstance(error, StorageError):  # it could not be opened
            return None
        return sqlite.translate_for_people(error, self._open().engine, self.path, self._lock_timeout_s)

    def _meaning(self, error: BaseException) -> StorageError | None:
        return sqlite.translate(error, self.path, self._lock_timeout_s)

    def abandon(self) -> None:
        """Leave to the parent what it had open, and start anew in this forked child."""
        _abandoned.append(self._connections)
        self._bells = []
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
        while self._held:
            self._held.pop()()
        for bell in self._bells:  # a dispatcher watches the log, which may be another file now
            bell()
