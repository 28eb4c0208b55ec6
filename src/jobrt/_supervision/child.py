"""Children of a supervisor with their slots, and the default logging of events."""

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Final, Protocol, TypeAlias, assert_never, cast, get_args

import attrs
import tenacity
import trio

from jobrt._supervision.decisions import Restart, Slot, Slots
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

Function: TypeAlias = Callable[..., Awaitable[object]]

BACKOFF: Final = jittered(tenacity.wait_exponential(multiplier=0.1, max=10), relative=0.1)
"""Default backoff: 0.1, 0.2, 0.4 … 10 s, ±10 %.

It is short at first, because most failures are transient. Ten seconds is about the time that a database takes to
restart. The jitter separates children that failed together.
"""

SHUTDOWN: Final = 5.0
"""Default time in seconds for a child to end, as in OTP."""

RETURNED: Final = "returned, but is permanent"
"""Error that is shown for a permanent child that returned."""

_logger = logging.getLogger("jobrt.supervisor")


class Subtree(Protocol):
    """Interface of a supervisor that is a child."""

    name: str

    def statistics(self) -> SupervisorStatistics:
        """Return a snapshot of the tree."""
        ...

    def stop_timeout(self) -> float:
        """Return the maximum time in seconds of a stop in which every child ends in time."""
        ...

    def contains(self, other: object) -> bool:
        """Return whether `other` is this supervisor or is below it."""
        ...


@attrs.define(eq=False)
class Child:
    """Child of a supervisor. ``scope`` is the cancel scope of its latest task."""

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

    async def run(self, up: Callable[[], None]) -> None:
        """Call the function; `up` is called when the child is up."""
        if self.takes_status:
            await self.function(*self.args, task_status=Status(up))
        else:
            up()
            await self.function(*self.args)

    def stop_timeout(self) -> float:
        """Return the time in seconds to end after being asked, and again after being cancelled."""
        if self.shutdown is not None:
            return self.shutdown
        return SHUTDOWN if self.nested is None else self.nested.stop_timeout()

    def record_state(self, clock: float) -> None:
        """Record the time of a change of state; `clock` is the time of Trio's clock."""
        self.since, self.since_clock = datetime.now(UTC), clock

    def record_error(self, text: str) -> None:
        """Record the last error."""
        self.last_error, self.last_error_at = text, datetime.now(UTC)

    def statistics(self, slot: Slot, *, period_start: float) -> ChildStatistics:
        """Return a snapshot; `period_start` is the start of the period for recent restarts."""
        return ChildStatistics(
            name=self.name,
            state=slot.phase.state,
            restart=slot.restart,
            recent_restarts=len(slot.restarts_since(period_start)),
            restarts=slot.restarts,
            last_error=self.last_error,
            last_error_at=self.last_error_at,
            since=self.since,
            since_clock=self.since_clock,
            nested=None if self.nested is None else self.nested.statistics(),
        )


@attrs.define(eq=False)
class Status:
    """The ``task_status`` of a child; ``up`` is called by ``started()``."""

    up: Callable[[], None]
    used: bool = False

    def started(self, value: object = None) -> None:  # noqa: ARG002  # the value is not used
        """Report that the child is up; raise `RuntimeError` if it was reported before."""
        if self.used:
            raise RuntimeError("called 'started' twice on the same task status")
        self.used = True
        self.up()


@attrs.define(eq=False)
class Children:
    """Children of a supervisor by name, in the order added. Each change of a slot sets ``changed``."""

    supervisor: str
    slots: Slots = attrs.field(init=False, factory=dict[str, Slot])
    changed: trio.Event = attrs.field(init=False, factory=trio.Event)
    _by_name: dict[str, Child] = attrs.field(init=False, factory=dict[str, Child])

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Child]:
        return iter(self._by_name.values())

    def __contains__(self, child: Child) -> bool:
        return self._by_name.get(child.name) is child

    def find(self, name: str) -> Child:
        """Return a child; raise `LookupError` if there is no child with this name."""
        if name not in self._by_name:
            raise LookupError(f"supervisor {self.supervisor!r} has no child {name!r}")
        return self._by_name[name]

    def new_name(self, name: str | None, *, default: str) -> str:
        """Return the name for a new child; without `name`, `default` with a number if that is taken.

        Raises `ValueError` if `name` is taken.
        """
        if name in self._by_name:
            raise ValueError(f"supervisor {self.supervisor!r} already has a child {name!r}: use another name")
        candidates = (default, *(f"{default}-{number}" for number in range(2, len(self) + 2)))
        return name or next(each for each in candidates if each not in self._by_name)

    def add(self, child: Child, slot: Slot) -> None:
        """Add a child, whose name is not taken."""
        self._by_name[child.name] = child
        self.slots = {**self.slots, child.name: slot}

    def set_slot(self, child: Child, slot: Slot) -> None:
        """Replace the slot of a child."""
        self.set_slots({**self.slots, child.name: slot})

    def set_slots(self, slots: Slots) -> None:
        """Replace the slots, and record the time of each change of state."""
        before, self.slots = self.slots, slots
        self.changed.set()
        for name, slot in slots.items():
            if slot.phase.state is not before[name].phase.state:
                self._by_name[name].record_state(trio.current_time())

    def forget_removed(self, child: Child) -> None:
        """Forget a child if it was removed and has ended."""
        if child.removed and child in self and not self.slots[child.name].alive:
            del self._by_name[child.name]
            self.set_slots({name: slot for name, slot in self.slots.items() if name != child.name})

    def statistics(self, *, period_start: float) -> tuple[ChildStatistics, ...]:
        """Return a snapshot of each child; recent restarts count from `period_start`."""
        return tuple(child.statistics(self.slots[child.name], period_start=period_start) for child in self)

    def stop_timeout(self, *, in_turn: bool) -> float:
        """Return the maximum time in seconds until all children have ended, if each ends in time."""
        # A child that is asked first has its time twice.
        times = [child.stop_timeout() * (1 if child.stop is None else 2) for child in self]
        return sum(times) if in_turn else max(times, default=0.0)

    def have_below(self, other: object) -> bool:
        """Return whether `other` is a supervisor among the children, or below them."""
        return any(child.nested.contains(other) for child in self if child.nested is not None)


def _takes_status(function: Function) -> bool:
    try:
        return "task_status" in inspect.signature(function).parameters
    except ValueError:  # a callable written in C without a signature
        return False


def name_of(function: Function) -> str:
    """Return the name of a function, method, partial or callable object."""
    function = getattr(function, "func", function)  # the function of a `functools.partial`
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return str(name).rpartition("<locals>.")[2]


def check_options(restart: Restart, shutdown: float | None) -> None:
    """Raise `ValueError` if the restart type is unknown, or the time is not above zero."""
    if restart not in get_args(Restart):
        raise ValueError(f"restart is {restart!r}: use {', '.join(get_args(Restart))}")
    if shutdown is not None and not shutdown > 0:
        raise ValueError(f"shutdown is {shutdown!r}: use a number above zero")


def cancelled_part(error: BaseException) -> BaseException | None:
    """Return the ``Cancelled`` part of an error, in its groups."""
    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).subgroup(trio.Cancelled)
    return error if isinstance(error, trio.Cancelled) else None


def log_event(event: SupervisionEvent) -> None:
    """Log an event to ``jobrt.supervisor``; the default ``on_event`` of a `Supervisor`."""
    names = event.supervisor, event.child
    match event:
        case ChildStarted():
            _logger.info("%s: %s is up", *names)
        case ChildStopped():
            _logger.info("%s: %s ended", *names)
        case ChildFailed(error=error):
            _logger.error("%s: %s failed", *names, exc_info=error)
        case ChildRestarting(delay=delay, restarts=restarts):
            _logger.warning("%s: %s restarts in %.1f s (restart %d)", *names, delay, restarts)
        case ChildSetAside(delay=delay):
            _logger.error("%s: %s failed too often, and restarts in %.0f s", *names, delay)
        case ChildStuck(seconds=seconds):
            _logger.error("%s: %s was cancelled %.1f s ago and has not ended", *names, seconds)
        case SupervisorGaveUp():
            _logger.critical("%s: gave up, because %s failed too often", *names)
        case _:
            assert_never(event)
