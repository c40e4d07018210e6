"""What one thread wants to be written, and how it waits for that."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from schedfactory.model.errors import StorageError

T = TypeVar("T")
Item = TypeVar("Item")
Work = Callable[[Connection], T]
Works = Callable[[Connection, Sequence[Item]], Sequence[T]]
WasStored = Callable[[Connection, T], bool | None]

_UNCALLED_S = 1.0  # then a thread that waits looks by itself: an interrupt may have kept a leader from calling it


@dataclass(eq=False, slots=True)
class Ticket(Generic[T]):
    """A piece of work of one thread, and what has become of it.

    Attributes:
        works: does the items of tickets that stand side by side at once, and returns what came of each.
        was_stored: looks whether a commit that failed has happened all the same.
        bell: of a thread that does not wait for its turn; rings when that comes.
        commit: which of this process's commits it was.
    """

    works: Works[Any, T]
    item: Any
    quiet: bool
    deadline: float
    was_stored: WasStored[T] | None
    bell: Callable[[], None] | None = None
    value: T | None = None
    error: BaseException | None = None
    commit: int = 0
    is_done: bool = False
    _turn: threading.Lock | None = None  # locked until its thread is called; only who has to wait has one

    def call(self) -> None:
        """Let its thread look what has become of it."""
        if self._turn is not None:
            with suppress(RuntimeError):  # it has been called already
                self._turn.release()

    def ring(self) -> None:
        """Tell a thread that does not wait that its turn has come."""
        if self.bell is not None:
            self.bell()

    def wait(self, is_led: Callable[[], bool]) -> None:
        """Wait for a call, while somebody leads who will give one."""
        if self._turn is None:
            turn = threading.Lock()
            turn.acquire()
            self._turn = turn
        if not self.is_done and is_led():  # looked at again: until now nobody could call
            self._turn.acquire(timeout=_UNCALLED_S)


def one_by_one(conn: Connection, works: Sequence[Work[T]]) -> list[T]:
    """Do works that have nothing in common."""
    return [work(conn) for work in works]


def do_next(conn: Connection, batch: Sequence[Ticket[Any]], start: int) -> int:
    """Do the ticket at `start`, and those after it that can be done with it; return where it goes on."""
    works = batch[start].works
    end = start + 1
    while end < len(batch) and batch[end].works is works:
        end += 1
    some = batch[start:end]
    for ticket, value in zip(some, works(conn, [ticket.item for ticket in some])):
        ticket.value = value
    return end


def join(line: deque[Ticket[Any]], batch: list[Ticket[Any]]) -> None:
    """Move those who are in line into a batch, which nobody else may do now."""
    while line:
        batch.append(line.popleft())


def all_of(line: deque[Ticket[Any]]) -> Iterator[Ticket[Any]]:
    """Take what is in line; others may take from it, too."""
    with suppress(IndexError):
        while True:
            yield line.popleft()


def find_out(
    batch: Iterable[Ticket[Any]], read: Callable[[], AbstractContextManager[Connection]], error: Exception, path: Path
) -> Exception | None:
    """Look whether a commit that failed has happened: all of the batch has, or none. Return None, or what to tell."""
    for ticket in batch:
        if ticket.was_stored is not None:
            try:
                with read() as conn:
                    is_stored = ticket.was_stored(conn, ticket.value)
            except StorageError:
                break
            if is_stored is None:
                continue
            return None if is_stored else StorageError(f"{path}: the commit failed ({error}). Nothing was stored.", str(path))
    return error
