"""The arguments of a task: bound to its signature, stored by name as one JSON object, and given back by type."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import msgspec

from schedfactory.model import codec
from schedfactory.model.errors import NotSerializable

_PLAIN = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_EXACT = 2**53  # up to which each int is a float
_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Arguments:
    """What one function takes.

    `bind` turns a call into values by parameter name, `dumps` those into JSON text, `loads` that into the
    positional and keyword arguments of the real call.

    Raises:
        TypeError: the function has no readable signature, or an annotation that JSON cannot tell apart.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        try:
            self.signature = inspect.signature(function)
        except ValueError as error:
            raise TypeError(
                f"{function!r} has no signature that Python can read. Wrap it in a function of your own."
            ) from error
        parameters = self.signature.parameters.values()
        self._positional = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        self._most = len(self._positional)
        self.names = tuple(p.name for p in parameters)
        self._names = set(self.names)
        self._defaults: dict[str, Any] = {p.name: p.default for p in parameters if p.default is not p.empty}
        self._defaults |= {p.name: [] if p.kind is p.VAR_POSITIONAL else {} for p in parameters if p.kind in _REST}
        self._required = {p.name for p in parameters if p.kind not in _REST and p.default is p.empty}
        self._is_plain = all(p.kind in _PLAIN for p in parameters)
        with suppress(NameError):  # an annotation of something defined further down is looked at at the first use
            self._types  # noqa: B018 - ambiguous annotations are refused at decoration

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return what was given, by parameter name; defaults are left out.

        Raises:
            TypeError: the function could not be called like this.
        """
        if self._is_plain and len(args) <= self._most:
            bound = dict(zip(self._positional, args)) | kwargs
            is_known = not kwargs or (len(bound) == len(args) + len(kwargs) and bound.keys() <= self._names)
            if is_known and self._required <= bound.keys():
                return bound
        try:
            bound = dict(self.signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise TypeError(f"{self._function.__qualname__}{self.signature}: {error}") from None
        if self._rest_name in bound:
            bound[self._rest_name] = list(bound[self._rest_name])
        return bound

    def with_defaults(self, bound: dict[str, Any]) -> dict[str, Any]:
        """Return what the function will see, by parameter name."""
        return self._defaults | bound

    def without_defaults(self, bound: dict[str, Any]) -> dict[str, Any]:
        """Return what differs from the defaults: the same call looks the same however it was written."""
        return {
            name: value
            for name, value in bound.items()
            if name not in self._defaults or not _is_default(value, self._defaults[name])
        }

    def received(self, bound: dict[str, Any], text: str) -> dict[str, Any]:
        """Return what a worker will get of `bound`, whose `dumps` is `text`: equal calls are equal there."""
        if all(type(value) is self._sure.get(name) for name, value in bound.items()):
            return bound
        back = self._decode(text)
        return {name: getattr(back, name) for name in bound}

    def dumps(self, bound: dict[str, Any]) -> str:
        """Return the JSON object of `bound`, after having decoded it once as a worker will.

        Raises:
            TypeError: an annotation that does not resolve.
            NotSerializable: naming the parameter that JSON cannot hold or would change.
        """
        try:
            unannotated = self._unannotated
        except NameError as error:
            raise TypeError(
                f"an annotation of {self._function.__qualname__} does not resolve: {error}. Import it where the task is."
            ) from error
        try:
            if self._is_sure(bound):
                return codec.encode(bound)
            for name in unannotated:
                if name in bound:
                    codec.refuse_unplain(bound[name], name)
            text = codec.encode(bound)
            back = self._decode(text)
            if all(codec.same(value, getattr(back, name)) for name, value in bound.items()):
                return text
        except Exception as error:
            raise self._fault(bound) from error
        raise self._fault(bound)

    def loads(self, text: str) -> tuple[list[Any], dict[str, Any]]:
        """Return the positional and the keyword arguments that `text` stands for.

        Raises:
            TypeError: it does not fit the signature, which rows written by SQL may not.
        """
        try:
            found = self._decode(text)
        except Exception as error:
            raise TypeError(
                f"the row's args do not fit {self._function.__qualname__}{self.signature}: {type(error).__name__}: {error}"
            ) from error
        if self._is_plain:
            return [], {name: value for name in found.__struct_fields__ if (value := getattr(found, name)) is not msgspec.UNSET}
        return self._spread(found)

    def reader(self, names: Sequence[str]) -> Callable[[str], dict[str, Any]]:
        """Return what gives these parameters, as the function will see them, out of what `dumps` or plain SQL wrote.

        What it returns raises as the types do, and leaves out a parameter that has no default and was not given.
        """
        optional = msgspec.field(default=msgspec.UNSET)
        decode = codec.decoder(msgspec.defstruct("Some", [(name, self._types[name], optional) for name in names], kw_only=True))

        def read(text: str) -> dict[str, Any]:
            found = decode(text)
            given = {name: value for name in names if (value := getattr(found, name)) is not msgspec.UNSET}
            return {name: self._defaults[name] for name in names if name in self._defaults} | given

        return read

    @cached_property
    def decode_result(self) -> Callable[[str | bytes], Any]:
        """What turns a stored result into the type that the function says it returns."""
        try:
            return codec.decoder(self._resolve({"return"}).get("return", Any))
        except (TypeError, NameError):  # one that JSON cannot tell apart, or that never resolves
            return codec.decode_plain

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return self._resolve(self._names)

    def _resolve(self, names: set[str]) -> dict[str, Any]:
        """Return the types of some annotations; an annotation of another name that does not resolve is no matter."""
        function = inspect.unwrap(self._function)
        given = getattr(function, "__annotations__", {})
        wanted = SimpleNamespace(__annotations__={name: given[name] for name in names if name in given})
        own = {kind.__name__: kind for kind in getattr(function, "__type_params__", ())}  # def f[T](x: T)
        return typing.get_type_hints(wanted, getattr(function, "__globals__", {}), own, include_extras=True)

    @cached_property
    def _types(self) -> dict[str, Any]:
        types = {name: self._type_of(parameter) for name, parameter in self.signature.parameters.items()}
        for name, kind in types.items():
            try:
                codec.decoder(kind)
            except TypeError as error:
                raise TypeError(f"parameter {name!r} of {self._function.__qualname__}: {error}") from error
        return types

    def _type_of(self, parameter: inspect.Parameter) -> Any:
        hint: Any = self._hints.get(parameter.name, Any)
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            return list.__class_getitem__(hint)
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            return dict.__class_getitem__((str, hint))
        return hint

    def _is_sure(self, bound: dict[str, Any]) -> bool:
        """Tell whether these come back as they are: no need to see that."""
        sure = self._sure
        for name, value in bound.items():
            wanted, given = sure.get(name), type(value)
            if given is not wanted and not (wanted is float and given is int and -_EXACT <= value <= _EXACT):
                return False
        return True

    @cached_property
    def _sure(self) -> dict[str, Any]:
        """The types of parameters whose values come back as they went in, if they are of just that type."""
        return {name: kind for name, kind in self._types.items() if kind in (int, str, bool, float)}

    @cached_property
    def _unannotated(self) -> list[str]:
        return [name for name in self._names if self._hints.get(name, Any) is Any]

    @cached_property
    def _decode(self) -> Callable[[str], Any]:
        optional = msgspec.field(default=msgspec.UNSET)
        struct = msgspec.defstruct(
            "Arguments",
            [(name, kind) if name in self._required else (name, kind, optional) for name, kind in self._types.items()],
            kw_only=True,
            forbid_unknown_fields=True,
        )
        return codec.decoder(struct)

    def _spread(self, found: Any) -> tuple[list[Any], dict[str, Any]]:
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        needed = 0  # positional ones up to the last that was given; those in between have their defaults
        has_rest = bool(getattr(found, self._rest_name or "", msgspec.UNSET))
        for name, parameter in self.signature.parameters.items():
            value = getattr(found, name)
            is_given = value is not msgspec.UNSET
            kind = parameter.kind
            if kind is kind.POSITIONAL_ONLY or (kind is kind.POSITIONAL_OR_KEYWORD and has_rest):
                positional.append(value if is_given else parameter.default)
                needed = len(positional) if is_given or has_rest else needed
            elif is_given and kind is kind.VAR_POSITIONAL:
                positional.extend(value)
                needed = len(positional)
            elif is_given and kind is kind.VAR_KEYWORD:
                keywords.update(value)
            elif is_given:
                keywords[name] = value
        return positional[:needed], keywords

    @cached_property
    def _rest_name(self) -> str | None:
        rest = [p.name for p in self.signature.parameters.values() if p.kind is inspect.Parameter.VAR_POSITIONAL]
        return rest[0] if rest else None

    def _fault(self, bound: dict[str, Any]) -> NotSerializable:
        for name, value in bound.items():
            try:
                if name in self._unannotated:
                    codec.refuse_unplain(value, name)
                back = codec.decoder(self._types[name])(codec.encode(value))
                if not codec.same(value, back):
                    return self._refusal(name, value, f"it would come back as {_short(back)}")
            except RecursionError:
                return self._refusal(name, value, "it is nested too deep, or holds itself")
            except Exception as error:  # noqa: BLE001 - as above
                return self._refusal(name, value, str(error))
        return self._refusal(", ".join(bound), bound, "together they do not come back as they went in")

    def _refusal(self, name: str, value: object, why: str) -> NotSerializable:
        kind = self._hints.get(name)
        return NotSerializable(
            f"parameter {name!r} of {self._function.__qualname__} = {_short(value)}: {why}. "
            + (f"It is annotated as {kind!r}." if kind else "It has no annotation, so it takes JSON's own values only.")
        )


def dumps_unchecked(values: dict[str, Any]) -> str:
    """Return the JSON object of arguments for a task whose code is elsewhere.

    Raises:
        NotSerializable: naming the parameter that JSON cannot hold.
    """
    try:
        return codec.encode(values)
    except TypeError as error:
        for name, value in values.items():
            try:
                codec.encode(value)
            except TypeError as why:
                raise NotSerializable(f"parameter {name!r} = {_short(value)}: {why}") from why
        raise NotSerializable(str(error)) from error


def _is_default(value: object, default: object) -> bool:
    return isinstance(value, bool) is isinstance(default, bool) and codec.same(value, default)


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - too deep, or a user's __repr__ that raises
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."
