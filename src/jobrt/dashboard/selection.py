"""Selection of jobs in a URL or a form, with the same filter names as the command line."""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC
from typing import Final

import attrs

from jobrt._core.where import Where
from jobrt._views.filters import FIELDS, REPEATABLE, build_filter
from jobrt.errors import InvalidFilter

_LARGEST: Final = 2**63 - 1
_DIGITS: Final = len(str(_LARGEST))
_ABOUT: Final = ("queue", "cron")
_SHOWN: Final = 40
"""Characters of a wrong value that an error quotes."""


@attrs.frozen
class Selection:
    """Jobs selected by filters, which must all match, or by ids; ``rest`` holds the other parameters."""

    filters: Mapping[str, tuple[str, ...]]
    ids: tuple[int, ...]
    rest: Mapping[str, str]
    where: Where | None

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Return the filters as key and value pairs for a URL."""
        return [(key, value) for key, values in self.filters.items() for value in values]


def parse_selection(
    pairs: Iterable[tuple[str, str]], *, also: Collection[str] = (), ids: bool = False
) -> Selection:
    """Parse key and value pairs; pairs with an empty value are ignored. Times without an offset are in UTC.

    Args:
        pairs: the parameters of a URL or a form.
        also: keys that are allowed besides the filters.
        ids: whether jobs may be selected by ``id``.

    Raises:
        InvalidFilter: a key is unknown or repeated, or a value cannot be parsed.

    """
    found: dict[str, list[str]] = {}
    for key, value in pairs:
        if value:
            found.setdefault(key, []).append(value)
    unknown = sorted(set(found) - {*FIELDS, *also} - ({"id"} if ids else set()))
    if unknown:
        raise InvalidFilter(f"unknown filter {unknown[0]!r}: use {', '.join(FIELDS)}")
    for key, values in found.items():
        if len(values) > 1 and key not in {*REPEATABLE, "id"}:
            raise InvalidFilter(f"{key} is given twice: give it once")
    filters = {key: tuple(found[key]) for key in FIELDS if key in found}
    job_ids = tuple(parse_number("id", text) for text in found.get("id", ()))
    rest = {key: found[key][0] for key in also if key in found}
    return Selection(filters, job_ids, rest, build_filter(filters, zone=UTC))


def parse_about(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the queue or the cron entry whose actions are asked for, as the argument of `Client.actions`.

    Raises:
        InvalidFilter: there are other parameters.

    """
    given = {key: value for key, value in pairs if value}
    for key in given:
        if key not in _ABOUT:
            raise InvalidFilter(f"unknown parameter {key!r}: use {' or '.join(_ABOUT)}")
    return given


def parse_number(name: str, text: str) -> int:
    """Return a job id or another whole number above zero; raise `InvalidFilter`."""
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS and 0 < int(text) <= _LARGEST):
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        raise InvalidFilter(f"{name} is {shown!r}: use a whole number above zero")
    return int(text)
