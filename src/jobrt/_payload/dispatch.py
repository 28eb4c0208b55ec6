"""Codecs by annotation; the only module that depends on all kinds of annotations."""

import enum
import inspect
import types
import typing
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Final, Literal, NewType, Union

from jobrt._payload.annotations import alias_value, is_alias
from jobrt._payload.codecs import Codec, CodecError, Scope
from jobrt._payload.containers import collection_codec, dict_codec, tuple_codec
from jobrt._payload.fields import is_record
from jobrt._payload.leaves import ANY, LEAVES, NONE, enum_codec, literal_codec, path_codec
from jobrt._payload.records import record_codec
from jobrt._payload.unions import optional_codec, union_codec

_QUALIFIERS: Final = (
    typing.Required,
    typing.NotRequired,
    getattr(typing, "ReadOnly", typing.Required),  # from Python 3.13 on
)
_BARE: Final[Mapping[Any, Any]] = {
    list: list[Any],
    set: set[Any],
    frozenset: frozenset[Any],
    tuple: tuple[Any, ...],
    dict: dict[str, Any],
}
_INSTEAD: Final[Mapping[str, str]] = {
    "Sequence": "list[…] or tuple[…, …]",
    "Iterable": "list[…] or tuple[…, …]",
    "Collection": "list[…] or tuple[…, …]",
    "MutableSequence": "list[…]",
    "Mapping": "dict[…, …]",
    "MutableMapping": "dict[…, …]",
    "Set": "set[…] or frozenset[…]",
    "bytearray": "bytes",
    "object": "typing.Any, for plain JSON",
}


def codec_for(annotation: Any, scope: Scope) -> Codec:
    """Return the codec of an annotation.

    Raises:
        CodecError: its values cannot be stored; the message says what to use instead.
        Unresolved: it has a name that does not exist, or not yet.

    """
    meaning = _stripped(annotation)
    origin, arguments = typing.get_origin(meaning), typing.get_args(meaning)
    if origin is Literal:
        return literal_codec(arguments)
    if origin in {Union, types.UnionType}:
        return _union(arguments, scope)
    if is_alias(origin or meaning):
        return _alias(meaning, scope)
    if is_record(origin or meaning):
        return record_codec(meaning, scope)
    if isinstance(origin, type):
        return _container(meaning, scope)
    return _leaf(meaning)


def _stripped(annotation: Any) -> Any:
    """Return the type within `Annotated`, `NewType` or the qualifier of a typed dict."""
    while True:
        if typing.get_origin(annotation) in {Annotated, *_QUALIFIERS}:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        else:
            return _BARE.get(annotation, annotation) if isinstance(annotation, type) else annotation


def _alias(annotation: Any, scope: Scope) -> Codec:
    if annotation in scope.aliases:
        raise CodecError(f"the alias {annotation} contains itself; use typing.Any for plain JSON, or a class")
    scope.aliases.add(annotation)
    try:
        return scope.codec(alias_value(annotation))
    finally:
        scope.aliases.remove(annotation)


def _leaf(annotation: Any) -> Codec:
    try:
        if annotation in LEAVES:
            return LEAVES[annotation]
    except TypeError:  # unhashable
        raise _unsupported(annotation) from None
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return enum_codec(annotation)
    if isinstance(annotation, type) and issubclass(annotation, PurePath):
        return path_codec(annotation)
    raise _unsupported(annotation)


def _container(annotation: Any, scope: Scope) -> Codec:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in {list, set, frozenset} or (origin is tuple and Ellipsis in arguments):
        return collection_codec(origin, scope.codec(arguments[0]))
    if origin is tuple:
        return tuple_codec(tuple(map(scope.codec, arguments)))
    if origin is dict:
        return dict_codec(scope.codec(arguments[0]), scope.codec(arguments[1]))
    raise _unsupported(annotation)


def _union(arguments: tuple[Any, ...], scope: Scope) -> Codec:
    members = tuple(map(scope.codec, arguments))
    match [member for member in members if member is not NONE]:
        case [inner] if inner is not ANY:
            return optional_codec(inner)
        case _:
            return union_codec(members)


def _unsupported(annotation: Any) -> CodecError:
    if annotation is inspect.Parameter.empty:
        return CodecError("has no annotation, so it cannot be stored")
    if isinstance(annotation, typing.TypeVar):
        return CodecError(
            f"the type variable {annotation.__name__} has no value; use type arguments for the class"
        )
    name = getattr(annotation, "__qualname__", None) or str(annotation)
    plain = getattr(typing.get_origin(annotation) or annotation, "__name__", "")
    instead = _INSTEAD.get(
        plain,
        "JSON values, enums, times, UUID, Decimal, bytes, Path, attrs classes, dataclasses, "
        "or lists, tuples, sets, dicts and unions of them",
    )
    return CodecError(f"{name} cannot be stored in a payload; use {instead}")
