"""Parser of job filters as people write them: ``--since 15m --args to=a@b.c``, ``?since=15m&args=…``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

from jobrt._core import where as w
from jobrt._core.where import Where
from jobrt.errors import InvalidFilter


class MalformedText(InvalidFilter):
    """Text that is not a duration, a time or ``FIELD=VALUE``, as it should be."""


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION_LIMIT: Final = timedelta(days=365_243)
"""A thousand years. With longer durations, sums exceed the range of the databases' times."""


def parse_duration(text: str) -> timedelta:
    """Return the duration ``90``, ``90s``, ``15m``, ``2h``, ``7d`` or ``1w``; raise `MalformedText`."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        found = timedelta(seconds=float(number) * _UNITS[unit])
    except (ValueError, OverflowError):
        msg = f"{text!r} is not a duration: use seconds, or 90s, 15m, 2h, 7d, 1w"
        raise MalformedText(msg) from None
    if abs(found) > _DURATION_LIMIT:
        msg = f"{text!r} is longer than a thousand years: use a shorter duration"
        raise MalformedText(msg)
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
    return found if found.tzinfo is not None else found.astimezone(UTC)


def _parse_field(text: str, option: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        msg = f"{option} {text!r} is malformed: write FIELD=VALUE"
        raise MalformedText(msg)
    try:
        return name, json.loads(value)
    except (json.JSONDecodeError, RecursionError):
        return name, value


def build_filter(
    *,
    states: Sequence[str] = (),
    queues: Sequence[str] = (),
    names: Sequence[str] = (),
    tags: Sequence[str] = (),
    workers: Sequence[str] = (),
    args_equal: Sequence[str] = (),
    metadata_equal: Sequence[str] = (),
    since: str | None = None,
    before: str | None = None,
    zone: tzinfo | None = None,
    prefix: str = "",
) -> Where | None:
    """Return a filter for the jobs that match all options, or None if no option is given.

    Args:
        states: any of these states.
        queues: any of these queues.
        names: any of these job names.
        tags: all of these tags.
        workers: any of these workers runs the job, or ran it last.
        args_equal: payload fields as ``FIELD=VALUE``; the value is JSON or, failing that, text. All must match.
        metadata_equal: metadata fields, in the same form.
        since: enqueued after this time, or within the last ``15m``.
        before: enqueued before this time, or longer ago than ``15m``.
        zone: time zone of times without an offset; None means this machine's.
        prefix: text before an option's name in error messages, as the user typed it.

    Raises:
        MalformedText: a text cannot be parsed. The message quotes it.
        InvalidFilter: a state does not exist.

    """
    parts: list[Where] = []
    if states:
        parts.append(w.state(*states))
    for make, values in ((w.queue, queues), (w.name, names), (w.worker, workers)):
        if values:
            parts.append(w.Or(tuple(make(value) for value in values)))
    if tags:
        parts.append(w.tagged_all(tags))
    parts += [w.args(*_parse_field(text, f"{prefix}args")) for text in args_equal]
    parts += [w.metadata(*_parse_field(text, f"{prefix}meta")) for text in metadata_equal]
    if since is not None:
        parts.append(w.created_after(parse_time(since, zone)))
    if before is not None:
        parts.append(w.created_before(parse_time(before, zone)))
    return w.And(tuple(parts)) if parts else None
