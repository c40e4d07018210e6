"""Status reports go to who listens, on a thread of their own."""

from __future__ import annotations

import logging
import queue
import threading
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
        self._listeners: list[tuple[tuple[Subject, ...], queue.Queue[StatusReport | None]]] = []
        self._wanted: frozenset[Subject] = frozenset()
        self._threads: list[threading.Thread] = []
        self._guard = threading.Lock()

    def wants(self, subject: Subject) -> bool:
        """Tell whether anybody listens to reports on this subject."""
        return subject in self._wanted

    def tell(self, subject: Subject, of: int, status: str, at: datetime, detail: str = "") -> None:
        """Hand a report to all who listen to its subject. A listener that is 10,000 reports behind misses this one."""
        if subject not in self._wanted:
            return
        report = StatusReport(subject, of, status, to_pendulum(at), detail)
        for subjects, inbox in self._listeners:
            if subject in subjects:
                try:
                    inbox.put_nowait(report)
                except queue.Full:
                    _log.warning("a listener is %d reports behind; it misses %s", _MOST_KEPT, report)

    def listen(self, callback: Callback, *subjects: str) -> None:
        """Call `callback(report)` for each report from now on, one after the other, on a thread of its own."""
        reports = self.reports(*subjects)
        thread = threading.Thread(target=_serve, args=(reports, callback), name="schedfactory-listener", daemon=True)
        self._threads.append(thread)
        thread.start()

    def reports(self, *subjects: str) -> Iterator[StatusReport]:
        """Subscribe now, and return an iterator that waits for reports until `close()`."""
        inbox: queue.Queue[StatusReport | None] = queue.Queue(_MOST_KEPT)
        entry = (subjects_of(subjects), inbox)
        with self._guard:
            self._listeners = [*self._listeners, entry]
            self._wanted = self._wanted | frozenset(entry[0])
        return iter(inbox.get, None)

    def close(self) -> None:
        """End all iterators and callbacks, after what was told so far; callbacks get a few seconds for that."""
        with self._guard:
            listeners, self._listeners, self._wanted = self._listeners, [], frozenset()
        for _, inbox in listeners:
            while True:
                try:
                    inbox.put_nowait(None)
                    break
                except queue.Full:  # the end counts more than the oldest report
                    inbox.get_nowait()
        end = Monotonic.now() + _PATIENCE_S
        for thread in self._threads:
            if thread is not threading.current_thread():  # a callback may be who closes
                thread.join(max(end - Monotonic.now(), 0))
        self._threads.clear()


def _serve(reports: Iterator[StatusReport], callback: Callback) -> None:
    for report in reports:
        try:
            callback(report)
        except Exception:  # noqa: BLE001 - logged, and it goes on
            _log.exception("the listener %r failed on %s", callback, report)
