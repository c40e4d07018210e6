"""Status reports go to who listens, on a thread of their own."""

from __future__ import annotations

import logging
import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from datetime import datetime

from schedfactory.model.clock import Monotonic, to_pendulum
from schedfactory.model.reports import StatusReport, Subject, subjects_of

_log = logging.getLogger("schedfactory")
_MOST_KEPT = 10_000
_PATIENCE_S = 5.0
Callback = Callable[[StatusReport], object]


class Reporter:
    """Hands reports to callbacks and iterators; telling costs nothing while nobody listens."""

    def __init__(self) -> None:
        self._listeners: list[_Listener] = []
        self._wanted: frozenset[Subject] = frozenset()
        self._threads: list[threading.Thread] = []
        self._guard = threading.Lock()

    def wants(self, subject: Subject) -> bool:
        return subject in self._wanted

    def tell(self, subject: Subject, of: int, status: str, at: datetime, detail: str = "") -> None:
        """Hand a report to all who listen to its subject. A listener that is 10,000 reports behind misses this one."""
        if subject not in self._wanted:
            return
        report = StatusReport(subject, of, status, to_pendulum(at), detail)
        for listener in self._listeners:
            if subject in listener.subjects:
                listener.put(report)

    def listen(self, callback: Callback, *subjects: str) -> None:
        """Call `callback(report)` for each report from now on, one after the other, on a thread of its own."""
        if not callable(callback):
            raise TypeError(f"listen({callback!r}): this cannot be called. Pass a function that takes a StatusReport.")
        reports = self.reports(*subjects)
        thread = threading.Thread(target=_serve, args=(reports, callback), name="schedfactory-listener", daemon=True)
        self._threads.append(thread)
        thread.start()

    def reports(self, *subjects: str) -> Reports:
        """Subscribe now, and return an iterator that waits for reports until `close()`."""
        listener = _Listener(subjects_of(subjects))
        reports = Reports(listener)
        with self._guard:
            self._listeners = [*self._listeners, listener]
            self._wanted = self._wanted | frozenset(listener.subjects)
        weakref.finalize(reports, self._drop, listener).atexit = False
        return reports

    def _drop(self, gone: _Listener) -> None:
        """Nobody can read these reports any more."""
        self._listeners = [listener for listener in self._listeners if listener is not gone]

    def close(self) -> None:
        """End all iterators and callbacks, after what was told so far; callbacks get a few seconds for that."""
        with self._guard:
            listeners, self._listeners, self._wanted = self._listeners, [], frozenset()
        for listener in listeners:
            listener.inbox.put(None)
        end = Monotonic.now() + _PATIENCE_S
        for thread in self._threads:
            if thread is not threading.current_thread():  # a callback may be who closes
                thread.join(max(end - Monotonic.now(), 0))
        self._threads.clear()


class _Listener:
    def __init__(self, subjects: tuple[Subject, ...]) -> None:
        self.subjects = subjects
        self.inbox: queue.SimpleQueue[StatusReport | None] = queue.SimpleQueue()
        self.dropped = 0
        self._told = 0  # of those that were dropped, how many the log has counted
        self._guard = threading.Lock()

    def put(self, report: StatusReport) -> None:
        behind = self.inbox.qsize()
        if behind < _MOST_KEPT:
            self.inbox.put(report)
            return
        with self._guard:
            is_news = self.dropped == self._told
            self.dropped += 1
        if is_news:
            _log.warning("a listener is %d reports behind; it misses %s, and more until there is room", behind, report)

    def get(self) -> StatusReport | None:
        found = self.inbox.get()
        if self.dropped != self._told and (found is None or self.inbox.empty()):
            with self._guard:
                missed, self._told = self.dropped - self._told, self.dropped
            _log.warning("a listener has caught up; it has missed %d reports", missed)
        return found


class Reports(Iterator[StatusReport]):
    """The iterator that `scheduler.reports()` gives: it waits for the next report, and ends when the scheduler closes.

    It keeps up to 10,000 reports for who reads them late. What comes beyond that is dropped, so that nobody waits for a
    listener, and counted; the log says so when that begins, and how many it were once the listener has caught up.

    >>> reports = scheduler.reports("job")
    >>> add.enqueue(2, 3).id, next(reports).status, reports.dropped
    (2, 'queued', 0)
    """

    def __init__(self, listener: _Listener) -> None:
        self._listener = listener

    @property
    def dropped(self) -> int:
        """How many reports it has missed so far."""
        return self._listener.dropped

    def __next__(self) -> StatusReport:
        found = self._listener.get()
        if found is None:
            self._listener.inbox.put(None)  # it ends for whoever asks, and asks again
            raise StopIteration
        return found


def _serve(reports: Iterator[StatusReport], callback: Callback) -> None:
    for report in reports:
        try:
            callback(report)
        except Exception:  # noqa: BLE001 - logged, and it goes on
            _log.exception("the listener %r failed on %s", callback, report)
