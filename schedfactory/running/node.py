"""One running factory: a row, a lock, a dispatcher and its workers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from schedfactory.model.clock import Monotonic
from schedfactory.model.errors import StorageError
from schedfactory.model.health import DispatcherState, Health
from schedfactory.model.running_job import RunningJob
from schedfactory.model.slots import Slots
from schedfactory.running import capture, signals
from schedfactory.running.attempt import Attempts
from schedfactory.running.desk import Desk
from schedfactory.running.dispatcher import LONGEST_WAIT_S, Dispatcher
from schedfactory.running.isolated import Isolated
from schedfactory.running.orders import Orders
from schedfactory.running.rescuer import Rescuer
from schedfactory.running.shop import Shop
from schedfactory.running.staff import Staff
from schedfactory.running.ticker import Ticker
from schedfactory.running.undelivered import Undelivered
from schedfactory.running.wake import Wake
from schedfactory.running.worker import Worker
from schedfactory.storage import commands, nodes
from schedfactory.storage.claim import Scope
from schedfactory.storage.locks import lock_file

if TYPE_CHECKING:
    from sqlalchemy import Connection

_log = logging.getLogger("schedfactory")
_DEATHS, _DEATHS_S = 5, 60  # that many in that time, and the dispatcher is given up
_AFTER_DEATH_S = 1.0
_TOLD_S = 10.0  # for a slow disk to take in that an order to quit is done
_GRACE_S = 1.0  # for code that looks at `cancelled`, once that is set at the end of a stop


class Node:
    """A node of this process: `start` or `run_due`, then `stop`.

    Args:
        slots: how many workers it has, for which queues.
        on_drain: called when it claims no more, also where it gives up by itself; then `failure` says why.
    """

    def __init__(self, shop: Shop, slots: Slots, on_drain: Callable[[], None] = lambda: None) -> None:
        self._shop = shop
        self._slots = slots
        self._on_drain = on_drain
        self._closes = shop.database.closes
        self.failure: str | None = None
        self.was_stopped = False  # and who stopped it waits no more, also where code goes on
        self._has_left = threading.Event()
        self._has_signed_off = False
        self._scopes: Sequence[Scope] = ()
        shop.database.open()
        self._lock = lock_file(shop.database.path)
        self._wake = Wake(shop.database.log, shop.database.version)
        held: list[int] = []
        names = shop.tasks.names()

        def register(conn: Connection) -> tuple[int, int]:
            while held:  # of a commit that failed; another process may get that number now
                self._lock.release(held.pop())
            node, slot = nodes.register(conn, self._lock, slots, names, shop.clock())
            commands.prune(conn, shop.clock())
            held.append(node)
            return node, slot

        try:
            self.id, slot = shop.database.write(register)
        except BaseException:
            self._wake.close()
            for node in held:
                self._lock.release(node)
            self._lock.leave()
            raise
        self._desk = Desk(self._wake.ring, self._lock.ring(slot).note)
        self._attempts = Attempts(shop.tasks, shop.owner, shop.clock, shop.max_result, shop.capture)
        self._dispatcher = Dispatcher(self.id, shop, self._desk, self._attempts, self._current_scopes, slots.workers)
        self._staff = Staff(slots.workers, self._worker, self._desk, self._tell_of_worker)
        self._orders = Orders(
            shop, self._dispatcher, self._staff, self.drain, lambda: self._scopes[0].tasks if self._scopes else names
        )
        undelivered = Undelivered(shop.database, self._lock, shop.lease_s, self._tell_of_orders)
        self._rescuer = Rescuer(self.id, shop.database, self._lock, shop.waiting, shop.lease_s, undelivered)
        self._ticker = Ticker(shop.database, shop.seams.ticking, shop.clock, self._wake.ring)
        self._thread = threading.Thread(target=self._serve, name=f"schedfactory-dispatcher-{self.id}", daemon=True)
        shop.database.on_commit(self._wake.ring)
        shop.flags.append(self._dispatcher.hand.flag)
        if shop.capture is not None:
            capture.begin(self)
        shop.reporter.tell("node", self.id, "start", shop.clock())

    def start(self) -> None:
        self._dispatcher.on_leftover = self._replace
        self._staff.open()
        self._thread.start()

    def run_due(self, limit: int | None) -> int:
        """Run what is due in the calling thread, and return how many attempts that were.

        Meanwhile the dispatcher's thread looks after timeouts, cancels and progress.

        Raises:
            StorageError: the database said no; what has ended is stored as soon as that works again.
            BaseException: what a signal's handler raised while a job ran, such as KeyboardInterrupt; the job goes back.
        """
        dispatcher = self._dispatcher
        dispatcher.workers = 0  # nothing ahead: what a job enqueues takes its place in the order at once
        self._attempts.is_interruptible = True
        seat = self._worker(1)
        ran = 0
        self._rescuer.round(self._shop.clock(), is_busy=False)
        self._ticker.round(self._shop.clock())
        while limit is None or ran < limit:
            job = dispatcher.claim_for(seat, self._shop.clock())
            if job is not None:
                if not ran:
                    self._thread.start()
                seat.do(job)
                ran += 1
            elif not dispatcher.has_more:
                break
            if dispatcher.trouble is not None or self._attempts.interrupt is not None:
                break
        seat.close()
        dispatcher.round(self._shop.clock())
        for error in (self._attempts.interrupt, dispatcher.trouble):
            if error is not None:
                raise error
        return ran

    def drain(self) -> None:
        """Claim no more; what has not started goes back."""
        self._dispatcher.is_draining = True
        self._wake.ring()
        self._on_drain()

    @property
    def is_stopping(self) -> bool:
        return self._dispatcher.is_draining

    def stop(self, timeout_s: float) -> None:
        """Claim no more and let running jobs end; after `timeout_s` ask them to.

        The code that still runs keeps its job, and this node, until it ends: then its result is stored.
        """
        self.drain()
        if self._has_left.is_set():
            pass
        elif not self._thread.is_alive():  # run_due had nothing to do
            self._leave()
        else:
            if not signals.wait(self._has_left, timeout_s):
                self._dispatcher.hand.flag_all()
                self._wake.ring()
                signals.wait(self._has_left, _GRACE_S)
            if self._has_left.is_set():
                self._thread.join(_GRACE_S)
            else:
                self._leave_behind()
        self.was_stopped = True

    def _leave_behind(self) -> None:
        """Say whose code runs on, and that an order to quit is done all the same."""
        jobs = sorted([*self._dispatcher.hand.in_flight, *self._dispatcher.hand.leftovers])[:20]
        if jobs:  # none where only the last write is slow
            said = "node %d has stopped, but code of the jobs %s runs on; if this process ends first, that counts as a crash"
            _log.warning(said, self.id, jobs)
        self._orders.was_left = True
        self._wake.ring()
        if self._orders.is_to_quit:
            signals.wait(self._orders.has_quit, _TOLD_S)

    @property
    def patience_s(self) -> float:
        """How long running jobs may go on once someone has ordered it to quit."""
        return self._orders.patience_s

    @property
    def busy(self) -> int:
        return len(self._dispatcher.hand.in_flight) + len(self._dispatcher.hand.leftovers)

    @property
    def has_left(self) -> bool:
        """True once it has stopped, and has nothing in hand any more."""
        if self._has_signed_off:  # so others may have read that it has stopped, and its last steps take no time
            self._has_left.wait(_GRACE_S)
        return self._has_left.is_set()

    def health(self) -> Health:
        dispatcher = self._dispatcher
        leftovers, trouble = len(dispatcher.hand.leftovers), dispatcher.trouble
        problems = [self.failure] if self.failure else []
        if trouble is not None:
            problems.append(f"the database does not work: {trouble}")
        if dispatcher.hindrance is not None:
            problems.append(f"some rows cannot be written, and are tried again: {dispatcher.hindrance}")
        if leftovers and leftovers >= self._staff.seats:
            problems.append(f"the code of {leftovers} timed-out attempts still runs; more will hold up the workers")
        if not self._thread.is_alive() and not self._has_left.is_set():
            problems.append("the dispatcher's thread has ended")
        return Health(
            ok=not problems,
            problems=tuple(problems),
            dispatcher=self._state(),
            workers=len(self._staff.present),
            busy=len(dispatcher.hand.in_flight),
            leftovers=leftovers,
            unsaved=len(self._desk.ended) + dispatcher.kept,
            database="ok" if trouble is None else str(trouble),
        )

    def _state(self) -> DispatcherState:
        if self.failure:
            return "failed"
        if self._dispatcher.is_draining:
            return "stopping"
        return "paused" if self._dispatcher.is_paused else "running"

    def _serve(self) -> None:
        """The dispatcher's thread: a round, then sleep until there is cause for another."""
        dispatcher = self._dispatcher
        has_cause = True
        due_at = 0.0
        deaths: list[float] = []
        while True:
            try:
                if has_cause:
                    self._rescuer.look_soon()
                probe_s = self._rescuer.round(self._shop.clock(), bool(self.busy))
                if has_cause or Monotonic.now() >= due_at:
                    due_at = Monotonic.now() + dispatcher.round(self._shop.clock())
                order_s = self._orders.round(self._shop.clock())
                if dispatcher.is_draining and not self.busy:
                    break
                self._shop.database.tend()
                # While the database does not work, one voice that says so is enough.
                tick_s = self._ticker.round(self._shop.clock()) if dispatcher.trouble is None else LONGEST_WAIT_S
                pause_s = min(max(due_at - Monotonic.now(), 0), probe_s, tick_s, order_s)
                dispatcher.stand_by()
                try:
                    has_cause = self._wake.sleep(pause_s, dispatcher.seen)
                finally:
                    has_stood_by = dispatcher.relieve()
                has_cause = has_cause or has_stood_by
                if isinstance(dispatcher.trouble, StorageError) and dispatcher.trouble.is_final:
                    self._give_up(str(dispatcher.trouble))
                    break
            except Exception:  # noqa: BLE001 - logged, and begun again, as often as that may help
                _log.exception("node %d: the dispatcher died; it starts again", self.id)
                deaths = [moment for moment in deaths if moment > Monotonic.now() - _DEATHS_S] + [Monotonic.now()]
                if len(deaths) >= _DEATHS:
                    self._give_up(f"the dispatcher died {_DEATHS} times within {_DEATHS_S} s")
                    break
                self._wake.sleep(_AFTER_DEATH_S, None)
        self._leave()

    def _give_up(self, why: str) -> None:
        """Stop for good; the jobs in hand are run again by others once this process has ended."""
        _log.critical("node %d stops for good: %s", self.id, why)
        self.failure = why
        self.drain()

    def _current_scopes(self) -> Sequence[Scope]:
        names = self._shop.tasks.names()
        if not self._scopes or names != self._scopes[0].tasks:
            self._scopes = [Scope(names, pool) for pool in self._slots.pools]
        return self._scopes

    def _worker(self, number: int) -> Worker:
        shop = self._shop
        isolated = Isolated(shop.database.path, self.id, number, shop.clock, shop.max_result, shop.capture)
        return Worker(number, self._desk, self._attempts, shop.clock, isolated)

    def _replace(self, job: RunningJob) -> None:
        if not self._dispatcher.is_draining:
            self._staff.replace(job, len(self._dispatcher.hand.leftovers))

    def _tell_of_worker(self, number: int, what: str) -> None:
        self._shop.reporter.tell("worker", number, what, self._shop.clock())

    def _tell_of_orders(self, ended: Sequence[tuple[int, str]]) -> None:
        self._orders.announce(ended, self._shop.clock())

    def _leave(self) -> None:
        self._staff.close(0.0 if self.busy else _GRACE_S)
        self._shop.database.off_commit(self._wake.ring)
        self._shop.flags.remove(self._dispatcher.hand.flag)
        capture.end(self)
        if not self.busy:  # else the code that runs keeps its jobs, by the lock, as long as the process lives
            self._sign_off()
            self._lock.release(self.id)
            self._lock.leave()
        self._wake.close()
        self._shop.reporter.tell("node", self.id, "stop", self._shop.clock())
        if self._shop.database.closes != self._closes:  # while code ran on, whose end has opened it again
            self._shop.database.close()
        self._has_left.set()

    def _sign_off(self) -> None:
        now = self._shop.clock()
        self._has_signed_off = True

        def sign_off(conn: Connection) -> list[tuple[int, str]]:
            nodes.leave(conn, self.id, now)
            return self._orders.leave(conn, now)

        try:
            self._tell_of_orders(self._shop.database.write(sign_off))
        except StorageError as error:
            _log.warning("node %d could not sign off: %s", self.id, error)
