"""Which machine it was."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib import metadata
from pathlib import Path
from typing import Any


def describe(directory: Path) -> dict[str, Any]:
    return {
        "schedfactory": metadata.version("schedfactory"),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "CPUs": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "file system": _file_system(directory.resolve()),
    }


def _file_system(directory: Path) -> str:
    """Name what holds the databases: on a tmpfs a sync costs nothing."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return "unknown"
    found = {Path(point): kind for _, point, kind, *_ in (line.split() for line in mounts.read_text().splitlines())}
    return next(found[place] for place in (directory, *directory.parents) if place in found)
