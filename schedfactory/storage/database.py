"""One database: when a write is done, and by whom.

There is no writer thread. A thread that writes puts its work on a list; the first one there carries out the work of all
that wait in one transaction, so that many threads share one commit, and one fsync (group commit: DeWitt et al.,
"Implementation Techniques for Main Memory Database Systems", 1984). Each of the others sleeps at a lock of its own until its
work is done, or it is the next to lead: at a common one they would wake each other one by one.
"""

from __future__ import annotations

import math
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Any, TypeVar, cast

from schedfactory.model.clock import Monotonic
from schedfactory.storage import migrate, sqlite
from schedfactory.storage.file import DatabaseFile
from schedfactory.storage.ticket import Item, Ticket, WasStored, Work, Works, all_of, do_next, find_out, join, one_by_one

T = TypeVar("T")


class Database(DatabaseFile):
    """A file whose writes share their commits, and ring bells after them."""

    def __init__(self, path: Path, durability: str, lock_timeout_s: float, may_migrate: bool) -> None:
        self._bells: list[Callable[[], None]] = []
        super().__init__(path, durability, lock_timeout_s, may_migrate)

    def _reset(self) -> None:
        super()._reset()
        self._waiting: deque[Ticket[Any]] = deque()
        self._standing: deque[Ticket[Any]] = deque()
        self._commits = 0

    def write(self, work: Work[T], *, quiet: bool = False, was_stored: WasStored[T] | None = None) -> T:
        """Run `work(connection)` in a transaction that takes the write lock at its begin; return what it returns.

        The work of several threads may share the transaction. It is run again, alone, when the shared one fails, so it
        must do nothing but use the connection. After the commit the bells ring, unless `quiet`.

        Args:
            was_stored: looks, on a new connection, whether a commit that failed has happened all the same, as it may after an
                I/O error; None where it cannot tell.

        Raises:
            DatabaseBusy, StorageFull, SchemaTooNew: nothing was stored, now or later.
            StorageError: the database said no; it says where it is not known whether the change was stored.
            RuntimeError: a signal's handler wants to write, and has interrupted this thread while it did.
        """
        return self.write_together(one_by_one, work, quiet=quiet, was_stored=was_stored)

    def write_together(
        self, works: Works[Item, T], item: Item, *, quiet: bool = False, was_stored: WasStored[T] | None = None
    ) -> T:
        """As `write`, of what is done at once for all threads that bring an item of the same kind.

        Args:
            works: does several items with a connection, and returns what came of each, in their order.
        """
        self._refuse_handlers()
        if self._connections is None:
            self._open()
        ticket = Ticket(works, item, quiet, Monotonic.now() + self._lock_timeout_s, was_stored)
        self._waiting.append(ticket)
        self._see_done(ticket)
        return cast("T", ticket.value)

    def stand_by(self, work: Work[T], bell: Callable[[], None]) -> Ticket[T]:
        """Let `work` take part in another thread's next write that is not quiet; `bell` rings then, not after its commit."""
        ticket = Ticket(one_by_one, work, True, math.inf, None, bell)
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

    def state(self) -> tuple[int, int] | None:
        """Return what changes with every commit, of this process or another; None while this process is writing."""
        version = self.version()
        return None if version is None else (version, self._commits)

    def on_commit(self, bell: Callable[[], None]) -> None:
        """Ring `bell` after every commit of this process that is not quiet."""
        self._bells.append(bell)

    def off_commit(self, bell: Callable[[], None]) -> None:
        with suppress(ValueError):
            self._bells.remove(bell)

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
            self._check_schema(driver)
            done = 0
            while done < len(batch):
                done = do_next(writer, batch, done)
                if others_join and self._waiting:
                    join(self._waiting, batch)
            if others_join and self._standing and not all(ticket.quiet for ticket in batch):
                for ticket in all_of(self._standing):
                    ticket.deadline = Monotonic.now() + self._lock_timeout_s  # from now on it waits, should it be done again
                    batch.append(ticket)
                    ticket.ring()
                    do_next(writer, batch, len(batch) - 1)
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

    def _check_schema(self, driver: sqlite3.Connection) -> None:
        """Refuse to write where others have written meanwhile, and one of them was a newer version that changed the tables."""
        seen = sqlite.data_version(driver)
        if seen != self.seen:
            migrate.refuse_newer(migrate.revision(driver), str(self.path))
            self.seen = seen

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
            ticket.error = self._meaning(error) or (copy(error) if len(batch) > 1 else error)  # each thread raises its own
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

    def abandon(self) -> None:
        """Leave to the parent what it had open, and start anew in this forked child, where nobody listens yet."""
        self._bells = []
        super().abandon()

    def go_on(self) -> None:
        """After a fork, in the parent: use it again, and let a dispatcher look, whose log may be another file now."""
        super().go_on()
        for bell in self._bells:
            bell()
