"""How a dispatcher sleeps: until someone of this process rings, another process commits, or a time has come."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from schedfactory.model.clock import Monotonic
from schedfactory.running import inotify

_FIRST_LOOK_S = 0.0003  # the file is written before the commit can be seen: 0.7 ms later, or an fsync
_LAST_LOOK_S = 0.1
_SELECTABLE = 1024  # select takes no descriptor beyond
_BLIND_LOOK_S = 0.02  # between looks where the system does not tell of writes


class Wake:
    """A bell and a watch on the database's log.

    Args:
        log: the `-wal` file.
        version: gives a number that changes when others commit, None while that cannot be told.
    """

    def __init__(self, log: Path, version: Callable[[], int | None]) -> None:
        self._log = log
        self._version = version
        self._ear, self._bell = socket.socketpair()
        self._ear.setblocking(False)
        self._bell.setblocking(False)
        self._watch = inotify.watch(log)
        self._is_asleep = False
        self._is_rung = False
        self._is_closed = False

    def ring(self) -> None:
        """End the sleep, or the next one before it begins. Any thread may, and it costs nothing while nobody sleeps."""
        self._is_rung = True
        if self._is_asleep:
            with suppress(OSError):  # full: it is ringing already; closed: nobody sleeps any more
                self._bell.send(b"\0")

    def sleep(self, seconds: float, seen: int | None) -> bool:
        """Sleep `seconds` at most; return True where something has happened before.

        Args:
            seen: the version that the sleeper has acted upon.
        """
        self._is_asleep = True
        try:
            has_changed = self._sleep(Monotonic.now() + seconds, seen)
        finally:
            self._is_asleep = False
        if self._is_rung:
            self._is_rung = False
            return True
        return has_changed

    def _sleep(self, end: float, seen: int | None) -> bool:
        if self._watch is None:  # never there, or the log was replaced
            self._watch = inotify.watch(self._log)
        pause = None if self._watch is not None else _BLIND_LOOK_S
        while not self._is_rung:
            left = end - Monotonic.now()
            if left <= 0:
                return self._has_changed(seen)
            if self._wait(left if pause is None else min(left, pause)):
                pause = _FIRST_LOOK_S
            if pause is not None:
                if self._has_changed(seen):
                    return True
                pause = self._longer(pause)
        return True

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._ear.close()
            self._bell.close()
            if self._watch is not None:
                os.close(self._watch)

    def _has_changed(self, seen: int | None) -> bool:
        now = self._version()
        return now is not None and now != seen

    def _longer(self, pause: float) -> float | None:
        if self._watch is None:
            return _BLIND_LOOK_S
        return pause * 2 if pause < _LAST_LOOK_S else None

    def _wait(self, seconds: float) -> bool:
        """Wait for the bell or the watch; return True where the file was written to."""
        if seconds >= 0.001:
            ready = self._ready(int(seconds * 1000))
        else:  # poll counts whole milliseconds
            if self._ear.fileno() < _SELECTABLE:
                select.select([self._ear], [], [], seconds)
            else:
                Monotonic.sleep(seconds)
            ready = self._ready(0)
        if self._ear.fileno() in ready:
            with suppress(BlockingIOError):
                self._ear.recv(4096)
        if self._watch is not None and self._watch in ready:
            if not inotify.drain(self._watch):
                os.close(self._watch)
                self._watch = None
            return True
        return False

    def _ready(self, milliseconds: int) -> list[int]:
        sources = [self._ear.fileno()] if self._watch is None else [self._ear.fileno(), self._watch]
        poll = select.poll()
        for source in sources:
            poll.register(source, select.POLLIN)
        return [descriptor for descriptor, _ in poll.poll(milliseconds)]
