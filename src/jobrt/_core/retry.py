"""Decide whether a failed job runs again, and when.

A ``BACKOFF`` is a tenacity *wait* (any `tenacity.wait.wait_base`, sums and chains included) or a function of
the job's record that returns a timedelta, or seconds. The class tells them apart: whatever is no `wait_base`
is called with the record. A ``RETRY`` is a tenacity *retry* predicate.

Both are the user's code and run while a failure is being written down. So they cannot make that fail: one
that raises, or answers nonsense, is told of in a ``warning``, and the default holds instead.

tenacity has constant (`wait_fixed`), linear (`wait_incrementing`) and exponential (`wait_exponential`) waits.
This module adds what it lacks: `polynomial`, and `jittered` and `bounded` for any wait. They are waits
themselves, so they add up, chain and nest with tenacity's, also outside jobrt. Each does its one thing to
what it is given, so the order is the one that is written: in ``bounded(jittered(w, relative=0.1), max=60)``
the jitter comes first, and 60 s is never exceeded.
"""

from __future__ import annotations

import inspect
import reprlib
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Final, TypeAlias, cast

import attrs
from tenacity import RetryCallState
from tenacity.retry import retry_base
from tenacity.wait import wait_base

from jobrt._core.job import JobRecord
from jobrt.backoff import LONGEST, CallState, seconds_of
from jobrt.errors import InvalidJob

__all__ = [
    "Answer",
    "Backoff",
    "Delay",
    "RetryPredicate",
    "as_backoff",
    "as_retry",
    "default_delay",
    "delay_for",
    "should_retry",
]

Backoff: TypeAlias = wait_base | Callable[[JobRecord], timedelta | float]
"""What a job's ``BACKOFF`` may be: a tenacity wait, or a function that returns a timedelta or seconds."""

RetryPredicate: TypeAlias = retry_base | Callable[[RetryCallState], bool]
"""What a job's ``RETRY`` may be."""

_DEFAULT_BASE: Final = 2.0
_DEFAULT_JITTER: Final = 0.1
_DEFAULT_MAX: Final = 7 * 24 * 3600.0

# 2**20 s is beyond the seven days, so that no later attempt needs a greater power, nor can one overflow.
_DEFAULT_LAST_POWER: Final = 20


@attrs.frozen
class Delay:
    """How long to wait, from 0 to `LONGEST`, and what was wrong with the ``BACKOFF``, if anything."""

    wait: timedelta
    warning: str | None = None


@attrs.frozen
class Answer:
    """Whether to try again, and what was wrong with the ``RETRY``, if anything; true when `retry` is."""

    retry: bool
    warning: str | None = None

    def __bool__(self) -> bool:
        return self.retry


def default_delay(attempt: int, *, chance: Callable[[], float]) -> timedelta:
    """Return the delay after the `attempt`-th failure: 2, 4, 8, 16 … s, ±10 %, at most seven days.

    The seven days bound the doubling and, again, what jitter makes of it; so late attempts still spread, over
    the last tenth of the week.

    Args:
        attempt: attempts used, from 1.
        chance: draws from 0 (inclusive) to 1.

    """
    seconds = min(_DEFAULT_BASE ** min(max(attempt, 1), _DEFAULT_LAST_POWER), _DEFAULT_MAX)
    seconds += seconds * _DEFAULT_JITTER * (2 * chance() - 1)
    return timedelta(seconds=min(seconds, _DEFAULT_MAX))


def delay_for(
    backoff: Backoff | None,
    *,
    attempt: int,
    error: BaseException,
    record: JobRecord,
    chance: Callable[[], float],
) -> Delay:
    """Return how long a job waits after its `attempt`-th failure.

    A backoff of None is the default. In place of one that raises, or returns what is negative, endless or no
    duration, the default holds; one beyond `LONGEST` is cut to it. Either way the result says so.
    """
    if backoff is None:
        return Delay(default_delay(attempt, chance=chance))
    try:
        if isinstance(backoff, wait_base):
            value: object = backoff(CallState(record, attempt=attempt, error=error, chance=chance))
        else:
            value = backoff(record)
    except Exception as problem:  # noqa: BLE001  # the user's code: whatever it does, the failure must be recorded
        said = f"raised {_one_line(problem)}"
    else:
        wait = seconds_of(value)
        if wait is not None:
            return _cut(wait, name=record.name)
        said = f"returned {reprlib.repr(value)}, which is no duration"
    wait = default_delay(attempt, chance=chance).total_seconds()
    return Delay(
        timedelta(seconds=wait), f"BACKOFF of {record.name!r} {said}; the default of {wait:.3g} s holds"
    )


def should_retry(predicate: RetryPredicate | None, *, attempt: int, error: BaseException) -> Answer:
    """Say whether a job that failed with `error` is worth another attempt.

    Without a predicate every `Exception` is. A predicate that raises counts as yes, and the result says so: a
    needless attempt costs less than a job that is given up because of a slip in its predicate.
    """
    if predicate is None:
        return Answer(isinstance(error, Exception))
    try:
        return Answer(bool(predicate(CallState(attempt=attempt, error=error))))
    except Exception as problem:  # noqa: BLE001  # as above
        return Answer(retry=True, warning=f"RETRY raised {_one_line(problem)}; the job is retried")


def _cut(seconds: float, *, name: str) -> Delay:
    """Return a delay of that many seconds, or of `LONGEST`."""
    if seconds <= LONGEST.total_seconds():
        return Delay(timedelta(seconds=seconds))
    return Delay(LONGEST, f"BACKOFF of {name!r} is beyond ten years; ten years hold")


def _one_line(problem: Exception) -> str:
    """Return type and message, shortened, also of an exception whose ``__str__`` raises."""
    return " ".join("".join(traceback.format_exception_only(problem)).split())[:500]


def as_backoff(value: object, *, owner: str) -> Backoff | None:
    """Return a ``BACKOFF`` that can be used; `owner` names the job in the message.

    Raises:
        InvalidJob: it is neither a tenacity wait nor a plain function of one argument.

    """
    if value is None or isinstance(value, wait_base) or _takes_one(value):
        return cast("Backoff | None", value)
    msg = (
        f"{owner}.BACKOFF is {value!r}: use a tenacity wait such as tenacity.wait_fixed(5), "
        "or a plain function of the job record that returns a timedelta"
    )
    raise InvalidJob(msg)


def as_retry(value: object, *, owner: str) -> RetryPredicate | None:
    """Return a ``RETRY`` that can be used; `owner` names the job in the message.

    Raises:
        InvalidJob: it is neither a tenacity predicate nor a plain function of one argument.

    """
    if value is None or isinstance(value, retry_base) or _takes_one(value):
        return cast("RetryPredicate | None", value)
    msg = (
        f"{owner}.RETRY is {value!r}: use a tenacity predicate such as "
        "tenacity.retry_if_exception_type(OSError)"
    )
    raise InvalidJob(msg)


def _takes_one(value: object) -> bool:
    """Say whether `value` is a function that takes one argument and answers without being awaited.

    Classes are not: ``RETRY = OSError`` and ``BACKOFF = wait_fixed`` would be called, and mean nothing.
    """
    if not callable(value) or isinstance(value, type) or inspect.iscoroutinefunction(value):
        return False
    try:
        inspect.signature(value).bind(None)
    except ValueError:  # written in C, without a signature to ask
        return True
    except TypeError:
        return False
    return True
