"""JSON and back: nothing is lost in silence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any

import msgspec
import pendulum
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedfactory.model.codec import decode_plain, decoder, encode, refuse_unplain, same

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(PLAIN)
def test_every_plain_value_comes_back(value: Any) -> None:
    refuse_unplain(value)
    text = encode(value)
    assert same(decode_plain(text), value)
    assert same(decoder(Any)(text), value)


class Point(msgspec.Struct):
    x: float


@dataclass
class Weight:
    kg: float


class Price(pydantic.BaseModel):
    euros: float


ENDLESS = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("number", ENDLESS)
@pytest.mark.parametrize(
    "hold",
    [
        lambda number: number,
        lambda number: [1, [number]],
        lambda number: (None, number),
        lambda number: {"a": {"b": number}},
        lambda number: {number, 1.0},
        Point,
        Weight,
        lambda number: [Price.model_construct(euros=number)],
    ],
)
def test_a_number_without_end_is_refused_wherever_it_hides(number: float, hold: Any) -> None:
    with pytest.raises(TypeError, match="has no JSON form"):
        encode(hold(number))


def test_the_word_null_and_none_are_no_numbers_without_end() -> None:
    assert encode(["null", None]) == '["null",null]'


@pytest.mark.parametrize("value", [object(), 1j, lambda: 1, int, "\ud800", {(1, 2): 3}])
def test_what_json_cannot_hold_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        encode(value)


def test_a_value_that_holds_itself_is_a_type_error() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(TypeError):
        encode(loop)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ((1, 2), "x is a tuple"),
        ([{"a": {1}}], r"x\[0\]\['a'\] is a set"),
        ({1: 2}, "x has the key 1"),
        (datetime(2026, 1, 1, tzinfo=timezone.utc), "x is a datetime"),
        (b"", "x is a bytes"),
        (type("Text", (str,), {})("a"), "x is a Text"),
        (type("Number", (int,), {})(1), "x is a Number"),
    ],
)
def test_what_json_does_not_have_by_itself_is_refused_with_its_place(value: object, where: str) -> None:
    with pytest.raises(TypeError, match=where):
        refuse_unplain(value, "x")


@given(st.integers(-50, 50), st.integers(-50, 50), st.timedeltas(timedelta(days=-5000), timedelta(days=5000)))
def test_a_pendulum_duration_keeps_its_years_and_months(years: int, months: int, rest: timedelta) -> None:
    value = pendulum.duration(years=years, months=months, days=rest.days, seconds=rest.seconds, microseconds=rest.microseconds)
    found = decoder(pendulum.Duration)(encode(value))
    assert (found, found.years, found.months) == (value, value.years, value.months)


class Opaque:
    def __init__(self, value: int) -> None:
        self.value = value


class Stubborn(msgspec.Struct, eq=False):
    value: int


@dataclass(eq=False)
class Plainly:
    value: Any


@dataclass
class Angry:
    value: int

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")


@pytest.mark.parametrize("make", [Stubborn, Plainly, Angry, lambda v: [Stubborn(v)], lambda v: {"a": (Plainly(v),)}])
def test_values_without_an_equality_are_compared_by_their_parts(make: Any) -> None:
    assert same(make(1), make(1))
    assert not same(make(1), make(2))


def test_what_cannot_be_looked_into_is_not_the_same() -> None:
    assert not same(Opaque(1), Opaque(1))
    assert not same(Plainly(1), Stubborn(1))
    assert not same([1], [1, 2])
    assert not same(date(2026, 1, 1), "2026-01-01")
