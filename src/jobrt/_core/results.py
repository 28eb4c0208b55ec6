"""Name what `run` may return when it wants something other than ``completed``.

They are values, not exceptions: a job decides, it does not fail.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import attrs

__all__ = ["After", "Cancel", "Discard", "Snooze"]


def _delay(value: timedelta | float) -> timedelta:
    if isinstance(value, timedelta):
        return value
    given: object = value
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        msg = f"Snooze.delay is {value!r}: give seconds or a timedelta"
        raise TypeError(msg)
    return timedelta(seconds=value)


def _not_negative(_self: object, _field: object, delay: timedelta) -> None:
    if delay < timedelta(0):
        msg = f"Snooze.delay is {delay}: a job cannot be due in the past; Snooze(0) runs it again at once"
        raise ValueError(msg)


def _reason(_self: Any, _field: object, reason: object) -> None:
    if not isinstance(reason, str):
        msg = f"{type(_self).__name__}.reason is {reason!r}: give a str, it is shown to people"
        raise TypeError(msg)


def _ids(children: Iterable[Any]) -> tuple[int, ...]:
    ids = tuple(getattr(child, "id", child) for child in children)
    for one in ids:
        if isinstance(one, bool) or not isinstance(one, int):
            msg = f"After has {one!r}: give handles, or ids of jobs"
            raise TypeError(msg)
    return ids


@attrs.frozen
class Snooze:
    """Run again in `delay` (seconds or a timedelta), without using up an attempt."""

    delay: timedelta = attrs.field(converter=_delay, validator=_not_negative)


@attrs.frozen
class Cancel:
    """End the job as ``cancelled``, for a reason that is kept with it."""

    reason: str = attrs.field(default="", validator=_reason)


@attrs.frozen
class Discard:
    """End the job as ``discarded``, attempts left or not, for a reason that is kept with it."""

    reason: str = attrs.field(default="", validator=_reason)


@attrs.frozen
class After:
    """Run again when all of `children` (handles, or ids of jobs) have ended, without using up an attempt."""

    children: tuple[int, ...] = attrs.field(converter=_ids)
