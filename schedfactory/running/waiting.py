"""Threads that wait for jobs to end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from schedfactory.model.clock import Monotonic

T = TypeVar("T")
_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.05
_NO_JOB = 0  # whose end nobody announces


class Waiting:
    """Who waits for which job. Ends in this process are announced; those elsewhere are seen in the database."""

    def __init__(self) -> None:
        self._events: dict[int, list[threading.Event]] = {}
        self._guard = threading.Lock()

    def announce(self, job_ids: Iterable[int]) -> None:
        if self._events:
            with self._guard:
                for job_id in job_ids:
                    for event in self._events.get(job_id, ()):
                        event.set()

    def until(
        self, job_id: int, look: Callable[[], T | None], state: Callable[[], object], timeout_s: float | None
    ) -> T | None:
        """Return what `look` gives once it is not None; None after the timeout.

        Args:
            look: reads the database.
            state: a cheap value that changes whenever `look` might give something new, None while that cannot be told.
        """
        end = None if timeout_s is None else Monotonic.now() + timeout_s
        pause = _FIRST_PAUSE_S
        with self._expecting(job_id) as event:
            while True:
                event.clear()
                seen = state()
                found = look()
                if found is not None:
                    return found
                while True:
                    left = pause if end is None else min(pause, end - Monotonic.now())
                    if left <= 0:
                        return None
                    is_told = event.wait(left)
                    pause = min(pause * 1.5, _LONGEST_PAUSE_S)
                    if is_told or seen is None or state() != seen:
                        break

    def for_room(self, look: Callable[[], T | None], state: Callable[[], object]) -> T:
        """Return what `look` gives once it is not None, however long that takes."""
        found = self.until(_NO_JOB, look, state, None)
        assert found is not None
        return found

    @contextmanager
    def _expecting(self, job_id: int) -> Iterator[threading.Event]:
        event = threading.Event()
        with self._guard:
            self._events.setdefault(job_id, []).append(event)
        try:
            yield event
        finally:
            with self._guard:
                self._events[job_id].remove(event)
                if not self._events[job_id]:
                    del self._events[job_id]
