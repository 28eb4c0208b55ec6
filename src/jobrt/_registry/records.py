"""Encode and decode values with named fields: attrs classes, dataclasses, named tuples, typed dicts, jobs.

Encoding is ours: on that way cattrs takes annotations on trust, and a wrong value has to be found before it
is stored. Decoding is a function that cattrs generates, with our codecs as the hooks of its fields.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn_from_attrs, override

from jobrt._registry.annotations import field_types
from jobrt._registry.codecs import Codec, Decode, JsonKind, Misfit, Scope

__all__ = ["Field", "codec_of_fields", "fields_of", "is_record", "quick_decoder", "record_codec"]

_OBJECT: Final[frozenset[JsonKind]] = frozenset({"object"})
_CONVERTER: Final = cattrs.Converter()


@attrs.frozen
class Field:
    """One field of a record.

    Args:
        name: the attribute and the key in the stored object.
        codec: how its values are stored.
        alias: the parameter of the constructor.
        required: whether a value must be given and stored.
        default: the default, if it is a value and not a factory.

    """

    name: str
    codec: Codec
    alias: str
    required: bool
    default: Any = attrs.NOTHING


def is_record(origin: object) -> bool:
    """Say whether a class (without type arguments) is stored as an object with named fields."""
    return isinstance(origin, type) and (
        attrs.has(origin)
        or dataclasses.is_dataclass(origin)
        or _is_typeddict(origin)
        or (issubclass(origin, tuple) and hasattr(origin, "_fields"))
    )


def record_codec(annotation: Any, scope: Scope) -> Codec:
    """Return the codec of a record; one that contains itself gets a reference to what is being made."""
    if annotation not in scope.records:
        scope.records[annotation] = None
        try:
            scope.records[annotation] = _make(annotation, scope)
        finally:
            if scope.records[annotation] is None:
                del scope.records[annotation]
    return scope.records[annotation] or _reference(annotation, scope)


def _reference(annotation: Any, scope: Scope) -> Codec:
    origin = typing.get_origin(annotation) or annotation

    def encode(value: Any) -> Any:
        return record_codec(annotation, scope).encode(value)

    def decode(value: Any, _type: Any = None, /) -> Any:
        return record_codec(annotation, scope).decode(value)

    return Codec(origin.__name__, _OBJECT, _types(origin), encode, decode)


def _types(origin: type) -> tuple[type, ...]:
    return (dict,) if _is_typeddict(origin) else (origin,)


def _make(annotation: Any, scope: Scope) -> Codec:
    origin = typing.get_origin(annotation) or annotation
    return codec_of_fields(origin, fields_of(annotation, scope))


def codec_of_fields(origin: type, fields: list[Field]) -> Codec:
    """Return the codec of a record whose fields are known already."""
    encode = _typeddict_encoder(origin, fields) if _is_typeddict(origin) else _encoder(origin, fields)
    return Codec(origin.__name__, _OBJECT, _types(origin), encode, _decoder(origin, fields))


# -------------------------------------------------------------------------------------------- encode, decode


def _encoder(cls: type, fields: Iterable[Field]) -> typing.Callable[[Any], dict[str, Any]]:
    encoders = tuple((field.name, field.codec.encode) for field in fields)

    def encode(value: Any) -> dict[str, Any]:
        if value.__class__ is not cls:  # a subclass would lose the fields that it adds
            raise Misfit.expected(cls.__name__, value)
        done: dict[str, Any] = {}
        name = ""
        try:
            for name, encode_field in encoders:
                done[name] = encode_field(getattr(value, name))
        except Misfit as misfit:
            raise misfit.under(f".{name}") from None
        return done

    return encode


def _typeddict_encoder(cls: type, fields: Iterable[Field]) -> typing.Callable[[Any], dict[str, Any]]:
    by_name = {field.name: field.codec.encode for field in fields}
    required = frozenset(field.name for field in fields if field.required)

    def encode(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Misfit.expected(cls.__name__, value)
        missing, unknown = required - value.keys(), value.keys() - by_name.keys()
        if missing or unknown:
            raise _odd_fields(missing, unknown)
        done: dict[str, Any] = {}
        name = ""
        try:
            for name, item in value.items():
                done[name] = by_name[name](item)
        except Misfit as misfit:
            raise misfit.under(f"[{name!r}]") from None
        return done

    return encode


def _odd_fields(missing: Iterable[Any], unknown: Iterable[Any]) -> Misfit:
    return Misfit.all_of(
        [Misfit("is missing").under(f".{name}") for name in sorted(missing)]
        + [Misfit("is not a field of the class").under(f".{name}") for name in sorted(unknown, key=str)]
    )


def _decoder(cls: type, fields: list[Field]) -> Decode:
    """Return the cattrs function for these fields, with its errors turned into misfits."""
    structure = _structure(cls, fields, detailed=True)
    names = {f"f{i}": field.name for i, field in enumerate(fields)}

    def decode(value: Any, _type: Any = None, /) -> Any:
        if value.__class__ is not dict:
            raise Misfit.expected(f"{cls.__name__} as an object", value)
        try:
            return structure(value, cls)
        except cattrs.ClassValidationError as error:
            raise _misfit(error, names) from error

    return decode


def quick_decoder(cls: type, fields: list[Field], decode: Decode) -> Decode:
    """Return a faster `decode` for payloads that fit (1.4 µs instead of 2.9 for two fields).

    It uses the cattrs function that stops at the first error without saying where, and asks `decode` if there is
    one. For the outermost record only: nested, each level would decode what is below it twice.
    """
    structure = _structure(cls, fields, detailed=False)
    has_all = frozenset(field.name for field in fields).issuperset

    def decode_quickly(value: Any, _type: Any = None, /) -> Any:
        try:
            if has_all(value):
                return structure(value, cls)
        except Exception:  # noqa: BLE001, S110 - whatever it is, `decode` finds it again and says where
            pass
        return decode(value)

    return decode_quickly


def _structure(cls: type, fields: list[Field], *, detailed: bool) -> typing.Callable[[Any, type], Any]:
    """Return the function that cattrs generates.

    cattrs sees stand-ins named f0, f1, …, since it takes overrides as keywords beside its own parameters:
    a field named ``converter`` could not be passed.
    """
    stand_ins = attrs.make_class("_", {f"f{i}": _stand_in(one) for i, one in enumerate(fields)}, init=False)
    return make_dict_structure_fn_from_attrs(
        list(attrs.fields(stand_ins)),
        cls,
        _CONVERTER,
        _cattrs_forbid_extra_keys=detailed,
        _cattrs_use_linecache=False,
        _cattrs_detailed_validation=detailed,
        **{f"f{i}": override(rename=f.name, struct_hook=f.codec.decode) for i, f in enumerate(fields)},
    )


def _stand_in(field: Field) -> Any:
    default = attrs.NOTHING if field.required else None  # only whether there is one matters
    return attrs.field(default=default, alias=field.alias, kw_only=True, type=Any)


def _misfit(error: cattrs.ClassValidationError, names: Mapping[str, str]) -> Misfit:
    fields, others = error.group_exceptions()
    parts: list[Misfit] = []
    for found, note in fields:
        misfit = Misfit("is missing") if isinstance(found, KeyError) else _as_misfit(found)
        parts.append(misfit.under(f".{names[note.name]}"))
    for found in others:
        if isinstance(found, cattrs.ForbiddenExtraKeysError):
            parts.append(_odd_fields((), found.extra_fields))
        else:
            parts.append(_as_misfit(found))
    return Misfit.all_of(parts)


def _as_misfit(error: Exception) -> Misfit:
    """Return what a codec found, or what a validator or the constructor raised."""
    return error if isinstance(error, Misfit) else Misfit(f"{type(error).__name__}: {error}")


# -------------------------------------------------------------------------------------------------- fields


def fields_of(annotation: Any, scope: Scope) -> list[Field]:
    """Return the fields of a record in order, type arguments filled in.

    Raises:
        Misfit: a field cannot be stored.

    """
    origin = typing.get_origin(annotation) or annotation
    types, bindings = field_types(origin, local=scope.local), _bindings(annotation)
    fields: list[Field] = []
    for declared in _declared(origin, types):
        annotated = types.get(declared.name, declared.annotation)
        try:
            if annotated is None:
                raise Misfit("has no annotation, so nobody knows how to store it")
            codec = scope.codec(_bound(annotated, bindings))
        except Misfit as misfit:
            raise misfit.under(f".{declared.name}") from None
        fields.append(Field(declared.name, codec, declared.alias, declared.required, declared.default))
    return fields


@attrs.frozen
class _Declared:
    """A field as its class declares it; `annotation` only where the class keeps its own."""

    name: str
    alias: str
    required: bool
    default: Any = attrs.NOTHING
    annotation: Any = None


def _declared(cls: Any, types: Mapping[str, Any]) -> Iterable[_Declared]:
    if _is_typeddict(cls):
        return [_Declared(name, name, _is_required(cls, name, hint)) for name, hint in types.items()]
    if attrs.has(cls):
        return [_from_attrs(field) for field in attrs.fields(cls) if field.init]
    if dataclasses.is_dataclass(cls):
        return _from_dataclass(cls, types)
    return [
        _Declared(name, name, name not in cls._field_defaults, cls._field_defaults.get(name, attrs.NOTHING))
        for name in cls._fields
    ]


def _from_attrs(field: attrs.Attribute[Any]) -> _Declared:
    required = field.default is attrs.NOTHING
    # A factory gives no value to look at, and what stands before a converter need not fit.
    opaque = required or field.converter is not None or isinstance(field.default, attrs.Factory)  # type: ignore[arg-type]
    default = attrs.NOTHING if opaque else field.default
    return _Declared(field.name, field.alias or field.name, required, default, field.type)


def _from_dataclass(cls: Any, types: Mapping[str, Any]) -> Iterable[_Declared]:
    for name, hint in types.items():
        if isinstance(hint, dataclasses.InitVar):
            raise Misfit("is an InitVar, which the class does not keep").under(f".{name}")
    return [
        _Declared(
            field.name,
            field.name,
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
            attrs.NOTHING if field.default is dataclasses.MISSING else field.default,
        )
        for field in dataclasses.fields(cls)
        if field.init
    ]


def _is_typeddict(cls: type) -> bool:
    """Say whether it is a typed dict, of `typing` or of `typing_extensions`."""
    return issubclass(cls, dict) and hasattr(cls, "__total__")


def _is_required(cls: Any, name: str, hint: Any) -> bool:
    """Go by the qualifier first: where annotations are strings, the class has not seen it."""
    qualifier = typing.get_origin(hint)
    if qualifier in {typing.Required, typing.NotRequired}:
        return qualifier is typing.Required
    return name in cls.__required_keys__


def _bindings(annotation: Any) -> dict[Any, Any]:
    """Return what the type variables of a generic class, and of its bases, stand for."""
    origin = typing.get_origin(annotation) or annotation
    found = dict(zip(getattr(origin, "__parameters__", ()), typing.get_args(annotation), strict=False))
    for base in getattr(origin, "__orig_bases__", ()):
        for variable, argument in _bindings(base).items():
            found.setdefault(variable, _bound(argument, found))
    return found


def _bound(annotation: Any, bindings: Mapping[Any, Any]) -> Any:
    if isinstance(annotation, TypeVar):
        return bindings.get(annotation, annotation)
    parameters = getattr(annotation, "__parameters__", ())
    if not parameters or not bindings or isinstance(annotation, type):
        return annotation
    return annotation[tuple(bindings.get(one, one) for one in parameters)]
