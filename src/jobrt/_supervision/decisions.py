"""Decide what a supervisor does next: restart or give up, whom to stop, whom to start, in which order.

The rules:

1. A child is *alive* (starting, running, or on its way out), *waiting* until it may start, *failed* (it
   waits too, but for long and in sight), or *stopped*. There are never two incarnations of one child.
2. A child that ends by itself is started again if its restart type says so. The children that go with it,
   by the strategy, are stopped first, the latest added first; then all of them start again, the earliest
   added first.
3. A restart is counted when it is decided. More than ``intensity`` in ``period`` seconds are too many: the
   supervisor gives up (``"raise"``) or sets that child aside for ``retry_interval`` seconds (``"retry"``).
4. A child on its way out is asked (if it can be), then cancelled, then reported. It is never left behind:
   Trio cannot kill a task, so what needs its end waits for it.

Everything here is a function of its arguments; times are seconds of any one monotonic clock. `next_step` is
asked for the next thing to do until there is none, so whatever happens meanwhile (a failure during a group's
restart, a child added during another's backoff) needs no code of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, StrEnum
from typing import Final, Literal, TypeAlias, assert_never, cast, get_args

import attrs

__all__ = [
    "Escalation",
    "Fate",
    "Phase",
    "Policy",
    "Restart",
    "ServiceState",
    "Slot",
    "Slots",
    "Step",
    "Strategy",
    "Verdict",
    "begin",
    "describe",
    "dismiss",
    "ended",
    "next_step",
    "next_time",
    "renew",
    "settled",
    "stop_all",
    "take_apart",
]

Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
Escalation: TypeAlias = Literal["raise", "retry"]

ERROR_TEXT: Final = 300
"""Characters of an error's text that are kept; a snapshot travels with every heartbeat."""


class ServiceState(StrEnum):
    """Where a supervised child, or a supervisor, is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class Phase(Enum):
    """Where a child is, finer than what is shown: the three ways of stopping are told apart."""

    STARTING = "starting"
    RUNNING = "running"
    ASKED = "asked"
    CANCELLED = "cancelled"
    STUCK = "stuck"
    WAITING = "waiting"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def shown(self) -> ServiceState:
        """Return the state that people see."""
        return ServiceState.STOPPING if self in _GOING else ServiceState(self.value)


_GOING: Final = frozenset({Phase.ASKED, Phase.CANCELLED, Phase.STUCK})
_ALIVE: Final = frozenset({Phase.STARTING, Phase.RUNNING}) | _GOING


@attrs.frozen(kw_only=True)
class Policy:
    """What a supervisor is told once and for all. ``period`` and ``retry_interval`` are seconds."""

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
            raise ValueError(f"in_turn=False needs strategy='one_for_one', not {self.strategy!r}")

    @property
    def grouped(self) -> bool:
        """Return whether children depend on each other, so that order matters in a restart too."""
        return self.strategy != "one_for_one"

    def group(self, names: Iterable[str], name: str) -> tuple[str, ...]:
        """Return which of `names` (in the order added) are restarted when `name` is."""
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
    """What is decided about one child.

    Attributes:
        restart: what the child was added with.
        graceful: it can be asked to stop.
        phase: where it is.
        wanted: false if it shall not start again.
        stale: true if this incarnation has to go because its group restarts.
        due: when it may start, if it waits.
        until: how long we are patient with it, if it is on its way out.
        born: when its latest incarnation started.
        probation: that incarnation was started after the child had been set aside.
        recent: when it caused a restart; none of them older than the period when the last was added.
        restarts: how many restarts it caused, ever.

    """

    restart: Restart = "permanent"
    graceful: bool = False
    phase: Phase = Phase.STOPPED
    wanted: bool = True
    stale: bool = False
    due: float = -math.inf
    until: float = math.inf
    born: float = -math.inf
    probation: bool = False
    recent: tuple[float, ...] = ()
    restarts: int = 0

    @property
    def alive(self) -> bool:
        """Return whether there is an incarnation."""
        return self.phase in _ALIVE

    @property
    def leaving(self) -> bool:
        """Return whether there is an incarnation that has to go."""
        return self.alive and (self.stale or not self.wanted)

    @property
    def pending(self) -> bool:
        """Return whether it will be started by itself when it is due."""
        return self.phase in (Phase.WAITING, Phase.FAILED)

    def started(self, now: float) -> Slot:
        """Return the slot with a new incarnation, on probation if the child had been set aside."""
        return attrs.evolve(self, phase=Phase.STARTING, born=now, probation=self.phase is Phase.FAILED)

    def going(self, phase: Phase, until: float) -> Slot:
        """Return the slot one step further on the way out."""
        return attrs.evolve(self, phase=phase, until=until)

    def restarts_since(self, time: float) -> tuple[float, ...]:
        """Return when, from `time` on, this child caused restarts."""
        return tuple(moment for moment in self.recent if moment >= time)


Slots: TypeAlias = Mapping[str, Slot]
"""The children of one supervisor by name, in the order in which they were added."""


class Step(Enum):
    """What a supervisor can do about a child."""

    START = "start"
    ASK = "ask"
    CANCEL = "cancel"
    REPORT = "report"


class Fate(Enum):
    """What follows from a child's end."""

    NOTHING = "nothing"
    RESTART = "restart"
    RETRY = "retry"
    GIVE_UP = "give up"


@attrs.frozen
class Verdict:
    """What follows from a child's end: for it, and for everybody. ``delay`` is seconds until it may start."""

    fate: Fate
    slots: Slots
    delay: float = 0.0


# -- what happens to all -----------------------------------------------------------------------------------


def begin(slots: Slots) -> dict[str, Slot]:
    """Return the children as a supervisor starts: all want to run, no restart counts."""
    return {
        name: Slot(slot.restart, slot.graceful, Phase.WAITING, restarts=slot.restarts)
        for name, slot in slots.items()
    }


def stop_all(slots: Slots) -> dict[str, Slot]:
    """Return the children as a supervisor stops: none shall start again."""
    return {name: _dismissed(slot) for name, slot in slots.items()}


def dismiss(slots: Slots, name: str) -> dict[str, Slot]:
    """Return the children with one that shall stop and not start again."""
    return {**slots, name: _dismissed(slots[name])}


def renew(policy: Policy, slots: Slots, name: str, *, now: float) -> dict[str, Slot]:
    """Return the children when somebody wants `name` to start afresh, with those that go with it."""
    group = {other: _recycled(slots[other], now) for other in policy.group(slots, name)}
    slot = attrs.evolve(slots[name], wanted=True, due=now)
    fresh = attrs.evolve(slot, stale=True) if slot.alive else attrs.evolve(slot, phase=Phase.WAITING)
    return {**slots, **group, name: fresh}


def _dismissed(slot: Slot) -> Slot:
    return attrs.evolve(slot, wanted=False, phase=slot.phase if slot.alive else Phase.STOPPED)


def _recycled(slot: Slot, due: float) -> Slot:
    """Return a child whose group restarts: a temporary one only stops, the others start again when due."""
    if slot.restart == "temporary" or not slot.wanted:
        return _dismissed(slot)
    if slot.alive:
        return attrs.evolve(slot, stale=True, due=due)
    if slot.phase is Phase.STOPPED:
        return attrs.evolve(slot, phase=Phase.WAITING, due=due)
    return attrs.evolve(slot, due=max(slot.due, due))


# -- a child's end -----------------------------------------------------------------------------------------


def ended(
    policy: Policy, slots: Slots, *, name: str, crashed: bool, now: float, backoff: Callable[[int], float]
) -> Verdict:
    """Decide what follows from the end of a child's incarnation.

    Args:
        policy: the supervisor's.
        slots: its children; `name` is still alive in it.
        name: whose end it is.
        crashed: it ended with an error.
        now: seconds.
        backoff: gives the seconds to wait before a restart; its argument is how many restarts this child
            has caused within the window, the one to come included.

    """
    slot = slots[name]
    if slot.leaving:
        phase = Phase.WAITING if slot.wanted else Phase.STOPPED
        return Verdict(Fate.NOTHING, {**slots, name: attrs.evolve(slot, stale=False, phase=phase)})
    if slot.restart == "temporary" or (slot.restart == "transient" and not crashed):
        return Verdict(Fate.NOTHING, {**slots, name: attrs.evolve(slot, phase=Phase.STOPPED)})
    if not _overrun(policy, slots, name=name, now=now):
        recent = slot.restarts_since(now - policy.period)
        delay = backoff(len(recent) + 1)
        slot = attrs.evolve(slot, phase=Phase.WAITING, recent=(*recent, now), due=now + delay)
        return Verdict(Fate.RESTART, _regrouped(policy, slots, name=name, slot=slot), delay)
    if policy.escalation == "retry":
        slot = attrs.evolve(slot, phase=Phase.FAILED, due=now + policy.retry_interval)
        slots = _regrouped(policy, slots, name=name, slot=slot)
        return Verdict(Fate.RETRY, slots, policy.retry_interval)
    over = attrs.evolve(slot, phase=Phase.STOPPED)
    return Verdict(Fate.GIVE_UP, stop_all({**slots, name: over}))


def _overrun(policy: Policy, slots: Slots, *, name: str, now: float) -> bool:
    """Return whether one more restart would be too many.

    All children share the allowance, as in OTP; but where a child that has had too many is set aside while
    the others go on, each has its own, or one bad child would have its siblings set aside with it. A child
    that was set aside has to stay up for a period before it may fail as often as others again.
    """
    slot = slots[name]
    since = now - policy.period
    if slot.probation and slot.born >= since:
        return True
    counted = [slot] if policy.escalation == "retry" else slots.values()
    return sum(len(each.restarts_since(since)) for each in counted) >= policy.intensity


def _regrouped(policy: Policy, slots: Slots, *, name: str, slot: Slot) -> dict[str, Slot]:
    """Return the children when `name`, whose new slot is `slot`, takes its group with it."""
    group = {other: _recycled(slots[other], slot.due) for other in policy.group(slots, name)}
    return {**slots, **group, name: attrs.evolve(slot, restarts=slot.restarts + 1)}


# -- what to do next ---------------------------------------------------------------------------------------


def next_step(
    policy: Policy, slots: Slots, *, now: float, stopping: bool = False, hurry: bool = False
) -> tuple[Step, str] | None:
    """Return the next thing to do and the child to do it to, or None when there is nothing but to wait.

    The caller does it, and changes the slot accordingly, before it asks again. `stopping`: the whole
    supervisor stops; `hurry`: nobody is asked, all are cancelled.
    """
    in_turn = policy.grouped or (stopping and policy.in_turn)
    step = _next_stop(slots, now=now, in_turn=in_turn, hurry=hurry)
    return step or _next_start(policy, slots, now=now)


def _next_stop(slots: Slots, *, now: float, in_turn: bool, hurry: bool) -> tuple[Step, str] | None:
    for name in reversed(tuple(slots)):
        slot = slots[name]
        if not slot.leaving:
            continue
        step = _way_out(slot, now=now, hurry=hurry)
        if step is not None:
            return step, name
        if in_turn and slot.phase is not Phase.STUCK:
            return None  # those added before it may be what it needs for its end
    return None


def _way_out(slot: Slot, *, now: float, hurry: bool) -> Step | None:
    """Return what to do about a child that has to go: ask, cancel, report, or wait."""
    match slot.phase:
        case Phase.RUNNING if slot.graceful and not hurry:
            return Step.ASK
        case Phase.STARTING | Phase.RUNNING:
            return Step.CANCEL
        case Phase.ASKED if hurry or now >= slot.until:
            return Step.CANCEL
        case Phase.CANCELLED if now >= slot.until:
            return Step.REPORT
        case _:
            return None


def _next_start(policy: Policy, slots: Slots, *, now: float) -> tuple[Step, str] | None:
    if policy.grouped and any(slot.leaving for slot in slots.values()):
        return None  # the whole group has to be down before any of it starts
    held = False  # by one added before that is not up yet; siblings that are independent wait only once
    for name, slot in slots.items():
        again = slot.born > -math.inf and not policy.grouped
        if slot.pending and now >= slot.due and (again or not held):
            return Step.START, name
        if policy.in_turn:
            held = held or slot.phase is Phase.STARTING or (policy.grouped and slot.pending)
    return None


def next_time(slots: Slots, *, now: float) -> float:
    """Return when to ask `next_step` again if nothing happens before; infinity: not at all."""
    times = [slot.until for slot in slots.values() if slot.phase in (Phase.ASKED, Phase.CANCELLED)]
    times += [slot.due for slot in slots.values() if slot.pending]
    return min((time for time in times if time > now), default=math.inf)


def settled(policy: Policy, slots: Slots) -> bool:
    """Return whether the start is over: all are up, done, set aside, or held up by one that is set aside."""
    for slot in slots.values():
        if slot.phase is Phase.FAILED and policy.grouped:
            return True
        if slot.phase in (Phase.WAITING, Phase.STARTING) or slot.leaving:
            return False
    return True


# -- errors -----------------------------------------------------------------------------------------------


def take_apart(error: BaseException) -> tuple[BaseException | None, Exception | None]:
    """Return the part of an error that has to travel on, and the part that a restart can answer.

    `Exception` leaves of a group are answered by a restart; ``Cancelled``, ``KeyboardInterrupt``,
    ``SystemExit`` and any other `BaseException` travel on, in the shape in which they came. A group of one
    error is taken as that error.
    """
    if isinstance(error, Exception):
        return None, _leaf(error)
    if not isinstance(error, BaseExceptionGroup):
        return error, None
    ours, rest = cast("BaseExceptionGroup[BaseException]", error).split(Exception)
    return rest, None if ours is None else _leaf(ours)


def _leaf(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        first, *others = group.exceptions
        if others:
            return group
        error = first
    return error


def describe(error: BaseException) -> str:
    """Return an error's type and message in one line, shortened; for a group, those of its leaves."""
    text = "; ".join(f"{type(leaf).__name__}: {_message(leaf)}".removesuffix(": ") for leaf in _leaves(error))
    line = " ".join(text.split())
    return line if len(line) <= ERROR_TEXT else f"{line[: ERROR_TEXT - 1]}…"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # a child's broken `__str__` must not hide its end
        return "(its text cannot be had)"


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    group = cast("BaseExceptionGroup[BaseException]", error)
    return [leaf for each in group.exceptions for leaf in _leaves(each)]
