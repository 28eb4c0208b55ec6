"""Values that `run` returns to end an attempt other than as ``completed``.

They are not exceptions, because the attempt did not fail.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

import attrs

from jobrt._core.arguments import checked_duration, checked_text, clamped, is_int, refused
from jobrt._core.rates import LONGEST_HOLD
from jobrt.errors import InvalidResult

_LONGEST_PAUSE: Final = timedelta(microseconds=LONGEST_HOLD)


def _delay(value: timedelta | float) -> timedelta:
    return checked_duration("Snooze.delay", value, zero=True, error=InvalidResult)


def _pause(value: timedelta | float) -> timedelta:
    delay = checked_duration("Throttle.delay", value, error=InvalidResult)
    if delay > _LONGEST_PAUSE:
        raise refused("Throttle.delay", value, use="at most an hour", error=InvalidResult)
    return delay


def _reason(_self: Any, _field: object, reason: object) -> None:
    label = f"{type(_self).__name__}.reason"
    checked_text(label, reason, what="a string, which is shown to users", error=InvalidResult)


def _ids(children: Iterable[Any]) -> tuple[int, ...]:
    remedy = "a list of handles or ids of jobs"
    if isinstance(children, str | bytes) or not isinstance(children, Iterable):
        raise refused("After.children", children, use=remedy, error=InvalidResult)
    ids = tuple(getattr(child, "id", child) for child in children)
    for child_id in ids:
        if not is_int(child_id):
            raise refused("After.children", child_id, use=remedy, error=InvalidResult)
    return tuple(map(clamped, ids))


@attrs.frozen
class Snooze:
    """Value to return to run the job again after `delay` (seconds or a timedelta), without using an attempt."""

    delay: timedelta = attrs.field(converter=_delay)


@attrs.frozen
class Throttle:
    """Value to return when others ask for a pause: a service says "too many requests".

    The job runs again after `delay` (seconds or a timedelta, at most an hour), without using an attempt. No other job
    with its key starts before, or none of its queue, if that has no key. Of two pauses the later end counts.
    """

    delay: timedelta = attrs.field(converter=_pause)


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

    `children` are handles, or ids of jobs. Jobs that were deleted or pruned count as ended. The attempt fails if none
    of several jobs exists, or if the job waits for itself. A job that returns this again and again, with nothing to
    wait for, runs once a second.
    """

    children: tuple[int, ...] = attrs.field(converter=_ids)
