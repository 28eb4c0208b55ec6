"""Parser of job filters as people write them: ``--since 15m --args to=a@b.c``, ``?since=15m&args=…``."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

from jobrt._core import where as w
from jobrt._core.where import Where
from jobrt.errors import InvalidFilter

REPEATABLE: Final[tuple[str, ...]] = ("state", "queue", "name", "tag", "worker", "args", "meta")
FIELDS: Final[tuple[str, ...]] = (*REPEATABLE, "parent", "since", "before")
"""Names of the filters, as in URLs and in the options of commands."""
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION_LIMIT: Final = timedelta(days=365_243)
"""A thousand years. With longer durations, sums exceed the range of the databases' times."""


class MalformedText(InvalidFilter):
    """Text that cannot be parsed as a duration, a time or ``FIELD=VALUE``."""


def parse_duration(text: str) -> timedelta:
    """Return the duration ``90``, ``90s``, ``15m``, ``2h``, ``7d`` or ``1w``; raise `MalformedText`."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        found = timedelta(seconds=float(number) * _UNITS[unit])
    except (ValueError, OverflowError):
        raise MalformedText(f"{text!r} is not a duration: use seconds, or 90s, 15m, 2h, 7d, 1w") from None
    if abs(found) > _DURATION_LIMIT:
        raise MalformedText(f"{text!r} is longer than a thousand years: use a shorter duration")
    return found


def parse_time(text: str, zone: tzinfo | None = None) -> datetime | timedelta:
    """Return an ISO 8601 time, or a duration that means "so long ago"; raise `MalformedText`.

    A time without an offset is in `zone`. None means this machine's time zone.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return parse_duration(text)
    if found.tzinfo is None and zone is not None:
        found = found.replace(tzinfo=zone)
    try:
        return found if found.tzinfo is not None else found.astimezone(UTC)
    except (OSError, OverflowError, ValueError):
        raise MalformedText(f"{text!r} is too far away: use a time between the years 2 and 9998") from None


def _parse_field(text: str, option: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise MalformedText(f"{option} {text!r} is malformed: write FIELD=VALUE")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):  # no JSON, or a number with thousands of digits
        return name, value


def _parse_id(text: str, option: str) -> int:
    try:
        found = int(text)
    except ValueError:  # also thousands of digits
        found = 0
    if found < 1:
        raise MalformedText(f"{option} {text[:40]!r} is not the id of a job: use a number above zero")
    return found


def build_filter(
    given: Mapping[str, Sequence[str]], *, zone: tzinfo | None = None, prefix: str = ""
) -> Where | None:
    """Return a filter for the jobs that match all given filters, or None if there are none.

    Args:
        given: values by name (`FIELDS`). A job must match any of the values of ``state``, ``queue``, ``name`` and
            ``worker``, and all values of the others. ``args`` and ``meta`` are ``FIELD=VALUE``; the value is JSON
            or, failing that, text. ``since`` and ``before`` are times of enqueueing, or durations before now.
        zone: time zone of times without an offset; None means this machine's.
        prefix: text before a filter's name in error messages, as the user typed it.

    Raises:
        MalformedText: a text cannot be parsed. The message quotes it.
        InvalidFilter: a state does not exist.

    """
    values = {name: given.get(name, ()) for name in FIELDS}
    parts: list[Where] = []
    if values["state"]:
        parts.append(w.state(*values["state"]))
    for make, name in ((w.queue, "queue"), (w.name, "name"), (w.worker, "worker")):
        if values[name]:
            parts.append(w.Or(tuple(make(value) for value in values[name])))
    parts += [w.parent(_parse_id(text, f"{prefix}parent")) for text in values["parent"]]
    if values["tag"]:
        parts.append(w.tagged_all(values["tag"]))
    parts += [w.args(*_parse_field(text, f"{prefix}args")) for text in values["args"]]
    parts += [w.metadata(*_parse_field(text, f"{prefix}meta")) for text in values["meta"]]
    parts += [w.created_after(parse_time(text, zone)) for text in values["since"]]
    parts += [w.created_before(parse_time(text, zone)) for text in values["before"]]
    return w.And(tuple(parts)) if parts else None
