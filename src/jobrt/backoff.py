"""Wait strategies that tenacity lacks.

tenacity has constant (`wait_fixed`), linear (`wait_incrementing`) and exponential (`wait_exponential`) waits.
This module adds `polynomial`, and `jittered` and `bounded`, which wrap any wait. All three return tenacity waits:
they can be added, chained and nested, and they work outside jobrt.

Wrappers apply from the inside out. In ``bounded(jittered(w, relative=0.1), max=60)`` the jitter is applied first,
so the delay never exceeds 60 s.
"""

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Final, TypeAlias

import attrs
from tenacity import RetryCallState, Retrying, wait_random
from tenacity.wait import wait_base

from jobrt.errors import InvalidJob

__all__ = ["MAX_DELAY", "CallState", "Wait", "bounded", "jittered", "polynomial", "seconds_of"]

Wait: TypeAlias = wait_base | Callable[[RetryCallState], float]
"""A tenacity wait: a function from the state of a call to seconds."""

MAX_DELAY: Final = timedelta(days=3_650)
"""Upper limit of any delay. tenacity's own limit, 146 thousand million years, exceeds a datetime."""

# Upper limit of the attempt number passed to tenacity. It computes base**attempt as an exact int; at 10**9 that
# takes 125 MB.
_MAX_ATTEMPT_NUMBER: Final = 1_000_000

# A RetryCallState requires a Retrying. jobrt never runs it: retries are scheduled in the database.
_RETRYING: Final = Retrying()


class CallState(RetryCallState):
    """State of an attempt that has just failed, as passed to tenacity's strategies.

    Attributes:
        attempt_number: the attempt, counted from 1.
        outcome: a future with the error.
        args: the arguments of the call; for a job, its record.
        chance: source of the random numbers that `jittered` uses, from 0 (inclusive) to 1. None means
            tenacity's own source.

    """

    def __init__(
        self, *args: object, attempt: int, error: BaseException, chance: Callable[[], float] | None = None
    ) -> None:
        super().__init__(_RETRYING, None, args, {})
        self.attempt_number: int = min(max(attempt, 1), _MAX_ATTEMPT_NUMBER)
        self.chance = chance
        self.set_exception((type(error), error, error.__traceback__))


def polynomial(factor: float = 1.0, power: float = 2.0) -> wait_base:
    """Return a wait of ``factor * attempt ** power`` seconds, at most `MAX_DELAY`: by default 1, 4, 9, 16 … s.

    Raises:
        InvalidJob: an argument is negative, infinite or not a number.

    """
    return _Polynomial(_argument("factor", factor), _argument("power", power))


def jittered(
    wait: Wait, *, relative: float | None = None, absolute: timedelta | float | None = None
) -> wait_base:
    """Return `wait` with uniform random jitter around it, never below 0.

    Args:
        wait: any tenacity wait.
        relative: the jitter as a fraction of the wait, from 0 to 1: 0.1 is ±10 %.
        absolute: the jitter in seconds or as a timedelta: 5 is ±5 s.

    Raises:
        InvalidJob: both or neither of `relative` and `absolute` are given, or one is out of range.

    """
    if (relative is None) == (absolute is None):
        raise InvalidJob("jittered() takes either relative= or absolute=, and not both")
    fraction = _argument("relative", relative or 0.0)
    if fraction > 1:
        raise InvalidJob(f"relative is {relative!r}: use a fraction of the wait, from 0 to 1")
    return _Jittered(wait, fraction, _argument("absolute", absolute or 0.0))


def bounded(
    wait: Wait,
    *,
    min: timedelta | float = 0.0,  # noqa: A002  # tenacity's waits use these names
    max: timedelta | float = MAX_DELAY,  # noqa: A002
) -> wait_base:
    """Return `wait` limited to the range from `min` to `max` (seconds or timedeltas).

    Raises:
        InvalidJob: a limit is negative or infinite, or `min` is greater than `max`.

    """
    low, high = _argument("min", min), _argument("max", max)
    if low > high:
        raise InvalidJob(f"bounded(): min={min!r} is greater than max={max!r}")
    return _Bounded(wait, low, high)


def _argument(name: str, value: timedelta | float) -> float:
    seconds = seconds_of(value)
    if seconds is not None:
        return seconds
    raise InvalidJob(f"{name} is {value!r}: use a finite number of at least 0, or a timedelta for a duration")


@attrs.frozen
class _Polynomial(wait_base):
    factor: float
    power: float

    def __call__(self, retry_state: RetryCallState) -> float:
        try:
            return min(
                self.factor * math.pow(retry_state.attempt_number, self.power), MAX_DELAY.total_seconds()
            )
        except OverflowError:  # math.pow, from about 1e308 on
            return MAX_DELAY.total_seconds()


@attrs.frozen
class _Jittered(wait_base):
    wait: Wait
    relative: float
    absolute: float

    def __call__(self, retry_state: RetryCallState) -> float:
        seconds = self.wait(retry_state)
        chance = retry_state.chance if isinstance(retry_state, CallState) else None
        drawn = chance() if chance else wait_random(0, 1)(retry_state)
        spread = seconds * self.relative + self.absolute
        return max(seconds + spread * (2 * drawn - 1), 0.0)


@attrs.frozen
class _Bounded(wait_base):
    wait: Wait
    low: float
    high: float

    def __call__(self, retry_state: RetryCallState) -> float:
        return min(max(self.wait(retry_state), self.low), self.high)


def seconds_of(value: object) -> float | None:
    """Return a duration in seconds, or None if `value` is not a finite duration of at least 0."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return seconds if 0 <= seconds < math.inf else None
