"""Codecs, the errors that they raise, and what is known while they are made.

A codec is a pair of checked functions. They raise `CodecError` where a value does not fit, without knowing what
that value is part of. Each container on the way out adds its own step (`.rows`, `[3]`), so a path costs nothing
until something is wrong.
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
    """Describe a wrong value for a message: its type and a short repr."""
    return "None" if value is None else f"{type(value).__name__} {short_repr(value)}"


def short_repr(value: object) -> str:
    """Return a short repr, also for a value whose `repr` fails, such as an int of more than 4300 digits."""
    try:
        return _short.repr(value)
    except Exception:  # noqa: BLE001 - no error in a class's `repr` may hide the message that shows the value
        return "…"


class CodecError(Exception):
    """Values that do not fit their annotations, each with its path from the value that was converted."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.problems: list[tuple[str, str]] = [("", text)]

    @classmethod
    def expected(cls, what: str, value: object) -> CodecError:
        """Return the usual error: what the annotation asks for, and what was found."""
        return cls(f"expected {what}, got {describe(value)}")

    @classmethod
    def all_of(cls, errors: list[CodecError]) -> CodecError:
        """Return one error with the problems of several; a single one is returned as it is, with its cause."""
        if len(errors) == 1:
            return errors[0]
        joined = cls("")
        joined.problems = [problem for error in errors for problem in error.problems]
        return joined

    def under(self, step: str) -> CodecError:
        """Put `step` before each path; return this error."""
        self.problems = [(step + path, text) for path, text in self.problems]
        return self

    def message(self, label: str) -> str:
        """Return the message for a user; each problem has its path, which begins with `label`."""
        lines = [f"{label}{path}: {text}" for path, text in self.problems[:_PROBLEM_LIMIT]]
        more = len(self.problems) - _PROBLEM_LIMIT
        return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


@attrs.frozen(eq=False)
class Codec:
    """Conversion of the values of one annotation to JSON and back.

    Args:
        name: the annotation, for messages.
        json_kinds: what its JSON can be, so that a union knows which members need a tag.
        types: the runtime types of its values, so that a union finds the member.
        encode: Python value to JSON value; raises `CodecError`.
        decode: JSON value to Python value; raises `CodecError`.
        plain: the JSON is the value itself, so that it never needs a tag.
        exact: values of exactly this type need no more checks (a list of them is checked in C).

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
    """What is known while the codecs of one job class are made.

    Args:
        make: returns the codec of any annotation. It is passed in since containers need it for their items,
            and its module imports theirs.
        local: the names of the functions around the job class.
        records: codecs of records by annotation; None while one is being made.
        aliases: those whose codecs are being made.

    """

    make: Callable[[Any, Scope], Codec]
    local: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    records: dict[Any, Codec | None] = attrs.field(factory=dict["Any", "Codec | None"])
    aliases: set[Any] = attrs.field(factory=set["Any"])

    def codec(self, annotation: Any) -> Codec:
        """Return the codec of an annotation."""
        return self.make(annotation, self)
