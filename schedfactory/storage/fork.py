"""Databases across a fork: the child must inherit no open connection, whose locks are the parent's."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Forkable(Protocol):
    """What a fork asks of a database."""

    def hold_still(self) -> None: ...
    def go_on(self) -> None: ...
    def abandon(self) -> None: ...


_READERS_S = 5.0  # that a fork waits for other threads to have read
_all: weakref.WeakSet[Forkable] = weakref.WeakSet()
_held: list[Forkable] = []
_forking = threading.Lock()


def watch(database: Forkable) -> None:
    """Look after a database at every fork from now on."""
    _all.add(database)


class Readers:
    """The threads that read a database. A fork lets them end, and new ones wait until it is over."""

    def __init__(self) -> None:
        self._connections: dict[int, int] = {}  # how many each thread has
        self._is_held = False
        self._gate = threading.Condition()

    @property
    def are_there(self) -> bool:
        return bool(self._connections)

    def enter(self, *, is_urgent: bool = False) -> None:
        """Let the calling thread read; one that reads already need not wait, nor one whom a writer waits for."""
        thread = threading.get_ident()
        with self._gate:
            self._gate.wait_for(lambda: not self._is_held or is_urgent or thread in self._connections)
            self._connections[thread] = self._connections.get(thread, 0) + 1

    def leave(self) -> None:
        thread = threading.get_ident()
        with self._gate:
            self._connections[thread] -= 1
            if not self._connections[thread]:
                del self._connections[thread]
                self._gate.notify_all()

    def hold(self) -> None:
        """Let in no one, and wait for a while until no other thread reads."""
        thread = threading.get_ident()
        with self._gate:
            self._is_held = True
            self._gate.wait_for(lambda: not self._connections.keys() - {thread}, _READERS_S)

    def go_on(self) -> None:
        with self._gate:
            self._is_held = False
            self._gate.notify_all()


def _before() -> None:
    _forking.acquire()
    for database in list(_all):  # also one that is being opened right now
        _held.append(database)
        database.hold_still()


def _in_parent() -> None:
    try:
        while _held:
            _held.pop().go_on()
    finally:
        _forking.release()


def _in_child() -> None:
    global _forking
    _forking = threading.Lock()
    _held.clear()
    for database in list(_all):
        database.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
