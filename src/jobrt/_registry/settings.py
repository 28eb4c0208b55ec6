"""Checks of the settings of jobs: constants of classes, keywords of decorators, options of `enqueue`.

Each function takes the full name of a setting, for messages, and its value. It returns the value as jobrt uses it, or
raises `InvalidJob`. The message says what to use instead.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from jobrt._core.job import JobRecord
from jobrt._core.unique import Unique
from jobrt.backoff import seconds_of
from jobrt.errors import InvalidJob

RunIn: TypeAlias = Literal["trio", "thread", "process", "asyncio"]
"""Place where `run` is executed."""

Timeout: TypeAlias = float | timedelta | Callable[[JobRecord], float | timedelta | None] | None
"""Time limit of an attempt: seconds, a timedelta, or a function of the job's record; None for no limit."""

_MAX_NAME_LENGTH: Final = 200
_INT32: Final = 2**31


def checked_name(label: str, value: object, *, what: str = "name") -> str:
    """Return a name of up to 200 printable characters, without spaces at either end."""
    if (
        isinstance(value, str)
        and value.isprintable()
        and value == value.strip()
        and 0 < len(value) <= _MAX_NAME_LENGTH
    ):
        return value
    raise InvalidJob(f"{label} is {value!r}: use a {what} of 1 to {_MAX_NAME_LENGTH} printable characters")


def checked_priority(label: str, value: object) -> int:
    """Return a priority, a 32-bit int."""
    if isinstance(value, int) and not isinstance(value, bool) and -_INT32 <= value < _INT32:
        return value
    raise InvalidJob(f"{label} is {value!r}: use an int from {-_INT32} to {_INT32 - 1}; higher runs first")


def checked_count(label: str, value: object, *, without: str) -> int | None:
    """Return a maximum number; the message describes None with `without`."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < _INT32:
        return value
    raise InvalidJob(f"{label} is {value!r}: use an int above zero, or None for {without}")


def checked_seconds(label: str, value: object, *, zero: bool = False) -> float:
    """Return a duration in seconds, above zero or, if `zero` is true, at least zero."""
    seconds = seconds_of(value)
    if seconds is not None and (seconds > 0 or zero):
        return float(seconds)
    least = "at least zero" if zero else "above zero"
    raise InvalidJob(f"{label} is {value!r}: use seconds or a timedelta, {least}")


def checked_timeout(label: str, value: object) -> float | Callable[[JobRecord], Any] | None:
    """Return a timeout in seconds, or a function that returns the timeout of a job."""
    if value is None:
        return None
    if callable(value) and not isinstance(value, type):
        return cast("Callable[[JobRecord], Any]", value)
    try:
        return checked_seconds(label, value)
    except InvalidJob as error:
        raise InvalidJob(f"{error}, a function of the job's record, or None for no limit") from None


def checked_run_in(label: str, value: object) -> RunIn:
    """Return the place where `run` is executed."""
    if value in get_args(RunIn):
        return cast("RunIn", value)
    raise InvalidJob(f"{label} is {value!r}: use 'trio', 'thread', 'process' or 'asyncio'")


def checked_unique(label: str, value: object) -> Unique | None:
    """Return a uniqueness rule, or None for no rule."""
    if value is None or isinstance(value, Unique):
        return value
    raise InvalidJob(f"{label} is {value!r}: use a jobrt.Unique, or None for no rule")
