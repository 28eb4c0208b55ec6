"""Decisions about when two jobs are duplicates.

Uniqueness consists of a *digest* of chosen values and of a rule (`states`, `within`) that says which stored jobs with
this digest are duplicates. The digest is stored with the job, and the database locks on it. So jobs compete only if
they were enqueued with the same ``by`` (or ``key``) and equal values.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

import attrs

from jobrt._core.arguments import checked_duration, refused
from jobrt._core.states import ALL, HELD, INCOMPLETE, UNSTARTED, State
from jobrt.errors import InvalidJob

_NAMED_STATES = {"unstarted": UNSTARTED, "incomplete": INCOMPLETE, "all": ALL}
_REPLACEABLE = ("priority", "args", "metadata", "schedule_at", "max_attempts")


def _states(value: str | Iterable[str], label: str = "Unique.states") -> frozenset[State]:
    """Return the states that a word or a tuple of states names."""
    if isinstance(value, str):
        if value not in _NAMED_STATES:
            raise refused(
                label, value, use="'unstarted', 'incomplete', 'all' or a tuple of states", error=InvalidJob
            )
        return _NAMED_STATES[value]
    names = _strings(label, value, "'unstarted', 'incomplete', 'all' or a tuple of states")
    for name in names:
        if name not in ALL:
            raise refused(label, name, use=f"states: {', '.join(sorted(ALL))}", error=InvalidJob)
    if not names:
        raise InvalidJob(f"{label} is empty, so it would never apply: name at least one state")
    states = frozenset(map(State, names))
    # A job is claimed before it is executing. Whoever names the latter alone means no gap between the two.
    return states | HELD if State.EXECUTING in states else states


def _strings(label: str, value: object, remedy: str) -> tuple[str, ...]:
    """Return several strings."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        values = tuple(value)
        if all(isinstance(item, str) for item in values):
            return values
    raise refused(label, value, use=remedy, error=InvalidJob)


@attrs.frozen(init=False)
class Replace:
    """Fields of an existing job that are replaced by the new job's values, and the states in which they are.

    The ``fields`` are any of ``"priority"``, ``"args"``, ``"metadata"``, ``"schedule_at"``, ``"max_attempts"``. Running
    and final jobs are never changed, so ``when`` may only have scheduled, available and retryable.
    """

    fields: tuple[str, ...]
    when: frozenset[State]

    def __init__(self, *fields: str, when: str | Iterable[str] = "unstarted") -> None:
        for field in fields:
            if not isinstance(field, str) or field not in _REPLACEABLE:
                raise refused("Replace.fields", field, use=", ".join(_REPLACEABLE), error=InvalidJob)
        if not fields:
            raise InvalidJob(f"Replace.fields is empty: use {', '.join(_REPLACEABLE)}")
        states = _states(when, "Replace.when")
        if not states <= UNSTARTED:
            raise InvalidJob(
                "Replace.when: only waiting jobs can be changed; use scheduled, available, retryable"
            )
        self.__attrs_init__(fields, states)  # pyright: ignore[reportAttributeAccessIssue] - attrs makes it


def _checked_by(_self: object, _field: object, by: tuple[str, ...]) -> None:
    for path in by:
        root, dot, field = path.partition(".")
        whole = not dot and root in {"name", "queue", "args"}
        if not (whole or (dot and field and root in {"args", "metadata"})):
            raise refused("Unique.by", path, use=_BY_REMEDY, error=InvalidJob)
    if not by:
        raise InvalidJob("Unique.by is empty: use the fields that must be equal, or a key")


def _window(value: timedelta | float | None) -> timedelta | None:
    if value is None:
        return None
    return checked_duration("Unique.within", value, error=InvalidJob, besides=", or None for no window")


_BY_REMEDY = "'name', 'queue', 'args', 'args.FIELD' or 'metadata.FIELD'"


def _by(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else _strings("Unique.by", value, _BY_REMEDY)


def _replace(_self: object, _field: object, value: Replace | None) -> None:
    if value is not None and not isinstance(value, Replace):
        raise refused(
            "Unique.on_conflict", value, use="a jobrt.Replace, or None to change nothing", error=InvalidJob
        )


@attrs.frozen
class Unique:
    """Rule for which jobs are duplicates of the one that is enqueued.

    Args:
        by: fields that must be equal: ``"name"``, ``"queue"``, ``"args"``, ``"args.FIELD"``, ``"metadata.FIELD"``.
        key: any JSON value; it is compared, with the job's name, instead of ``by``.
        within: only stored jobs younger than this (seconds or a timedelta, by the database's clock) count.
        states: states in which stored jobs count: ``"unstarted"``, ``"incomplete"``, ``"all"`` or a tuple of states.
            ``"executing"`` includes ``"claimed"``.
        on_conflict: fields to replace in the duplicate that is found; none by default.

    """

    by: tuple[str, ...] = attrs.field(default=("name", "args"), converter=_by, validator=_checked_by)
    key: Any = attrs.field(default=None, kw_only=True)
    within: timedelta | None = attrs.field(default=None, kw_only=True, converter=_window)
    states: frozenset[State] = attrs.field(default="incomplete", kw_only=True, converter=_states)  # pyright: ignore[reportAssignmentType] - it is converted
    on_conflict: Replace | None = attrs.field(default=None, kw_only=True, validator=_replace)


class UniqueKey(NamedTuple):
    """`Unique` applied to one job: the values that the storage compares and locks on.

    ``digest`` is 32 hexadecimal digits (128 bits of SHA-256).
    """

    digest: str
    within: timedelta | None
    states: frozenset[State]
    replace: Replace | None

    def matches(self, state: State, age: float) -> bool:
        """Return whether a job with this digest, state and age in seconds is a duplicate."""
        return state in self.states and (self.within is None or age < self.within.total_seconds())

    def replaced(self, state: State) -> tuple[str, ...]:
        """Return the fields of a duplicate in this state that are replaced by the new job's values."""
        return self.replace.fields if self.replace is not None and state in self.replace.when else ()


_new: Final = tuple.__new__
"""Makes a named tuple of all of its values, in half the time of its constructor."""

_USUAL: Final = ("name", "args")


def unique_key(unique: Unique, *, name: str, queue: str, args: str, metadata: Mapping[str, Any]) -> UniqueKey:
    """Return the `UniqueKey` of a job with these values.

    ``args`` is JSON text with sorted keys and no spaces.

    Raises:
        InvalidJob: ``by`` names a field that the job does not have, or the key is not JSON.

    """
    if unique.key is None and unique.by == _USUAL and args.isascii() and args.isprintable():
        text = f'[{_named("name", name)},["args",{args}]]'  # as below, for most jobs
    elif unique.key is None:
        values = {"name": name, "queue": queue, "args": args, "metadata": metadata}
        text = f"[{','.join([_compared(path, values) for path in unique.by])}]"
    else:
        try:
            text = _write(["key", name, unique.key])
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidJob(
                f"Unique.key of {name}: {error}; use strings, numbers, booleans, lists and dicts"
            ) from error
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    return _new(UniqueKey, (digest, unique.within, unique.states, unique.on_conflict))


_write: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
"""JSON as it is compared: ASCII. `json.dumps` makes an encoder for each call, which takes as long again."""


def _compared(path: str, values: Mapping[str, Any]) -> str:
    """Return a path with its value as JSON text."""
    root, _, field = path.partition(".")
    value = values[root]
    match root, field:
        case "args", "":
            # Of printable ASCII, the text is the same when it is read and written again.
            text = value if value.isascii() and value.isprintable() else _write(json.loads(value))
            return f'["args",{text}]'
        case "args", _:
            fields = json.loads(value)
            if field not in fields:
                raise InvalidJob(f"Unique.by has {path!r}, but {values['name']} has no field {field!r}")
            return _write([path, fields[field]])
        case "metadata", _:
            return _write([path, value.get(field)])
        case _:
            return _named(path, value)


@lru_cache(maxsize=256)
def _named(path: str, value: str) -> str:
    return _write([path, value])
