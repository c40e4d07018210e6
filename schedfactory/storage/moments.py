"""Moments as the database has them: UTC text of fixed width, which sorts."""

from __future__ import annotations

from datetime import datetime


def stamp(moment: datetime) -> str:
    """Return a moment in UTC as text, to the microsecond.

    >>> from datetime import timezone
    >>> stamp(datetime(2026, 12, 24, 17, tzinfo=timezone.utc))
    '2026-12-24 17:00:00.000000'
    """
    return moment.isoformat(" ", "microseconds")[:26]


def optional_stamp(moment: datetime | None) -> str | None:
    """Return a moment as text, None as it is."""
    return None if moment is None else stamp(moment)


def unstamp(text: str) -> datetime:
    """Return the aware moment of a stored text."""
    return datetime.fromisoformat(text + "+00:00")
