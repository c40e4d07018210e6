"""`Unique`, and the keys that calls make: equal calls make equal ones, and different calls never do."""

from __future__ import annotations

import enum
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pendulum
import pytest

from schedfactory import DuplicateJob, RemoteTask, Task, Unique
from schedfactory.model import keys
from schedfactory.model.options import Options


@dataclass
class Account:
    name: str
    roles: set[str]


class Plan(enum.Enum):
    FREE = "free"


def work(x: Any, y: int = 1, *rest: int, deep: bool = False, **more: Any) -> None: ...


def keyed(unique: Any, function: Callable[..., Any] = work) -> Callable[..., str | None]:
    """Return what gives the key of a call of `function`."""
    task = Task(function, name="work", unique=unique)
    return lambda *args, **kwargs: task.call(*args, **kwargs).unique_key


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"key": "sync:{"}, ValueError, "unique='sync:{' is no key template"),
        ({"key": ""}, ValueError, "cannot be stored"),
        ({"key": "{x!r}"}, ValueError, "conversions have no place"),
        ({"key": "{x.y}"}, ValueError, "'x.y' is no parameter's name"),
        ({"key": 7}, TypeError, "unique=7 is no key.*True"),
        ({"until": "ended"}, ValueError, "until='ended' is unknown.*\"started\""),
        ({"on_conflict": "skip"}, ValueError, "on_conflict='skip' is unknown.*debounce"),
        ({"on_conflict": "replace"}, ValueError, 'on_conflict="replace".*needs until="started"'),
        ({"on_conflict": "debounce"}, ValueError, 'on_conflict="debounce".*needs until="started"'),
        ({"until": "started", "max_wait": "5m"}, ValueError, "max_wait='5m' is for on_conflict=\"debounce\" only"),
        ({"within": "10"}, ValueError, "within='10' is not understood"),
        ({"within": 0}, ValueError, "within=0 is no time at all"),
        ({"until": "started", "on_conflict": "debounce", "max_wait": -1}, ValueError, "max_wait=-1 is negative"),
    ],
)
def test_a_bad_unique_is_refused_when_it_is_made(given: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Unique(**given)


def test_a_template_that_names_no_parameter_is_refused_at_the_decoration_and_by_options() -> None:
    with pytest.raises(ValueError, match=r"unique='sync:{id}': 'id' is no parameter's name. There are: x, y"):
        keyed("sync:{id}")
    with pytest.raises(ValueError, match="'id' is no parameter's name"):
        Task(work, name="work").options(unique=Unique("sync:{id}"))


@pytest.mark.parametrize("bad", [7, b"x", ["x"], Options])
def test_unique_takes_a_bool_a_template_or_a_unique_only(bad: Any) -> None:
    with pytest.raises(TypeError, match="is no key"):
        Task(work, name="work", unique=bad)


def test_a_remote_task_refuses_a_bad_template_when_the_option_is_given() -> None:
    remote = RemoteTask("work", None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is no key template"):
        remote.options(unique="{x")
    with pytest.raises(ValueError, match="the argument 'y' was not given"):
        remote.options(unique="{x}:{y}").call(x=1)


def test_durations_of_a_unique_are_timedeltas() -> None:
    found = Unique("a", until="started", within="10m", on_conflict="debounce", max_wait="1h")
    assert (found.within, found.max_wait) == (found.window, found.longest) == (timedelta(minutes=10), timedelta(hours=1))


def test_without_unique_a_call_has_no_key_and_false_takes_it_away() -> None:
    task = Task(work, name="work", unique=True)
    assert Task(work, name="work").call(1).unique_key is None
    assert task.options(unique=False).call(1).unique_key is None
    assert task.options(unique=None, priority=3).call(1).unique_key == '{"x":1}'
    assert task.options(unique=False).options(unique="k").call(1).unique_key == "k"


def test_true_means_all_arguments_however_the_call_is_written() -> None:
    key = keyed(True)
    assert key(1) == key(x=1) == key(1, 1) == key(1, y=1, deep=False) == '{"x":1}'
    assert len({key(1), key(2), key(1, 2), key(1, 1, 5), key(1, deep=True), key(1, z=None), key("1"), key([1])}) == 8


def test_a_bool_is_not_the_number_that_python_takes_it_for() -> None:
    def flag(x: Any = 1) -> None: ...

    key = keyed(True, flag)
    assert key() == key(1) != key(True)


def test_the_order_of_keys_and_sets_does_not_matter() -> None:
    def typed(x: set[str], y: Any = None) -> None: ...

    key = keyed(True, typed)
    assert key({"a", "b", "c"}, {"p": 1, "q": [1, 2]}) == key({"c", "b", "a"}, {"q": [1, 2], "p": 1})
    assert key({"a"}, [1, 2]) != key({"a"}, [2, 1])
    assert keyed("{y}", typed)({"a"}, {"p": 1, "q": 2}) == keyed("{y}", typed)({"a"}, {"q": 2, "p": 1})


def test_a_key_is_the_same_in_every_process() -> None:
    program = """
        from pydantic import BaseModel
        from schedfactory import Task
        class Group(BaseModel):
            names: set[str]
        def work(names: set[str], group: Group) -> None: ...
        names = {"ada", "grace", "edsger", "barbara", "donald", "tony"}
        print(Task(work, name="work", unique=True).call(names, Group(names=names)).unique_key)
    """
    lines = [line[8:] for line in program.splitlines()]
    found = {
        subprocess.run(
            [sys.executable, "-c", "\n".join(lines)],
            env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
        ).stdout
        for seed in "123"
    }  # fmt: skip
    assert len(found) == 1
    assert "ada" in found.pop()


def test_values_that_a_worker_gets_alike_make_one_key() -> None:
    def typed(x: float = 0, at: datetime | None = None) -> None: ...

    for unique in (True, "{x}:{at}"):
        key = keyed(unique, typed)
        assert key() == key(0) == key(0.0)
        assert key(2) == key(2.0) != key(2.5)
        moment = datetime(2026, 1, 2, tzinfo=timezone.utc)
        assert key(1, moment) == key(1, pendulum.instance(moment))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a b", "a b"),
        (7, "7"),
        (0.5, "0.5"),
        (None, "null"),
        (True, "true"),
        ([1, "a"], '[1,"a"]'),
        ({"b": 1, "a": 2}, '{"a":2,"b":1}'),
        ("", ""),
        ('"', '"'),
        ("{x}", "{x}"),
        ("Zürich", "Zürich"),
    ],
)
def test_a_value_stands_in_a_key_as_text_or_as_json(value: Any, shown: str) -> None:
    assert keyed("sync:{x}")(value) == f"sync:{shown}"


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        (UUID, UUID(int=7), str(UUID(int=7))),
        (Path, Path('a"b'), 'a"b'),
        (Plan, Plan.FREE, "free"),
        (Decimal, Decimal("1.50"), "1.50"),
        (Account, Account("ada", {"b", "a"}), '{"name":"ada","roles":["a","b"]}'),
    ],
)
def test_a_typed_value_stands_in_a_key_as_in_the_row(kind: Any, value: Any, shown: str) -> None:
    def typed(x: Any) -> None: ...

    typed.__annotations__["x"] = kind
    assert keyed("{x}", typed)(value) == shown


def test_a_template_sees_defaults_braces_and_text_only() -> None:
    assert keyed("{{{x}}}-{y}")(5) == "{5}-1"
    assert keyed("the only one")(5) == keyed("the only one")(6) == "the only one"


@pytest.mark.parametrize("template", ["{x}:{y}", "{x}{y}", "{x}-{y}-", "{x}::{y}", 'n"{x}"{y}'])
def test_no_two_sets_of_values_make_one_key(template: str) -> None:
    def pair(x: Any, y: Any) -> None: ...

    values = [
        "",
        "a",
        "a:",
        ":a",
        "a:b",
        ":",
        "::",
        "-",
        "a-b",
        '"',
        '"a"',
        '"a":',
        "1",
        1,
        12,
        -1,
        "12",
        None,
        [1],
        ["a:b"],
        {},
    ]
    key = keyed(template, pair)
    made: dict[str | None, set[str]] = {}
    for x in values:
        for y in values:
            made.setdefault(key(x, y), set()).add(repr((str(x).replace("None", "null"), str(y).replace("None", "null"))))
    assert [found for found in made.values() if len(found) > 1] == []


def test_the_last_value_of_a_template_needs_no_quotes() -> None:
    def page(site: str, url: str) -> None: ...

    assert keyed("{site}:{url}", page)("a", "https://example.org") == "a:https://example.org"
    assert keyed("{site}:{url}", page)("a:b", "c") == '"a:b":c'


def test_a_long_key_is_cut_and_stays_different() -> None:
    key = keyed("{x}")
    longest = key("x" * keys.LONGEST)
    assert longest == "x" * keys.LONGEST
    found = {key("x" * 10_000 + tail) for tail in ("", "a", "b")}
    assert len(found) == 3
    assert {len(one or "") for one in found} == {keys.LONGEST}
    assert {(one or "")[:100] for one in found} == {"x" * 100}


def test_arguments_of_which_no_key_can_be_made_are_refused() -> None:
    def mixed(x: set[int | str]) -> None: ...

    with pytest.raises(ValueError, match=r"no key can be made of these arguments.*Name those that matter"):
        keyed(True, mixed)({1, "a"})
    with pytest.raises(ValueError, match=r"x=.* cannot stand in a key"):
        keyed("{x}", mixed)({1, "a"})

    def odd(x: int = 1, hidden: Any = object()) -> None: ...  # noqa: B008 - what a default may be

    assert keyed(True, odd)(1) == "{}"
    with pytest.raises(ValueError, match=r"hidden=<object.* cannot stand in a key"):
        keyed("{hidden}", odd)(1)


def test_a_duplicate_job_survives_a_pickle_with_all_it_says() -> None:
    error = pickle.loads(pickle.dumps(DuplicateJob("taken", "work", "k", 7)))
    assert (str(error), error.task, error.unique_key, error.job_id) == ("taken", "work", "k", 7)
