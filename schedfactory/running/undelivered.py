"""Ends the orders that nobody will obey: for nodes, which look around, and for who waits for an order where there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from schedfactory.model.clock import Monotonic
from schedfactory.running.reporter import Reporter
from schedfactory.running.waiting import Waiting
from schedfactory.storage import commands
from schedfactory.storage.database import Database
from schedfactory.storage.locks import LockFile


class Undelivered:
    """Looks for orders to nodes that are gone, or that have not answered for the time of one lease where no lock tells.

    Args:
        tell: called with (id, result) for each order that was ended.
    """

    def __init__(
        self, database: Database, lock: LockFile, lease_s: float, tell: Callable[[Sequence[tuple[int, str]]], None]
    ) -> None:
        self._database = database
        self._lock = lock
        self._lease_s = lease_s
        self._tell = tell
        self._since: dict[int, float] = {}  # when an order was first seen that may not be heard

    def round(self) -> None:
        """End what is lost by now.

        Raises:
            StorageError: the database said no.
        """
        with self._database.read() as conn:
            found = commands.lost(conn, self._lock)
        moment = Monotonic.now()
        self._since = {order: self._since.get(order, moment) for order in found.unheard}
        late = [order for order, since in self._since.items() if moment - since >= self._lease_s]
        if found.gone or late:
            self._tell(self._database.write(lambda conn: commands.end(conn, found.gone) + commands.end_unheard(conn, late)))


def announce(ended: Sequence[tuple[int, str]], waiting: Waiting, reporter: Reporter, now: datetime) -> None:
    """Tell who waits and who listens which orders have a result, (id, result)."""
    waiting.announce(-order for order, _ in ended)
    for order, result in ended:
        reporter.tell("command", order, "done", now, result)
