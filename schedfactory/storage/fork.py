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


_all: weakref.WeakSet[Forkable] = weakref.WeakSet()
_held: list[Forkable] = []
_forking = threading.Lock()


def watch(database: Forkable) -> None:
    """Look after a database at every fork from now on."""
    _all.add(database)


def _before() -> None:
    _forking.acquire()
    _held[:] = list(_all)  # also one that is being opened right now
    for database in _held:
        database.hold_still()


def _in_parent() -> None:
    for database in _held:
        database.go_on()
    _held.clear()
    _forking.release()


def _in_child() -> None:
    global _forking
    _forking = threading.Lock()
    _held.clear()
    for database in list(_all):
        database.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
