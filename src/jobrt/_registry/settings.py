"""Checks of the settings of jobs: constants of classes, keywords of decorators, options of `enqueue`.

Each function takes the full name of a setting, for messages, and its value. It returns the value as jobrt uses it, or
raises `InvalidJob`. The message says what to use instead.
"""

import importlib
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from jobrt._core import arguments
from jobrt._core.arguments import INT32, checked_duration, refused
from jobrt._core.job import JobRecord
from jobrt._core.unique import Unique
from jobrt.errors import InvalidJob

RunIn: TypeAlias = Literal["trio", "thread", "process", "asyncio"]
"""Place where `run` is executed."""

Timeout: TypeAlias = float | timedelta | Callable[[JobRecord], float | timedelta | None] | None
"""Time limit of an attempt: seconds, a timedelta, or a function of the job's record; None for no limit."""


def checked_name(label: str, value: object, *, what: str = "name") -> str:
    """Return a name of up to 200 printable characters, without spaces at either end."""
    return arguments.checked_name(label, value, what=what, error=InvalidJob)


def checked_priority(label: str, value: object) -> int:
    """Return a priority, a 32-bit int."""
    if isinstance(value, int) and not isinstance(value, bool) and -INT32 <= value < INT32:
        return value
    raise refused(
        label, value, use=f"an int from {-INT32} to {INT32 - 1}; higher runs first", error=InvalidJob
    )


def checked_count(label: str, value: object, *, without: str) -> int | None:
    """Return a maximum number; the message describes None with `without`."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < INT32:
        return value
    raise refused(label, value, use=f"an int above zero, or None for {without}", error=InvalidJob)


def checked_seconds(label: str, value: object, *, besides: str = "") -> float:
    """Return a duration in seconds, above zero."""
    return checked_duration(label, value, error=InvalidJob, besides=besides).total_seconds()


def checked_timeout(label: str, value: object) -> float | Callable[[JobRecord], Any] | None:
    """Return a timeout in seconds, or a function that returns the timeout of a job."""
    if value is None:
        return None
    if callable(value) and not isinstance(value, type):
        return cast("Callable[[JobRecord], Any]", value)
    return checked_seconds(label, value, besides=", a function of the job's record, or None for no limit")


def checked_run_in(label: str, value: object) -> RunIn:
    """Return the place where `run` is executed."""
    if isinstance(value, str) and value in get_args(RunIn):
        return cast("RunIn", value)
    raise refused(label, value, use="'trio', 'thread', 'process' or 'asyncio'", error=InvalidJob)


def check_asyncio(label: str) -> None:
    """Raise `InvalidJob` if this Python cannot run asyncio jobs.

    They need trio-asyncio, which is imported only where that may fail: it changes asyncio's policy.
    """
    if not _MAY_FAIL:
        return
    try:
        importlib.import_module("trio_asyncio")
    except (ImportError, AttributeError) as error:
        python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
        raise InvalidJob(
            f"{label} is 'asyncio', but trio-asyncio does not work with {python} ({error}): use Python 3.13 or older,"
            " or RUN_IN = 'trio'"
        ) from error


_MAY_FAIL: Final = sys.version_info >= (3, 14)
"""Python 3.14 has no ``asyncio.AbstractChildWatcher``, of which trio-asyncio 0.16 makes a subclass."""


def checked_unique(label: str, value: object) -> Unique | None:
    """Return a uniqueness rule, or None for no rule."""
    if value is None or isinstance(value, Unique):
        return value
    raise refused(label, value, use="a jobrt.Unique, or None for no rule", error=InvalidJob)
