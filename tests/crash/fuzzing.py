"""What the fuzz tests share: values that nobody meant, rows that nobody wrote so, and what may come of them.

Documented is an error of the library's tree, or a ValueError or TypeError whose message names the option or the value.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from schedfactory import SchedfactoryError

T = TypeVar("T")
UTC = timezone.utc


def examples(number: int, factor: int) -> settings:
    """So many examples, other ones in each run; a failure prints what repeats it."""
    return settings(
        max_examples=number * factor,
        derandomize=False,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


class Asked:
    """Counts what was asked, and what was refused as documented; anything else is raised."""

    def __init__(self) -> None:
        self.times = 0
        self.refused = 0

    def __call__(self, name: str, call: Callable[[], T]) -> T | None:
        """Call, and return its value; None where it was refused. The message of a plain error must hold `name`."""
        self.times += 1
        try:
            return call()
        except SchedfactoryError:
            self.refused += 1
        except (ValueError, TypeError) as error:
            if name not in str(error):
                raise AssertionError(f"a message that does not name {name}: {error!r}") from error
            self.refused += 1
        return None


# Values


def one_of(*strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(strategies)


_EDGES = (0, 1, -1, 2, 100, 101, -101, 2**31, 2**32, 2**53, 2**63 - 1, -(2**63))
# All of Unicode, lone surrogates too, and plain words.
texts = st.text(st.characters(), max_size=40) | st.text("aZ0 _.:*/-\n", max_size=300)
numbers = one_of(st.integers(), st.sampled_from(_EDGES), st.floats(), st.decimals(), st.just(10**400))
anything = one_of(
    st.none(), st.booleans(), numbers, texts, st.binary(max_size=9), st.lists(one_of(texts, st.integers()), max_size=3),
    st.dictionaries(texts, st.integers(), max_size=2), st.datetimes(), st.datetimes(timezones=st.just(UTC)), st.dates(),
    st.timedeltas(), st.tuples(st.integers(), texts), st.builds(object), st.sampled_from((len, int, 1j, {1}, b"", ...)),
)  # fmt: skip
durations = anything | st.from_regex(r"(\s?-?\d{1,400}(\.\d{0,9})?(ms|s|m|h|d|w|y|M|S|)){0,4}\n?", fullmatch=True)
moments = anything | st.from_regex(
    r"\d{1,5}-\d\d-\d\d([T ]\d\d(:\d\d(:\d\d([.,]\d{0,9})?)?)?)?(Z|[+-]\d\d(:?\d\d(:\d\d)?)?|)", fullmatch=True
)
_leaves = one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=30))
json_values = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
)
# What a shell can hand over: no NUL, and bytes that are no UTF-8 as Python shows them. No folder, which would be made.
words = st.binary(max_size=20).map(lambda data: data.replace(b"\0", b"").replace(b"/", b"").decode("utf-8", "surrogateescape"))


def nested(depth: int, as_list: bool) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if as_list else {"in": value}
    return value


# Rows

_TEXT = (
    "uid", "task", "queue", "status", "reason", "args", "tags", "run_at", "expires_at", "retry", "on_crash",
    "progress_message", "error",
)  # fmt: skip
_TIMES = ("created_at", "started_at", "finished_at", "cancel_requested_at")
_INTEGER = (
    "priority", "attempt", "failures", "crashes", "snoozes", "fence", "max_attempts", "timeout_ms", "node", "worker",
    "leftover",
)  # fmt: skip
_stamps = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 31)).map(lambda at: at.isoformat(" ", "microseconds"))
_words = st.sampled_from(
    ("noop", "boom", "default", "queued", "scheduled", "running", "waiting", "succeeded", "failed", "cancelled", "fail",
     "requeue", "{}", "[]", "null", "1", '{"x":1}', '{"backoff":"linear"}', '{"base":-1}', '{"cap":1e308}', '{"jitter":[]}',
     '{"max_attempts":3}', '{"on":[]}', '{"x":' * 3_000, "[" * 3_000 + "]" * 3_000, "NaN", "", " ")
)  # fmt: skip
_text = one_of(_words, _stamps, st.text(max_size=20), st.none()).map(lambda value: ("?", value)) | one_of(
    st.binary(max_size=12), _stamps.map(lambda at: at.encode() + b"\0x")
).map(lambda data: ("CAST(? AS TEXT)", data))
_integers = one_of(st.integers(-9, 9), st.sampled_from(_EDGES), st.integers(-(2**63), 2**63 - 1), st.none())
_values: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(_TEXT, _text),
    **dict.fromkeys(_TIMES, _text),
    **dict.fromkeys(_INTEGER, _integers.map(lambda value: ("?", value))),
    "progress": st.floats().map(lambda value: ("?", value)),
    "result": _text,
}

Edit = dict[str, tuple[str, Any]]
edits: st.SearchStrategy[Edit] = st.lists(st.sampled_from(sorted(_values)), min_size=1, max_size=4, unique=True).flatmap(
    lambda columns: st.fixed_dictionaries({column: _values[column] for column in columns})
)


def apply(path: Path, edit: Edit, job_id: int | None) -> bool:
    """Change a row by SQL, or insert one; return whether the table took it."""
    values = [value for _, value in edit.values()]
    if job_id is None:
        sql = f"INSERT INTO schedfactory_jobs ({', '.join(edit)}) VALUES ({', '.join(how for how, _ in edit.values())})"
    else:
        sql = f"UPDATE schedfactory_jobs SET {', '.join(f'{name} = {how}' for name, (how, _) in edit.items())} WHERE id = ?"
        values.append(job_id)
    with closing(sqlite3.connect(path, timeout=20)) as connection, connection:
        try:
            connection.execute(sql, values)
        except sqlite3.IntegrityError:
            return False
    return True
