"""Where a database is refused, before it is touched: what it lies on, and the Python that wants to use it."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from pathlib import Path

from schedfactory.model.errors import StorageError, UnsafeFilesystem

_MINIMUM = (3, 37, 0)  # STRICT tables; RETURNING and UPDATE … FROM are older
_REMOTE = frozenset(("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "9p", "ceph", "glusterfs", "lustre", "gpfs"))
_LOCAL_FUSE = frozenset(("fuse.lxcfs", "fuse.ntfs-3g", "fuse.exfat", "fuse.fuse-overlayfs", "fuse.zfs", "fuse.lazyfs"))


def refuse_python(path: Path) -> None:
    """Let pass only a system with locks and signals as nodes use them, an SQLite that knows the tables' form, real threads.

    Raises:
        StorageError: this is Windows, this Python was built with an older SQLite, gevent has put its threads in place.
    """
    if sys.platform == "win32":
        raise StorageError(f"{path} cannot be used on Windows. Use schedfactory on Linux or macOS, or in WSL.", str(path))
    if sqlite3.sqlite_version_info < _MINIMUM:
        needed = ".".join(map(str, _MINIMUM))
        raise StorageError(
            f"{path} needs SQLite {needed}, and this Python has {sqlite3.sqlite_version}. Use a newer Python.", str(path)
        )
    is_patched = getattr(sys.modules.get("gevent.monkey"), "is_module_patched", lambda _module: False)
    for module in ("threading", "time", "socket"):
        if is_patched(module):
            raise StorageError(
                f"{path} cannot be used here: gevent has patched {module!r}. A greenlet that waits for SQLite, or whose job "
                "computes, would stop all others, and the dispatcher. Leave schedfactory to a process that is not patched.",
                str(path),
            )


def writable_by_others(path: Path) -> list[Path]:
    """Return which of the database's files, and its folder, people outside its owner's group may write to."""
    found = []
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-nodes"), path.parent):
        try:
            mode = file.stat().st_mode
        except OSError:  # not there, as the log of a file that is closed
            continue
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:  # as /tmp has: others cannot put another file in its place
            found.append(file)
    return found


def refuse_unsafe(path: Path) -> None:
    """Let pass only file systems whose locks can be trusted.

    Raises:
        UnsafeFilesystem: a network share, or a file system in user space that is not known to be local.
    """
    try:
        device = path.parent.stat().st_dev
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return  # no Linux, or no such folder, which opening the file will say
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        if before.split()[2] == wanted:
            kind = after.split()[0]
            if kind in _REMOTE or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE):
                raise UnsafeFilesystem(
                    f"{path} lies on {kind}, whose locks cannot be trusted. Pass a path on a local disk.",
                    str(path),
                )
            return
