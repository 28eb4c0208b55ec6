"""Codecs of records, which have named fields: attrs classes, dataclasses, named tuples, typed dicts, jobs."""

import typing
from collections.abc import Callable, Iterable
from typing import Any, Final

from jobrt._payload.codecs import Codec, CodecError, JsonKind, Scope
from jobrt._payload.fields import Field, fields_of, is_typeddict

_OBJECT: Final[frozenset[JsonKind]] = frozenset({"object"})
_UNKNOWN: Final = "is not a field of the class"


def record_codec(annotation: Any, scope: Scope) -> Codec:
    """Return the codec of a record; in a record that contains itself, a reference to the unfinished codec."""
    origin = typing.get_origin(annotation) or annotation
    if annotation not in scope.records:
        scope.records[annotation] = None
        scope.records[annotation] = codec_of_fields(origin, fields_of(annotation, scope))
    return scope.records[annotation] or _reference(annotation, origin, scope)


def _reference(annotation: Any, origin: type, scope: Scope) -> Codec:
    def encode(value: Any) -> Any:
        return record_codec(annotation, scope).encode(value)

    def decode(value: Any) -> Any:
        return record_codec(annotation, scope).decode(value)

    return Codec(origin.__name__, _OBJECT, _types(origin), encode, decode)


def _types(origin: type) -> tuple[type, ...]:
    return (dict,) if is_typeddict(origin) else (origin,)


def codec_of_fields(cls: type, fields: list[Field]) -> Codec:
    """Return the codec of a record with these fields."""
    name = cls.__name__
    decoders = [(field, field.codec.decode) for field in fields]
    if not is_typeddict(cls):
        encode, decode = _encoder(cls, fields), _from_dict(f"{name} as an object", cls, decoders)
    else:
        encoders = [(field, field.codec.encode) for field in fields]
        encode, decode = _from_dict(name, dict, encoders), _from_dict(f"{name} as an object", dict, decoders)
    return Codec(name, _OBJECT, _types(cls), encode, decode)


def _encoder(cls: type, fields: Iterable[Field]) -> Callable[[Any], dict[str, Any]]:
    encoders = tuple((field.name, field.codec.encode) for field in fields)

    def encode(value: Any) -> dict[str, Any]:
        if value.__class__ is not cls:  # a subclass would lose the fields that it adds
            raise CodecError.expected(cls.__name__, value)
        encoded: dict[str, Any] = {}
        name = ""
        try:
            for name, encode_field in encoders:
                encoded[name] = encode_field(getattr(value, name))
        except CodecError as error:
            error.under(f".{name}")
            raise
        return encoded

    return encode


def _from_dict(
    expected: str, build: Callable[..., Any], converters: Iterable[tuple[Field, Callable[[Any], Any]]]
) -> Callable[[Any], Any]:
    """Return a function that converts the fields of a dict and calls `build` with them as keywords.

    Its error has all problems: invalid, missing and unknown fields.
    """
    # Unpacking a tuple is faster than reading four attributes of a field.
    table = tuple((field.name, field.alias, field.required, convert) for field, convert in converters)
    known = {name for name, *_ in table}

    def convert_all(value: Any) -> Any:
        if not isinstance(value, dict):
            raise CodecError.expected(expected, value)
        arguments: dict[str, Any] = {}
        errors: list[CodecError] = []
        for name, alias, required, convert in table:
            if name in value:
                try:
                    arguments[alias] = convert(value[name])
                except CodecError as error:
                    errors.append(error.under(f".{name}"))
            elif required:
                errors.append(CodecError("is missing").under(f".{name}"))
        if len(arguments) != len(value):  # a field is invalid or unknown
            unknown = sorted(value.keys() - known, key=str)
            errors += [CodecError(_UNKNOWN, unknown=True).under(f".{name}") for name in unknown]
        if errors:
            raise CodecError.all_of(errors)
        try:
            return build(**arguments)
        except Exception as error:  # a validator, converter or constructor can raise anything
            raise CodecError(f"{type(error).__name__}: {error}") from error

    return convert_all
