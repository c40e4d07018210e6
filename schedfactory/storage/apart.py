"""One move apart from the others of its transaction: what goes wrong with it is its own matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

T = TypeVar("T")


def attempt(conn: Connection, move: Callable[[], T]) -> T | Exception:
    """Return what `move` returns, or the error that it raised, and then nothing of it has happened."""
    try:
        with conn.begin_nested():
            return move()
    except Exception as error:  # noqa: BLE001 - returned
        return error
