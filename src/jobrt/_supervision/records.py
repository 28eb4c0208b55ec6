"""Name what a supervisor tells: events as they happen, and a snapshot of its tree.

======================= =========================================================================
event                   told when
======================= =========================================================================
`ChildStarted`          a child is up: it called ``started()``, or does not take ``task_status``
`ChildStopped`          an incarnation ended without an error, by itself or because it was told to
`ChildFailed`           an incarnation ended with an error, also while it was being stopped
`ChildRestarting`       the child will be started again after a delay
`ChildSetAside`         it failed too often; it is tried again after ``retry_interval``, siblings go on
`ChildStuck`            it was cancelled and did not end within its limit; its end is still awaited
`SupervisorGaveUp`      too many restarts: the other children are stopped, then `SupervisorFailed` is raised
======================= =========================================================================

Each incarnation ends in exactly one `ChildStopped` or `ChildFailed`.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

import attrs

from jobrt._supervision.decisions import Restart, ServiceState, Strategy

__all__ = [
    "ChildFailed",
    "ChildRestarting",
    "ChildSetAside",
    "ChildStarted",
    "ChildStatistics",
    "ChildStopped",
    "ChildStuck",
    "SupervisionEvent",
    "SupervisorGaveUp",
    "SupervisorStatistics",
]


@attrs.frozen
class ChildStarted:
    """A child is up."""

    supervisor: str
    child: str


@attrs.frozen
class ChildStopped:
    """A child's incarnation ended without an error."""

    supervisor: str
    child: str


@attrs.frozen
class ChildFailed:
    """A child's incarnation ended with an error (a group of one is told as its leaf)."""

    supervisor: str
    child: str
    error: BaseException


@attrs.frozen
class ChildRestarting:
    """A child starts again after ``delay`` seconds; ``restarts`` counts those it caused within the window.

    ``error`` is why; None: it returned, and should not have.
    """

    supervisor: str
    child: str
    delay: float
    restarts: int
    error: Exception | None


@attrs.frozen
class ChildSetAside:
    """A child failed too often and is tried again after ``delay`` seconds, and so on until it stays up."""

    supervisor: str
    child: str
    delay: float
    error: Exception | None


@attrs.frozen
class ChildStuck:
    """A child did not end within ``seconds`` of its cancellation: it blocks, shields, or swallows it."""

    supervisor: str
    child: str
    seconds: float


@attrs.frozen
class SupervisorGaveUp:
    """A supervisor stops all and fails; ``error`` is the last one, None if ``child`` just returned."""

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


@attrs.frozen(kw_only=True)
class ChildStatistics:
    """A child as it was when asked.

    ``recent_restarts`` are those it caused within the supervisor's period, ``restarts`` all of them.
    ``since`` is when it came into its state, also as ``since_clock`` in seconds of Trio's clock; both are
    None before it was ever started. ``last_error`` is one line, kept until there is another. ``nested`` is
    the tree below it.
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
        """Return it as what JSON can carry; times in ISO 8601."""
        return {
            "name": self.name,
            "state": self.state.value,
            "restart": self.restart,
            "recent_restarts": self.recent_restarts,
            "restarts": self.restarts,
            "last_error": self.last_error,
            "last_error_at": _iso(self.last_error_at),
            "since": _iso(self.since),
            "since_clock": self.since_clock,
            "nested": None if self.nested is None else self.nested.to_dict(),
        }


@attrs.frozen(kw_only=True)
class SupervisorStatistics:
    """A supervisor and the tree below it as they were when asked; children in the order added."""

    name: str
    strategy: Strategy
    state: ServiceState
    children: tuple[ChildStatistics, ...]

    def to_dict(self) -> dict[str, object]:
        """Return it as what JSON can carry, the whole tree; it goes out with the worker's heartbeat."""
        return {
            "name": self.name,
            "strategy": self.strategy,
            "state": self.state.value,
            "children": [child.to_dict() for child in self.children],
        }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
