"""What the harnesses are told by: files that processes append to, and triggers that note what was committed."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

LINE = 128  # bytes; lines of this length cross no page, within which a write is whole even when its process is killed

SECONDS = "(julianday({}) - 2440587.5) * 86400"
_WITNESS = f"""
CREATE TABLE witness (
    seq INTEGER PRIMARY KEY, job INTEGER, was TEXT, became TEXT, fence INTEGER, result TEXT, node INTEGER, at REAL
);
CREATE TRIGGER witness_status AFTER UPDATE OF status, result ON schedfactory_jobs BEGIN
    INSERT INTO witness (job, was, became, fence, result, node, at) VALUES (
        NEW.id, OLD.status, NEW.status, NEW.fence, NEW.result, OLD.node, {SECONDS.format("'now'")}
    );
END;
"""


class Log:
    """A file that many processes append to, each line in one write."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def __call__(self, *words: object) -> None:
        text = " ".join(map(str, words)).replace("\n", " ").encode("ascii", "replace")
        os.write(self._descriptor, text[: LINE - 1].ljust(LINE - 1) + b"\n")


def lines(path: Path) -> list[list[str]]:
    """Return the words of each line."""
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def count(path: Path) -> int:
    """Return how many lines there are, without reading them."""
    return path.stat().st_size // LINE if path.exists() else 0


def bear_witness(database: Path) -> None:
    """Let the database note every committed change of a job's status or result."""
    connection = sqlite3.connect(database, timeout=30)
    connection.executescript(_WITNESS)
    connection.close()


def moment() -> tuple[int, float]:
    """Return now: nanoseconds that all processes of this machine count alike, and seconds as the database has them."""
    return time.monotonic_ns(), time.time()
