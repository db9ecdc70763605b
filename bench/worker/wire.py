"""Dataclasses to and from lines of JSON, validated field by field. Standard library only."""

import contextlib
import dataclasses
import functools
import json
import types
import typing
from enum import StrEnum
from typing import Any, TypeVar

T = TypeVar("T")


class Malformed(ValueError):
    """A value that does not match its declared type; the message is one line."""


def line(message: object) -> bytes:
    """Encode a message as a line of JSON. Raises TypeError or ValueError for values JSON lacks, such as NaN."""
    return json.dumps(message, default=fields, allow_nan=False).encode() + b"\n"


def fields(record: Any) -> dict[str, Any]:
    """The fields of a dataclass by name, not recursive."""
    if not dataclasses.is_dataclass(record):
        raise TypeError(f"expected plain values and dataclasses in a message, found {type(record).__name__}")
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def parse(line: bytes | str, where: str) -> dict[str, Any]:
    """Decode the JSON object in a line; raises Malformed."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{where}: expected a line of JSON, found {_short(line)}") from error
    if not isinstance(message, dict):
        raise Malformed(f"{where}: expected a JSON object, found {_short(message)}")
    return message


def read(kind: type[T], value: object, where: str) -> T:
    """Convert decoded JSON to a ``kind``: dataclass, list, tuple[T, ...], dict, StrEnum, plain type or a union of them.

    Raises Malformed with the path below ``where`` of a wrong value, or the missing or unknown fields.
    """
    message: T = _read(kind, value, where)
    return message


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, where)
    if origin in (typing.Union, types.UnionType):
        return _union(inner, value, where)
    if origin is tuple and isinstance(value, list | tuple):  # of any length
        return tuple(_read(inner[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is list and isinstance(value, list | tuple):
        if inner == (int,) and all(type(item) is int for item in value):  # fast path: tens of thousands of samples
            return list(value)
        return [_read(inner[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {_read(inner[0], key, where): _read(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(kind, type):
        if issubclass(kind, StrEnum):
            if value in list(kind):
                return kind(value)
        elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
    raise Malformed(f"{where}: expected {getattr(kind, '__name__', kind)}, found {_short(value)}")


def _record(kind: Any, value: Any, where: str) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, dict):
        raise Malformed(f"{where}: expected the fields of {kind.__name__}, found {_short(value)}")
    declared = dataclasses.fields(kind)
    if unknown := sorted(value.keys() - {field.name for field in declared}):
        raise Malformed(f"{where}: {kind.__name__} has no field {', '.join(unknown)}")
    missing_default = dataclasses.MISSING
    needed = (
        field.name
        for field in declared
        if field.default is missing_default and field.default_factory is missing_default
    )
    if missing := [name for name in needed if name not in value]:
        raise Malformed(f"{where}: {kind.__name__} lacks {', '.join(missing)}")
    return kind(**{name: _read(_types(kind)[name], item, f"{where}.{name}") for name, item in value.items()})


def _union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    *firsts, last = (kind for kind in kinds if kind is not type(None))
    for kind in firsts:
        with contextlib.suppress(Malformed):
            return _read(kind, value, where)
    return _read(last, value, where)


@functools.cache
def _types(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _short(value: Any) -> str:
    return repr(value)[:60]
