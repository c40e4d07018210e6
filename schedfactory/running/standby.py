"""A claim that waits for its job: who enqueues while workers are idle makes it in the same commit, and with the same fsync."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from schedfactory.model.clock import Clock
from schedfactory.model.errors import StorageError
from schedfactory.running.desk import Batch, Desk
from schedfactory.storage.database import Database
from schedfactory.storage.ticket import Ticket

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Standby:
    """What a dispatcher that goes to sleep leaves with the database, one at a time.

    Whose thread carries it out does not touch what came of it: a signal may interrupt that thread at any point.
    """

    def __init__(self, database: Database, desk: Desk, transact: Callable[[Connection, Batch], None], clock: Clock) -> None:
        self._database = database
        self._desk = desk
        self._transact = transact
        self._clock = clock
        self._left: tuple[Batch, Ticket[None]] | None = None
        self._done: Batch | None = None

    def leave(self) -> None:
        """Leave word of who is idle, if somebody is and nothing waits to be written."""
        desk = self._desk
        if desk.idle and not (self._left or self._done or desk.has_news or desk.ahead):
            batch = Batch(self._clock(), seats=desk.seats())
            self._left = (batch, self._database.stand_by(lambda conn: self._work(conn, batch), desk.ring))

    def relieve(self) -> bool:
        """Take it back, and tell whether anything has been done, which `take` gives.

        Raises:
            StorageError: the database said no, and may have done it all the same.
        """
        left, self._left = self._left, None
        if left is not None:
            batch, ticket = left
            try:
                later = self._database.relieve(ticket)
            except Exception as error:
                if isinstance(error, StorageError) and not error.is_refusal:
                    raise
                later = None  # nothing was stored, and the round that follows meets it, too
            if later is not None:
                batch.has_more = batch.has_more or later > 0
                self._done = batch
        return self._done is not None

    def take(self) -> Batch | None:
        """Return what has been done, once; None where it was nothing."""
        done, self._done = self._done, None
        return done

    def has_missed(self, batch: Batch) -> bool:
        """Tell whether the workers have brought something since a batch was left."""
        return self._desk.has_news or any(seat not in batch.seats for seat in self._desk.idle)

    def _work(self, conn: Connection, batch: Batch) -> None:
        batch.now = self._clock()
        self._transact(conn, batch)
