"""Values that `run` returns to end an attempt other than as ``completed``.

They are not exceptions, because the attempt did not fail.
"""

import math
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import attrs


def _delay(value: timedelta | float) -> timedelta:
    if isinstance(value, timedelta):
        return value
    number: object = value
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise TypeError(f"Snooze.delay is {value!r}: use seconds or a timedelta")
    return timedelta(seconds=value)


def _not_negative(_self: object, _field: object, delay: timedelta) -> None:
    if delay < timedelta(0):
        raise ValueError(f"Snooze.delay is {delay}: use Snooze(0) to run the job immediately")


def _reason(_self: Any, _field: object, reason: object) -> None:
    if not isinstance(reason, str):
        raise TypeError(f"{type(_self).__name__}.reason is {reason!r}: use a str, which is shown to users")


def _ids(children: Iterable[Any]) -> tuple[int, ...]:
    ids = tuple(getattr(child, "id", child) for child in children)
    for child_id in ids:
        if isinstance(child_id, bool) or not isinstance(child_id, int):
            raise TypeError(f"After has {child_id!r}: use handles or ids of jobs")
    return ids


@attrs.frozen
class Snooze:
    """Value to return to run the job again after `delay` (seconds or a timedelta), without using an attempt."""

    delay: timedelta = attrs.field(converter=_delay, validator=_not_negative)


@attrs.frozen
class Cancel:
    """Value to return to end the job as ``cancelled``; the reason is stored with it."""

    reason: str = attrs.field(default="", validator=_reason)


@attrs.frozen
class Discard:
    """Value to return to end the job as ``discarded``, without a retry; the reason is stored with it."""

    reason: str = attrs.field(default="", validator=_reason)


@attrs.frozen
class After:
    """Value to return to run the job again when all `children` have ended, without using an attempt.

    `children` are handles, or ids of jobs.
    """

    children: tuple[int, ...] = attrs.field(converter=_ids)
