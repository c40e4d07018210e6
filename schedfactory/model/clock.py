"""Moments and durations: what people write, as the two types the rest of the house uses, and as the database has them.

Inside, a moment is an aware standard `datetime` in UTC (0.2 µs to read, where pendulum takes 6) and a duration
is a `timedelta`. People get pendulum's types back; `to_pendulum` is the door.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pendulum

UTC = timezone.utc
Clock = Callable[[], datetime]
Moment = datetime | str
DurationLike = timedelta | float | str

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_LONGEST = timedelta(days=365_000)


class Monotonic:
    """The steady clock. Held in a class, because freezegun replaces module-level names for `time.monotonic`."""

    now = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)


def system_clock() -> datetime:
    """Return the host's time, aware, in UTC."""
    return datetime.now(UTC)


def duration(value: DurationLike, what: str = "duration") -> timedelta:
    """Return `value` as a `timedelta`: one of those, pendulum's, a number of seconds, or text such as "1h30m".

    Raises:
        ValueError: text without a unit, an unknown unit, a negative or endless length, months and years.
        TypeError: something that is no length of time at all.

    >>> duration("1h30m")
    datetime.timedelta(seconds=5400)
    >>> duration(0.5)
    datetime.timedelta(microseconds=500000)
    """
    if isinstance(value, timedelta):
        found = _from_timedelta(value, what)
    elif isinstance(value, str):
        found = _from_text(value, what)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        found = _from_seconds(value, what)
    else:
        raise TypeError(f"{what}={value!r} is no length of time. {_EXAMPLES}")
    if found < timedelta():
        raise ValueError(f"{what}={value!r} is negative. {_EXAMPLES}")
    if found > _LONGEST:
        raise ValueError(f"{what}={value!r} is over a thousand years. {_EXAMPLES}")
    return found


_EXAMPLES = 'Pass a timedelta, a number of seconds, or text such as "500ms", "90s", "10m", "1h30m" or "7d".'


def _from_timedelta(value: timedelta, what: str) -> timedelta:
    if isinstance(value, pendulum.Duration) and not isinstance(value, pendulum.Interval) and (value.years or value.months):
        raise ValueError(f"{what}={value!r} has months or years, whose length varies. {_EXAMPLES}")
    return timedelta(value.days, value.seconds, value.microseconds) if type(value) is not timedelta else value


def _from_text(value: str, what: str) -> timedelta:
    text = value.strip(" ")
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{what}={value!r} is not understood. {_EXAMPLES}")
    return _from_seconds(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)), what, value)


def _from_seconds(seconds: float, what: str, value: object = None) -> timedelta:
    try:
        return timedelta(seconds=seconds)
    except (OverflowError, ValueError) as error:
        raise ValueError(f"{what}={seconds if value is None else value!r} is no usable length of time. {_EXAMPLES}") from error


def moment(value: Moment, what: str = "run_at") -> datetime:
    """Return `value` as an aware `datetime` in UTC: a datetime, pendulum's, or ISO text, each with its offset.

    Raises:
        ValueError: no time zone or offset, or text that is no moment.
        TypeError: neither a datetime nor text.

    >>> moment("2026-12-24T18:00:00+01:00")
    datetime.datetime(2026, 12, 24, 17, 0, tzinfo=datetime.timezone.utc)
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise ValueError(
                f'{what}={value!r} is no moment. Pass an aware datetime or ISO text such as "2026-12-24T18:00:00+01:00".'
            ) from error
    if not isinstance(value, datetime):
        raise TypeError(
            f"{what}={value!r} is no moment. Pass an aware datetime, a pendulum DateTime or ISO text with an offset."
        )
    if value.utcoffset() is None:
        raise ValueError(
            f"{what}={value.isoformat()} has no time zone, so its moment is ambiguous. "
            "Pass pendulum.datetime(…, tz=…) or add an offset such as +01:00."
        )
    return standard(value, what)


def standard(value: datetime, what: str = "moment") -> datetime:
    """Return an aware datetime of any class as the standard one, in UTC."""
    try:
        moved = value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(
            f"{what}={value.isoformat()} lies outside the years 1 to 9999 in UTC. Pass a moment within them."
        ) from error
    return datetime(moved.year, moved.month, moved.day, moved.hour, moved.minute, moved.second, moved.microsecond, tzinfo=UTC)


def to_pendulum(value: datetime) -> pendulum.DateTime:
    """Return a moment as people get it: pendulum's `DateTime`, in UTC."""
    return pendulum.DateTime(
        value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, tzinfo=pendulum.UTC
    )


def stamp(moment: datetime) -> str:
    """Return a moment in UTC as the database has it: text of fixed width, to the microsecond, which sorts.

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


def unstamp_or_none(text: str) -> datetime | None:
    """Return the aware moment of a stored text; None for what is none, such as damaged text."""
    try:
        return unstamp(text)
    except ValueError:
        return None
