"""Decisions of a supervisor: which child to start, stop or restart next, and when to give up.

The rules:

1. A child is *alive* (starting, running or stopping), *waiting* for its start, *failed* (set aside for
   ``retry_interval`` seconds), or *stopped*. A child never has two tasks at a time.
2. A child that ends by itself is restarted if its restart type says so. First the other children of its group,
   which the strategy defines, are stopped, last added first. Then the group is started, first added first.
3. A restart counts from the moment of its decision. If there are more than ``intensity`` restarts in ``period``
   seconds, the supervisor gives up (``"raise"``) or sets that child aside (``"retry"``).
4. A child that must end is asked (if it can be), then cancelled, then reported as stuck. It is never abandoned:
   Trio cannot kill a task, so everything that depends on its end waits.

All functions depend on their arguments alone. Times are seconds of any monotonic clock. The supervisor calls
`next_action` until there is none. Each action follows from the current state, so failures during the restart of
a group, or children added during a backoff, need no special cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, StrEnum
from typing import Final, Literal, TypeAlias, assert_never, cast, get_args

import attrs

Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
Escalation: TypeAlias = Literal["raise", "retry"]

MAX_ERROR_LENGTH: Final = 300
"""Maximum length of an error's description, which is sent with every heartbeat."""


class ServiceState(StrEnum):
    """State of a supervised child or of a supervisor."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class Phase(Enum):
    """Phase of a child: its state, with stopping divided into three phases."""

    STARTING = "starting"
    RUNNING = "running"
    ASKED = "asked"
    CANCELLED = "cancelled"
    STUCK = "stuck"
    WAITING = "waiting"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def state(self) -> ServiceState:
        """The state that statistics show."""
        return ServiceState.STOPPING if self in _STOPPING else ServiceState(self.value)


_STOPPING: Final = frozenset({Phase.ASKED, Phase.CANCELLED, Phase.STUCK})
_ALIVE: Final = frozenset({Phase.STARTING, Phase.RUNNING}) | _STOPPING


@attrs.frozen(kw_only=True)
class Policy:
    """Settings of a supervisor. ``period`` and ``retry_interval`` are in seconds."""

    strategy: Strategy = attrs.field(
        default="one_for_one", validator=attrs.validators.in_(get_args(Strategy))
    )
    intensity: int = attrs.field(default=5, validator=attrs.validators.ge(0))
    period: float = attrs.field(default=30.0, validator=attrs.validators.gt(0))
    escalation: Escalation = attrs.field(
        default="raise", validator=attrs.validators.in_(get_args(Escalation))
    )
    retry_interval: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))
    in_turn: bool = True

    def __attrs_post_init__(self) -> None:
        if self.grouped and not self.in_turn:
            raise ValueError(f"in_turn=False requires strategy='one_for_one', not {self.strategy!r}")

    @property
    def grouped(self) -> bool:
        """Whether children depend on each other, so that order matters in a restart too."""
        return self.strategy != "one_for_one"

    def group(self, names: Iterable[str], name: str) -> tuple[str, ...]:
        """Return those of `names` (in the order added) that are restarted together with `name`."""
        everyone = tuple(names)
        match self.strategy:
            case "one_for_one":
                return (name,)
            case "one_for_all":
                return everyone
            case "rest_for_one":
                return everyone[everyone.index(name) :]
            case _:
                assert_never(self.strategy)


@attrs.frozen
class Slot:
    """State of a child, as far as decisions need it.

    Attributes:
        restart: restart type of the child.
        graceful: whether it can be asked to stop.
        phase: current phase.
        wanted: false if it must not start again.
        stale: whether its task must end because its group restarts.
        due: earliest time of the next start, while it waits.
        deadline: end of the current phase, while it is stopping.
        started_at: time of the latest start.
        probation: whether the latest start followed on being set aside.
        recent_restarts: times of the restarts it caused, none older than a period when the last one was added.
        restarts: total number of restarts it caused.

    """

    restart: Restart = "permanent"
    graceful: bool = False
    phase: Phase = Phase.STOPPED
    wanted: bool = True
    stale: bool = False
    due: float = -math.inf
    deadline: float = math.inf
    started_at: float = -math.inf
    probation: bool = False
    recent_restarts: tuple[float, ...] = ()
    restarts: int = 0

    @property
    def alive(self) -> bool:
        """Whether the child has a task."""
        return self.phase in _ALIVE

    @property
    def must_end(self) -> bool:
        """Whether the child has a task that must end."""
        return self.alive and (self.stale or not self.wanted)

    @property
    def pending(self) -> bool:
        """Whether the child will be started when it is due."""
        return self.phase in (Phase.WAITING, Phase.FAILED)

    def started(self, now: float) -> Slot:
        """Return the slot after a start. A child that had been set aside is then on probation."""
        return attrs.evolve(self, phase=Phase.STARTING, started_at=now, probation=self.phase is Phase.FAILED)

    def stopping(self, phase: Phase, deadline: float) -> Slot:
        """Return the slot in a later phase of stopping."""
        return attrs.evolve(self, phase=phase, deadline=deadline)

    def restarts_since(self, time: float) -> tuple[float, ...]:
        """Return the times of the restarts that this child caused, from `time` on."""
        return tuple(moment for moment in self.recent_restarts if moment >= time)


Slots: TypeAlias = Mapping[str, Slot]
"""Slots of the children of a supervisor by name, in the order added."""


class Action(Enum):
    """Action that a supervisor performs on a child."""

    START = "start"
    ASK = "ask"
    CANCEL = "cancel"
    REPORT = "report"


class Consequence(Enum):
    """Consequence of the end of a child."""

    NOTHING = "nothing"
    RESTART = "restart"
    RETRY = "retry"
    GIVE_UP = "give up"


@attrs.frozen
class Decision:
    """Decision after the end of a child. ``delay`` is in seconds, until the child may start again."""

    consequence: Consequence
    slots: Slots
    delay: float = 0.0


# -- starting and stopping ---------------------------------------------------------------------------------


def start_all(slots: Slots) -> dict[str, Slot]:
    """Return the slots when the supervisor starts: all children wait for their start, no restart counts."""
    return {
        name: Slot(slot.restart, slot.graceful, Phase.WAITING, restarts=slot.restarts)
        for name, slot in slots.items()
    }


def stop_all(slots: Slots) -> dict[str, Slot]:
    """Return the slots when the supervisor stops: no child may start again."""
    return {name: _unwanted(slot) for name, slot in slots.items()}


def stop_child(slots: Slots, name: str) -> dict[str, Slot]:
    """Return the slots when one child is stopped for good."""
    return {**slots, name: _unwanted(slots[name])}


def restart_child(policy: Policy, slots: Slots, name: str, *, now: float) -> dict[str, Slot]:
    """Return the slots when a child and its group are restarted by hand."""
    group = {other: _to_restart(slots[other], now) for other in policy.group(slots, name)}
    slot = attrs.evolve(slots[name], wanted=True, due=now)
    fresh = attrs.evolve(slot, stale=True) if slot.alive else attrs.evolve(slot, phase=Phase.WAITING)
    return {**slots, **group, name: fresh}


def _unwanted(slot: Slot) -> Slot:
    return attrs.evolve(slot, wanted=False, phase=slot.phase if slot.alive else Phase.STOPPED)


def _to_restart(slot: Slot, due: float) -> Slot:
    """Return the slot of a child whose group restarts at `due`; a temporary child only stops."""
    if slot.restart == "temporary" or not slot.wanted:
        return _unwanted(slot)
    if slot.alive:
        return attrs.evolve(slot, stale=True, due=due)
    if slot.phase is Phase.STOPPED:
        return attrs.evolve(slot, phase=Phase.WAITING, due=due)
    return attrs.evolve(slot, due=max(slot.due, due))


# -- after the end of a child ------------------------------------------------------------------------------


def after_end(
    policy: Policy, slots: Slots, *, name: str, crashed: bool, now: float, backoff: Callable[[int], float]
) -> Decision:
    """Decide what follows after the task of a child has ended.

    Args:
        policy: settings of the supervisor.
        slots: its children; `name` is still alive in it.
        name: the child.
        crashed: whether it ended with an error.
        now: current time.
        backoff: returns the delay of the restart in seconds. Its argument is the number of restarts that this
            child has caused within the period, including this one.

    """
    slot = slots[name]
    if slot.must_end:
        phase = Phase.WAITING if slot.wanted else Phase.STOPPED
        return Decision(Consequence.NOTHING, {**slots, name: attrs.evolve(slot, stale=False, phase=phase)})
    if slot.restart == "temporary" or (slot.restart == "transient" and not crashed):
        return Decision(Consequence.NOTHING, {**slots, name: attrs.evolve(slot, phase=Phase.STOPPED)})
    if not _is_one_too_many(policy, slots, name=name, now=now):
        recent = slot.restarts_since(now - policy.period)
        delay = backoff(len(recent) + 1)
        slot = attrs.evolve(slot, phase=Phase.WAITING, recent_restarts=(*recent, now), due=now + delay)
        return Decision(Consequence.RESTART, _with_group(policy, slots, name=name, slot=slot), delay)
    if policy.escalation == "retry":
        slot = attrs.evolve(slot, phase=Phase.FAILED, due=now + policy.retry_interval)
        slots = _with_group(policy, slots, name=name, slot=slot)
        return Decision(Consequence.RETRY, slots, policy.retry_interval)
    stopped = attrs.evolve(slot, phase=Phase.STOPPED)
    return Decision(Consequence.GIVE_UP, stop_all({**slots, name: stopped}))


def _is_one_too_many(policy: Policy, slots: Slots, *, name: str, now: float) -> bool:
    """Return whether one more restart exceeds the intensity.

    Children share the intensity, as in OTP. With ``"retry"`` each child has its own; otherwise one bad child would
    have its siblings set aside. A child that was set aside is set aside again if it ends within a period.
    """
    slot = slots[name]
    since = now - policy.period
    if slot.probation and slot.started_at >= since:
        return True
    counted = [slot] if policy.escalation == "retry" else slots.values()
    return sum(len(each.restarts_since(since)) for each in counted) >= policy.intensity


def _with_group(policy: Policy, slots: Slots, *, name: str, slot: Slot) -> dict[str, Slot]:
    """Return the slots when `name`, whose new slot is `slot`, restarts with its group."""
    group = {other: _to_restart(slots[other], slot.due) for other in policy.group(slots, name)}
    return {**slots, **group, name: attrs.evolve(slot, restarts=slot.restarts + 1)}


# -- the next action ---------------------------------------------------------------------------------------


def next_action(
    policy: Policy, slots: Slots, *, now: float, stopping: bool = False, force: bool = False
) -> tuple[Action, str] | None:
    """Return the next action and its child, or None if there is nothing to do now.

    The caller performs the action and changes the slot before it calls again. With `stopping` the whole
    supervisor stops; with `force` children are cancelled without being asked.
    """
    in_turn = policy.grouped or (stopping and policy.in_turn)
    action = _next_stop(slots, now=now, in_turn=in_turn, force=force)
    return action or _next_start(policy, slots, now=now)


def _next_stop(slots: Slots, *, now: float, in_turn: bool, force: bool) -> tuple[Action, str] | None:
    for name in reversed(tuple(slots)):
        slot = slots[name]
        if not slot.must_end:
            continue
        action = _stop_action(slot, now=now, force=force)
        if action is not None:
            return action, name
        if in_turn and slot.phase is not Phase.STUCK:
            return None  # it may need the children added before it in order to end
    return None


def _stop_action(slot: Slot, *, now: float, force: bool) -> Action | None:
    """Return the action for a child that must end, or None to wait."""
    match slot.phase:
        case Phase.RUNNING if slot.graceful and not force:
            return Action.ASK
        case Phase.STARTING | Phase.RUNNING:
            return Action.CANCEL
        case Phase.ASKED if force or now >= slot.deadline:
            return Action.CANCEL
        case Phase.CANCELLED if now >= slot.deadline:
            return Action.REPORT
        case _:
            return None


def _next_start(policy: Policy, slots: Slots, *, now: float) -> tuple[Action, str] | None:
    if policy.grouped and any(slot.must_end for slot in slots.values()):
        return None  # the whole group must have ended before any of it starts
    blocked = False  # by a child added before that is not up yet; independent children wait only at their first start
    for name, slot in slots.items():
        restarted = slot.started_at > -math.inf and not policy.grouped
        if slot.pending and now >= slot.due and (restarted or not blocked):
            return Action.START, name
        if policy.in_turn:
            blocked = blocked or slot.phase is Phase.STARTING or (policy.grouped and slot.pending)
    return None


def next_time(slots: Slots, *, now: float) -> float:
    """Return when `next_action` must be called again if nothing else happens; infinity if never."""
    times = [slot.deadline for slot in slots.values() if slot.phase in (Phase.ASKED, Phase.CANCELLED)]
    times += [slot.due for slot in slots.values() if slot.pending]
    return min((time for time in times if time > now), default=math.inf)


def start_finished(policy: Policy, slots: Slots) -> bool:
    """Return whether the start is finished.

    It is when each child is up, has ended, is set aside, or waits for one in its group that is set aside.
    """
    for slot in slots.values():
        if slot.phase is Phase.FAILED and policy.grouped:
            return True
        if slot.phase in (Phase.WAITING, Phase.STARTING) or slot.must_end:
            return False
    return True


# -- errors -----------------------------------------------------------------------------------------------


def split_error(error: BaseException) -> tuple[BaseException | None, Exception | None]:
    """Return the part of an error that must propagate, and the part that a restart handles.

    A restart handles `Exception`. Any other `BaseException` propagates, such as ``Cancelled``,
    ``KeyboardInterrupt`` or ``SystemExit``, in its groups. A group with a single error is replaced by that error.
    """
    if isinstance(error, Exception):
        return None, _unwrap(error)
    if not isinstance(error, BaseExceptionGroup):
        return error, None
    handled, rest = cast("BaseExceptionGroup[BaseException]", error).split(Exception)
    return rest, None if handled is None else _unwrap(handled)


def _unwrap(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = cast("ExceptionGroup[Exception]", error).exceptions[0]
    return error


def describe(error: BaseException) -> str:
    """Return type and message of an error in one line, shortened; for a group, those of its leaves."""
    text = "; ".join(f"{type(leaf).__name__}: {_message(leaf)}".removesuffix(": ") for leaf in _leaves(error))
    line = " ".join(text.split())
    return line if len(line) <= MAX_ERROR_LENGTH else f"{line[: MAX_ERROR_LENGTH - 1]}…"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # a broken `__str__` must not hide the end of a child
        return "(str() failed)"


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    group = cast("BaseExceptionGroup[BaseException]", error)
    return [leaf for each in group.exceptions for leaf in _leaves(each)]
