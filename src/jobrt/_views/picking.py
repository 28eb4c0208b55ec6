"""Understand which jobs are meant, from what people write: ``--since 15m --args to=a@b.c``, ``?since=15m&args=…``."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from jobrt._core import where as w
from jobrt.errors import InvalidFilter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from jobrt._core.where import Where

__all__ = ["NotUnderstood", "duration", "moment", "pick"]


class NotUnderstood(InvalidFilter):
    """Say that a text is not written as it has to be."""


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST: Final = timedelta(days=365_243)
"""A thousand years: with more, sums leave what the databases know as time."""


def duration(text: str) -> timedelta:
    """Return what ``90``, ``90s``, ``15m``, ``2h``, ``7d`` or ``1w`` means; raise `NotUnderstood`."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        found = timedelta(seconds=float(number) * _UNITS[unit])
    except (ValueError, OverflowError):
        msg = f"{text!r} is no length of time: use seconds, or 90s, 15m, 2h, 7d, 1w"
        raise NotUnderstood(msg) from None
    if abs(found) > _LONGEST:
        msg = f"{text!r} is more than a thousand years"
        raise NotUnderstood(msg)
    return found


def moment(text: str, zone: tzinfo | None = None) -> datetime | timedelta:
    """Return what an ISO time, or a length of time ago, means; raise `NotUnderstood`.

    A time without an offset is meant in `zone`; None: in this machine's.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return duration(text)
    if found.tzinfo is None and zone is not None:
        found = found.replace(tzinfo=zone)
    return found if found.tzinfo is not None else found.astimezone(UTC)


def _field(text: str, option: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        msg = f"{option} {text!r}: write FIELD=VALUE"
        raise NotUnderstood(msg)
    try:
        return name, json.loads(value)
    except (json.JSONDecodeError, RecursionError):
        return name, value


def pick(
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
    """Return the filter that the options make: all of them must match; None if there are none.

    Args:
        states: any of these.
        queues: any of these; so for names and workers.
        names: the jobs' names.
        tags: all of these.
        workers: who runs them, or ran them last.
        args_equal: ``FIELD=VALUE``, the value as JSON or, if it is none, as text; all of them.
        metadata_equal: the same.
        since: enqueued after this time, or within the last ``15m``.
        before: enqueued before this time, or longer ago.
        zone: what times without an offset mean; None: this machine's.
        prefix: what stands before an option's name where the user wrote it.

    Raises:
        NotUnderstood: a text is not written as it has to be; quotes it.
        InvalidFilter: there is no such state.

    """
    parts: list[Where] = []
    if states:
        parts.append(w.state(*states))
    for make, values in ((w.queue, queues), (w.name, names), (w.worker, workers)):
        if values:
            parts.append(w.Or(tuple(make(one) for one in values)))
    if tags:
        parts.append(w.tagged_all(tags))
    parts += [w.args(*_field(one, f"{prefix}args")) for one in args_equal]
    parts += [w.metadata(*_field(one, f"{prefix}meta")) for one in metadata_equal]
    if since is not None:
        parts.append(w.created_after(moment(since, zone)))
    if before is not None:
        parts.append(w.created_before(moment(before, zone)))
    return w.And(tuple(parts)) if parts else None
