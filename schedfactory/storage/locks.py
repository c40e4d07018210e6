"""Who lives: a file beside the database in which each node locks the byte of its id for as long as its process lives.

The operating system drops such a lock the moment a process ends, however it ends, and keeps it while the process is
merely stopped. So a kill -9 is seen at once, a suspended machine is not mistaken for a dead one, and nothing is
written while nothing happens.
"""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    def _try_lock(descriptor: int, byte: int) -> bool:
        os.lseek(descriptor, byte, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True

    def _unlock(descriptor: int, byte: int) -> None:
        os.lseek(descriptor, byte, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined,unused-ignore]
else:

    def _try_lock(descriptor: int, byte: int) -> bool:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock(descriptor: int, byte: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, byte)


class LockFile:
    """One lock file of this process. Its descriptor is never closed: that would drop every lock the process has on it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held: set[int] = set()
        self._guard = threading.Lock()
        self.name = _identity(os.fstat(descriptor))

    def hold(self, node: int) -> None:
        """Lock the byte of a node of this process, until `release` or the process's end.

        Raises:
            OSError: another process holds it.
        """
        with self._guard:
            if not _try_lock(self._descriptor, node):
                raise OSError(f"the lock of node {node} is held by another process")
            self._held.add(node)

    def release(self, node: int) -> None:
        """Unlock it."""
        with self._guard:
            self._held.discard(node)
            _unlock(self._descriptor, node)

    def is_alive(self, node: int) -> bool:
        """Tell whether any process holds the byte of this node."""
        with self._guard:
            if node in self._held:  # a process's own locks do not stop it, so it must not try
                return True
            if not _try_lock(self._descriptor, node):
                return True
            _unlock(self._descriptor, node)
            return False


_open: dict[str, LockFile] = {}
_opening = threading.Lock()


def lock_file(database: Path) -> LockFile:
    """Return the lock file of a database, `<name>-nodes`, made with the database's own permissions where it is missing."""
    path = Path(f"{database}-nodes")
    with _opening:
        try:
            known = _open.get(_identity(path.stat()))
            if known is not None:
                return known
        except FileNotFoundError:
            pass
        mode = stat.S_IMODE(database.stat().st_mode)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), mode)
        found = LockFile(descriptor)
        return _open.setdefault(found.name, found)


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
