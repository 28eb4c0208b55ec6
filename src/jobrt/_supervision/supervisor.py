"""Keep services running: start children in order, restart them when they end, stop them in reverse order.

One task, `Supervisor.run`, is the controller. Each incarnation of a child is a task of its own in the
controller's nursery, in a cancel scope of its own. What to do is decided by `jobrt._supervision.decisions`; this
module does it::

    a child ends ─▶ _ended ─▶ decisions.ended: what follows ────┐
    add, stop, a deadline passes, the scope is cancelled ───────┤
                                                                ▼
                       controller: decisions.next_step ─▶ start · ask · cancel · report

The children's scopes are shielded, so that a cancellation from outside reaches the controller only, which
then cancels them in reverse order, each with its own limit. That shield is why nothing here may lose track
of a child: its slot changes before anything else is done about its end, and whichever way the controller is
left, every scope is cancelled before the nursery waits. Ctrl-C is let in at checkpoints, and in the
children's code.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from typing import assert_never

import attrs
import trio

from jobrt._supervision import decisions
from jobrt._supervision.child import (
    BACKOFF,
    RETURNED,
    Child,
    Function,
    Status,
    cancelled_part,
    check_options,
    log_event,
    name_of,
)
from jobrt._supervision.decisions import (
    Escalation,
    Fate,
    Phase,
    Policy,
    Restart,
    ServiceState,
    Slot,
    Slots,
    Step,
    Strategy,
    Verdict,
)
from jobrt._supervision.records import (
    ChildFailed,
    ChildRestarting,
    ChildSetAside,
    ChildStarted,
    ChildStopped,
    ChildStuck,
    SupervisionEvent,
    SupervisorGaveUp,
    SupervisorStatistics,
)
from jobrt.backoff import CallState, Wait
from jobrt.errors import SupervisorFailed

__all__ = ["Supervisor"]

_logger = logging.getLogger("jobrt.supervisor")


@attrs.define(eq=False, repr=False)
class Supervisor:
    """Keep children running in a Trio program, and show how they are.

    ::

        supervisor = jobrt.Supervisor("services", strategy="rest_for_one")
        supervisor.add(connect, pool)
        supervisor.add(serve, pool, 8080, shutdown=30)
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)

    Args:
        name: shown in statistics, events and task names.
        strategy: who is restarted with a child that ends: it alone (``"one_for_one"``), everybody
            (``"one_for_all"``), or it and those added after it (``"rest_for_one"``: they depend on it).
        intensity: restarts allowed in `period`; one more, and the supervisor escalates.
        period: seconds.
        backoff: any tenacity wait: seconds between a child's end and its restart. Its ``attempt_number``
            counts the restarts that this child caused within `period`, the coming one included. By default
            0.1, 0.2, 0.4 … 10 s, ±10 %.
        escalation: ``"raise"`` stops all children and raises `SupervisorFailed` to whoever runs the
            supervisor; ``"retry"`` marks the child as failed and tries it again each `retry_interval`, while
            those that do not depend on it go on. Each child then has an allowance of its own.
        retry_interval: seconds.
        in_turn: start and stop children one after the other. False, for ``one_for_one`` only: all at once.
        on_event: is called with each `SupervisionEvent`; it must not block. By default they are logged.
        chance: what the jitter of the default backoff is drawn from: gives values from 0 (inclusive) to 1.

    """

    name: str = attrs.field(validator=attrs.validators.min_len(1))
    strategy: Strategy = attrs.field(default="one_for_one", kw_only=True)
    intensity: int = attrs.field(default=5, kw_only=True)
    period: float = attrs.field(default=30.0, kw_only=True)
    backoff: Wait = attrs.field(default=BACKOFF, kw_only=True)
    escalation: Escalation = attrs.field(default="raise", kw_only=True)
    retry_interval: float = attrs.field(default=60.0, kw_only=True)
    in_turn: bool = attrs.field(default=True, kw_only=True)
    on_event: Callable[[SupervisionEvent], object] = attrs.field(default=log_event, kw_only=True)
    chance: Callable[[], float] = attrs.field(default=random.random, kw_only=True)

    _policy: Policy = attrs.field(init=False)
    _children: dict[str, Child] = attrs.field(init=False, factory=dict[str, Child])
    _slots: Slots = attrs.field(init=False, factory=dict[str, Slot])
    _state: ServiceState = attrs.field(init=False, default=ServiceState.STOPPED)
    _hurry: bool = attrs.field(init=False, default=False)
    _failure: SupervisorFailed | None = attrs.field(init=False, default=None)
    _foreign: BaseException | None = attrs.field(init=False, default=None)
    _nursery: trio.Nursery | None = attrs.field(init=False, default=None)
    _wake: trio.Event = attrs.field(init=False, factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self._policy = Policy(
            strategy=self.strategy,
            intensity=self.intensity,
            period=self.period,
            escalation=self.escalation,
            retry_interval=self.retry_interval,
            in_turn=self.in_turn,
        )

    def __repr__(self) -> str:
        return f"<Supervisor {self.name!r}: {self._state.value}, {len(self._children)} children>"

    # -- what its user does --------------------------------------------------------------------------------

    def add(
        self,
        async_fn: Function | Supervisor,
        *args: object,
        name: str | None = None,
        restart: Restart = "permanent",
        shutdown: float | None = None,
        stop: Callable[[], object] | None = None,
    ) -> str:
        """Add a child and return its name. A supervisor that runs starts it at once.

        Args:
            async_fn: what to run. If it has a parameter `task_status` it is given one, and is up when it
                calls ``started()``; otherwise it is up at once. Another `Supervisor`, or its ``run``, is
                shown as a subtree.
            args: its positional arguments, at each start.
            name: unique among its siblings; by default the function's, with a number if that is taken.
            restart: ``"permanent"``: whenever it ends; ``"transient"``: when it ends with an error;
                ``"temporary"``: never.
            shutdown: seconds it has to end after it was asked, and again after it was cancelled. One that
                takes longer is reported, and still awaited. By default 5; for a supervisor, what its
                children need.
            stop: a quick function that asks the child to end, like an event's ``set``. A running child that
                has to go is asked first, and cancelled when `shutdown` is over.

        Raises:
            ValueError: the name is taken, an option is not valid, or a supervisor would contain itself.
            RuntimeError: the supervisor is stopping.

        """
        nested = _supervisor_of(async_fn)
        function = async_fn.run if isinstance(async_fn, Supervisor) else async_fn
        self._check(name, nested)
        check_options(restart, shutdown)
        if nested is not None and stop is None:
            stop = nested.stop
        name = name or self._free_name(name_of(function) if nested is None else nested.name)
        child = Child(name, function, args=args, shutdown=shutdown, stop=stop, nested=nested)
        self._children[name] = child
        self._slots = {**self._slots, name: Slot(restart, stop is not None)}
        if self._nursery is not None:
            self._change(child, attrs.evolve(self._slots[name], phase=Phase.WAITING))
        return name

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[Supervisor] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the children until `stop` is called or the surrounding scope is cancelled.

        Meant for ``nursery.start``: it counts as started, with the supervisor as value, once all children
        are up (or done, or set aside). It may run again after it has ended, but not twice at once. It goes
        on with no child left: more can be added.

        Raises:
            SupervisorFailed: more than `intensity` restarts in `period`; the last error is its ``__cause__``.
            RuntimeError: it runs already.

        """
        if self._nursery is not None:
            raise RuntimeError(f"supervisor {self.name!r} is running already")
        await trio.lowlevel.checkpoint()
        try:
            async with trio.open_nursery() as nursery:
                self._open(nursery)
                await self._serve(task_status)
        finally:
            self._nursery = None
            self._state = ServiceState.STOPPED if self._failure is None else ServiceState.FAILED
        if self._foreign is not None:
            raise self._foreign
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Have all children end, the latest added first; `run` returns when they have.

        A child added with ``stop=`` is asked, and cancelled only when its limit is over; others are
        cancelled at once. Cancelling the scope around `run` is the same without the asking. Does nothing
        unless it runs.
        """
        if self._nursery is not None:
            self._state = ServiceState.STOPPING
            self._adopt(decisions.stop_all(self._slots))

    def restart_child(self, name: str) -> None:
        """Start a child afresh, with those that are restarted with it; this is not counted as a restart.

        A running child is stopped first; one that is stopped, waiting or failed is started at once.

        Raises:
            LookupError: there is no such child.
            RuntimeError: the supervisor does not run, or is stopping.

        """
        child = self._find(name)
        if child.removed or self._nursery is None or self._state is ServiceState.STOPPING:
            raise RuntimeError(
                f"supervisor {self.name!r} cannot restart {name!r}: one of the two is stopping"
            )
        self._adopt(decisions.renew(self._policy, self._slots, name, now=trio.current_time()))

    def remove(self, name: str) -> None:
        """Stop a child and forget it. Its name is free when it has ended.

        Raises:
            LookupError: there is no such child.

        """
        self._find(name).removed = True
        self._adopt(decisions.dismiss(self._slots, name))
        self._forget(self._children[name])

    def statistics(self) -> SupervisorStatistics:
        """Return the tree as it is now. While it runs, call this in its Trio thread."""
        window = math.inf if self._nursery is None else trio.current_time() - self.period
        return SupervisorStatistics(
            name=self.name,
            strategy=self.strategy,
            state=self._state,
            children=tuple(
                child.statistics(self._slots[name], window=window) for name, child in self._children.items()
            ),
        )

    def patience(self) -> float:
        """Return how many seconds a stop takes at most if every child ends within its limit."""
        limits = [child.patience() * (1 if child.stop is None else 2) for child in self._children.values()]
        return 1.0 + (sum(limits) if self.in_turn else max(limits, default=0.0))

    def contains(self, other: object) -> bool:
        """Return whether `other` is this supervisor or stands below it."""
        nested = (child.nested for child in self._children.values())
        return other is self or any(each.contains(other) for each in nested if each is not None)

    # -- the controller ------------------------------------------------------------------------------------

    def _open(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._state = ServiceState.STARTING
        self._hurry = False
        self._failure = None
        self._foreign = None
        self._adopt(decisions.begin(self._slots))

    async def _serve(self, task_status: trio.TaskStatus[Supervisor]) -> None:
        try:
            await self._control(task_status)
        except BaseException:
            # Cancelled, from outside or since a child's Ctrl-C ends the nursery: the same order, no grace.
            self._hurry = True
            self.stop()
            with trio.CancelScope(shield=True):
                await self._control(trio.TASK_STATUS_IGNORED)
            raise
        finally:
            for child in self._children.values():  # all have ended, unless a second Ctrl-C cut that short
                child.scope.cancel(reason="its supervisor is gone")

    async def _control(self, task_status: trio.TaskStatus[Supervisor]) -> None:
        """Do what is to be done until all children have ended for good."""
        while True:
            self._wake = trio.Event()  # before looking: what changes from here on is seen in the next round
            self._advance()
            if self._state is ServiceState.STOPPING and not any(slot.alive for slot in self._slots.values()):
                return
            if self._state is ServiceState.STARTING and decisions.settled(self._policy, self._slots):
                self._state = ServiceState.RUNNING
                task_status.started(self)
            with trio.CancelScope(deadline=decisions.next_time(self._slots, now=trio.current_time())):
                await self._wake.wait()

    def _advance(self) -> None:
        while step := decisions.next_step(
            self._policy,
            self._slots,
            now=trio.current_time(),
            stopping=self._state is ServiceState.STOPPING,
            hurry=self._hurry,
        ):
            self._do(step[0], self._children[step[1]])

    def _do(self, step: Step, child: Child) -> None:
        match step:
            case Step.START:
                self._start(child)
            case Step.ASK:
                self._ask(child)
            case Step.CANCEL:
                self._going(child, Phase.CANCELLED, seconds=child.patience())
                child.scope.cancel(reason=f"supervisor {self.name!r} stops {child.name!r}")
            case Step.REPORT:
                self._going(child, Phase.STUCK, seconds=math.inf)
                self._tell(ChildStuck(self.name, child.name, child.patience()))
            case _:
                assert_never(step)

    def _start(self, child: Child) -> None:
        assert self._nursery is not None  # noqa: S101  # only the controller gets here
        child.scope = trio.CancelScope(shield=True)
        self._change(child, self._slots[child.name].started(trio.current_time()))
        self._nursery.start_soon(self._run_child, child, name=f"{self.name}/{child.name}")

    def _ask(self, child: Child) -> None:
        assert child.stop is not None  # noqa: S101  # that is what makes its slot graceful
        self._going(child, Phase.ASKED, seconds=child.patience())
        try:
            child.stop()
        except Exception:
            _logger.exception("%s: %s could not be asked to stop, so it is cancelled", self.name, child.name)
            self._going(child, Phase.ASKED, seconds=0.0)

    def _going(self, child: Child, phase: Phase, *, seconds: float) -> None:
        self._change(child, self._slots[child.name].going(phase, trio.current_time() + seconds))

    # -- a child -------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def _run_child(self, child: Child) -> None:
        """Run one incarnation to its end, whatever that is."""
        travels: BaseException | None = None
        error: Exception | None = None
        try:
            with child.scope as scope:
                await self._call(child, scope)
        except BaseException as failure:  # noqa: BLE001  # taken apart; what is not ours is raised below
            travels, error = decisions.take_apart(failure)
            # A `Cancelled` that is not the scope's own comes from elsewhere. Since an error in a nursery cancels
            # it, ours would take it for its own and end it there; so it is raised again outside.
            self._foreign = self._foreign or cancelled_part(failure)
        self._ended(child, error, travels=travels)
        if travels is not None:
            raise travels

    @trio.lowlevel.disable_ki_protection
    async def _call(self, child: Child, scope: trio.CancelScope) -> None:
        def up() -> None:
            if self._children.get(child.name) is not child or child.scope is not scope:
                return  # a status kept for too long: the child was removed, or this is not its latest start
            slot = self._slots[child.name]
            if slot.phase is Phase.STARTING:
                self._change(child, attrs.evolve(slot, phase=Phase.RUNNING))
                self._tell(ChildStarted(self.name, child.name))

        if child.takes_status:
            await child.function(*child.args, task_status=Status(up))
        else:
            up()
            await child.function(*child.args)

    def _ended(self, child: Child, error: Exception | None, *, travels: BaseException | None) -> None:
        """Take note of a child's end, and decide what follows."""
        if travels is not None:  # it cancels the nursery, so all stop: in order, but without grace
            self._hurry = True
            self.stop()
        failure = error or travels
        before = self._slots
        self._change(child, attrs.evolve(before[child.name], phase=Phase.STOPPED))
        try:
            verdict = decisions.ended(
                self._policy,
                before,
                name=child.name,
                crashed=failure is not None,
                now=trio.current_time(),
                backoff=lambda attempt: self._delay(attempt, error),
            )
            self._follow(verdict, child, error)
        finally:  # the caller's backoff may raise; it is told all the same how the child ended
            self._tell_end(child, failure)
        if failure is None and verdict.fate is not Fate.NOTHING:
            child.note_error(RETURNED)
        self._tell_fate(verdict, child, error)
        self._forget(child)

    def _follow(self, verdict: Verdict, child: Child, error: Exception | None) -> None:
        if verdict.fate is Fate.GIVE_UP:
            self._state = ServiceState.STOPPING
            self._failure = SupervisorFailed(
                f"supervisor {self.name!r} gave up: {child.name!r} ended again after "
                f"{self.intensity} restarts in {self.period:g} s"
            )
            self._failure.__cause__ = error
        self._adopt(verdict.slots)

    def _delay(self, attempt: int, error: Exception | None) -> float:
        cause = error or RuntimeError(RETURNED)
        state = CallState(attempt=attempt, error=cause, chance=self.chance)
        return max(0.0, float(self.backoff(state)))

    # -- what is told --------------------------------------------------------------------------------------

    def _tell_end(self, child: Child, failure: BaseException | None) -> None:
        if failure is None:
            self._tell(ChildStopped(self.name, child.name))
        else:
            child.note_error(decisions.describe(failure))
            self._tell(ChildFailed(self.name, child.name, failure))

    def _tell_fate(self, verdict: Verdict, child: Child, error: Exception | None) -> None:
        match verdict.fate:
            case Fate.NOTHING:
                pass
            case Fate.RESTART:
                recent = verdict.slots[child.name].restarts_since(trio.current_time() - self.period)
                self._tell(ChildRestarting(self.name, child.name, verdict.delay, len(recent), error))
            case Fate.RETRY:
                self._tell(ChildSetAside(self.name, child.name, verdict.delay, error))
            case Fate.GIVE_UP:
                self._tell(SupervisorGaveUp(self.name, child.name, error))
            case _:
                assert_never(verdict.fate)

    def _tell(self, event: SupervisionEvent) -> None:
        try:
            self.on_event(event)
        except Exception:  # whoever looks on must not break what it looks at
            _logger.exception("on_event of supervisor %r failed for %r", self.name, event)

    # -- bookkeeping ---------------------------------------------------------------------------------------

    def _change(self, child: Child, slot: Slot) -> None:
        self._adopt({**self._slots, child.name: slot})

    def _adopt(self, slots: Slots) -> None:
        """Take over what was decided, note who came into another state, and have the controller look."""
        before, self._slots = self._slots, slots
        self._wake.set()
        for name, slot in slots.items():
            if slot.phase.shown is not before[name].phase.shown:
                self._children[name].note_state(trio.current_time())

    def _find(self, name: str) -> Child:
        if name not in self._children:
            raise LookupError(f"supervisor {self.name!r} has no child {name!r}")
        return self._children[name]

    def _forget(self, child: Child) -> None:
        if child.removed and self._children.get(child.name) is child and not self._slots[child.name].alive:
            del self._children[child.name]
            self._adopt({name: slot for name, slot in self._slots.items() if name != child.name})

    def _check(self, name: str | None, nested: Supervisor | None) -> None:
        if self._state is ServiceState.STOPPING:
            raise RuntimeError(f"supervisor {self.name!r} is stopping")
        if name in self._children:
            raise ValueError(f"supervisor {self.name!r} has a child {name!r} already")
        if nested is not None and nested.contains(self):
            raise ValueError(f"supervisor {self.name!r} cannot contain itself")

    def _free_name(self, name: str) -> str:
        names = (name, *(f"{name}-{number}" for number in range(2, len(self._children) + 2)))
        return next(each for each in names if each not in self._children)


def _supervisor_of(function: Function | Supervisor) -> Supervisor | None:
    owner = function if isinstance(function, Supervisor) else getattr(function, "__self__", None)
    return owner if isinstance(owner, Supervisor) else None
