"""Describe which jobs are meant: ``where.state("available") & ~where.queue("mail")``.

A filter is a small tree of frozen values. The engines turn it into SQL in which every value is a
parameter and every combination stands in parentheses; ``matches`` says the same in Python and is what the
storage tests compare them with. Relative times (a timedelta means *that long ago*) are judged by the
database's clock.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import attrs

from jobrt._core.states import State
from jobrt.errors import InvalidFilter

if TYPE_CHECKING:
    from jobrt._core.job import JobRecord

__all__ = [
    "And",
    "Column",
    "Compare",
    "Everything",
    "In",
    "JsonEquals",
    "Moment",
    "Not",
    "Or",
    "Tagged",
    "TimeColumn",
    "Where",
    "args",
    "canonical",
    "created_after",
    "created_before",
    "created_within",
    "everything",
    "finished_after",
    "finished_before",
    "finished_within",
    "id",
    "id_in",
    "matches",
    "metadata",
    "name",
    "queue",
    "scheduled_after",
    "scheduled_at",
    "scheduled_before",
    "scheduled_within",
    "state",
    "tagged_all",
    "tagged_any",
    "worker",
]

Column = Literal["id", "name", "queue", "state", "worker"]
TimeColumn = Literal["schedule_at", "created_at", "finished_at"]
Moment = datetime | timedelta


class Where:
    """Be a filter; combine filters with ``&``, ``|`` and ``~``."""

    __slots__ = ()

    def __and__(self, other: Where) -> And:
        return And((self, _filter(other)))

    def __or__(self, other: Where) -> Or:
        return Or((self, _filter(other)))

    def __invert__(self) -> Not:
        return Not(self)

    def __bool__(self) -> bool:
        msg = "a filter is neither true nor false: combine filters with & | ~, not with and, or, not"
        raise InvalidFilter(msg)


def _filter(value: object) -> Where:
    if not isinstance(value, Where):
        msg = f"{value!r} is not a filter: build one with jobrt.where"
        raise InvalidFilter(msg)
    return value


@attrs.frozen
class And(Where):
    """Match what all of the parts match; no parts match everything."""

    parts: tuple[Where, ...]


@attrs.frozen
class Or(Where):
    """Match what any of the parts matches; no parts match nothing."""

    parts: tuple[Where, ...]


@attrs.frozen
class Not(Where):
    """Match what the part does not."""

    part: Where


@attrs.frozen
class Everything(Where):
    """Match every job."""


@attrs.frozen
class In(Where):
    """Match jobs whose column has one of the values; none match nothing."""

    column: Column
    values: tuple[int | str, ...]


@attrs.frozen
class Tagged(Where):
    """Match jobs with any, or all, of the tags."""

    tags: tuple[str, ...]
    every: bool


@attrs.frozen
class JsonEquals(Where):
    """Match jobs whose args or metadata (whole, or one field of it) equal a JSON value."""

    column: Literal["args", "metadata"]
    field: str | None
    value: Any

    @property
    def text(self) -> str:
        """Return the value as JSON text with sorted keys."""
        return json.dumps(self.value, sort_keys=True, separators=(",", ":"))


@attrs.frozen
class Compare(Where):
    """Match jobs whose time is before, after or at a moment; a job without that time never matches."""

    column: TimeColumn
    operator: Literal["<", ">", "="]
    moment: Moment


def everything() -> Where:
    """Match every job."""
    return Everything()


def id(value: int) -> Where:
    """Match the job with this id."""
    return In("id", (value,))


def id_in(values: Iterable[int]) -> Where:
    """Match the jobs with these ids."""
    return In("id", tuple(values))


def name(value: str) -> Where:
    """Match jobs of this name."""
    return In("name", (value,))


def queue(value: str) -> Where:
    """Match jobs in this queue."""
    return In("queue", (value,))


def worker(value: str) -> Where:
    """Match jobs that this worker runs or ran last."""
    return In("worker", (value,))


def state(*values: str) -> Where:
    """Match jobs in any of these states."""
    try:
        return In("state", tuple(State(one).value for one in values))
    except ValueError as error:
        msg = f"where.state: {error}; the states are {', '.join(State)}"
        raise InvalidFilter(msg) from None


def _tags(values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, str):
        msg = f"where.tagged_*({values!r}): give a list of tags"
        raise InvalidFilter(msg)
    return tuple(values)


def tagged_any(values: Iterable[str]) -> Where:
    """Match jobs with at least one of the tags; an empty list matches nothing."""
    return Tagged(_tags(values), every=False)


def tagged_all(values: Iterable[str]) -> Where:
    """Match jobs with all of the tags; an empty list matches everything."""
    return Tagged(_tags(values), every=True)


_NOTHING: Any = builtins.object()


def args(field_or_value: Any, value: Any = _NOTHING) -> Where:
    """Match jobs whose payload equals a dict, or ``args(field, value)`` one field of it (dots go deeper)."""
    return _json("args", field_or_value, value)


def metadata(field_or_value: Any, value: Any = _NOTHING) -> Where:
    """Match jobs whose metadata equals a dict, or ``metadata(field, value)`` one field of it."""
    return _json("metadata", field_or_value, value)


def _json(column: Literal["args", "metadata"], first: Any, second: Any) -> Where:
    whole = second is _NOTHING
    if whole and not isinstance(first, Mapping):
        msg = f"where.{column}({first!r}): give a dict, or a field and a value"
        raise InvalidFilter(msg)
    if not whole and (not isinstance(first, str) or not all(first.split("."))):
        msg = f"where.{column}({first!r}, …): a field is a name, or names joined by dots"
        raise InvalidFilter(msg)
    found = JsonEquals(column, first if isinstance(first, str) else None, first if whole else second)
    try:
        json.dumps(found.value, allow_nan=False)
    except (TypeError, ValueError) as error:
        msg = f"where.{column}: {error}; compare with JSON values"
        raise InvalidFilter(msg) from error
    return found


def _time(column: TimeColumn, operator: Literal["<", ">", "="], moment: Moment) -> Where:
    if isinstance(moment, datetime) and moment.tzinfo is None:
        msg = (
            f"where: {moment!r} has no time zone; give an aware datetime, or a timedelta for 'that long ago'"
        )
        raise InvalidFilter(msg)
    if not isinstance(moment, (datetime, timedelta)):
        msg = f"where: {moment!r} is no time; give an aware datetime, or a timedelta for 'that long ago'"
        raise InvalidFilter(msg)
    return Compare(column, operator, moment)


def scheduled_before(moment: Moment) -> Where:
    """Match jobs due before the moment; a timedelta means that long ago (``older than``)."""
    return _time("schedule_at", "<", moment)


def scheduled_after(moment: Moment) -> Where:
    """Match jobs due after the moment; a timedelta means that long ago."""
    return _time("schedule_at", ">", moment)


def scheduled_at(moment: datetime) -> Where:
    """Match jobs due exactly then."""
    return _time("schedule_at", "=", moment)


def scheduled_within(window: timedelta) -> Where:
    """Match jobs that fell due within the last `window`."""
    return _within("schedule_at", window)


def created_before(moment: Moment) -> Where:
    """Match jobs enqueued before the moment; a timedelta means that long ago."""
    return _time("created_at", "<", moment)


def created_after(moment: Moment) -> Where:
    """Match jobs enqueued after the moment; a timedelta means that long ago."""
    return _time("created_at", ">", moment)


def created_within(window: timedelta) -> Where:
    """Match jobs enqueued within the last `window`."""
    return _within("created_at", window)


def finished_before(moment: Moment) -> Where:
    """Match final jobs that ended before the moment; a timedelta means that long ago."""
    return _time("finished_at", "<", moment)


def finished_after(moment: Moment) -> Where:
    """Match final jobs that ended after the moment; a timedelta means that long ago."""
    return _time("finished_at", ">", moment)


def finished_within(window: timedelta) -> Where:
    """Match final jobs that ended within the last `window`."""
    return _within("finished_at", window)


def _within(column: TimeColumn, window: timedelta) -> Where:
    if not isinstance(window, timedelta):
        msg = f"where: a window is a timedelta, not {window!r}"
        raise InvalidFilter(msg)
    return _time(column, ">", window) & ~_time(column, ">", timedelta(0))


def matches(where: Where, job: JobRecord, *, now: datetime) -> bool:
    """Return whether the filter matches this record at `now`: what the engines' SQL must agree with."""
    match where:
        case Everything():
            return True
        case And(parts):
            return all(matches(part, job, now=now) for part in parts)
        case Or(parts):
            return any(matches(part, job, now=now) for part in parts)
        case Not(part):
            return not matches(part, job, now=now)
        case In(column, values):
            return getattr(job, column) in values
        case Tagged(tags, every):
            return (all if every else any)(tag in job.tags for tag in tags)
        case JsonEquals(column, field, value):
            return _json_equal(getattr(job, column), field, value)
        case Compare(column, operator, moment):
            return _compare(getattr(job, column), operator, moment, now=now)
        case _:
            msg = f"{where!r} is not a filter: build one with jobrt.where"
            raise InvalidFilter(msg)


def _json_equal(found: Any, field: str | None, value: Any) -> bool:
    for step in field.split(".") if field else ():
        if not isinstance(found, Mapping) or step not in found:
            return False
        found = found[step]
    return canonical(found) == canonical(value)


def canonical(value: Any) -> str:
    """Return JSON text in which equal JSON values are equal (1 and 1.0 are, 1 and true are not)."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(k)}:{canonical(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(canonical, value)) + "]"
    return json.dumps(value)


def _compare(found: datetime | None, operator: str, moment: Moment, *, now: datetime) -> bool:
    if found is None:
        return False
    limit = moment if isinstance(moment, datetime) else now.astimezone(UTC) - moment
    return (found < limit) if operator == "<" else (found > limit) if operator == ">" else found == limit
