"""Description of a worker, which it stores with each heartbeat."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

import attrs

from jobrt._core.rates import Rate
from jobrt._supervision.records import SupervisorStatistics

_MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""Errors that `_read` raises for JSON of an unexpected shape."""


@attrs.frozen(kw_only=True)
class QueueInfo:
    """Queue as served by one worker.

    ``running`` is the number of running attempts. ``claimed`` is the number of jobs that the worker holds and has not
    started. ``finished`` is the number of attempts that have ended since the start of the worker. ``stuck`` has the ids
    of jobs that the watchdog reported. ``cancelling`` has the phase of each job's cancellation: ``"received"``,
    ``"cleaning"`` or ``"stuck"``. ``claim_error`` is the error of the last claim, if claims have failed for
    ``claim_failing`` seconds. ``large_texts`` is the number of characters of large payloads that the worker holds: it
    claims no more jobs while there are too many. The others are settings of the queue.
    """

    concurrency: int = 0
    running: int = 0
    claimed: int = 0
    finished: int = 0
    paused: bool = False
    stuck: tuple[int, ...] = ()
    cancelling: Mapping[int, str] = attrs.Factory(dict)
    claim_error: str | None = None
    claim_failing: float = 0.0
    large_texts: int = 0
    cluster_limit: int | None = None
    key: str | None = None
    per_key: int | None = None
    rate: Rate | None = None
    per_key_rate: Rate | None = None


@attrs.frozen(kw_only=True)
class Notice:
    """Report of the watchdog from ``ago`` seconds ago.

    ``what`` is ``"blocking"``, ``"uncancellable"`` or ``"slow"`` for a job that has run for ``seconds`` and was at
    the source line ``at``. It is ``"stalled"`` for a ``queue`` with ``due`` jobs and ``free`` slots,
    and ``"hook"`` for a hook ``name`` that keeps jobs from running, with the ``problem``.
    """

    what: str
    ago: float = 0.0
    job: int | None = None
    name: str | None = None
    seconds: float | None = None
    at: str | None = None
    queue: str | None = None
    due: int | None = None
    free: int | None = None
    problem: str | None = None


@attrs.frozen(kw_only=True)
class WorkerInfo:
    """Worker as of its last heartbeat.

    ``disconnected`` is true if no wake-ups arrive. ``outage`` is the error if the database is unavailable.
    ``pending_outcomes``, ``landed`` and ``refused`` are numbers of outcomes: to be written, written, and refused
    because the lease was lost. ``clock`` is the time by the clock of the worker's machine. ``limits`` has the
    MAX_CONCURRENCY of each job that has one. ``unreadable`` names the parts of a stored description that could not be
    read.
    """

    host: str = ""
    pid: int = 0
    name: str | None = None
    version: str = ""
    python: str = ""
    program: str = ""
    leader: bool = False
    disconnected: bool = False
    outage: str | None = None
    stopping: bool = False
    pending_outcomes: int = 0
    landed: int = 0
    refused: int = 0
    queues: Mapping[str, QueueInfo] = attrs.Factory(dict)
    notices: tuple[Notice, ...] = ()
    clock: datetime | None = None
    limits: Mapping[str, int] = attrs.Factory(dict)
    tree: SupervisorStatistics | None = None
    unreadable: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the description as JSON values."""
        data = attrs.asdict(attrs.evolve(self, tree=None), value_serializer=_serialized)
        if not self.unreadable:
            del data["unreadable"]
        data["notices"] = [
            {key: value for key, value in notice.items() if value is not None} for notice in data["notices"]
        ]
        return data | {"tree": None if self.tree is None else self.tree.to_dict()}

    @classmethod
    def from_json(cls, text: str) -> WorkerInfo:
        """Return a stored description, perhaps of another version of jobrt: unknown keys are ignored.

        What cannot be read has its default, and is named in ``unreadable``. So a bad row is shown as far as possible.
        """
        try:
            stored = json.loads(text)
        except _MALFORMED:
            stored = None
        if not isinstance(stored, dict):
            return cls(unreadable=("everything",))
        unreadable: list[str] = []
        info = _read_each(cls, stored, unreadable)
        return attrs.evolve(info, unreadable=tuple(unreadable))


def _serialized(_self: object, _field: object, value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else value


_types_of = cache(typing.get_type_hints)


def _read_each(cls: Any, stored: Mapping[str, Any], unreadable: list[str]) -> WorkerInfo:
    """Return a description, each field and each queue read by itself; the names of the others are added."""
    fields: dict[str, Any] = {}
    for name, kind in _types_of(cls).items():
        if name == "queues":
            fields[name] = _read_queues(stored.get(name, {}), unreadable)
        elif name in stored:
            try:
                fields[name] = _read(kind, stored[name])
            except _MALFORMED:
                unreadable.append(name)
    return typing.cast("WorkerInfo", cls(**fields))


def _read_queues(stored: Any, unreadable: list[str]) -> dict[str, QueueInfo]:
    """Return the queues, also those of which only the name can be read: the worker serves them."""
    if not isinstance(stored, dict):
        unreadable.append("queues")
        return {}
    queues: dict[str, QueueInfo] = {}
    for name, value in typing.cast("dict[str, Any]", stored).items():
        try:
            queues[name] = _read(QueueInfo, value)
        except _MALFORMED:
            queues[name] = QueueInfo()
            unreadable.append(f"queue {name}")
    return queues


def _read(kind: Any, value: Any) -> Any:
    """Return a JSON value as a value of the annotated type, with the types of its parts converted."""
    if attrs.has(kind):
        known = {name: part for name, part in _types_of(kind).items() if name in value}
        return kind(**{name: _read(part, value[name]) for name, part in known.items()})
    arguments = typing.get_args(kind)
    match typing.get_origin(kind):
        case types.UnionType:  # a type or None
            return None if value is None else _read(arguments[0], value)
        case origin if origin is Mapping:
            return {_read(arguments[0], key): _read(arguments[1], item) for key, item in value.items()}
        case origin if origin is tuple:
            return tuple(_read(arguments[0], item) for item in value)
        case typing.Literal:
            return value
        case _:
            return datetime.fromisoformat(value) if kind is datetime else kind(value)
