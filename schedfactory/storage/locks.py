"""Who lives, and what they have begun.

Beside the database lies a file in which each node locks the byte of its id for as long as its process lives. The operating
system drops such a lock the moment a process ends, however it ends, and keeps it while the process is merely stopped. So
a kill -9 is seen at once, a suspended machine is not mistaken for a dead one, and nothing is written while nothing happens.

Further in, the file has a ring for each running node, in which it notes the jobs it claimed ahead of its workers just
before their code starts. Nobody syncs that: it is there after the death of a process, which is all it is for.
"""

from __future__ import annotations

import itertools
import mmap
import os
import stat
import struct
import sys
import threading
from pathlib import Path

from schedfactory.model.errors import StorageError

if sys.platform != "win32":  # where no database opens (see surroundings.py)
    import fcntl

_NOTE = struct.Struct("<qqq")  # job, fence, worker
NOTES = 4_096  # in a ring: more than a node has in hand
_RING = NOTES * _NOTE.size
_RINGS_AT = 1 << 20
_RING_ROOM = 1 << 17  # a whole number of pages, also where those have 64 KiB
_CHILDREN_AT = 1 << 40  # far behind the rings: nothing is ever written there
_CHILDREN = 1 << 16


def child_byte(node: int, worker: int) -> int:
    """Return the byte that the process of one worker of a node holds."""
    return _CHILDREN_AT + node * _CHILDREN + worker


def _try_lock(descriptor: int, byte: int, length: int = 1) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, length, byte)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _unlock(descriptor: int, byte: int, length: int = 1) -> None:
    fcntl.lockf(descriptor, fcntl.LOCK_UN, length, byte)


class LockFile:
    """One lock file of this process.

    It has one descriptor, which is closed only where this process holds no lock: to close any descriptor of a file drops
    every lock that the process has on it (test_a_child_that_ends_as_python_does_leaves_its_parents_database_alone).
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = str(path)
        self._descriptor = descriptor
        self._held: set[int] = set()
        self._rings: dict[int, Ring] = {}
        self._guard = threading.Lock()
        self._users = 0
        self.name = _identity(os.fstat(descriptor))

    def hold(self, node: int) -> None:
        """Lock the byte of a node of this process, until `release` or the process's end.

        Raises:
            OSError: another process holds it.
        """
        if not self.seize(node) and node not in self._held:  # a registration that is run again has it already
            raise OSError(f"the lock of node {node} is held by another process")

    def seize(self, byte: int) -> bool:
        """Lock a byte if nobody has it, also in this process; return whether that was so."""
        with self._guard:
            if byte in self._held or not _try_lock(self._descriptor, byte):
                return False
            self._held.add(byte)
            return True

    def release(self, node: int) -> None:
        with self._guard:
            self._held.discard(node)
            _unlock(self._descriptor, node)

    def leave(self) -> None:
        """Need it no more."""
        with _opening:
            self._users -= 1
            if not self._users and not self._held:
                _open.pop(self.name, None)
                for ring in self._rings.values():
                    ring.close()
                os.close(self._descriptor)

    def ring(self, slot: int) -> Ring:
        return self._rings.setdefault(slot, Ring(self._descriptor, _RINGS_AT + slot * _RING_ROOM))

    def is_alive(self, node: int) -> bool:
        """Tell whether any process holds the byte of this node, or of one of its worker processes."""
        if not 0 < node < 1 << 40:  # which no node has; SQL may have written it
            return False
        with self._guard:
            if node in self._held:  # a process's own locks do not stop it, so it must not try
                return True
            for place in ((node, 1), (child_byte(node, 0), _CHILDREN)):
                if not _try_lock(self._descriptor, *place):
                    return True
                _unlock(self._descriptor, *place)
            return False


class Ring:
    """The jobs that one node began of those it had claimed ahead: the latest 4,096 of them."""

    def __init__(self, descriptor: int, offset: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._count = itertools.count()
        self._memory: mmap.mmap | None = None

    def clear(self) -> None:
        """Make it empty, and this node's.

        Raises:
            OSError: the disk is full.
        """
        # Real zeros, so that the space is there: a write to a mapped hole of a full disk would end the process.
        os.pwrite(self._descriptor, bytes(_RING), self._offset)
        if self._memory is None:
            self._memory = mmap.mmap(self._descriptor, _RING, offset=self._offset)

    def note(self, job: int, fence: int, worker: int) -> None:
        """Note that a worker begins a job. Any thread may."""
        assert self._memory is not None
        _NOTE.pack_into(self._memory, next(self._count) % NOTES * _NOTE.size, job, fence, worker)

    def close(self) -> None:
        """Give back the memory, and with it the descriptor that a mapping has."""
        if self._memory is not None:
            self._memory.close()

    def read(self) -> dict[tuple[int, int], int]:
        """Return the worker of each (job, fence) that was noted."""
        data = os.pread(self._descriptor, _RING, self._offset)
        whole = data[: len(data) // _NOTE.size * _NOTE.size]
        return {(job, fence): worker for job, fence, worker in _NOTE.iter_unpack(whole)}


_open: dict[str, LockFile] = {}
_opening = threading.Lock()


def lock_file(database: Path) -> LockFile:
    """Return the lock file of a database, `<name>-nodes`, made with the database's own permissions where it is missing.

    Who gets it says `leave()` in the end.

    Raises:
        StorageError: it cannot be made or opened.
    """
    path = Path(f"{database}-nodes")
    with _opening:
        try:
            found = _open.get(_identity(path.stat())) if path.exists() else None
            if found is None:
                mode = stat.S_IMODE(database.stat().st_mode)
                found = LockFile(path, os.open(path, os.O_RDWR | os.O_CREAT, mode))
        except OSError as error:
            raise StorageError(f"{path}: the lock file of the nodes cannot be opened ({error.strerror}).", str(path)) from error
        found = _open.setdefault(found.name, found)
        found._users += 1
        return found


def _identity(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}"


def _after_fork() -> None:
    # The child inherits descriptors, but none of the locks; closing its copies drops nothing of the parent's.
    global _opening
    _opening = threading.Lock()
    for file in _open.values():
        os.close(file._descriptor)
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
