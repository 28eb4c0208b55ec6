"""Filters for jobs: ``where.state("available") & ~where.queue("mail")``.

A filter is a small tree of frozen values. The engines translate it to SQL, with each value as a parameter and
each combination in parentheses. ``matches`` has the same meaning in Python, and the storage tests compare the
engines with it. A timedelta means *that long ago*, by the database's clock.
"""

from __future__ import annotations

import base64
import builtins
import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import Any, Literal

import attrs

from jobrt._core.arguments import checked_id, checked_moment, checked_text, refused, shown
from jobrt._core.job import JobRecord
from jobrt._core.states import State
from jobrt._core.text import is_storable
from jobrt.errors import InvalidFilter

Column = Literal["id", "name", "queue", "state", "worker", "parent"]
TimeColumn = Literal["schedule_at", "created_at", "finished_at"]
Moment = datetime | timedelta


class Where:
    """Base class of filters, which are combined with ``&``, ``|`` and ``~``."""

    __slots__ = ()

    def __and__(self, other: Where) -> And:
        return And((self, _filter(other)))

    def __or__(self, other: Where) -> Or:
        return Or((self, _filter(other)))

    def __invert__(self) -> Not:
        return Not(self)

    def __bool__(self) -> bool:
        raise InvalidFilter("a filter has no truth value: combine filters with & | ~, not with and, or, not")


def _filter(value: object) -> Where:
    if not isinstance(value, Where):
        raise InvalidFilter(f"{shown(value)} is not a filter: create one with jobrt.where")
    return value


@attrs.frozen
class And(Where):
    """Filter for jobs that match all parts; without parts, all jobs."""

    parts: tuple[Where, ...]


@attrs.frozen
class Or(Where):
    """Filter for jobs that match any part; without parts, no jobs."""

    parts: tuple[Where, ...]


@attrs.frozen
class Not(Where):
    """Filter for jobs that do not match the part."""

    part: Where


@attrs.frozen
class Everything(Where):
    """Filter for all jobs."""


@attrs.frozen
class In(Where):
    """Filter for jobs whose column has one of the values; without values, no jobs."""

    column: Column
    values: tuple[int | str, ...]


@attrs.frozen
class Tagged(Where):
    """Filter for jobs with any of the tags, or with all of them if `every` is true."""

    tags: tuple[str, ...]
    every: bool


@attrs.frozen
class JsonEquals(Where):
    """Filter for jobs whose args or metadata, or a field of them, equal a JSON value."""

    column: Literal["args", "metadata"]
    field: str | None
    value: Any

    @property
    def text(self) -> str:
        """The value as JSON text with sorted keys."""
        return json.dumps(self.value, sort_keys=True, separators=(",", ":"))


@attrs.frozen
class Compare(Where):
    """Filter for jobs whose time is before, after or at a moment; a job without that time never matches."""

    column: TimeColumn
    operator: Literal["<", ">", "="]
    moment: Moment


def everything() -> Where:
    """Match all jobs."""
    return Everything()


def id(value: int) -> Where:
    """Match the job with this id."""
    return In("id", (checked_id("where.id: value", value),))


def id_in(values: Iterable[int]) -> Where:
    """Match the jobs with these ids."""
    return In(
        "id", tuple(checked_id("where.id_in: values", value) for value in _several("id_in", values, "ids"))
    )


def name(value: str) -> Where:
    """Match jobs of this name."""
    return In("name", (_text("name", value),))


def queue(value: str) -> Where:
    """Match jobs in this queue."""
    return In("queue", (_text("queue", value),))


def parent(value: int) -> Where:
    """Match the jobs that this job has enqueued, in its nurseries or with ``ctx.enqueue``."""
    return In("parent", (checked_id("where.parent: value", value),))


def parent_in(values: Iterable[int]) -> Where:
    """Match the jobs that any of these jobs has enqueued."""
    return In(
        "parent",
        tuple(checked_id("where.parent_in: values", value) for value in _several("parent_in", values, "ids")),
    )


def worker(value: str) -> Where:
    """Match jobs that this worker is running, or was the last to run."""
    return In("worker", (_text("worker", value),))


def _text(function: str, value: object) -> str:
    return checked_text(f"where.{function}: value", value, error=InvalidFilter)


def _several(function: str, values: object, what: str) -> Iterable[Any]:
    """Return values to iterate over; the letters of a string are not what a caller means."""
    if isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping):
        return values
    raise refused(f"where.{function}: values", values, use=f"a list of {what}", error=InvalidFilter)


def state(*values: str) -> Where:
    """Match jobs in any of these states."""
    states = frozenset(State)
    for value in values:
        if not isinstance(value, str) or value not in states:
            raise refused("where.state: values", value, use=", ".join(State), error=InvalidFilter)
    return In("state", tuple(State(value).value for value in values))


def _tags(function: str, values: object) -> tuple[str, ...]:
    found = _several(function, values, "tags")
    return tuple(checked_text(f"where.{function}: values", tag, error=InvalidFilter) for tag in found)


def tagged_any(values: Iterable[str]) -> Where:
    """Match jobs with at least one of the tags; an empty list matches nothing."""
    return Tagged(_tags("tagged_any", values), every=False)


def tagged_all(values: Iterable[str]) -> Where:
    """Match jobs with all of the tags; an empty list matches everything."""
    return Tagged(_tags("tagged_all", values), every=True)


_UNSET: Any = builtins.object()


def args(field_or_value: Any, value: Any = _UNSET) -> Where:
    """Match jobs whose payload equals a dict; with ``args(field, value)``, jobs whose field has the value.

    A dotted field such as ``"address.city"`` is a field of a nested value. Values are JSON; a path may be given as it
    is, and is compared as it is stored.
    """
    return _json("args", field_or_value, value)


def metadata(field_or_value: Any, value: Any = _UNSET) -> Where:
    """Match jobs whose metadata equals a dict; with ``metadata(field, value)``, jobs whose field has the value."""
    return _json("metadata", field_or_value, value)


def _json(column: Literal["args", "metadata"], first: Any, second: Any) -> Where:
    is_document, label = second is _UNSET, f"where.{column}: field_or_value"
    if is_document and not isinstance(first, Mapping):
        raise refused(label, first, use="a dict, or a field and a value", error=InvalidFilter)
    if not is_document and (not isinstance(first, str) or not all(first.split("."))):
        raise refused(label, first, use="a field name, or names joined by dots", error=InvalidFilter)
    given = first if is_document else second
    if isinstance(given, str) and not is_storable(given):
        given = PurePath(given)  # a file's name, as an operator types it
    try:
        value = json.loads(json.dumps(given, allow_nan=False, default=_stored))
        canonical(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidFilter(f"where.{column}: value: {error}; compare with JSON values") from error
    return JsonEquals(column, first if isinstance(first, str) else None, value)


def _stored(value: object) -> Any:
    """Return a path as a payload has it: one that is not Unicode in base64."""
    if not isinstance(value, PurePath):
        raise TypeError(f"a {type(value).__name__} is not JSON")
    text = str(value)
    if is_storable(text):
        return text
    try:
        return {"base64": base64.b64encode(os.fsencode(text)).decode("ascii")}
    except UnicodeEncodeError:  # no file has this name
        return text


_LONGEST_AGO = timedelta(days=365_250)
"""A thousand years, which both databases can subtract from now."""


def _time(
    column: TimeColumn, operator: Literal["<", ">", "="], moment: Moment, *, of: str, argument: str = "moment"
) -> Where:
    label = f"where.{of}: {argument}"
    if not isinstance(moment, timedelta):
        try:
            return Compare(column, operator, checked_moment(label, moment, error=InvalidFilter))
        except InvalidFilter as error:
            raise InvalidFilter(f"{error}, or a timedelta of the past") from None
    if abs(moment) > _LONGEST_AGO:
        raise refused(label, moment, use="a timedelta of at most a thousand years", error=InvalidFilter)
    return Compare(column, operator, moment)


def scheduled_before(moment: Moment) -> Where:
    """Match jobs due before the moment; a timedelta means that long ago."""
    return _time("schedule_at", "<", moment, of="scheduled_before")


def scheduled_after(moment: Moment) -> Where:
    """Match jobs due after the moment; a timedelta means that long ago."""
    return _time("schedule_at", ">", moment, of="scheduled_after")


def scheduled_at(moment: datetime) -> Where:
    """Match jobs due exactly at the moment."""
    return _time("schedule_at", "=", moment, of="scheduled_at")


def scheduled_within(window: timedelta) -> Where:
    """Match jobs that became due within the last `window`."""
    return _within("schedule_at", window, of="scheduled_within")


def created_before(moment: Moment) -> Where:
    """Match jobs enqueued before the moment; a timedelta means that long ago."""
    return _time("created_at", "<", moment, of="created_before")


def created_after(moment: Moment) -> Where:
    """Match jobs enqueued after the moment; a timedelta means that long ago."""
    return _time("created_at", ">", moment, of="created_after")


def created_within(window: timedelta) -> Where:
    """Match jobs enqueued within the last `window`."""
    return _within("created_at", window, of="created_within")


def finished_before(moment: Moment) -> Where:
    """Match final jobs that ended before the moment; a timedelta means that long ago."""
    return _time("finished_at", "<", moment, of="finished_before")


def finished_after(moment: Moment) -> Where:
    """Match final jobs that ended after the moment; a timedelta means that long ago."""
    return _time("finished_at", ">", moment, of="finished_after")


def finished_within(window: timedelta) -> Where:
    """Match final jobs that ended within the last `window`."""
    return _within("finished_at", window, of="finished_within")


def _within(column: TimeColumn, window: timedelta, *, of: str) -> Where:
    if not isinstance(window, timedelta):
        raise refused(f"where.{of}: window", window, use="a timedelta", error=InvalidFilter)
    past = _time(column, ">", window, of=of, argument="window")
    return past & ~_time(column, ">", timedelta(0), of=of)


def matches(where: Where, job: JobRecord, *, now: datetime) -> bool:
    """Return whether the filter matches a record at `now`. The SQL of the engines must have the same result."""
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
            raise InvalidFilter(f"{shown(where)} is not a filter: create one with jobrt.where")


def _json_equal(stored: Any, field: str | None, value: Any) -> bool:
    for key in field.split(".") if field else ():
        if not isinstance(stored, Mapping) or key not in stored:
            return False
        stored = stored[key]
    return canonical(stored) == canonical(value)


def canonical(value: Any) -> str:
    """Return JSON text that is the same for equal JSON values (1 equals 1.0, but not true)."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(k)}:{canonical(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(canonical, value)) + "]"
    return json.dumps(value)


def _compare(stored: datetime | None, operator: str, moment: Moment, *, now: datetime) -> bool:
    if stored is None:
        return False
    limit = moment if isinstance(moment, datetime) else now.astimezone(UTC) - moment
    return (stored < limit) if operator == "<" else (stored > limit) if operator == ">" else stored == limit
