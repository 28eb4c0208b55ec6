"""Codecs of unions, with a tag only if the JSON does not determine the member."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from jobrt._payload.codecs import Codec, CodecError, JsonKind
from jobrt._payload.leaves import ANY, NONE

_KINDS: Final[Mapping[type, JsonKind]] = {
    type(None): "null",
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    list: "list",
    dict: "object",
}

_Candidates: TypeAlias = tuple[Codec, ...]
"""Members to try in order; several only if all are plain."""


def optional_codec(inner: Codec) -> Codec:
    """Return the codec of ``T | None``: null, or the JSON of T."""

    def encode(value: Any) -> Any:
        return None if value is None else inner.encode(value)

    def decode(value: Any) -> Any:
        return None if value is None else inner.decode(value)

    types, kinds = (*inner.types, type(None)), inner.json_kinds | NONE.json_kinds
    return Codec(f"{inner.name} | None", kinds, types, encode, decode, plain=inner.plain)


def union_codec(members: tuple[Codec, ...]) -> Codec:
    """Return the codec of a union.

    A member needs no tag if its JSON is the value itself (str, int, …), or if it is not an object and no other
    member has JSON of its kind. All others are stored as ``{"tag": …}``, where the tag is the member's name.

    Raises:
        CodecError: two members cannot be distinguished.

    """
    name = " | ".join(member.name for member in members)
    if ANY in members:
        if all(member.plain or member is ANY for member in members):
            return ANY
        raise CodecError(
            f"Any in {name} matches any JSON, so the other members cannot be recognized; remove it"
        )
    by_type = _by_type(members)
    tags = {member: member.name.partition("[")[0] for member in members if _needs_tag(member, members)}
    by_tag = {tag: member for member, tag in tags.items()}
    if len(by_tag) != len(tags):
        raise CodecError(f"two members of {name} have the same name and so the same tag; rename one of them")
    by_kind = _by_kind([member for member in members if member not in tags])
    kinds = frozenset[JsonKind](("object", *by_kind) if tags else by_kind)
    encode, decode = _encoder(name, by_type, tags), _decoder(name, by_kind, by_tag)
    return Codec(name, kinds, tuple(by_type), encode, decode)


def _needs_tag(member: Codec, members: tuple[Codec, ...]) -> bool:
    if member.plain:
        return False
    others = {kind for other in members if other is not member for kind in other.json_kinds}
    return "object" in member.json_kinds or not others.isdisjoint(member.json_kinds)


def _by_type(members: tuple[Codec, ...]) -> dict[type, _Candidates]:
    """Return the members by the runtime type of a value."""
    found: dict[type, _Candidates] = {}
    for member in members:
        for kind in member.types:
            found[kind] = (*found.get(kind, ()), member)
    for candidates in found.values():
        if len(candidates) > 1 and not all(member.plain for member in candidates):
            names = " and ".join(member.name for member in candidates)
            raise CodecError(f"{names} cannot be distinguished in a union; define a class for one of them")
    if float in found:  # an int is a valid float
        found.setdefault(int, found[float])
    return found


def _by_kind(untagged: list[Codec]) -> dict[JsonKind, _Candidates]:
    found: dict[JsonKind, _Candidates] = {}
    for member in untagged:
        for kind in member.json_kinds:
            found[kind] = (*found.get(kind, ()), member)
    if "float" in found:  # PostgreSQL returns 1e20 as an int
        found.setdefault("int", found["float"])
    return found


def _encoder(
    name: str, by_type: Mapping[type, _Candidates], tags: Mapping[Codec, str]
) -> Callable[[Any], Any]:
    def encode(value: Any) -> Any:
        candidates: _Candidates = ()
        for kind in type(value).__mro__:
            if kind in by_type:
                candidates = by_type[kind]
                break
        errors: list[CodecError] = []
        for member in candidates:
            try:
                encoded = member.encode(value)
            except CodecError as error:
                errors.append(error)
            else:
                return {tags[member]: encoded} if member in tags else encoded
        raise errors[0] if len(errors) == 1 else CodecError.expected(name, value)

    return encode


def _decoder(
    name: str, by_kind: Mapping[JsonKind, _Candidates], by_tag: Mapping[str, Codec]
) -> Callable[[Any], Any]:
    expected = name + "".join(f" or {{{tag!r}: …}}" for tag in by_tag)

    def decode(value: Any) -> Any:
        if value.__class__ is dict and len(value) == 1:
            ((tag, inner),) = value.items()
            if tag in by_tag:
                return _decode_tagged(by_tag[tag], tag, inner)
        errors: list[CodecError] = []
        for member in by_kind.get(_KINDS.get(value.__class__, "object"), ()):
            try:
                return member.decode(value)
            except CodecError as error:
                errors.append(error)
        raise errors[0] if len(errors) == 1 else CodecError.expected(expected, value)

    return decode


def _decode_tagged(member: Codec, tag: str, inner: Any) -> Any:
    try:
        return member.decode(inner)
    except CodecError as error:
        error.under(f"[{tag!r}]")
        raise
