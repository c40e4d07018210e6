"""Moments as text: sorted as they follow one another, and read by SQLite's own date functions."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timezone

from hypothesis import given
from hypothesis import strategies as st

from schedfactory.model.clock import optional_stamp, stamp, unstamp

MOMENTS = st.datetimes(timezones=st.just(timezone.utc))


@given(MOMENTS)
def test_a_stored_moment_comes_back(at: datetime) -> None:
    assert unstamp(stamp(at)) == at == unstamp(str(optional_stamp(at)))
    assert optional_stamp(None) is None


@given(MOMENTS, MOMENTS)
def test_stored_moments_sort_as_they_follow_one_another(one: datetime, two: datetime) -> None:
    assert (stamp(one) < stamp(two), stamp(one) == stamp(two)) == (one < two, one == two)


@given(MOMENTS)
def test_sqlite_reads_a_stored_moment(at: datetime) -> None:
    connection = sqlite3.connect(":memory:")
    try:
        (text,) = connection.execute("SELECT strftime('%Y-%m-%dT%H:%M', ?)", (stamp(at),)).fetchone()
    finally:
        connection.close()
    assert text == at.isoformat()[:16]
