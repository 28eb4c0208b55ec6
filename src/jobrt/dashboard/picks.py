"""Understand the filters that a URL or a form holds, and write them back: those of ``jobs``, by the same names."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

import attrs

from jobrt._views.filters import build_filter
from jobrt.errors import InvalidFilter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from jobrt._core.where import Where

__all__ = ["FIELDS", "Picked", "number", "read"]

_MANY: Final = {
    "state": "states",
    "queue": "queues",
    "name": "names",
    "tag": "tags",
    "worker": "workers",
    "args": "args_equal",
    "meta": "metadata_equal",
}
_ONE: Final = ("since", "before")
FIELDS: Final = (*_MANY, *_ONE)
_LARGEST: Final = 2**63 - 1


@attrs.frozen
class Picked:
    """Which jobs are meant: by filters (all have to match), or by ids; `rest` is what else was asked.

    Times without an offset are UTC, as the pages show them.
    """

    filters: Mapping[str, tuple[str, ...]]
    ids: tuple[int, ...]
    rest: Mapping[str, str]
    where: Where | None

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Return the filters as a URL has them."""
        return [(key, value) for key, values in self.filters.items() for value in values]


def read(pairs: Iterable[tuple[str, str]], *, also: Collection[str] = (), ids: bool = False) -> Picked:
    """Return what key and value pairs mean; empty values mean nothing. With `ids`, jobs may be named by ``id``.

    Raises:
        InvalidFilter: a key that is neither a filter nor one of `also`; or a value that makes no sense.

    """
    found: dict[str, list[str]] = {}
    for key, value in pairs:
        if value:
            found.setdefault(key, []).append(value)
    unknown = sorted(set(found) - {*FIELDS, *also} - ({"id"} if ids else set()))
    if unknown:
        msg = f"there is no filter {unknown[0]!r}: use {', '.join(FIELDS)}"
        raise InvalidFilter(msg)
    for key in {*_ONE, *also} & set(found):
        if len(found[key]) > 1:
            msg = f"{key} is given twice"
            raise InvalidFilter(msg)
    filters = {key: tuple(found[key]) for key in FIELDS if key in found}
    named = tuple(number("id", one) for one in found.get("id", ()))
    return Picked(filters, named, {key: found[key][0] for key in also if key in found}, _where(filters))


def _where(filters: Mapping[str, tuple[str, ...]]) -> Where | None:
    many: dict[str, Any] = {option: filters.get(key, ()) for key, option in _MANY.items()}
    one: dict[str, Any] = {key: filters[key][0] for key in _ONE if key in filters}
    return build_filter(**many, **one, zone=UTC)


def number(what: str, text: str) -> int:
    """Return a job's id, or another whole number above zero; raise `InvalidFilter`."""
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:20]) <= _LARGEST):
        msg = f"{what} is {text!r}: give a whole number above zero"
        raise InvalidFilter(msg)
    return int(text)
