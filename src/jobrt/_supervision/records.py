"""Events and statistics of a supervisor.

Each task of a child ends with exactly one `ChildStopped` or `ChildFailed`.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias, assert_never

import attrs

from jobrt._supervision.decisions import Consequence, Decision, Restart, ServiceState, Strategy


@attrs.frozen
class ChildStarted:
    """A child is up: it called ``started()``, or does not take ``task_status``."""

    supervisor: str
    child: str


@attrs.frozen
class ChildStopped:
    """The task of a child ended without an error."""

    supervisor: str
    child: str


@attrs.frozen
class ChildFailed:
    """The task of a child ended with an error, even while it was being stopped.

    A group with a single error is replaced by that error.
    """

    supervisor: str
    child: str
    error: BaseException


@attrs.frozen
class ChildRestarting:
    """A child restarts after ``delay`` seconds.

    ``restarts`` is the number of restarts it caused within the period. ``error`` is the reason; None means that
    a permanent child returned.
    """

    supervisor: str
    child: str
    delay: float
    restarts: int
    error: Exception | None


@attrs.frozen
class ChildSetAside:
    """A child failed too often, and restarts after ``delay`` seconds, the ``retry_interval``."""

    supervisor: str
    child: str
    delay: float
    error: Exception | None


@attrs.frozen
class ChildStuck:
    """A child did not end within ``seconds`` after it was cancelled; its end is still awaited."""

    supervisor: str
    child: str
    seconds: float


@attrs.frozen
class SupervisorGaveUp:
    """There were too many restarts: `SupervisorFailed` follows when all children have stopped.

    ``error`` is the last error; None means that ``child`` returned.
    """

    supervisor: str
    child: str
    error: Exception | None


SupervisionEvent: TypeAlias = (
    ChildStarted
    | ChildStopped
    | ChildFailed
    | ChildRestarting
    | ChildSetAside
    | ChildStuck
    | SupervisorGaveUp
)


def restart_event(
    supervisor: str, child: str, *, decision: Decision, recent_restarts: int, error: Exception | None
) -> SupervisionEvent | None:
    """Return the event for the decision after the end of a task, or None if nothing follows."""
    match decision.consequence:
        case Consequence.NOTHING:
            return None
        case Consequence.RESTART:
            return ChildRestarting(supervisor, child, decision.delay, recent_restarts, error)
        case Consequence.RETRY:
            return ChildSetAside(supervisor, child, decision.delay, error)
        case Consequence.GIVE_UP:
            return SupervisorGaveUp(supervisor, child, error)
        case _:
            assert_never(decision.consequence)


@attrs.frozen(kw_only=True)
class ChildStatistics:
    """Snapshot of a child.

    Attributes:
        name: name of the child, unique among its siblings.
        state: current state.
        restart: restart type.
        recent_restarts: number of restarts it caused within the period of its supervisor.
        restarts: total number of restarts it caused.
        last_error: last error, in one line.
        last_error_at: time of that error.
        since: time of the last change of state; None before the first start.
        since_clock: the same in seconds of Trio's clock.
        nested: the tree below the child, if it is a supervisor.

    """

    name: str
    state: ServiceState
    restart: Restart
    recent_restarts: int
    restarts: int
    last_error: str | None
    last_error_at: datetime | None
    since: datetime | None
    since_clock: float | None
    nested: SupervisorStatistics | None

    def to_dict(self) -> dict[str, object]:
        """Return the snapshot as JSON values, with times in ISO 8601."""
        return _to_json(self)


@attrs.frozen(kw_only=True)
class SupervisorStatistics:
    """Snapshot of a supervisor and the tree below it; children are in the order added."""

    name: str
    strategy: Strategy
    state: ServiceState
    children: tuple[ChildStatistics, ...]

    def to_dict(self) -> dict[str, object]:
        """Return the whole tree as JSON values, with times in ISO 8601."""
        return _to_json(self)


def _to_json(statistics: ChildStatistics | SupervisorStatistics) -> dict[str, object]:
    return attrs.asdict(statistics, value_serializer=_as_json)


def _as_json(_self: object, _field: object, value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case ServiceState():
            return value.value
        case tuple():
            return list(value)
        case _:
            return value
