"""Encode and decode lists, tuples, sets and dicts of what other codecs take."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final

from jobrt._payload.codecs import Codec, CodecError, JsonKind, is_dict, shown

__all__ = ["dict_codec", "list_codec", "pair_codec", "set_codec", "tuple_codec"]

_LIST: Final[frozenset[JsonKind]] = frozenset({"list"})
_OBJECT: Final[frozenset[JsonKind]] = frozenset({"object"})

_canonical = json.JSONEncoder(sort_keys=True).encode


def _converter(item: Codec, convert: Callable[[Any], Any]) -> Callable[[Iterable[Any]], list[Any]]:
    """Return a function that converts many items; those of a simple type are checked all at once, in C."""
    exact = frozenset({item.exact})

    def many(values: Iterable[Any]) -> list[Any]:
        if exact.issuperset(map(type, values)):
            return list(values)
        done: list[Any] = []
        try:
            for value in values:
                done.append(convert(value))  # noqa: PERF401 - the length says where it stopped
        except CodecError as misfit:
            misfit.under(f"[{len(done)}]")
            raise
        return done

    return many


def _sequence(name: str, kind: type, many: tuple[Callable[[Any], Any], Callable[[Any], Any]]) -> Codec:
    """Return the codec of a type that is stored as a list, given how its items go there and back."""
    encode_all, decode_all = many

    def encode(value: Any) -> Any:
        if not isinstance(value, kind):
            raise CodecError.expected(name, value)
        return encode_all(value)

    def decode(value: Any) -> Any:
        if value.__class__ is not list:
            raise CodecError.expected(f"{name} as a list", value)
        return decode_all(value)

    return Codec(name, _LIST, (kind,), encode, decode)


def list_codec(item: Codec) -> Codec:
    """Return the codec of ``list[item]``."""
    return _sequence(
        f"list[{item.name}]", list, (_converter(item, item.encode), _converter(item, item.decode))
    )


def tuple_codec(item: Codec) -> Codec:
    """Return the codec of ``tuple[item, ...]``."""
    decode_items = _converter(item, item.decode)

    def decode_all(values: list[Any]) -> tuple[Any, ...]:
        return tuple(decode_items(values))

    return _sequence(f"tuple[{item.name}, ...]", tuple, (_converter(item, item.encode), decode_all))


def pair_codec(items: tuple[Codec, ...]) -> Codec:
    """Return the codec of ``tuple[A, B, ...]``, one codec for each place."""
    name = f"tuple[{', '.join(item.name for item in items) or '()'}]"

    def each(values: Any, converts: Iterable[Callable[[Any], Any]]) -> list[Any]:
        if len(values) != len(items):
            raise CodecError(f"expected {name}, got {len(values)} items")
        done: list[Any] = []
        try:
            for convert, value in zip(converts, values, strict=True):
                done.append(convert(value))
        except CodecError as misfit:
            misfit.under(f"[{len(done)}]")
            raise
        return done

    def encode_all(values: Any) -> list[Any]:
        return each(values, [item.encode for item in items])

    def decode_all(values: Any) -> tuple[Any, ...]:
        return tuple(each(values, [item.decode for item in items]))

    return _sequence(name, tuple, (encode_all, decode_all))


def set_codec(kind: type[set[Any] | frozenset[Any]], item: Codec) -> Codec:
    """Return the codec of ``set[item]`` or ``frozenset[item]``; sorted, so that equal sets have equal JSON."""
    encode_items = _converter(item, item.encode)
    decode_items = _converter(item, item.decode)

    def encode_all(values: Any) -> list[Any]:
        items = encode_items(values)
        sortable = {int}.issuperset(map(type, items)) or {str}.issuperset(map(type, items))
        return sorted(items, key=None if sortable else _canonical)

    def decode_all(values: list[Any]) -> Any:
        try:
            return kind(decode_items(values))
        except TypeError as error:
            raise CodecError(f"cannot be in a set: {error}") from None

    return _sequence(f"{kind.__name__}[{item.name}]", kind, (encode_all, decode_all))


def dict_codec(key: Codec, item: Codec) -> Codec:
    """Return the codec of ``dict[key, item]``: an object if the keys can be texts, else sorted pairs."""
    name = f"dict[{key.name}, {item.name}]"
    if key.kinds == {"str"}:
        to_text, from_text = key.encode, key.decode
    elif key.kinds == {"int"}:
        to_text, from_text = _number_texts(key)
    else:
        return _pairs(name, key, item)

    def encode(value: Any) -> Any:
        if not is_dict(value):
            raise CodecError.expected(name, value)
        return _mapped(value, to_text, item.encode)

    def decode(value: Any) -> Any:
        if value.__class__ is not dict:
            raise CodecError.expected(f"{name} as an object", value)
        return _mapped(value, from_text, item.decode)

    return Codec(name, _OBJECT, (dict,), encode, decode)


def _mapped(
    values: dict[Any, Any], convert_key: Callable[[Any], Any], convert: Callable[[Any], Any]
) -> dict[Any, Any]:
    done: dict[Any, Any] = {}
    key: Any = None
    try:
        for key, value in values.items():
            done[convert_key(key)] = convert(value)
    except CodecError as misfit:
        misfit.under(f"[{shown(key)}]")
        raise
    return done


def _number_texts(key: Codec) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return how int keys become texts and come back; only the way we write them is read."""

    def to_text(value: Any) -> str:
        try:
            return str(key.encode(value))
        except ValueError:
            raise CodecError("expected an int of at most 4300 digits") from None

    def from_text(value: Any) -> Any:
        try:
            number = int(value)
        except ValueError:
            number = None
        if str(number) != value:
            raise CodecError.expected("an int in decimal as key", value)
        return key.decode(number)

    return to_text, from_text


def _pairs(name: str, key: Codec, item: Codec) -> Codec:
    pairs = list_codec(pair_codec((key, item)))

    def encode(value: Any) -> Any:
        if not is_dict(value):
            raise CodecError.expected(name, value)
        return sorted(pairs.encode(list(value.items())), key=_canonical)

    def decode(value: Any) -> Any:
        found = pairs.decode(value)
        try:
            done = dict(found)
        except TypeError as error:
            raise CodecError(f"cannot be a key: {error}") from None
        if len(done) != len(found):
            raise CodecError(f"expected {name} as pairs, got a key twice")
        return done

    return Codec(name, _LIST, (dict,), encode, decode)
