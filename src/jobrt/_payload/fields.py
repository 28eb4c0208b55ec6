"""Fields of records: attrs classes, dataclasses, named tuples, typed dicts."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from typing import Any

import attrs

from jobrt._payload.annotations import field_types, own_annotations, signature, substitute
from jobrt._payload.codecs import Codec, CodecError, Scope


@attrs.frozen
class Field:
    """Field of a record.

    Args:
        name: name of the attribute, and key in the stored object.
        codec: codec of its values.
        alias: name of the constructor's parameter.
        required: whether there must be a value.
        default: default value; `attrs.NOTHING` if there is none, or a factory.

    """

    name: str
    codec: Codec
    alias: str
    required: bool
    default: Any


def is_record(origin: Any) -> bool:
    """Return whether a class (without type arguments) is stored as an object with named fields."""
    return inspect.isclass(origin) and (
        attrs.has(origin)
        or dataclasses.is_dataclass(origin)
        or is_typeddict(origin)
        or (tuple in origin.__mro__ and hasattr(origin, "_fields"))
    )


def is_typeddict(cls: type) -> bool:
    """Return whether a class is a typed dict, of `typing` or of `typing_extensions`."""
    return dict in cls.__mro__ and hasattr(cls, "__total__")


def fields_of(annotation: Any, scope: Scope) -> list[Field]:
    """Return the fields of a record, with type arguments; raise `CodecError` if a field cannot be stored."""
    origin = typing.get_origin(annotation) or annotation
    declared, bindings = _declared_fields(origin), _bindings(annotation)
    types = field_types(origin, {field.name for field in declared}, local=scope.local)
    fields: list[Field] = []
    for field in declared:
        hint = types.get(field.name, field.annotation)
        try:
            codec = scope.codec(substitute(hint, bindings))
        except CodecError as error:
            error.under(f".{field.name}")
            raise
        required = _is_required(hint, otherwise=field.required)
        fields.append(Field(field.name, codec, field.alias, required, field.default))
    return fields


@attrs.frozen
class _Declared:
    """Field as declared by its class; ``annotation`` is set by `attrs.make_class`, for example."""

    name: str
    alias: str
    required: bool
    default: Any
    annotation: Any = inspect.Parameter.empty


def _declared_fields(cls: Any) -> list[_Declared]:
    if is_typeddict(cls):
        required = cls.__required_keys__
        return [_Declared(name, name, name in required, attrs.NOTHING) for name in own_annotations(cls)]
    if attrs.has(cls):
        return [_from_attrs(field) for field in attrs.fields(cls) if field.init]
    if dataclasses.is_dataclass(cls):
        return _from_dataclass(cls)
    defaults = cls._field_defaults
    return [
        _Declared(name, name, name not in defaults, defaults.get(name, attrs.NOTHING)) for name in cls._fields
    ]


def _from_attrs(field: attrs.Attribute[Any]) -> _Declared:
    required = field.default is attrs.NOTHING
    # A factory has no value to check, and a converter can accept a default of another type.
    opaque = field.converter is not None or isinstance(field.default, attrs.Factory)  # type: ignore[arg-type]
    default = attrs.NOTHING if opaque else field.default
    annotation = inspect.Parameter.empty if field.type is None else field.type
    return _Declared(field.name, field.alias or field.name, required, default, annotation)


def _from_dataclass(cls: Any) -> list[_Declared]:
    fields = dataclasses.fields(cls)
    for name in signature(cls).parameters.keys() - {field.name for field in fields}:
        raise CodecError("is a parameter of the class but not a field, so it cannot be stored").under(
            f".{name}"
        )
    missing = dataclasses.MISSING
    return [
        _Declared(
            field.name,
            field.name,
            field.default is missing and field.default_factory is missing,
            attrs.NOTHING if field.default is missing else field.default,
        )
        for field in fields
        if field.init
    ]


def _is_required(hint: Any, *, otherwise: bool) -> bool:
    """Return whether the qualifier, if there is one, requires a value: a typed dict ignores it in a string."""
    qualifier = typing.get_origin(hint)
    return qualifier is typing.Required if qualifier in {typing.Required, typing.NotRequired} else otherwise


def _bindings(annotation: Any) -> dict[Any, Any]:
    """Return the values of the type variables of a generic class and of its bases."""
    origin = typing.get_origin(annotation) or annotation
    found = dict(zip(getattr(origin, "__parameters__", ()), typing.get_args(annotation), strict=False))
    for base in getattr(origin, "__orig_bases__", ()):
        for variable, argument in _bindings(base).items():
            found.setdefault(variable, substitute(argument, found))
    return found
