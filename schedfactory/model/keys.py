"""Keys made of a job's arguments, such as "sync:{account_id}": what must be unique, and what a limit counts by."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from string import Formatter
from typing import Any

from schedfactory.model import codec

LONGEST = 200  # characters; of a longer key its digest is kept


class KeyTemplate:
    """Text in which `{name}` stands for the argument of that name; `{{` and `}}` are braces.

    Text stands in the key as it is, other values as in JSON. Where that would let two sets of values make the same key, as
    "a:b" and "c" against "a" and "b:c" in "{x}:{y}", the value gets quotes; only text that reads as JSON, such as "1" or
    "null", makes the key of what it reads as.

    Args:
        names: the parameters that there are; None where they are not known, as for a task whose code is elsewhere.
        what: how an error calls it.

    Raises:
        ValueError: an unknown name, or text that is no template.
        TypeError: no text.
    """

    def __init__(self, text: str, names: Collection[str] | None, what: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f'{what}={text!r} is no key template. Pass text such as "sync:{{account_id}}".')
        try:
            parts = list(Formatter().parse(text))
        except ValueError as error:
            raise ValueError(f'{what}={text!r} is no key template ({error}). Pass text such as "sync:{{id}}".') from error
        if any(spec or conversion for _, _, spec, conversion in parts):
            raise ValueError(f'{what}={text!r}: formats and conversions have no place in a key. Write "{{name}}".')
        for _, name, _, _ in parts:
            if name is not None and (not name.isidentifier() or (names is not None and name not in names)):
                there_are = "" if names is None else f" There are: {', '.join(names) or 'none'}."
                raise ValueError(f"{what}={text!r}: {name!r} is no parameter's name.{there_are}")
        if not text or not codec.is_storable(text):
            raise ValueError(f'{what}={text!r} cannot be stored. Pass text such as "sync:{{account_id}}".')
        last = max((index for index, part in enumerate(parts) if part[1] is not None), default=0)
        after = [part[0] for part in parts[1:]]
        self._parts = [
            (before, name, after[index] if index < last else None) for index, (before, name, _, _) in enumerate(parts)
        ]
        self._what = what
        self._text = text

    @property
    def names(self) -> tuple[str, ...]:
        """The arguments that it names."""
        return tuple(dict.fromkeys(name for _, name, _ in self._parts if name is not None))

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the key for these arguments.

        Raises:
            ValueError: an argument that the template names is not there, or has no JSON.
        """
        shown = (before + ("" if name is None else self._shown(name, values, end)) for before, name, end in self._parts)
        return shortened("".join(shown))

    def _shown(self, name: str, values: Mapping[str, Any], end: str | None) -> str:
        """Return a value as it stands in the key; `end` is the text after it, None where no other value follows."""
        if name not in values:
            raise ValueError(f"{self._what}={self._text!r}: the argument {name!r} was not given.")
        try:
            text = _as_text(values[name])
        except TypeError as error:
            raise ValueError(
                f"{self._what}={self._text!r}: {name}={values[name]!r} cannot stand in a key ({error})."
            ) from error
        is_open = end is not None and (not end or text.startswith('"') or not set(end).isdisjoint(text))
        return codec.encode(text) if is_open else text


def key_of_all(values: Mapping[str, Any]) -> str:
    """Return the key that all arguments make together.

    Raises:
        ValueError: they have no order of their own, as a set of texts and numbers.
    """
    try:
        return shortened(codec.encode_sorted(dict(values)))
    except TypeError as error:
        raise ValueError(
            f'unique=True: no key can be made of these arguments ({error}). Name those that matter: unique="sync:{{id}}".'
        ) from error


def shortened(key: str) -> str:
    """Return a key of bearable length."""
    return key if len(key) <= LONGEST else f"{key[: LONGEST - 65]}#{hashlib.sha256(key.encode()).hexdigest()}"


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # as a default may stand where a float is meant
    text = codec.encode_sorted(value)
    found = codec.decode_plain(text) if text.startswith('"') else text
    return str(found)
