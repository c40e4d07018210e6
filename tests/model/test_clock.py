"""Durations and moments: what people may write, and what is refused with a message that helps."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import freezegun
import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedfactory.model.clock import duration, moment, to_pendulum

BERLIN = ZoneInfo("Europe/Berlin")
SIX_IN_BERLIN = datetime(2026, 12, 24, 17, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("500ms", 0.5),
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("1.5h", 5400),
        (" 10m ", 600),
        (0, 0),
        (90, 90),
        (0.25, 0.25),
        (timedelta(minutes=10), 600),
        (pendulum.duration(hours=1, minutes=30), 5400),
        (pendulum.duration(weeks=1), 604_800),
        (pendulum.datetime(2026, 3, 1) - pendulum.datetime(2026, 1, 1), 59 * 86_400),
    ],
)
def test_a_duration_is_text_seconds_or_an_object_of_either_library(given: object, seconds: float) -> None:
    found = duration(given)
    assert type(found) is timedelta
    assert found.total_seconds() == seconds


@pytest.mark.parametrize(
    "given",
    [
        "90",
        "",
        "soon",
        "10 minutes",
        "1y",
        "-5s",
        "1h-5m",
        "9" * 400 + "d",
        -1,
        float("nan"),
        float("inf"),
        1e30,
        timedelta(seconds=-1),
        timedelta(days=400_000),
        pendulum.duration(months=1),
        pendulum.duration(years=1, days=3),
    ],
)
def test_a_bad_duration_is_a_value_error_that_names_it_and_shows_good_ones(given: object) -> None:
    with pytest.raises(ValueError, match=r'^delay=.*"1h30m"'):
        duration(given, "delay")


@pytest.mark.parametrize("given", [None, True, [1], date(2026, 1, 1), b"10m"])
def test_what_is_no_length_of_time_is_a_type_error(given: object) -> None:
    with pytest.raises(TypeError, match=r"^lock_timeout="):
        duration(given, "lock_timeout")


@pytest.mark.parametrize("given", ["1M", "1MS", "10H", "1h\n", "1m\t", "\uff11h", "\u0663s", "1h 30m"])
def test_text_with_a_capital_unit_or_anything_beside_digits_and_units_is_no_duration(given: str) -> None:
    with pytest.raises(ValueError, match=r'^delay=.* is not understood.*"1h30m"'):
        duration(given, "delay")


@given(st.timedeltas(timedelta(), timedelta(days=365_000)))
def test_a_timedelta_stays_what_it_is(length: timedelta) -> None:
    assert duration(length) == length
    assert duration(pendulum.duration(seconds=length.total_seconds())) == timedelta(seconds=length.total_seconds())


@given(st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(["ms", "s", "m", "h", "d", "w"])), min_size=1, max_size=6))
def test_the_parts_of_a_text_add_up(parts: list[tuple[int, str]]) -> None:
    units = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    whole = sum((timedelta(**{units[unit]: number}) for number, unit in parts), timedelta())
    found = duration("".join(f"{number}{unit}" for number, unit in parts))
    assert abs(found - whole) <= timedelta(microseconds=1)


@pytest.mark.parametrize(
    "given",
    [
        datetime(2026, 12, 24, 18, tzinfo=BERLIN),
        pendulum.datetime(2026, 12, 24, 18, tz="Europe/Berlin"),
        pendulum.datetime(2026, 12, 24, 17),
        "2026-12-24T18:00:00+01:00",
        " 2026-12-24 17:00:00Z ",
        "20261224T170000+00:00",
    ],
)
def test_a_moment_is_an_aware_datetime_of_either_library_or_iso_text(given: datetime | str) -> None:
    found = moment(given)
    assert (type(found), found, found.tzinfo) == (datetime, SIX_IN_BERLIN, timezone.utc)


def test_both_hours_of_an_autumn_night_are_told_apart() -> None:
    first = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)
    assert moment(first.replace(fold=1)) - moment(first) == timedelta(hours=1)


@pytest.mark.parametrize(
    "given", [datetime(2026, 12, 24, 18), pendulum.naive(2026, 12, 24, 18), "2026-12-24T18:00:00", "2026-12-24"]
)
def test_a_naive_moment_is_a_value_error_that_says_how_to_fix_it(given: datetime | str) -> None:
    with pytest.raises(ValueError, match=r"^run_at=2026-12-24.* no time zone.*pendulum\.datetime\(…, tz=…\).*\+01:00"):
        moment(given)


@pytest.mark.parametrize("given", ["tomorrow", "", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00+00:00", "18:00+01:00"])
def test_text_that_is_no_moment_is_a_value_error_that_names_it(given: str) -> None:
    with pytest.raises(ValueError, match=r"^expires='.*aware datetime"):
        moment(given, "expires")


@pytest.mark.parametrize("given", [None, 1_767_225_600, date(2026, 1, 1), pendulum.date(2026, 1, 1), b"2026-01-01T00:00Z"])
def test_what_is_neither_a_datetime_nor_text_is_a_type_error(given: object) -> None:
    with pytest.raises(TypeError, match=r"^run_at="):
        moment(given)


@pytest.mark.parametrize("given", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_moment_outside_of_the_calendar_is_a_value_error_that_names_it(given: str) -> None:
    with pytest.raises(ValueError, match=f"^expires={re.escape(given)} lies outside the years 1 to 9999"):
        moment(given, "expires")


@given(
    st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31)),
    st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_a_moment_is_the_same_instant_however_it_is_written(local: datetime, zone: timezone) -> None:
    at = local.replace(tzinfo=zone)
    found = moment(at)
    assert found == at == moment(at.isoformat()) == moment(pendulum.instance(at)) == to_pendulum(found)
    assert moment(to_pendulum(found)) == found
    assert to_pendulum(found).timezone_name == "UTC"


def test_a_frozen_time_is_a_moment_like_any_other() -> None:
    with freezegun.freeze_time("2026-12-24 17:00:00"):
        assert moment(datetime.now(timezone.utc)) == SIX_IN_BERLIN
