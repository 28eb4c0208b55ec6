"""Codecs of values without parts: numbers, strings, times, enums, literals, plain JSON."""

import base64
import enum
import math
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from jobrt._payload.codecs import Codec, CodecError, JsonKind, short_repr

# ------------------------------------------------------------------------------------- JSON's own values


def _str(value: Any) -> Any:
    if value.__class__ is str or isinstance(value, str):
        return value
    raise CodecError.expected("str", value)


def _int(value: Any) -> Any:
    if value.__class__ is int:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    raise CodecError.expected("int", value)


def _bool(value: Any) -> Any:
    if value.__class__ is bool:
        return value
    raise CodecError.expected("bool", value)


def _none(value: Any) -> Any:
    if value is None:
        return None
    raise CodecError.expected("None", value)


def _float(value: Any) -> Any:
    """Convert an int to a float, so that equal values have equal JSON; type checkers accept ints too."""
    number = value if value.__class__ is float else _as_float(value)
    if not math.isfinite(number):
        raise CodecError.expected("a finite float (JSON has no other)", value)
    return number


def _as_float(value: Any) -> float:
    if not isinstance(value, float | int) or isinstance(value, bool):
        raise CodecError.expected("float", value)
    try:
        return float(value)
    except OverflowError:
        raise CodecError.expected("a number that fits a float", value) from None


def plain_json(value: Any, *, tuples: bool = False) -> Any:
    """Return `value` if it is a JSON value, which is read back unchanged; raise `CodecError` if it is not.

    With `tuples`, tuples are accepted too, although they are read back as lists.
    """
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, list) or (tuples and isinstance(value, tuple)):
        parts: Iterable[tuple[Any, Any]] = enumerate(value)
    elif isinstance(value, dict):
        parts = value.items()
        for key in value:
            if not isinstance(key, str):
                raise CodecError.expected("a str as key", key)
    else:
        raise CodecError.expected("plain JSON (None, bool, int, float, str, list, dict)", value)
    step: Any = None
    try:
        for step, part in parts:  # noqa: B007 - the handler uses the step
            plain_json(part, tuples=tuples)
    except CodecError as error:
        error.under(f"[{short_repr(step)}]")
        raise
    return value


NONE: Final = Codec("None", frozenset({"null"}), (type(None),), _none, _none, plain=True)
ANY: Final = Codec(
    "Any",
    frozenset({"null", "bool", "int", "float", "str", "list", "object"}),
    (object,),
    plain_json,
    plain_json,
)


# --------------------------------------------------------------------------------------- stored as text


def _text(kind: type, dump: Callable[[Any], str] = str, load: Callable[[str], Any] | None = None) -> Codec:
    """Return the codec of a type whose values are stored as strings."""
    name, parse = kind.__name__, load or kind

    def encode(value: Any) -> str:
        if not isinstance(value, kind):
            raise CodecError.expected(name, value)
        return dump(value)

    def decode(value: Any) -> Any:
        if value.__class__ is not str:
            raise CodecError.expected(f"{name} as text", value)
        try:
            return parse(value)
        except (ValueError, ArithmeticError):
            raise CodecError.expected(f"{name} as text", value) from None

    return Codec(name, frozenset({"str"}), (kind,), encode, decode)


def _dump_decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise CodecError.expected("a finite Decimal", value)
    return str(value)


def _load_decimal(text: str) -> Decimal:
    value = Decimal(text)
    if not value.is_finite():
        raise ValueError(text)
    return value


def _dump_date(value: date) -> str:
    if isinstance(value, datetime):  # an instance of date, but its time would be lost
        raise CodecError.expected("date", value)
    return value.isoformat()


def _dump_time(value: time) -> str:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise CodecError.expected("a time without a time zone, or with one of fixed offset", value)
    return value.isoformat()


def _dump_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _load_bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


# ------------------------------------------------------------------------------------ stored as a number


_EXACT_LIMIT: Final = timedelta(seconds=2**33)  # beyond, a float does not tell microseconds apart


def _dump_seconds(value: Any) -> float:
    """Return seconds; without a fraction as an int, which is exact and short."""
    if not isinstance(value, timedelta):
        raise CodecError.expected("timedelta", value)
    if not value.microseconds:
        return value.days * 86_400 + value.seconds
    if abs(value) > _EXACT_LIMIT:
        raise CodecError.expected("a timedelta of whole seconds, or one shorter than 270 years", value)
    return value.total_seconds()


def _load_seconds(value: Any) -> timedelta:
    try:
        return timedelta(seconds=_float(value) if value.__class__ is float else _int(value))
    except (CodecError, OverflowError, ValueError):
        raise CodecError.expected("timedelta as seconds", value) from None


LEAVES: Final[Mapping[Any, Codec]] = {
    str: Codec("str", frozenset({"str"}), (str,), _str, _str, plain=True, exact=str),
    int: Codec("int", frozenset({"int"}), (int,), _int, _int, plain=True, exact=int),
    bool: Codec("bool", frozenset({"bool"}), (bool,), _bool, _bool, plain=True, exact=bool),
    float: Codec("float", frozenset({"float"}), (float,), _float, _float, plain=True),
    None: NONE,
    type(None): NONE,
    Any: ANY,
    UUID: _text(UUID),
    Decimal: _text(Decimal, _dump_decimal, _load_decimal),
    datetime: _text(datetime, datetime.isoformat, datetime.fromisoformat),
    date: _text(date, _dump_date, date.fromisoformat),
    time: _text(time, _dump_time, time.fromisoformat),
    bytes: _text(bytes, _dump_bytes, _load_bytes),
    timedelta: Codec("timedelta", frozenset({"int", "float"}), (timedelta,), _dump_seconds, _load_seconds),
}


# ------------------------------------------------------------------------------------ paths and choices


def path_codec(kind: type[PurePath]) -> Codec:
    """Return the codec of a path class.

    On POSIX a file name is bytes. If it is not UTF-8, its str has lone surrogates, which databases refuse. Then it
    is stored in base64.
    """

    def encode(value: Any) -> Any:
        if not isinstance(value, kind):
            raise CodecError.expected(kind.__name__, value)
        text = str(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            return {"base64": _dump_bytes(os.fsencode(text))}
        return text

    def decode(value: Any) -> Any:
        match value:
            case str():
                return kind(value)
            case {"base64": str(text), **rest} if not rest:
                try:
                    return kind(os.fsdecode(_load_bytes(text)))
                except ValueError:
                    pass
            case _:
                pass
        raise CodecError.expected(f"{kind.__name__} as text", value)

    return Codec(kind.__name__, frozenset({"str", "object"}), (kind,), encode, decode)


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def enum_codec(kind: type[enum.Enum]) -> Codec:
    """Return the codec of an enum: by value if all values are str or int, otherwise by name."""
    by_value = all(_is_scalar(member.value) for member in kind)
    load: Callable[[Any], Any] = kind if by_value else kind.__getitem__
    stored = [member.value if by_value else member.name for member in kind]
    kinds: set[JsonKind] = {"int" if isinstance(value, int) else "str" for value in stored}
    choices = f"{kind.__name__} ({', '.join(map(repr, stored))})"

    def encode(value: Any) -> Any:
        if not isinstance(value, kind):
            raise CodecError.expected(kind.__name__, value)
        return value.value if by_value else value.name

    def decode(value: Any) -> Any:
        try:
            if _is_scalar(value):  # `True` would match 1
                return load(value)
        except (ValueError, KeyError):
            pass
        raise CodecError.expected(choices, value) from None

    return Codec(kind.__name__, frozenset(kinds), (kind,), encode, decode)


_LITERAL_KINDS: Final[Mapping[type, JsonKind]] = {str: "str", int: "int", bool: "bool", type(None): "null"}


def literal_codec(values: tuple[Any, ...]) -> Codec:
    """Return the codec of a ``Literal`` of str, int, bool and None; raise `CodecError` for other values."""
    for value in values:
        if value.__class__ not in _LITERAL_KINDS:
            raise CodecError(f"Literal[{value!r}] cannot be stored; use str, int, bool or None in a Literal")
    allowed = frozenset((value.__class__, value) for value in values)  # 1 == True, but not as JSON
    name = f"Literal[{', '.join(map(repr, values))}]"

    def check(value: Any) -> Any:
        try:
            if (value.__class__, value) in allowed:
                return value
        except TypeError:  # unhashable
            pass
        raise CodecError.expected(name, value)

    types = tuple({value.__class__ for value in values})
    return Codec(name, frozenset(_LITERAL_KINDS[kind] for kind in types), types, check, check, plain=True)
