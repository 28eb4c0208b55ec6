"""Meaning of annotations: strings, forward references, names local to a function.

Annotations are resolved one by one and not class by class. So an error can name the field, and the annotations of
class constants and of `ctx` need not be resolvable.
"""

import inspect
import sys
import typing
from collections.abc import Callable, Collection, Mapping
from types import FrameType
from typing import Any

from jobrt._payload.codecs import CodecError

if sys.version_info >= (3, 14):
    import annotationlib


class Unresolved(CodecError):
    """Annotation with a name that does not exist, or does not exist yet."""


def signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return a signature; annotations that cannot be resolved, such as that of `ctx`, stay as they are."""
    if sys.version_info >= (3, 14):
        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(function)


def own_annotations(cls: type) -> Mapping[str, Any]:
    """Return the annotations of the class's own body, which can be strings or forward references."""
    if sys.version_info >= (3, 14):
        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    return inspect.get_annotations(cls)


def enclosing_names(cls: type, frame: FrameType | None) -> dict[str, Any]:
    """Return the names around a class that is being defined, if its module does not have them.

    The string annotations of a class in a function, as in tests, can name other local classes. Python keeps no
    link to them. And code that is run by `exec` has no module.
    """
    names: dict[str, Any] = {}
    while frame is not None:
        code = frame.f_code
        if cls.__qualname__.startswith(f"{code.co_qualname}.<locals>."):
            names = {**frame.f_locals, **names}
        if code.co_name == "<module>":
            if frame.f_globals.get("__name__", "builtins") == cls.__module__:
                names = {**_names_missing_in(cls.__module__, frame.f_globals), **names}
            break
        frame = frame.f_back
    return names


def _names_missing_in(module: str, names: Mapping[str, Any]) -> Mapping[str, Any]:
    imported = sys.modules.get(module)
    return {} if imported is not None and vars(imported) is names else names


def resolve(annotation: Any, names: dict[str, Any]) -> Any:
    """Return an annotation with the strings in it evaluated in `names`.

    Raises:
        Unresolved: a name does not exist.
        CodecError: it is not an annotation.

    """
    carrier = type("_", (), {"__annotations__": {"it": annotation}})
    try:
        return typing.get_type_hints(carrier, globalns=names, localns={}, include_extras=True)["it"]
    except NameError as error:
        raise Unresolved(f"the annotation {_shown(annotation)} cannot be resolved ({error})") from None
    except (SyntaxError, TypeError) as error:
        raise CodecError(f"the annotation {_shown(annotation)} is invalid ({error})") from None


def _shown(annotation: Any) -> str:
    return repr(getattr(annotation, "__forward_arg__", annotation))


def field_types(cls: type, fields: Collection[str], *, local: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resolved annotations of these fields of a class and its bases.

    Names are looked up in `local`, then in the module that defines the annotation, then in the class's own body.
    The body comes last because a field's default would hide the type of the same name (``date: date = …``).
    """
    types: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        module = sys.modules.get(base.__module__)
        names = {**vars(base), **(vars(module) if module else {}), **local}
        for field, annotation in own_annotations(base).items():
            if field not in fields:  # a constant: the names in its annotation need not exist at run time
                continue
            try:
                types[field] = resolve(annotation, names)
            except CodecError as error:
                error.under(f".{field}")
                raise
    return types


def substitute(annotation: Any, bindings: Mapping[Any, Any]) -> Any:
    """Return an annotation with the type variables in `bindings` replaced."""
    if isinstance(annotation, typing.TypeVar):
        return bindings.get(annotation, annotation)
    parameters = getattr(annotation, "__parameters__", ())
    if not parameters or not bindings or isinstance(annotation, type):
        return annotation
    return annotation[tuple(bindings.get(parameter, parameter) for parameter in parameters)]


def is_alias(origin: Any) -> bool:
    """Return whether an annotation was made by ``type X = …`` (Python 3.12) or by `typing_extensions`."""
    return type(origin).__name__ == "TypeAliasType"


def alias_value(annotation: Any) -> Any:
    """Return the value of an alias, with or without arguments; raise `Unresolved` if a name does not exist yet."""
    alias = typing.get_origin(annotation) or annotation
    try:
        value = alias.__value__
    except NameError as error:
        raise Unresolved(f"the alias {alias} cannot be resolved ({error})") from None
    return substitute(value, dict(zip(alias.__type_params__, typing.get_args(annotation), strict=False)))
