"""Hold what every codec is made of: two checked functions, and an error that knows where it happened.

A `CodecError` is raised where a value does not fit, without knowing what that value is part of; each container
on the way out puts its own step in front (`.rows`, `[3]`), so a path costs nothing until something is wrong.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeGuard

import attrs

__all__ = ["Codec", "CodecError", "JsonKind", "Scope", "is_array", "is_dict", "show", "shown"]

JsonKind = Literal["null", "bool", "int", "float", "str", "list", "object"]

_SHOWN = 5  # problems in one message; more would bury the first

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_short.maxlong = 30


def show(value: object) -> str:
    """Describe a wrong value for a message: its type and a short repr."""
    return "None" if value is None else f"{type(value).__name__} {shown(value)}"


def shown(value: object) -> str:
    """Return a short repr, also of a value that has none (an int of more than 4300 digits)."""
    try:
        return _short.repr(value)
    except Exception:  # noqa: BLE001 - whatever a class does there must not hide the message it is for
        return "…"


def is_dict(value: object) -> TypeGuard[dict[Any, Any]]:
    """Say whether it is a dict; type checkers then know nothing of its parts, not even that they are unknown."""
    return isinstance(value, dict)


def is_array(value: object, *, tuples: bool = False) -> TypeGuard[Sequence[Any]]:
    """Say whether it is a list, or with `tuples` a tuple."""
    return isinstance(value, list) or (tuples and isinstance(value, tuple))


class CodecError(Exception):
    """Say what does not fit, and where, seen from the value that was being encoded or decoded."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.problems: list[tuple[str, str]] = [("", text)]

    @classmethod
    def expected(cls, what: str, value: object) -> CodecError:
        """Return the usual complaint."""
        return cls(f"expected {what}, got {show(value)}")

    @classmethod
    def all_of(cls, parts: list[CodecError]) -> CodecError:
        """Return one misfit with the problems of several; a single one as it is, with its cause."""
        if len(parts) == 1:
            return parts[0]
        whole = cls("")
        whole.problems = [problem for part in parts for problem in part.problems]
        return whole

    def under(self, step: str) -> CodecError:
        """Return this misfit, seen from one level further out."""
        self.problems = [(step + path, text) for path, text in self.problems]
        return self

    def describe(self, label: str) -> str:
        """Return the message for a user, each problem with its path from `label`."""
        lines = [f"{label}{path}: {text}" for path, text in self.problems[:_SHOWN]]
        more = len(self.problems) - _SHOWN
        return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


@attrs.frozen(eq=False)
class Codec:
    """How the values of one annotation become JSON and come back.

    Args:
        name: the annotation, for messages.
        kinds: what its JSON can be, so that a union knows what needs a tag.
        types: the runtime types of its values, so that a union finds the member.
        encode: value to JSON-able value; raises `CodecError`.
        decode: JSON value to value; raises `CodecError`.
        plain: the JSON is the value itself, so that it never needs a tag.
        record: it is stored as an object with named fields, which a union always tags.
        exact: values of exactly this type need no more checks (a list of them is checked in C).

    """

    name: str
    kinds: frozenset[JsonKind]
    types: tuple[type, ...]
    encode: Callable[[Any], Any] = attrs.field(repr=False)
    decode: Callable[[Any], Any] = attrs.field(repr=False)
    plain: bool = attrs.field(default=False, kw_only=True)
    record: bool = attrs.field(default=False, kw_only=True)
    exact: type | None = attrs.field(default=None, kw_only=True)


@attrs.define(eq=False)
class Scope:
    """What is known while the codecs of one job are made.

    Args:
        make: returns the codec of any annotation.
        local: the names of the functions around the job class.
        records: codecs of records by annotation; ``None`` while one is being made.
        aliases: those whose codecs are being made.

    """

    make: Callable[[Any, Scope], Codec]
    local: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    records: dict[Any, Codec | None] = attrs.field(factory=dict["Any", "Codec | None"])

    aliases: set[Any] = attrs.field(factory=set["Any"])

    def codec(self, annotation: Any) -> Codec:
        """Return the codec of an annotation."""
        return self.make(annotation, self)
