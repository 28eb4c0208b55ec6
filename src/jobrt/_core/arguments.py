"""Checks of arguments that callers pass: one rule for each kind of value.

Each check takes the name of the argument, for messages, and its value. It returns the value as jobrt uses it, or raises
an error of one line that names the argument, shows the value, and says what to use instead. Checks run before any
I/O: what is refused has changed nothing.
"""

import difflib
import math
import reprlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from jobrt._core.escape import printable
from jobrt._core.text import text_from, why_no_key
from jobrt.backoff import seconds_of
from jobrt.errors import InvalidFilter, InvalidSetting, JobrtError

LONGEST: Final = timedelta(days=36_525)
"""A century. A longer delay or age is a mistake, and both databases can add it to any time that they store."""

INT32: Final = 2**31
_INT64: Final = 2**63
_SHOWN: Final = 100
_HUGE: Final = 10**30
_MAX_KEY: Final = 500
_MAX_NAME: Final = 200
CLOSE: Final = 0.75
"""Similarity above which a name may be a slip: `mial` and `mail` have exactly this."""

VERY_CLOSE: Final = 0.8
"""Similarity above which a name is taken for a slip, and refused: `MAX_ITEMS` is not one of `MAX_ATTEMPTS`."""

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _SHOWN


def shown(value: object) -> str:
    """Return a value for a message: one line of at most about a hundred characters, whatever its ``__repr__`` does."""
    if type(value) is int and abs(value) >= _HUGE:  # Python refuses to print thousands of digits
        return f"an int of {value.bit_length()} bits"
    text = printable(text_from(lambda: _repr.repr(value), f"a {type(value).__name__} whose repr() failed"))
    return text if len(text) <= 2 * _SHOWN else f"{text[:_SHOWN]}…"


def refused(label: str, value: object, *, use: str, error: type[JobrtError]) -> JobrtError:
    """Return the error for an invalid argument; `use` is the remedy."""
    return error(f"{label} is {shown(value)}: use {use}")


def is_int(value: object) -> bool:
    """Return whether a value is an integer; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def clamped(value: int) -> int:
    """Return the nearest number that a database can store. No job has the largest or the smallest one as its id."""
    return max(-_INT64, min(value, _INT64 - 1))


def checked_id(label: str, value: object) -> int:
    """Return the id of a job, a number that the databases can store."""
    if isinstance(value, int) and not isinstance(value, bool):
        return clamped(value)
    raise refused(label, value, use="the id of a job, an int", error=InvalidFilter)


def checked_limit(label: str, value: object) -> int | None:
    """Return a maximum number of results, None for no limit."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return min(value, _INT64 - 1)
    raise refused(label, value, use="an int of at least 0, or None for no limit", error=InvalidFilter)


def checked_place(label: str, value: object) -> int | None:
    """Return the id of the last job of a page, None for the first page."""
    return None if value is None else checked_id(label, value)


def checked_count(label: str, value: object, *, least: int, error: type[JobrtError] = InvalidSetting) -> int:
    """Return a number of at least `least` that the databases can store."""
    if isinstance(value, int) and not isinstance(value, bool) and least <= value < INT32:
        return value
    raise refused(label, value, use=f"an int from {least} to {INT32 - 1}", error=error)


def checked_flag(label: str, value: object, *, error: type[JobrtError] = InvalidSetting) -> bool:
    """Return True or False."""
    if isinstance(value, bool):
        return value
    raise refused(label, value, use="True or False", error=error)


def checked_text(
    label: str, value: object, *, what: str = "a string", error: type[JobrtError] = InvalidSetting
) -> str:
    """Return a string of any length."""
    if isinstance(value, str):
        return value
    raise refused(label, value, use=what, error=error)


def checked_name(
    label: str, value: object, *, what: str = "name", error: type[JobrtError] = InvalidSetting
) -> str:
    """Return a name of up to 200 printable characters, without spaces at either end."""
    if (
        isinstance(value, str)
        and value.isprintable()
        and value == value.strip()
        and 0 < len(value) <= _MAX_NAME
    ):
        return value
    raise refused(label, value, use=f"a {what} of 1 to {_MAX_NAME} printable characters", error=error)


def checked_key(label: str, value: object, *, error: type[JobrtError] = InvalidSetting) -> str:
    """Return a key: a string of up to 500 characters that both databases can store and index."""
    if isinstance(value, str) and 0 < len(value) <= _MAX_KEY and why_no_key(value) is None:
        return value
    raise refused(label, value, use=f"a string of 1 to {_MAX_KEY} characters that UTF-8 has", error=error)


def checked_duration(
    label: str,
    value: object,
    *,
    zero: bool = False,
    error: type[JobrtError] = InvalidSetting,
    besides: str = "",
) -> timedelta:
    """Return a duration of at most a century, above zero or, if `zero` is true, at least zero."""
    seconds = seconds_of(value)
    if seconds is not None and (seconds > 0 or zero) and seconds <= LONGEST.total_seconds():
        return value if isinstance(value, timedelta) else timedelta(seconds=seconds)
    least = "at least" if zero else "above"
    raise refused(
        label, value, use=f"seconds or a timedelta, {least} zero and at most a century{besides}", error=error
    )


def checked_seconds(
    label: str, value: object, *, least: float, error: type[JobrtError] = InvalidSetting
) -> float:
    """Return seconds, from `least` to a century."""
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and least <= value <= LONGEST.total_seconds()
    ):
        return float(value)
    raise refused(label, value, use=f"seconds, at least {least:g} and at most a century", error=error)


def checked_moment(label: str, value: object, *, error: type[JobrtError] = InvalidSetting) -> datetime:
    """Return an aware datetime whose time in UTC is one too."""
    try:
        if isinstance(value, datetime) and value.utcoffset() is not None:
            value.astimezone(UTC)
            return value
    except (OverflowError, ValueError):  # before the year 1, or after 9999
        pass
    raise refused(label, value, use="an aware datetime, such as datetime.now(UTC)", error=error)


def checked_wait(label: str, value: object) -> float:
    """Return the seconds to wait; None is without limit, and zero or less is not at all."""
    if value is None:
        return math.inf
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:  # noqa: PLR0124 - NaN
        return min(max(value, 0.0), LONGEST.total_seconds())
    raise refused(label, value, use="seconds, or None for no limit", error=InvalidSetting)


def checked_names(label: str, value: object, *, error: type[JobrtError] = InvalidSetting) -> tuple[str, ...]:
    """Return several names; a string is none of them, since it would be taken for its letters."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise refused(label, value, use="a list of names", error=error)
    return tuple(checked_name(label, name, error=error) for name in value)


def nearest(name: str, known: Iterable[str], *, cutoff: float = CLOSE) -> str | None:
    """Return the known name that is most like `name`, or None if all are less alike than `cutoff`."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return found[0] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest known one, or all of them."""
    names = list(known)
    close = nearest(name, names)
    return f"did you mean {close}?" if close else f"use {', '.join(names)}"
