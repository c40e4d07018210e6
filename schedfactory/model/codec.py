"""Values to JSON and back, by their types. msgspec does the work; this adds pendulum, paths and pydantic.

Nothing is ever pickled, and nothing in a row names code: types come from the annotations of registered functions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path, PurePath
from typing import Any, TypeVar, cast

import msgspec
import pendulum

from schedfactory.model.clock import UTC

T = TypeVar("T")
DEEPEST = 500  # levels that any thread of any Python can read, however deep its own stack
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"')
_BRACKETS = re.compile(rb"[\[{\]}]")


def encode(value: object) -> str:
    """Return `value` as JSON text.

    Raises:
        TypeError: JSON cannot hold it, or would turn a NaN or an infinity into `null`.
    """
    if value is None:
        return "null"
    try:
        data = _ENCODER.encode(value)
        if len(data) > DEEPEST and data.count(b"[") + data.count(b"{") > DEEPEST:
            _refuse_deep(data)
        if b"null" in data:
            _refuse_endless(msgspec.to_builtins(value, enc_hook=_to_json))
        return data.decode()
    except TypeError:
        raise
    except Exception as error:
        raise TypeError(f"{type(error).__name__}: {error}") from error


def encode_sorted(value: object) -> str:
    """Return the one JSON text of a value, whatever the order of its keys and sets. Raises as `encode`."""
    encode(value)
    return _SORTED.encode(value).decode()


def decoder(kind: Any) -> Callable[[str | bytes], Any]:
    """Return what turns JSON text into a value of the type `kind`.

    Raises:
        TypeError: `kind` is ambiguous in JSON, such as `str | datetime`.
    """
    return cast("Callable[[str | bytes], Any]", msgspec.json.Decoder(kind, dec_hook=_from_json).decode)


decode_plain: Callable[[str | bytes], Any] = msgspec.json.Decoder().decode
UNFIT = (TypeError, ValueError, NameError, msgspec.MsgspecError)  # what reading text raises that an annotation does not fit


def decode_or_none(text: str) -> Any:
    """Return what JSON text holds, None where it is no JSON."""
    try:
        return decode_plain(text)
    except (msgspec.MsgspecError, RecursionError):
        return None


def is_storable(text: str) -> bool:
    """Tell whether text has a form in UTF-8: lone surrogates have none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def same(before: object, after: object) -> bool:
    """Tell whether a value came back as it went in, also where its class defines no equality."""
    try:
        if before == after:
            return True
    except Exception:  # noqa: BLE001 - a user's __eq__ may raise anything; the parts decide below
        pass
    if isinstance(before, datetime) and isinstance(after, datetime) and before.tzinfo and after.tzinfo:
        # In the hour that a zone has twice, Python calls moments of two zones unequal whatever their instant.
        return before.astimezone(UTC) == after.astimezone(UTC) and before.utcoffset() == after.utcoffset()
    if type(before) is not type(after):
        return False
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return before.keys() == after.keys() and all(same(before[key], after[key]) for key in before)
    if isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        return len(before) == len(after) and all(map(same, before, after))
    if is_dataclass(before):
        return all(same(getattr(before, f.name), getattr(after, f.name)) for f in fields(before))
    if isinstance(before, msgspec.Struct):
        return all(same(getattr(before, f), getattr(after, f)) for f in before.__struct_fields__)
    return False


def refuse_unplain(value: object, where: str = "it") -> None:
    """Let pass only what JSON has by itself, as parameters without an annotation must be.

    Raises:
        TypeError: anything else, saying where it stands.
    """
    kind = type(value)
    if value is None or kind in (str, int, float, bool):
        return
    if kind is list:
        for index, item in enumerate(cast("list[object]", value)):
            refuse_unplain(item, f"{where}[{index}]")
    elif kind is dict:
        for key, item in cast("dict[object, object]", value).items():
            if type(key) is not str:
                raise TypeError(f"{where} has the key {key!r}, and JSON's keys are text")
            refuse_unplain(item, f"{where}[{key!r}]")
    else:
        raise TypeError(f"{where} is a {kind.__name__}, which is not one of JSON's own values")


def _refuse_deep(data: bytes) -> None:
    depth = 0
    for sign in _BRACKETS.findall(_STRINGS.sub(b"", data)):
        depth += 1 if sign in b"[{" else -1
        if depth > DEEPEST:
            raise TypeError(f"it is nested deeper than {DEEPEST} levels")


def _refuse_endless(value: object) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{value!r} has no JSON form; pass None or text instead")
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_endless(key)
            _refuse_endless(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_endless(item)


def _to_json(value: Any) -> Any:
    """msgspec's hook for types it does not know (subclasses too: pendulum's and freezegun's of datetime, NumPy's of float)."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (int, float)):
        return int.__int__(value) if isinstance(value, int) else float.__float__(value)
    if isinstance(value, pendulum.Interval):
        return [value.start, value.end]
    if isinstance(value, pendulum.Duration):
        return _duration_parts(value) if value.years or value.months else value.as_timedelta()
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, PurePath):
        return str(value)
    dump = getattr(value, "model_dump", None)
    if dump is not None and not isinstance(value, type):
        return _model_parts(value, dump)
    raise TypeError(f"a {type(value).__name__} cannot be stored as JSON")


def _model_parts(value: Any, dump: Callable[..., Any]) -> Any:
    """Return a pydantic model by the names of its fields or, where it would not come back from these, by their aliases."""
    by_name, by_alias = dump(mode="json"), dump(mode="json", by_alias=True)
    return by_name if by_name == by_alias or _comes_back(value, by_name) else by_alias


def _comes_back(value: Any, parts: Any) -> bool:
    try:
        return same(value, type(value).model_validate(parts))
    except Exception:  # noqa: BLE001 - a user's validators may raise anything; what they say of the aliases is told
        return False


def _from_json(kind: Any, value: Any) -> Any:
    """msgspec's other hook: build a `kind` out of what JSON held."""
    if isinstance(kind, type):
        if issubclass(kind, pendulum.Interval):
            start, end = msgspec.convert(value, tuple[str, str])
            return pendulum.interval(_pendulum_moment(start), _pendulum_moment(end))
        if issubclass(kind, pendulum.Duration):
            return _pendulum_duration(value)
        if issubclass(kind, pendulum.DateTime):
            return _pendulum_moment(value)
        if issubclass(kind, pendulum.Date):
            found = date.fromisoformat(value)
            return pendulum.Date(found.year, found.month, found.day)
        if issubclass(kind, pendulum.Time):
            at = time.fromisoformat(value)
            return pendulum.Time(at.hour, at.minute, at.second, at.microsecond, tzinfo=at.tzinfo)
        if issubclass(kind, (datetime, date, time)):
            return kind.fromisoformat(value)
        if issubclass(kind, PurePath):
            return (Path if kind is PurePath else kind)(value)
        validate = getattr(kind, "model_validate", None)
        if validate is not None:
            return _validated(kind, validate, value)
    raise TypeError(f"{kind!r} cannot be built from JSON")


def _validated(kind: type, validate: Callable[[Any], Any], value: Any) -> Any:
    try:
        return validate(value)
    except ValueError as error:
        errors = getattr(error, "errors", None)  # pydantic's, each of several lines
        if errors is None:
            raise
        said = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in errors())
        raise ValueError(f"{kind.__name__} cannot be read from its JSON: {said}") from error


def _pendulum_moment(text: str) -> pendulum.DateTime:
    # pendulum.parse and pendulum.instance take a naive moment for UTC in silence; a naive one stays naive here.
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        return pendulum.naive(found.year, found.month, found.day, found.hour, found.minute, found.second, found.microsecond)
    return pendulum.instance(found)


def _pendulum_duration(value: Any) -> pendulum.Duration:
    if isinstance(value, dict):
        return pendulum.duration(**msgspec.convert(value, dict[str, int]))
    found = msgspec.convert(value, timedelta)
    return pendulum.duration(days=found.days, seconds=found.seconds, microseconds=found.microseconds)


def _duration_parts(value: pendulum.Duration) -> dict[str, int]:
    rest = value.as_timedelta() - timedelta(days=value.years * 365 + value.months * 30)
    parts = {
        "years": value.years,
        "months": value.months,
        "days": rest.days,
        "seconds": rest.seconds,
        "microseconds": rest.microseconds,
    }
    return {name: number for name, number in parts.items() if number}


_ENCODER = msgspec.json.Encoder(enc_hook=_to_json)


def _to_sortable(value: Any) -> Any:
    """As `_to_json`, but a pydantic model's sets stay sets, which have no order of their own."""
    dump = getattr(value, "model_dump", None)
    if dump is None or isinstance(value, type):
        return _to_json(value)
    try:
        return msgspec.Raw(_SORTED.encode(dump()))
    except TypeError:
        return _to_json(value)


_SORTED = msgspec.json.Encoder(enc_hook=_to_sortable, order="deterministic")
