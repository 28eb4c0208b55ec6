"""Decisions after a failed attempt: whether the job runs again, and when.

A ``BACKOFF`` is a tenacity *wait* (a `tenacity.wait.wait_base`), or a function of the job's record that returns
a timedelta or seconds. Any callable that is not a `wait_base` is called with the record. A ``RETRY`` is a
tenacity *retry* predicate.

Both are user code, and they run while jobrt records a failure. They cannot make the recording fail: if a
strategy raises or returns an invalid value, the default is used and the decision has a ``warning``.
"""

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Final, TypeAlias, cast

import attrs
from tenacity import RetryCallState
from tenacity.retry import retry_base
from tenacity.wait import wait_base

from jobrt._core.arguments import shown
from jobrt._core.interrupt import from_signal
from jobrt._core.job import JobRecord
from jobrt._core.text import in_one_line
from jobrt.backoff import MAX_DELAY, CallState, seconds_of
from jobrt.errors import InvalidJob

Backoff: TypeAlias = wait_base | Callable[[JobRecord], timedelta | float]
"""What a job's ``BACKOFF`` may be: a tenacity wait, or a function that returns a timedelta or seconds."""

RetryPredicate: TypeAlias = retry_base | Callable[[RetryCallState], bool]
"""Type of a job's ``RETRY``."""

_DEFAULT_BASE: Final = 2.0
_DEFAULT_JITTER: Final = 0.1
_DEFAULT_MAX: Final = 7 * 24 * 3600.0

# 2**20 s is more than seven days, so no attempt needs a greater power. A greater one could overflow.
_DEFAULT_MAX_POWER: Final = 20

_BACKOFF_REMEDY: Final = (
    "use a tenacity wait such as tenacity.wait_fixed(5), "
    "or a plain function of the job record that returns a timedelta"
)
_RETRY_REMEDY: Final = "use a tenacity predicate such as tenacity.retry_if_exception_type(OSError)"


@attrs.frozen
class Delay:
    """Delay before the next attempt, from 0 to `MAX_DELAY`; `warning` says what was wrong with the ``BACKOFF``."""

    wait: timedelta
    warning: str | None = None


@attrs.frozen
class RetryDecision:
    """Decision whether to retry, with the truth value of `retry`; `warning` says what was wrong with the ``RETRY``."""

    retry: bool
    warning: str | None = None

    def __bool__(self) -> bool:
        return self.retry


def default_delay(attempt: int, *, chance: Callable[[], float]) -> timedelta:
    """Return the default delay after attempt number `attempt`: 2, 4, 8, 16 … s, ±10 %, at most seven days.

    The limit is applied before the jitter and again after it. So late attempts are still spread, over the last
    tenth of the week.

    Args:
        attempt: attempts used so far, counted from 1.
        chance: source of random numbers from 0 (inclusive) to 1.

    """
    seconds = min(_DEFAULT_BASE ** min(max(attempt, 1), _DEFAULT_MAX_POWER), _DEFAULT_MAX)
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
    """Return the delay of a job after attempt number `attempt` failed.

    A backoff of None means the default. The default is also used, with a warning, if the backoff raises or if
    its value is negative, infinite or not a duration. A delay above `MAX_DELAY` is reduced to it, with a warning.
    """
    if backoff is None:
        return Delay(default_delay(attempt, chance=chance))
    try:
        if isinstance(backoff, wait_base):
            value: object = backoff(CallState(record, attempt=attempt, error=error, chance=chance))
        else:
            value = backoff(record)
        seconds = seconds_of(value)
    except BaseException as exception:  # user code: the failure must be recorded whatever it raises
        if from_signal(exception):
            raise
        problem = f"raised {in_one_line(exception)}"
    else:
        if seconds is not None and seconds > MAX_DELAY.total_seconds():
            return Delay(
                MAX_DELAY, f"BACKOFF of {record.name!r} is longer than ten years; ten years are used"
            )
        if seconds is not None:
            return Delay(timedelta(seconds=seconds))
        problem = f"returned {shown(value)}, which is not a duration"
    default = default_delay(attempt, chance=chance)
    used = f"the default of {default.total_seconds():.3g} s is used"
    return Delay(default, f"BACKOFF of {record.name!r} {problem}; {used}")


def should_retry(predicate: RetryPredicate | None, *, attempt: int, error: BaseException) -> RetryDecision:
    """Decide whether a job that failed with `error` is retried.

    Without a predicate every failure is retried, that of a `SystemExit` or `KeyboardInterrupt` too. If the predicate
    raises, the job is retried, with a warning: an unnecessary attempt costs less than a job that is lost because of a
    bug in its predicate.
    """
    if predicate is None:
        return RetryDecision(retry=True)
    try:
        return RetryDecision(bool(predicate(CallState(attempt=attempt, error=error))))
    except BaseException as exception:  # as above
        if from_signal(exception):
            raise
        warning = f"RETRY raised {in_one_line(exception)}; the job is retried"
        return RetryDecision(retry=True, warning=warning)


def as_backoff(value: object, *, owner: str) -> Backoff | None:
    """Return a ``BACKOFF``; raise `InvalidJob` if it is neither a tenacity wait nor a function of one argument."""
    _check(value, wait_base, f"{owner}.BACKOFF", remedy=_BACKOFF_REMEDY)
    return cast("Backoff | None", value)


def as_retry(value: object, *, owner: str) -> RetryPredicate | None:
    """Return a ``RETRY``; raise `InvalidJob` if it is neither a tenacity predicate nor a function of one argument."""
    _check(value, retry_base, f"{owner}.RETRY", remedy=_RETRY_REMEDY)
    return cast("RetryPredicate | None", value)


def _check(value: object, strategy: type, label: str, *, remedy: str) -> None:
    if value is not None and not isinstance(value, strategy) and not _takes_one_argument(value):
        raise InvalidJob(f"{label} is {value!r}: {remedy}")


def _takes_one_argument(value: object) -> bool:
    """Return whether `value` is a synchronous function of one argument.

    Classes are refused: ``RETRY = OSError`` and ``BACKOFF = wait_fixed`` are mistakes that could be called.
    """
    if not callable(value) or isinstance(value, type) or inspect.iscoroutinefunction(value):
        return False
    try:
        inspect.signature(value).bind(None)
    except ValueError:  # written in C, without a signature to inspect
        return True
    except TypeError:
        return False
    return True
