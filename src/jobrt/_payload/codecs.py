"""Codecs, their errors, and the scope in which they are created.

A codec is a pair of functions that check values. They raise `CodecError` for an invalid value, without knowing what
contains it. Each container adds its own step (`.rows`, `[3]`) to the error, so a path costs nothing for valid values.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs

JsonKind = Literal["null", "bool", "int", "float", "str", "list", "object"]

_PROBLEM_LIMIT = 5  # in one message; more would bury the first

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_short.maxlong = 30


def describe(value: object) -> str:
    """Return type and short repr of an invalid value, for a message."""
    return "None" if value is None else f"{type(value).__name__} {short_repr(value)}"


def short_repr(value: object) -> str:
    """Return a short repr in one line, even if `repr` fails, as for an int of more than 4300 digits."""
    try:
        text = _short.repr(value)
        return text if text.isprintable() else "".join(map(_printable, text))
    except Exception:  # noqa: BLE001 - no error in a class's `repr` may hide the message that shows the value
        return "…"


def _printable(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]


class CodecError(Exception):
    """Values that do not match their annotations, each with its path from the converted value.

    ``unknown`` tells whether the value has a field that its class does not have.
    """

    def __init__(self, text: str, *, unknown: bool = False) -> None:
        super().__init__(text)
        self.problems: list[tuple[str, str]] = [("", text)]
        self.unknown = unknown

    @classmethod
    def expected(cls, what: str, value: object) -> CodecError:
        """Return the usual error, with the expected type and the value."""
        return cls(f"expected {what}, got {describe(value)}")

    @classmethod
    def all_of(cls, errors: list[CodecError]) -> CodecError:
        """Return an error with the problems of several; a single error is returned unchanged, with its cause."""
        if len(errors) == 1:
            return errors[0]
        joined = cls("", unknown=any(error.unknown for error in errors))
        joined.problems = [problem for error in errors for problem in error.problems]
        return joined

    def under(self, step: str) -> CodecError:
        """Put `step` before each path, and return this error."""
        self.problems = [(step + path, text) for path, text in self.problems]
        return self

    def message(self, label: str) -> str:
        """Return a message with each problem and its path, which starts with `label`."""
        lines = [f"{label}{path}: {text}" for path, text in self.problems[:_PROBLEM_LIMIT]]
        more = len(self.problems) - _PROBLEM_LIMIT
        return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


@attrs.frozen(eq=False)
class Codec:
    """Conversion of the values of one annotation to JSON and back.

    Args:
        name: the annotation, for messages.
        json_kinds: kinds of its JSON values, from which a union decides which members need a tag.
        types: runtime types of its values, by which a union finds the member.
        encode: Python value to JSON value; raises `CodecError`.
        decode: JSON value to Python value; raises `CodecError`.
        plain: whether the JSON is the value itself, so that it never needs a tag.
        exact: type whose values need no further checks, so that a list of them is checked in C.

    """

    name: str
    json_kinds: frozenset[JsonKind]
    types: tuple[type, ...]
    encode: Callable[[Any], Any] = attrs.field(repr=False)
    decode: Callable[[Any], Any] = attrs.field(repr=False)
    plain: bool = attrs.field(default=False, kw_only=True)
    exact: type | None = attrs.field(default=None, kw_only=True)


@attrs.define(eq=False)
class Scope:
    """Scope in which the codecs of a class are created.

    Args:
        make: function that returns the codec of any annotation. Containers need it for their items, but its module
            imports theirs.
        local: names of the functions around the class.
        records: codecs of records by annotation; None while a codec is being created.
        aliases: aliases whose codecs are being created.

    """

    make: Callable[[Any, Scope], Codec]
    local: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    records: dict[Any, Codec | None] = attrs.field(factory=dict["Any", "Codec | None"])
    aliases: set[Any] = attrs.field(factory=set["Any"])

    def codec(self, annotation: Any) -> Codec:
        """Return the codec of an annotation."""
        return self.make(annotation, self)
