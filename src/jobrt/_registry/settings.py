"""Checks of the settings of jobs: class constants, decorator keywords, options of enqueue.

Each function takes the full name of a setting, for messages, and its value. It returns the value as the rest of jobrt
uses it, or raises `InvalidJob` with a message that says what to write instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from jobrt._core.job import JobRecord
from jobrt._core.unique import Unique
from jobrt.errors import InvalidJob

RunIn: TypeAlias = Literal["trio", "thread", "process", "asyncio"]
"""Where a job's `run` is executed."""

Timeout: TypeAlias = float | timedelta | Callable[[JobRecord], float | timedelta | None] | None
"""Time limit of one attempt: seconds, a timedelta, or a function of the job's record; None for no limit."""

_LONGEST_NAME: Final = 200
_INT32: Final = 2**31


def checked_name(label: str, value: object, *, what: str = "name") -> str:
    """Return the name of a job, queue or tag: printable, without blanks around it, of at most 200 characters."""
    if (
        isinstance(value, str)
        and value.isprintable()
        and value == value.strip()
        and 0 < len(value) <= _LONGEST_NAME
    ):
        return value
    raise InvalidJob(f"{label} is {value!r}: give a {what} of 1 to {_LONGEST_NAME} printable characters")


def checked_priority(label: str, value: object) -> int:
    """Return a priority: a 32-bit int."""
    if isinstance(value, int) and not isinstance(value, bool) and -_INT32 <= value < _INT32:
        return value
    msg = f"{label} is {value!r}: give an int between -2147483648 and 2147483647; higher runs first"
    raise InvalidJob(msg)


def checked_count(label: str, value: object, *, without: str) -> int | None:
    """Return a number of attempts or runs; None for no limit, which `without` describes in the message."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < _INT32:
        return value
    raise InvalidJob(f"{label} is {value!r}: give an int from 1 up, or None for {without}")


def checked_seconds(label: str, value: object, *, least: str = "above zero") -> float:
    """Return a duration in seconds; `least` is ``"above zero"`` or ``"from zero up"``."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and math.isfinite(seconds):  # noqa: SIM102
        if seconds > 0 or (seconds == 0 and least != "above zero"):
            return float(seconds)
    raise InvalidJob(f"{label} is {value!r}: give seconds or a timedelta, {least}")


def checked_timeout(label: str, value: object) -> float | Callable[[JobRecord], Any] | None:
    """Return a timeout in seconds, or the function that returns one for each job."""
    if value is None:
        return None
    if callable(value) and not isinstance(value, type):
        return cast("Callable[[JobRecord], Any]", value)
    try:
        return checked_seconds(label, value)
    except InvalidJob as error:
        raise InvalidJob(f"{error}; or a function of the job's record, or None for no limit") from None


def checked_run_in(label: str, value: object) -> RunIn:
    """Return a place for `run` to be executed."""
    if value in get_args(RunIn):
        return cast("RunIn", value)
    raise InvalidJob(f"{label} is {value!r}: give 'trio', 'thread', 'process' or 'asyncio'")


def checked_unique(label: str, value: object) -> Unique | None:
    """Return a rule of uniqueness, or None."""
    if value is None or isinstance(value, Unique):
        return value
    raise InvalidJob(f"{label} is {value!r}: give a jobrt.Unique, or None for no such rule")
