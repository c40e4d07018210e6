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
        self._parts = [(before, name) for before, name, _, _ in parts]
        for _, name in self._parts:
            if name is not None and (not name.isidentifier() or (names is not None and name not in names)):
                there_are = "" if names is None else f" There are: {', '.join(names) or 'none'}."
                raise ValueError(f"{what}={text!r}: {name!r} is no parameter's name.{there_are}")
        if not text or not codec.is_storable(text):
            raise ValueError(f'{what}={text!r} cannot be stored. Pass text such as "sync:{{account_id}}".')
        self._what = what
        self._text = text

    @property
    def names(self) -> tuple[str, ...]:
        """The arguments that it names."""
        return tuple(dict.fromkeys(name for _, name in self._parts if name is not None))

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the key for these arguments.

        Raises:
            ValueError: an argument that the template names is not there.
        """
        try:
            return shortened("".join(before + (_shown(values[name]) if name else "") for before, name in self._parts))
        except KeyError as error:
            raise ValueError(f"{self._what}={self._text!r}: the argument {error.args[0]!r} was not given.") from None


def key_of_all(values: Mapping[str, Any]) -> str:
    """Return the key that all arguments make together."""
    return shortened(codec.encode_sorted(dict(values)))


def shortened(key: str) -> str:
    """Return a key of bearable length."""
    return key if len(key) <= LONGEST else f"{key[: LONGEST - 65]}#{hashlib.sha256(key.encode()).hexdigest()}"


def _shown(value: object) -> str:
    return value if isinstance(value, str) else codec.encode_sorted(value).strip('"')
