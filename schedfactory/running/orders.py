"""The orders to one node: taken, obeyed, and told of; and what its row says of it meanwhile."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from schedfactory.model.clock import Monotonic
from schedfactory.model.command import DONE
from schedfactory.model.errors import StorageError
from schedfactory.running.dispatcher import Dispatcher
from schedfactory.running.shop import Shop
from schedfactory.running.staff import Staff
from schedfactory.running.undelivered import announce
from schedfactory.running.worker import Worker
from schedfactory.storage import commands, nodes
from schedfactory.storage.commands import Order

if TYPE_CHECKING:
    from sqlalchemy import Connection

_log = logging.getLogger("schedfactory")
PATIENCE_S = 30.0  # which running jobs have after an order to quit, as after stop()
_AGAIN_S = 0.5  # until what could not be told is tried again


@dataclass
class _Taken:
    order: Order
    refusal: str | None = None
    leaving: list[Worker] = field(default_factory=list)  # workers on whose end it waits
    is_last: bool = False  # and done when the node has left
    is_acknowledged: bool = False


class Orders:
    """The rounds in which a node obeys. They come after the dispatcher's, on the same thread.

    An order is taken once: it is obeyed at once, and its row says so as soon as the database lets it, which may be later.

    Args:
        drain: makes the node claim no more, for good.
        tasks: gives the names of those that the node knows.

    Attributes:
        patience_s: how long running jobs may go on once the node is to quit.
        was_left: who ran the node goes on without it, and with it the order to quit is done, whatever code runs on.
        is_to_quit: someone has ordered so.
        has_quit: and that is told to be done.
    """

    def __init__(
        self,
        shop: Shop,
        dispatcher: Dispatcher,
        staff: Staff,
        drain: Callable[[], None],
        tasks: Callable[[], Sequence[str]],
    ) -> None:
        self.patience_s = PATIENCE_S
        self.was_left = False
        self.is_to_quit = False
        self.has_quit = threading.Event()
        self._node = dispatcher.node
        self._database = shop.database
        self._dispatcher = dispatcher
        self._staff = staff
        self._drain = drain
        self._tasks = tasks
        self._reporter = shop.reporter
        self._waiting = shop.waiting
        self._taken: dict[int, _Taken] = {}
        self._flag_at: float | None = None
        self._told = self._facts()
        self._is_hindered = False

    def round(self, now: datetime) -> float:
        """Obey what is new, tell what has been carried out, and return how many seconds the next round may wait."""
        dispatcher = self._dispatcher
        if dispatcher.has_orders or dispatcher.trouble is not None:
            self._take(now)
        if dispatcher.desk.dismissed:
            self._staff.tend(may_hire=not dispatcher.is_draining)
        is_told = dispatcher.trouble is None and self._tell(now)
        if self._flag_at is not None and Monotonic.now() >= self._flag_at:
            self._flag_at = None
            dispatcher.hand.flag_all()
        pause = float("inf") if self._flag_at is None else self._flag_at - Monotonic.now()
        return pause if is_told else min(pause, _AGAIN_S)

    def leave(self, conn: Connection, now: datetime) -> list[tuple[int, str]]:
        """End what is pending, in the transaction in which the node signs off; `announce` tells of it then."""
        return commands.end_with(conn, self._node, now)

    def announce(self, ended: Sequence[tuple[int, str]], now: datetime) -> None:
        """Tell who waits and who listens which orders have a result."""
        announce(ended, self._waiting, self._reporter, now)

    def _take(self, now: datetime) -> None:
        try:
            with self._database.read() as conn:
                found = commands.untaken(conn, self._node)
        except StorageError:
            return  # the dispatcher says so
        self._dispatcher.has_orders = False
        for order in found:
            if order.id not in self._taken:
                _log.info("node %d is told to %s", self._node, _words(order))
                self._taken[order.id] = self._obey(order, now)
                self._dispatcher.desk.ring()  # for a round, which gives back what was claimed ahead

    def _obey(self, order: Order, now: datetime) -> _Taken:
        if order.kind == "quit":
            return self._quit_one(order, order.worker) if self._is_for_worker(order) else self._quit(order)
        if self._dispatcher.is_draining:
            return _Taken(order, f"node {self._node} is stopping")
        if order.kind == "scale":
            return self._scale(order, now)
        self._dispatcher.is_paused = order.kind == "pause"
        self._reporter.tell("node", self._node, order.kind, now)
        return _Taken(order)

    def _is_for_worker(self, order: Order) -> bool:
        return order.worker is not None and (self._staff.is_open or order.worker != 1)

    def _quit(self, order: Order) -> _Taken:
        if order.force:
            self.patience_s = 0.0
        if order.force or not self._dispatcher.is_draining:
            self._flag_at = Monotonic.now() + self.patience_s
        self._drain()
        self.is_to_quit = True
        return _Taken(order, is_last=True)

    def _quit_one(self, order: Order, number: int | None) -> _Taken:
        worker = self._staff.workers.get(number or 0)
        if worker is None or worker.has_gone:
            there = ", ".join(str(one.number) for one in self._staff.present) or "none"
            return _Taken(order, f"node {self._node} has no worker {number}; its workers: {there}")
        self._staff.dismiss(worker)
        self._dispatcher.workers = self._staff.seats
        if order.force:
            self._dispatcher.hand.flag_all(number)
        return _Taken(order, leaving=[worker])

    def _scale(self, order: Order, now: datetime) -> _Taken:
        wanted = order.workers or 0
        if wanted < 1:
            return _Taken(order, f"workers={order.workers} is fewer than one")
        if not self._staff.is_open:
            return _Taken(order, f"node {self._node} is of run_due(), which works in one thread")
        leaving = self._staff.resize(wanted)
        self._dispatcher.workers = self._staff.seats
        self._reporter.tell("node", self._node, "scale", now, str(self._staff.seats))
        if self._staff.seats < wanted:
            return _Taken(order, f"only {self._staff.seats} workers could be started", leaving=leaving)
        return _Taken(order, leaving=leaving)

    def _result(self, taken: _Taken) -> str | None:
        """Return what has become of an order, None while it is being carried out."""
        if taken.refusal is not None:
            return taken.refusal
        if self.was_left:
            return DONE if taken.is_last else f"node {self._node} has stopped"
        if taken.is_last:
            return None
        if not all(worker.has_gone for worker in taken.leaving):
            return None
        dispatcher, staff = self._dispatcher, self._staff
        if taken.order.kind == "pause" and dispatcher.is_paused:
            return DONE if dispatcher.trouble is None and not dispatcher.has_stale else None
        if taken.order.kind == "scale":
            return DONE if len(staff.present) >= min(taken.order.workers or 0, staff.seats) else None
        return DONE

    def _facts(self) -> tuple[int, int, Sequence[str]]:
        dispatcher = self._dispatcher
        is_stopping = dispatcher.is_draining and bool(dispatcher.hand.in_flight or dispatcher.hand.leftovers)
        return self._staff.seats, 2 if is_stopping else int(dispatcher.is_paused), self._tasks()

    def _tell(self, now: datetime) -> bool:
        """Write what is new; return False where the database does not let it."""
        facts = self._facts()
        new = [taken.order.id for taken in self._taken.values() if not taken.is_acknowledged]
        results = [(taken.order.id, said) for taken in self._taken.values() if (said := self._result(taken)) is not None]
        if not new and not results and facts == self._told:
            return True

        def tell(conn: Connection) -> list[tuple[int, str]]:
            if facts != self._told:
                nodes.describe(conn, self._node, *facts)
            commands.acknowledge(conn, new, now)
            return commands.end(conn, results)

        try:
            ended = self._database.write(tell, quiet=True)
        except Exception as error:  # noqa: BLE001 - such as what a trigger of the user's says; the node works on
            if not self._is_hindered:
                self._is_hindered = True
                _log.error("node %d cannot say what has become of its orders, and tries again: %s", self._node, error)
            return False
        self._told, self._is_hindered = facts, False
        for order in new:
            self._taken[order].is_acknowledged = True
            self._reporter.tell("command", order, "acknowledged", now)
        for order, _ in results:
            if self._taken.pop(order).is_last:
                self.has_quit.set()
        self.announce(ended, now)
        return True


def _words(order: Order) -> str:
    if order.kind == "scale":
        return f"have {order.workers} workers"
    return order.kind if order.worker is None else f"let worker {order.worker} go"
