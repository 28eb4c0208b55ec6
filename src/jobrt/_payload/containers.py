"""Codecs of lists, tuples, sets and dicts, from the codecs of their items."""

import json
from collections.abc import Callable, Iterable
from typing import Any, Final

from jobrt._payload.codecs import Codec, CodecError, JsonKind, short_repr

_LIST: Final[frozenset[JsonKind]] = frozenset({"list"})
_OBJECT: Final[frozenset[JsonKind]] = frozenset({"object"})

_canonical = json.JSONEncoder(sort_keys=True).encode


def collection_codec(
    kind: type[list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any]], item: Codec
) -> Codec:
    """Return the codec of ``list[T]``, ``tuple[T, ...]``, ``set[T]`` or ``frozenset[T]``.

    Sets are stored sorted, so that equal sets have equal JSON.
    """
    name = f"{kind.__name__}[{item.name}{', ...' if kind is tuple else ''}]"
    encode_items, decode_items = _for_each(item, item.encode), _for_each(item, item.decode)
    unordered = kind in {set, frozenset}

    def encode(value: Any) -> Any:
        if not isinstance(value, kind):
            raise CodecError.expected(name, value)
        items = encode_items(value)
        return _sorted(items) if unordered else items

    def decode(value: Any) -> Any:
        if value.__class__ is not list:
            raise CodecError.expected(f"{name} as a list", value)
        items = decode_items(value)
        try:
            return items if kind is list else kind(items)
        except TypeError as error:
            raise CodecError(f"cannot be in a set: {error}") from None

    return Codec(name, _LIST, (kind,), encode, decode)


def _for_each(item: Codec, convert: Callable[[Any], Any]) -> Callable[[Iterable[Any]], list[Any]]:
    """Return a function that converts many items; items of an exact type are checked together, in C."""
    exact = frozenset({item.exact})

    def convert_all(values: Iterable[Any]) -> list[Any]:
        if exact.issuperset(map(type, values)):
            return list(values)
        converted: list[Any] = []
        try:
            for value in values:
                converted.append(convert(value))  # noqa: PERF401 - the length is the position of an error
        except CodecError as error:
            error.under(f"[{len(converted)}]")
            raise
        return converted

    return convert_all


def _sorted(items: list[Any]) -> list[Any]:
    alike = {int}.issuperset(map(type, items)) or {str}.issuperset(map(type, items))
    return sorted(items, key=None if alike else _canonical)


def tuple_codec(items: tuple[Codec, ...]) -> Codec:
    """Return the codec of ``tuple[A, B]``, with a codec for each position."""
    name = f"tuple[{', '.join(item.name for item in items) or '()'}]"
    encoders, decoders = [item.encode for item in items], [item.decode for item in items]

    def convert_each(values: Any, converters: Iterable[Callable[[Any], Any]]) -> list[Any]:
        if len(values) != len(items):
            raise CodecError(f"expected {name}, got {len(values)} items")
        converted: list[Any] = []
        try:
            for convert, value in zip(converters, values, strict=True):
                converted.append(convert(value))
        except CodecError as error:
            error.under(f"[{len(converted)}]")
            raise
        return converted

    def encode(value: Any) -> Any:
        if not isinstance(value, tuple):
            raise CodecError.expected(name, value)
        return convert_each(value, encoders)

    def decode(value: Any) -> Any:
        if value.__class__ is not list:
            raise CodecError.expected(f"{name} as a list", value)
        return tuple(convert_each(value, decoders))

    return Codec(name, _LIST, (tuple,), encode, decode)


def dict_codec(key: Codec, item: Codec) -> Codec:
    """Return the codec of ``dict[key, item]``: an object if the keys are str or int, otherwise sorted pairs."""
    name = f"dict[{key.name}, {item.name}]"
    if key.json_kinds == {"str"}:
        encode_key, decode_key = key.encode, key.decode
    elif key.json_kinds == {"int"}:
        encode_key, decode_key = _as_decimal(key)
    else:
        return _pairs_codec(name, key, item)

    def encode(value: Any) -> Any:
        if not isinstance(value, dict):
            raise CodecError.expected(name, value)
        return _convert_dict(value, encode_key, item.encode)

    def decode(value: Any) -> Any:
        if not isinstance(value, dict):
            raise CodecError.expected(f"{name} as an object", value)
        return _convert_dict(value, decode_key, item.decode)

    return Codec(name, _OBJECT, (dict,), encode, decode)


def _convert_dict(
    values: dict[Any, Any], convert_key: Callable[[Any], Any], convert: Callable[[Any], Any]
) -> dict[Any, Any]:
    converted: dict[Any, Any] = {}
    key: Any = None
    try:
        for key, value in values.items():
            converted[convert_key(key)] = convert(value)
    except CodecError as error:
        error.under(f"[{short_repr(key)}]")
        raise
    return converted


def _as_decimal(key: Codec) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return functions that convert int keys to decimal strings and back; no other form is accepted."""

    def encode(value: Any) -> str:
        try:
            return str(key.encode(value))
        except ValueError:
            raise CodecError("expected an int of at most 4300 digits") from None

    def decode(text: Any) -> Any:
        try:
            number = int(text)
        except ValueError:
            number = None
        if str(number) != text:
            raise CodecError.expected("an int in decimal as key", text)
        return key.decode(number)

    return encode, decode


def _pairs_codec(name: str, key: Codec, item: Codec) -> Codec:
    pairs = collection_codec(list, tuple_codec((key, item)))

    def encode(value: Any) -> Any:
        if not isinstance(value, dict):
            raise CodecError.expected(name, value)
        return sorted(pairs.encode(list(value.items())), key=_canonical)

    def decode(value: Any) -> Any:
        items = pairs.decode(value)
        try:
            found = dict(items)
        except TypeError as error:
            raise CodecError(f"cannot be a key: {error}") from None
        if len(found) != len(items):
            raise CodecError(f"expected {name} as pairs, got a duplicate key")
        return found

    return Codec(name, _LIST, (dict,), encode, decode)
