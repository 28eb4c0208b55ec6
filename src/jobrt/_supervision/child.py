"""Hold what belongs to one supervised child, and say what happens to it in the log."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, Protocol, TypeAlias, assert_never, cast, get_args

import attrs
import tenacity
import trio

from jobrt._supervision.decisions import Restart, Slot
from jobrt._supervision.records import (
    ChildFailed,
    ChildRestarting,
    ChildSetAside,
    ChildStarted,
    ChildStatistics,
    ChildStopped,
    ChildStuck,
    SupervisionEvent,
    SupervisorGaveUp,
    SupervisorStatistics,
)
from jobrt.backoff import jittered

__all__ = [
    "BACKOFF",
    "RETURNED",
    "Child",
    "Function",
    "Status",
    "Subtree",
    "cancelled_part",
    "check_options",
    "log_event",
    "name_of",
]

Function: TypeAlias = Callable[..., Awaitable[object]]

BACKOFF: Final = jittered(tenacity.wait_exponential(multiplier=0.1, max=10), relative=0.1)
"""0.1, 0.2, 0.4 … 10 s, ±10 %: short at first, since most failures are over at once; at last about what a
database takes to come back; and not the same for children that fell together."""

SHUTDOWN: Final = 5.0
"""Seconds a child has to end once it is told to, unless it was added with another limit (as in OTP)."""

RETURNED: Final = "returned, though it is permanent"
"""What is shown as the error of a child that just ended and should not have."""

_logger = logging.getLogger("jobrt.supervisor")


class Subtree(Protocol):
    """What a parent needs to know of a supervisor among its children."""

    name: str

    def statistics(self) -> SupervisorStatistics:
        """Return the tree as it is now."""
        ...

    def patience(self) -> float:
        """Return how many seconds a stop takes at most if every child ends within its limit."""
        ...

    def contains(self, other: object) -> bool:
        """Return whether `other` is this supervisor or stands below it."""
        ...


@attrs.define(eq=False)
class Child:
    """What belongs to a child besides its slot. ``scope`` is its latest incarnation's."""

    name: str
    function: Function
    args: tuple[object, ...] = attrs.field(kw_only=True)
    shutdown: float | None = attrs.field(kw_only=True)
    stop: Callable[[], object] | None = attrs.field(kw_only=True)
    nested: Subtree | None = attrs.field(kw_only=True)
    takes_status: bool = attrs.field(init=False)
    scope: trio.CancelScope = attrs.field(init=False)
    removed: bool = False
    since: datetime | None = None
    since_clock: float | None = None
    last_error: str | None = None
    last_error_at: datetime | None = None

    def __attrs_post_init__(self) -> None:
        self.takes_status = _takes_status(self.function)
        self.scope = trio.CancelScope()

    def patience(self) -> float:
        """Return how many seconds it has to end after it was asked, and again after it was cancelled."""
        if self.shutdown is not None:
            return self.shutdown
        return SHUTDOWN if self.nested is None else self.nested.patience()

    def note_state(self, clock: float) -> None:
        """Note that it came into another state just now, by Trio's `clock`."""
        self.since, self.since_clock = datetime.now(UTC), clock

    def note_error(self, text: str) -> None:
        """Keep what went wrong last."""
        self.last_error, self.last_error_at = text, datetime.now(UTC)

    def statistics(self, slot: Slot, *, window: float) -> ChildStatistics:
        """Return it as it is now; `window` is when the window of the restart intensity began."""
        return ChildStatistics(
            name=self.name,
            state=slot.phase.shown,
            restart=slot.restart,
            recent_restarts=len(slot.restarts_since(window)),
            restarts=slot.restarts,
            last_error=self.last_error,
            last_error_at=self.last_error_at,
            since=self.since,
            since_clock=self.since_clock,
            nested=None if self.nested is None else self.nested.statistics(),
        )


@attrs.define(eq=False)
class Status:
    """The ``task_status`` that a child is given; ``up`` is called when the child says so."""

    up: Callable[[], None]
    used: bool = False

    def started(self, value: object = None) -> None:  # noqa: ARG002  # nobody waits for the value
        """Say that the child is up.

        Raises:
            RuntimeError: it said so before.

        """
        if self.used:
            raise RuntimeError("called 'started' twice on the same task status")
        self.used = True
        self.up()


def _takes_status(function: Function) -> bool:
    try:
        return "task_status" in inspect.signature(function).parameters
    except ValueError:  # some callables written in C have no signature
        return False


def name_of(function: Function) -> str:
    """Return a name for a child from its function, method, partial or callable object."""
    function = getattr(function, "func", function)  # what a `functools.partial` calls
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return str(name).rpartition("<locals>.")[2]


def check_options(restart: Restart, shutdown: float | None) -> None:
    """Refuse what a child cannot be added with.

    Raises:
        ValueError: an unknown restart type, or a limit that is not above zero.

    """
    if restart not in get_args(Restart):
        raise ValueError(f"restart must be one of {', '.join(get_args(Restart))}, not {restart!r}")
    if shutdown is not None and not shutdown > 0:
        raise ValueError(f"shutdown must be above zero, not {shutdown!r}")


def cancelled_part(error: BaseException) -> BaseException | None:
    """Return what of an error is ``Cancelled``, in the shape in which it came."""
    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).subgroup(trio.Cancelled)
    return error if isinstance(error, trio.Cancelled) else None


def log_event(event: SupervisionEvent) -> None:
    """Log an event to ``jobrt.supervisor``: what a `Supervisor` does without an ``on_event`` of its own."""
    place = event.supervisor, event.child
    match event:
        case ChildStarted():
            _logger.info("%s: %s is up", *place)
        case ChildStopped():
            _logger.info("%s: %s ended", *place)
        case ChildFailed(error=error):
            _logger.error("%s: %s failed", *place, exc_info=error)
        case ChildRestarting(delay=delay, restarts=restarts):
            _logger.warning("%s: %s starts again in %.1f s (restart %d)", *place, delay, restarts)
        case ChildSetAside(delay=delay):
            _logger.error("%s: %s fails too often, next try in %.0f s", *place, delay)
        case ChildStuck(seconds=seconds):
            _logger.error("%s: %s was cancelled %.1f s ago and does not end", *place, seconds)
        case SupervisorGaveUp():
            _logger.critical("%s: gives up, %s fails too often", *place)
        case _:
            assert_never(event)
