"""Encode and decode values of several types, with a tag only where the JSON would not tell which one it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from jobrt._payload.codecs import Codec, CodecError, JsonKind
from jobrt._payload.leaves import ANY, NONE

__all__ = ["optional_codec", "union_codec"]

_KINDS: Final[Mapping[type, JsonKind]] = {
    type(None): "null",
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    list: "list",
    dict: "object",
}


def optional_codec(inner: Codec) -> Codec:
    """Return the codec of ``T | None``: null, or as T is."""

    def encode(value: Any) -> Any:
        return None if value is None else inner.encode(value)

    def decode(value: Any) -> Any:
        return None if value is None else inner.decode(value)

    types = (*inner.types, type(None))
    return Codec(f"{inner.name} | None", inner.kinds | NONE.kinds, types, encode, decode, plain=inner.plain)


def union_codec(members: tuple[Codec, ...]) -> Codec:
    """Return the codec of a union.

    A member goes without a tag if its JSON is the value itself (str, int, …), or if no other member has JSON
    of its kind and it is not an object. All others are stored as ``{"tag": …}``, the tag being their name.

    Raises:
        CodecError: two members cannot be told apart.

    """
    name = " | ".join(member.name for member in members)
    if ANY in members:
        if all(member.plain or member is ANY for member in members):
            return ANY
        raise CodecError(
            f"Any, which is plain JSON, leaves nothing to know the others of {name} by; leave it out"
        )
    by_type = _by_type(members)
    tags = {member: member.name.partition("[")[0] for member in members if _needs_tag(member, members)}
    by_tag = {tag: member for member, tag in tags.items()}
    if len(by_tag) != len(tags):
        raise CodecError(
            f"two members of {name} have the same name, which is what tells them apart when stored"
        )
    by_kind = _by_kind([member for member in members if member not in tags])

    def encode(value: Any) -> Any:
        candidates = next((by_type[kind] for kind in type(value).__mro__ if kind in by_type), ())
        member, json = _first(candidates, lambda one: one.encode(value), CodecError.expected(name, value))
        return {tags[member]: json} if member in tags else json

    def decode(value: Any) -> Any:
        if value.__class__ is dict and len(value) == 1:
            ((tag, inner),) = value.items()
            if tag in by_tag:
                return _untag(by_tag[tag], tag, inner)
        candidates = by_kind.get(_KINDS.get(value.__class__, "object"), ())
        expected = name + "".join(f" or {{{tag!r}: …}}" for tag in by_tag)
        return _first(candidates, lambda one: one.decode(value), CodecError.expected(expected, value))[1]

    kinds = frozenset[JsonKind](("object", *by_kind) if tags else by_kind)
    return Codec(name, kinds, tuple(by_type), encode, decode)


def _needs_tag(member: Codec, members: tuple[Codec, ...]) -> bool:
    if member.plain:
        return False
    others = {kind for other in members if other is not member for kind in other.kinds}
    return "object" in member.kinds or not others.isdisjoint(member.kinds)


def _by_type(members: tuple[Codec, ...]) -> dict[type, tuple[Codec, ...]]:
    """Return which members may have made a value of a runtime type; several only if all are plain."""
    found: dict[type, tuple[Codec, ...]] = {}
    for member in members:
        for kind in member.types:
            found[kind] = (*found.get(kind, ()), member)
    for candidates in found.values():
        if len(candidates) > 1 and not all(one.plain for one in candidates):
            names = " and ".join(one.name for one in candidates)
            raise CodecError(f"{names} cannot be told apart in a union; make one of them a class of its own")
    if float in found:  # an int is good where a float is expected
        found.setdefault(int, found[float])
    return found


def _by_kind(untagged: list[Codec]) -> dict[JsonKind, tuple[Codec, ...]]:
    found: dict[JsonKind, tuple[Codec, ...]] = {}
    for member in untagged:
        for kind in member.kinds:
            found[kind] = (*found.get(kind, ()), member)
    if "float" in found:  # PostgreSQL gives 1e20 back as an int
        found.setdefault("int", found["float"])
    return found


def _first(
    candidates: Iterable[Codec], convert: Callable[[Codec], Any], otherwise: CodecError
) -> tuple[Codec, Any]:
    """Return the first candidate that takes the value, and what it makes of it."""
    misfits: list[CodecError] = []
    for member in candidates:
        try:
            return member, convert(member)
        except CodecError as misfit:
            misfits.append(misfit)
    raise misfits[0] if len(misfits) == 1 else otherwise


def _untag(member: Codec, tag: str, inner: Any) -> Any:
    try:
        return member.decode(inner)
    except CodecError as misfit:
        misfit.under(f"[{tag!r}]")
        raise
