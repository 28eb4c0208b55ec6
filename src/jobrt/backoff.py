"""Waits: the delays that tenacity lacks, and the state its strategies are called with.

tenacity has constant (`wait_fixed`), linear (`wait_incrementing`) and exponential (`wait_exponential`) waits.
This module adds `polynomial`, and `jittered` and `bounded` for any wait. They are waits themselves: they add up,
chain and nest with tenacity's, also outside jobrt. The order is the one that is written: in
``bounded(jittered(w, relative=0.1), max=60)`` the jitter comes first, and 60 s is never exceeded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Final, TypeAlias

import attrs
from tenacity import RetryCallState, Retrying, wait_random
from tenacity.wait import wait_base

from jobrt.errors import InvalidJob

__all__ = ["LONGEST", "CallState", "Wait", "bounded", "jittered", "polynomial", "seconds_of"]

Wait: TypeAlias = wait_base | Callable[[RetryCallState], float]
"""What tenacity accepts as a wait: seconds, from a call's state."""

LONGEST: Final = timedelta(days=3_650)
"""No delay is longer. tenacity's own ceiling is 146 thousand million years, more than a datetime can hold."""

# What tenacity is told at most: it raises bases to this power as exact ints, which at 10**9 takes 125 MB.
_LAST_ATTEMPT: Final = 1_000_000

# A call's state belongs to a `Retrying`; jobrt never runs one, since what retries is the row in the database.
_RETRYING: Final = Retrying()


class CallState(RetryCallState):
    """The state that tenacity's strategies are called with, for an attempt that has just failed.

    ``attempt_number`` counts from 1, ``outcome`` holds the error, ``args`` what the call was about (a job's
    record), ``chance`` is what `jittered` draws from; None leaves it to tenacity's own source of chance.
    """

    def __init__(
        self,
        *args: object,
        attempt: int,
        error: BaseException,
        chance: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(_RETRYING, None, args, {})
        self.attempt_number: int = min(max(attempt, 1), _LAST_ATTEMPT)
        self.chance = chance
        self.set_exception((type(error), error, error.__traceback__))


def polynomial(factor: float = 1.0, power: float = 2.0) -> wait_base:
    """Wait ``factor * attempt ** power`` seconds, at most `LONGEST`: 1, 4, 9, 16 … s as it stands.

    Raises:
        InvalidJob: an argument is negative, endless or no number.

    """
    return _Polynomial(_argument("factor", factor), _argument("power", power))


def jittered(
    wait: Wait, *, relative: float | None = None, absolute: timedelta | float | None = None
) -> wait_base:
    """Spread a wait evenly around itself, never below 0.

    Args:
        wait: any tenacity wait.
        relative: a share of the wait, from 0 to 1: 0.1 is ±10 %.
        absolute: seconds or a timedelta: 5 is ±5 s. Give this or `relative`.

    Raises:
        InvalidJob: both or neither is given, or one is out of range.

    """
    if (relative is None) == (absolute is None):
        msg = "jittered(): give relative= or absolute=, one of them"
        raise InvalidJob(msg)
    share = _argument("relative", relative or 0.0)
    if share > 1:
        msg = f"jittered(): relative is {relative!r}; it is a share of the wait, from 0 to 1"
        raise InvalidJob(msg)
    return _Jittered(wait, share, _argument("absolute", absolute or 0.0))


def bounded(
    wait: Wait,
    *,
    min: timedelta | float = 0.0,  # noqa: A002  # the names that tenacity's waits have
    max: timedelta | float = LONGEST,  # noqa: A002
) -> wait_base:
    """Keep a wait between `min` and `max` (seconds or timedeltas), whatever it is made of.

    Raises:
        InvalidJob: a bound is negative or endless, or `min` is above `max`.

    """
    low, high = _argument("min", min), _argument("max", max)
    if low > high:
        msg = f"bounded(): min={min!r} is above max={max!r}"
        raise InvalidJob(msg)
    return _Bounded(wait, low, high)


def _argument(name: str, value: timedelta | float) -> float:
    seconds = seconds_of(value)
    if seconds is not None:
        return seconds
    msg = f"{name} is {value!r}: give a finite number (or, for a duration, a timedelta) from 0 up"
    raise InvalidJob(msg)


@attrs.frozen
class _Polynomial(wait_base):
    factor: float
    power: float

    def __call__(self, retry_state: RetryCallState) -> float:
        try:
            return min(
                self.factor * math.pow(retry_state.attempt_number, self.power), LONGEST.total_seconds()
            )
        except OverflowError:
            return LONGEST.total_seconds()


@attrs.frozen
class _Jittered(wait_base):
    wait: Wait
    relative: float
    absolute: float

    def __call__(self, retry_state: RetryCallState) -> float:
        seconds = self.wait(retry_state)
        chance = retry_state.chance if isinstance(retry_state, CallState) else None
        draw = chance() if chance else wait_random(0, 1)(retry_state)
        reach = seconds * self.relative + self.absolute
        return max(seconds + reach * (2 * draw - 1), 0.0)


@attrs.frozen
class _Bounded(wait_base):
    wait: Wait
    low: float
    high: float

    def __call__(self, retry_state: RetryCallState) -> float:
        return min(max(self.wait(retry_state), self.low), self.high)


def seconds_of(value: object) -> float | None:
    """Return a duration in seconds; None if `value` is not a finite one from 0 up."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return seconds if 0 <= seconds < math.inf else None
