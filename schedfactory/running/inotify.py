"""Linux tells when a file is written to, without anyone opening it: that would drop SQLite's locks at its close."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from contextlib import suppress
from pathlib import Path

_IN_MODIFY = 0x002
_IN_IGNORED = 0x8000


def watch(path: Path) -> int | None:
    """Return a descriptor that becomes readable when `path` is written to; None where the system cannot say."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "inotify_init1"):
        return None
    descriptor = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    if descriptor < 0:  # the user's limit of watchers is reached
        return None
    if libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_MODIFY) < 0:
        os.close(descriptor)
        return None
    return descriptor


def drain(descriptor: int) -> bool:
    """Take what was told so far; return False once the file is gone, and nothing more will come."""
    is_there = True
    with suppress(BlockingIOError):
        while True:
            told = os.read(descriptor, 65536)
            while told:  # a record: watch, mask, cookie, length of the name that follows
                _, mask, _, length = struct.unpack_from("iIII", told)
                is_there = is_there and not mask & _IN_IGNORED
                told = told[16 + length :]
    return is_there
