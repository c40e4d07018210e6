"""What SIGINT and SIGTERM mean while `run()` blocks: the first one stops, the second one ends the process."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from schedfactory.model.clock import Monotonic

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STEP_S = 0.25


def wait(event: threading.Event, seconds: float) -> bool:
    """Wait for an event in short steps: Python notices a signal that came just before a wait only at its end."""
    end = Monotonic.now() + seconds
    while not event.wait(min(_STEP_S, max(end - Monotonic.now(), 0))):
        if Monotonic.now() >= end:
            return event.is_set()
    return True


def wait_for_one(line: queue.SimpleQueue[None]) -> None:
    """Wait until something comes, in short steps, too."""
    while True:
        with suppress(queue.Empty):
            return line.get(timeout=_STEP_S)


@contextmanager
def caught(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at the first signal and leave at once, with 128 + its number, at the second.

    Python lets only the main thread have signals; elsewhere they stay as they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    count = 0

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count > 1:
            os._exit(128 + number)
        stop()

    with handled(handle):
        yield


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle SIGINT and SIGTERM so inside the block, in this process only: what it forks has them as they were before."""
    before = {one: signal.signal(one, handler) for one in _SIGNALS}
    _before.append((os.getpid(), before))
    try:
        yield
    finally:
        if _before.pop()[0] == os.getpid():
            _put_back(before)


_before: list[tuple[int, dict[signal.Signals, Any]]] = []


def _put_back(before: dict[signal.Signals, Any]) -> None:
    for one, handler in before.items():
        signal.signal(one, handler if handler is not None else signal.SIG_DFL)


def _after_fork() -> None:
    for _, before in reversed(_before):
        _put_back(before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
