"""Arguments go through a real row and a real run: by type they come back as they went in, or nothing is stored."""

from __future__ import annotations

import enum
import itertools
import math
import sys
import typing
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, TypedDict
from zoneinfo import ZoneInfo

import msgspec
import pendulum
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedfactory import NotSerializable, PayloadTooLarge, Scheduler, TaskRegistry
from schedfactory.model.arguments import Arguments

BERLIN = ZoneInfo("Europe/Berlin")
_numbers = itertools.count()


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Address:
    street: str
    moved_in: date


@dataclass
class Person:
    name: str
    address: Address
    tags: set[str] = field(default_factory=set)


@dataclass
class Employee(Person):
    number: int = 0


class Movie(TypedDict):
    title: str
    year: int


class Place(NamedTuple):
    x: float
    y: float


class Order(msgspec.Struct):
    id: uuid.UUID
    price: Decimal


class Account(pydantic.BaseModel):
    id: int
    opened_at: datetime


class Line(pydantic.BaseModel):
    unit_price: int = pydantic.Field(alias="unitPrice")
    left_over: int = pydantic.Field(0, alias="leftOver")


class Basket(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(alias_generator=lambda name: name.upper())
    first_line: Line
    lines: list[Line]


class Written(pydantic.BaseModel):
    value: int = pydantic.Field(serialization_alias="written")


class Named(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)
    value: int = pydantic.Field(validation_alias="read", serialization_alias="written")


class Read(pydantic.BaseModel):
    value: int = pydantic.Field(validation_alias="read", serialization_alias="written")


class Forgetful(pydantic.BaseModel):
    value: int = pydantic.Field(0, validation_alias="read", serialization_alias="written")


LINE = Line(unitPrice=3, leftOver=2)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduler]:
    """One scheduler for many small cases."""
    found = Scheduler(tmp_path_factory.mktemp("arguments") / "jobs.db", durability="normal")
    yield found
    found.close()


def keeper(scheduler: Scheduler, annotation: Any) -> tuple[Any, list[Any]]:
    """Return a task that takes and returns one value of this type, and the list of what it was given."""
    seen: list[Any] = []

    def keep(value):
        seen.append(value)
        return value

    if annotation is not None:
        keep.__annotations__ = {"value": annotation, "return": annotation}
    return scheduler.task(name=f"keep-{next(_numbers)}")(keep), seen


def stored(scheduler: Scheduler) -> int:
    return sum(scheduler.counts().values())


ROUND_TRIPS: list[tuple[Any, Any]] = [
    (str, "Grüße 🙂 \x00 null"),
    (int, 2**70),
    (float, 0.1),
    (float, -0.0),
    (bool, True),
    (None.__class__, None),
    (list, [1, "a", None]),
    (list[int], []),
    (dict, {"a": {"b": [1.5]}}),
    (dict[str, int], {"a": 1}),
    (dict[int, str], {1: "a"}),
    (tuple, (1, "a")),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (set[int], {1, 2}),
    (frozenset[str], frozenset("ab")),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)),
    (datetime, datetime(2026, 1, 2, 3, 4, 5)),
    (datetime, datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=-3, minutes=-30)))),
    (date, date(2026, 2, 28)),
    (time, time(23, 59, 59, 999999)),
    (timedelta, timedelta(days=-1, microseconds=1)),
    (pendulum.DateTime, pendulum.datetime(2026, 1, 2, 3, 4, 5, 6, tz="UTC")),
    (pendulum.DateTime, pendulum.naive(2026, 1, 2, 3)),
    (pendulum.Date, pendulum.date(2026, 2, 28)),
    (pendulum.Time, pendulum.time(23, 59, 59)),
    (pendulum.Duration, pendulum.duration(months=2, days=3, microseconds=7)),
    (pendulum.Interval, pendulum.interval(pendulum.datetime(2026, 1, 1), pendulum.datetime(2026, 2, 1))),
    (uuid.UUID, uuid.UUID("0197c9c4-4c00-7d1e-8f00-0123456789ab")),
    (Decimal, Decimal("0.10")),
    (bytes, bytes(range(256))),
    (Path, Path("/var/mail/a b")),
    (PurePosixPath, PurePosixPath("a/../b")),
    (Colour, Colour.BLUE),
    (Level, Level.LOW),
    (Person, Person("Ada", Address("St James's Square", date(1843, 1, 1)), {"a", "b"})),
    (Movie, {"title": "Metropolis", "year": 1927}),
    (Place, Place(1.0, 2.0)),
    (Order, Order(uuid.UUID(int=7), Decimal("9.90"))),
    (Account, Account(id=1, opened_at=datetime(2026, 1, 1, tzinfo=timezone.utc))),
    (Line, LINE),
    (Basket, Basket(FIRST_LINE=LINE, LINES=[LINE])),
    (dict[str, Line | None], {"a": LINE, "b": None}),
    (Written, Written(value=1)),
    (Named, Named(value=1)),
    (list[Person], [Person("Ada", Address("a", date(1843, 1, 1)))]),
    (dict[str, Account], {"a": Account(id=1, opened_at=datetime(2026, 1, 1, tzinfo=timezone.utc))}),
    (list[pendulum.DateTime], [pendulum.datetime(2026, 1, 1)]),
    (int | None, None),
    (datetime | None, datetime(2026, 1, 1, tzinfo=timezone.utc)),
    (Literal["a", "b"], "b"),
    (typing.Annotated[int, "a count"], 3),
    (Any, {"a": [1, 2.5, "x", True, None]}),
    (None, {"a": [1, 2.5, "x", True, None]}),
]


@pytest.mark.parametrize(("annotation", "value"), ROUND_TRIPS, ids=[str(number) for number in range(len(ROUND_TRIPS))])
def test_an_argument_and_a_result_come_back_as_they_went_in(shared: Scheduler, annotation: Any, value: Any) -> None:
    keep, seen = keeper(shared, annotation)
    job = keep.enqueue(value)
    shared.run_due()
    (back,) = seen
    result = job.refresh().result
    assert (back, type(back)) == (value, type(value))
    assert (result, type(result)) == (value, type(value))
    assert math.copysign(1, back) == math.copysign(1, value) if type(value) is float else True


@pytest.mark.parametrize(
    ("annotation", "value", "back"),
    [
        (timedelta, pendulum.duration(days=1), timedelta(days=1)),
        (timedelta, pendulum.duration(days=-1, microseconds=5), timedelta(days=-1, microseconds=5)),
        (timedelta | None, pendulum.duration(hours=3), timedelta(hours=3)),
        (list[timedelta], [pendulum.duration(weeks=1)], [timedelta(days=7)]),
        (pendulum.Duration, timedelta(days=8, seconds=5, microseconds=7), pendulum.duration(days=8, seconds=5, microseconds=7)),
    ],
)
def test_a_duration_of_one_library_comes_back_as_the_equal_one_of_the_other(
    shared: Scheduler, annotation: Any, value: Any, back: Any
) -> None:
    keep, seen = keeper(shared, annotation)
    keep.enqueue(value)
    shared.run_due()
    assert seen == [back]
    assert type(seen[0]) is type(back)


def test_a_pendulum_duration_is_read_from_rows_that_have_its_parts_or_text(still: Scheduler) -> None:
    keep, seen = keeper(still, pendulum.Duration)
    for value in ({"days": 1, "seconds": 5}, "P1DT5S", {"months": 2}):
        still.remote(keep.name).enqueue(value=value)
    still.run_due()
    day = pendulum.duration(days=1, seconds=5)
    assert seen == [day, day, pendulum.duration(months=2)]


ZONED = [
    datetime(2026, 7, 1, 12, tzinfo=BERLIN),
    pendulum.datetime(2026, 7, 1, 12, tz="Europe/Berlin"),
    datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN),
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN),
    pendulum.datetime(2026, 10, 25, 2, 30, tz="Europe/Berlin"),
    pendulum.datetime(2026, 10, 25, 2, 30, tz="Europe/Berlin", fold=0),
]


@pytest.mark.parametrize("value", ZONED, ids=str)
def test_a_zoned_moment_comes_back_as_the_same_instant_and_offset(shared: Scheduler, value: datetime) -> None:
    keep, seen = keeper(shared, pendulum.DateTime if isinstance(value, pendulum.DateTime) else datetime)
    keep.enqueue(value)
    shared.run_due()
    (back,) = seen
    assert (back.timestamp(), back.utcoffset()) == (value.timestamp(), value.utcoffset())


@given(
    st.dictionaries(
        st.text(),
        st.lists(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()),
    ),
    st.datetimes(timezones=st.sampled_from([timezone.utc, timezone(timedelta(hours=5, minutes=45))])),
    st.decimals(allow_nan=False),
    st.binary(),
)
def test_any_value_of_its_type_comes_back(plain: Any, at: datetime, price: Decimal, data: bytes) -> None:
    def take(plain, at: datetime, price: Decimal, data: bytes) -> None: ...

    arguments = Arguments(take)
    text = arguments.dumps(arguments.bind((plain, at, price), {"data": data}))
    args, kwargs = arguments.loads(text)
    assert args == []
    assert kwargs == {"plain": plain, "at": at, "price": price, "data": data}


def test_every_way_to_take_parameters_comes_back(still: Scheduler) -> None:
    seen: list[Any] = []

    @still.task(name="take")
    def take(first: int, /, second: date, *rest: Decimal, named: str = "n", **more: Path) -> None:
        seen.append((first, second, rest, named, more))

    day = date(2026, 1, 1)
    full = take.enqueue(1, day, Decimal("2.0"), Decimal("3"), named="x", first=Path("f"), other=Path("o"))
    least = take.enqueue(1, second=day)
    assert full.args == {
        "first": 1, "second": "2026-01-01", "rest": ["2.0", "3"], "named": "x", "more": {"first": "f", "other": "o"},
    }  # fmt: skip
    assert least.args == {"first": 1, "second": "2026-01-01"}
    still.run_due()
    assert seen == [
        (1, day, (Decimal("2.0"), Decimal("3")), "x", {"first": Path("f"), "other": Path("o")}),
        (1, day, (), "n", {}),
    ]


def test_a_default_is_not_stored_so_the_codes_newest_one_counts(path: Path) -> None:
    def version(default: int) -> tuple[Scheduler, Any]:
        scheduler = Scheduler(path)

        @scheduler.task(name="count")
        def count(x: int, step: int = default) -> int:
            return x + step

        return scheduler, count

    old, count = version(1)
    jobs = [count.enqueue(1), count.enqueue(1, 1), count.enqueue(1, step=1)]
    assert [job.args for job in jobs] == [{"x": 1}, {"x": 1, "step": 1}, {"x": 1, "step": 1}]
    old.close()
    new, _ = version(10)
    new.run_due()
    assert [new.reload(job.id).result for job in jobs] == [11, 2, 2]
    new.close()


def test_a_parameter_may_have_any_name(still: Scheduler) -> None:
    @still.task(name="own")
    def own(self, cls, function, args, kwargs, name, options, job, uid):
        return [self, cls, function, args, kwargs, name, options, job, uid]

    given = dict(zip(("self", "cls", "function", "args", "kwargs", "name", "options", "job", "uid"), range(9)))
    jobs = [own.enqueue(**given), still.enqueue(own, **given), still.remote("own").enqueue(**given)]
    still.run_due()
    assert [job.refresh().result for job in jobs] == [list(range(9))] * 3
    assert own(**given) == list(range(9))


REFUSED: list[tuple[Any, Any]] = [
    (None, object()),
    (None, (1, 2)),
    (None, {1}),
    (None, {1: 2}),
    (None, b"bytes"),
    (None, datetime(2026, 1, 1, tzinfo=timezone.utc)),
    (None, Path("a")),
    (None, Colour.RED),
    (None, math.nan),
    (None, [1, {"a": math.inf}]),
    (None, "\ud800"),
    (Any, {"a": (1,)}),
    (float, math.nan),
    (float, -math.inf),
    (float, 2**53 + 1),
    (list[float], [1.0, math.nan]),
    (dict[str, float], {"a": math.inf}),
    (Place, Place(0.0, math.nan)),
    (Decimal, Decimal("NaN")),
    (int, "5"),
    (int, True),
    (str, 5),
    (str, b"bytes"),
    (datetime, "2026-01-01T00:00:00Z"),
    (bytes, "text"),
    (timedelta, pendulum.duration(months=1)),
    (pendulum.Duration, "P1D"),
    (pendulum.Duration, 5),
    (pendulum.Interval, timedelta(days=1)),
    (list[int], (1, 2)),
    (list, OrderedDict(a=1)),
    (Person, Employee("Ada", Address("a", date(1843, 1, 1)), number=7)),
    (Literal["a"], "b"),
    (Callable, print),
    (type, int),
]


@pytest.mark.parametrize(("annotation", "value"), REFUSED, ids=[str(number) for number in range(len(REFUSED))])
def test_what_would_not_come_back_is_refused_by_name_and_not_stored(shared: Scheduler, annotation: Any, value: Any) -> None:
    before = stored(shared)
    try:
        keep, _ = keeper(shared, annotation)
    except TypeError:  # a type that JSON never has may be refused as early as at decoration
        assert annotation in (Callable, type)
        return
    with pytest.raises(NotSerializable, match=r"parameter 'value' of .*keep"):
        keep.enqueue(value)
    with pytest.raises(TypeError, match="value"):
        shared.enqueue_many([keep.call(value)])
    assert stored(shared) == before


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Read(read=1), r"Read cannot be read from its JSON: read: Field required\. It is annotated as .*Read"),
        (Forgetful(read=1), r"it would come back as Forgetful\(value=0\)\. It is annotated as .*Forgetful"),
    ],
)
def test_a_model_that_reads_other_names_than_it_writes_is_refused_in_one_line(shared: Scheduler, value: Any, says: str) -> None:
    keep, _ = keeper(shared, type(value))
    with pytest.raises(NotSerializable, match=rf"^parameter 'value' of .*{says}[^\n]*$"):
        keep.enqueue(value)


def test_a_model_is_stored_by_its_fields_names_unless_it_is_read_by_its_aliases_only(still: Scheduler) -> None:
    rows = [keeper(still, type(value))[0].enqueue(value).args["value"] for value in (LINE, Named(value=1), Written(value=1))]
    assert rows == [{"unitPrice": 3, "leftOver": 2}, {"value": 1}, {"value": 1}]


@pytest.mark.parametrize(
    ("annotation", "value", "says"),
    [
        (pendulum.Duration, 5, "Expected `duration`, got `int`"),
        (pendulum.Duration, [1], "Expected `duration`, got `array`"),
        (pendulum.Interval, timedelta(days=1), "Expected `array`, got `str`"),
    ],
)
def test_what_is_no_pendulum_duration_is_refused_with_what_was_expected(
    shared: Scheduler, annotation: Any, value: Any, says: str
) -> None:
    keep, _ = keeper(shared, annotation)
    with pytest.raises(NotSerializable, match=rf"{says}\. It is annotated as .*{annotation.__name__}"):
        keep.enqueue(value)


def test_a_value_too_deep_for_json_is_refused_by_name(still: Scheduler) -> None:
    keep, _ = keeper(still, None)
    deep: list[Any] = []
    for _ in range(sys.getrecursionlimit() * 2):
        deep = [deep]
    loop: list[Any] = []
    loop.append(loop)
    for value in (deep, loop):
        with pytest.raises(NotSerializable, match="parameter 'value'"):
            keep.enqueue(value)
    assert stored(still) == 0


@pytest.mark.parametrize(
    ("args", "kwargs", "why"),
    [
        ((), {}, "missing a required argument: 'x'"),
        ((1, 2, 3), {}, "too many positional"),
        ((1,), {"x": 2}, "multiple values for argument 'x'"),
        ((1,), {"z": 2}, "unexpected keyword argument 'z'"),
        ((), {"y": 2}, "missing a required argument: 'x'"),
    ],
)
def test_arguments_that_do_not_bind_are_a_type_error_at_enqueue(still: Scheduler, args: Any, kwargs: Any, why: str) -> None:
    @still.task(name="add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    with pytest.raises(TypeError, match=rf"add\(x: .*int.*, y: .*int.* = 0\).*{why}"):
        add.enqueue(*args, **kwargs)
    assert stored(still) == 0


@pytest.mark.parametrize(
    "annotation",
    [
        str | datetime,
        datetime | date,
        list[int] | tuple[int, ...],
        Person | Address,
        dict[str, int] | Person,
        list[str | uuid.UUID],
    ],
    ids=str,
)
def test_an_annotation_that_json_cannot_tell_apart_is_a_type_error_at_decoration(annotation: Any) -> None:
    tasks = TaskRegistry()
    with pytest.raises(TypeError, match=r"parameter 'value' of .*keep"):
        keeper(tasks, annotation)
    assert tasks.names() == ()


early = TaskRegistry()


@early.task(name="early")
def early_bird(value: Later, others: list[Later]) -> Later:
    return Later(value.number + sum(other.number for other in others))


@dataclass
class Later:
    number: int


def test_an_annotation_may_name_what_is_defined_further_down(still: Scheduler) -> None:
    still.include(early)
    job = early_bird.enqueue(Later(1), [Later(2), Later(3)])
    still.run_due()
    assert job.refresh().result == Later(6)


if typing.TYPE_CHECKING:
    from nowhere import Missing


def test_an_annotation_that_never_resolves_is_a_type_error_at_enqueue(still: Scheduler) -> None:
    @still.task(name="take")
    def take(value: Missing) -> None: ...

    with pytest.raises(TypeError, match="Missing"):
        take.enqueue(1)
    assert stored(still) == 0


def test_a_return_annotation_that_never_resolves_leaves_the_result_plain(still: Scheduler) -> None:
    @still.task(name="give")
    def give(value: date) -> Missing:
        return [value]

    job = give.enqueue(date(2026, 1, 1))
    still.run_due()
    assert job.refresh().result == ["2026-01-01"]


def test_the_encoded_arguments_may_be_as_large_as_max_payload_and_no_larger(path: Path) -> None:
    scheduler = Scheduler(path, max_payload=20)
    keep, _ = keeper(scheduler, str)
    assert len('{"value":"12345678"}') == 20
    keep.enqueue("12345678")
    for call in (keep.call("123456789"), keep.call("ÄÖÜ678")):
        with pytest.raises(PayloadTooLarge, match="have 21 bytes, over max_payload=20"):
            scheduler.enqueue_many([keep.call("1"), call])
    with pytest.raises(PayloadTooLarge):
        scheduler.remote("elsewhere").enqueue(value="123456789")
    assert stored(scheduler) == 1
    scheduler.close()


def test_a_result_that_does_not_keep_to_its_annotation_is_plain_json(still: Scheduler) -> None:
    @still.task(name="lie")
    def lie() -> int:
        return ["not", "one"]

    job = lie.enqueue()
    still.run_due()
    assert job.refresh().result == ["not", "one"]


@pytest.mark.parametrize(
    ("give", "says"),
    [(lambda: object(), "NotSerializable"), (lambda: math.nan, "NotSerializable"), (lambda: "x" * 101, "PayloadTooLarge")],
)
def test_a_result_that_cannot_be_stored_fails_the_job(path: Path, give: Any, says: str) -> None:
    scheduler = Scheduler(path, max_result=100)

    @scheduler.task(name="give", retry=5)
    def task() -> Any:
        return give()

    job = task.enqueue()
    scheduler.run_due()
    job = job.refresh()
    assert (job.status, job.reason, job.result, job.attempt) == ("failed", "result", None, 1)
    assert job.error is not None
    assert job.error.startswith(says)
    scheduler.close()
