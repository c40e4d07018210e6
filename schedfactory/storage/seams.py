"""Where a feature joins in."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection


class Feature(Protocol):
    """A guest in the journey of jobs. Its method runs inside a write transaction, which the caller commits."""

    def tick(self, conn: Connection, now: datetime) -> datetime | None:
        """Do what is due, a little of it, and return when to be called again; None: never."""
        ...
