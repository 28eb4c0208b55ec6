"""The supervisor: starts children in order, restarts them when they end, and stops them in reverse order.

One task, `Supervisor.run`, is the controller. Each start of a child creates a task in the controller's nursery,
with a cancel scope of its own. `jobrt._supervision.decisions` decides, and this module performs::

    a child ends ─▶ _ended ─▶ decisions.after_end ─────────────────┐
    add, stop, a deadline passes, the scope is cancelled ──────────┤
                                                                   ▼
                     controller: decisions.next_action ─▶ start · ask · cancel · report

The children's scopes are shielded. So a cancellation from outside reaches only the controller, which cancels the
children in reverse order, each with its own limit. Because of the shield this module must not lose track of a
child. The slot of a child is the first thing to change when its task ends. And however the controller ends, every
scope is cancelled before the nursery waits. Ctrl-C interrupts only checkpoints and the children's code.
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
    Children,
    Function,
    cancelled_part,
    check_options,
    log_event,
    name_of,
)
from jobrt._supervision.decisions import (
    Action,
    Consequence,
    Decision,
    Escalation,
    Phase,
    Policy,
    Restart,
    ServiceState,
    Slot,
    Strategy,
)
from jobrt._supervision.records import (
    ChildFailed,
    ChildStarted,
    ChildStopped,
    ChildStuck,
    SupervisionEvent,
    SupervisorStatistics,
    restart_event,
)
from jobrt.backoff import CallState, Wait
from jobrt.errors import SupervisorFailed

_logger = logging.getLogger("jobrt.supervisor")


@attrs.define(eq=False, repr=False)
class Supervisor:
    """Supervisor of long-running tasks: it restarts them when they end, and stops them in order.

    ::

        supervisor = jobrt.Supervisor("services", strategy="rest_for_one")
        supervisor.add(connect, pool)
        supervisor.add(serve, pool, 8080, shutdown=30)
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)

    Args:
        name: name for statistics, events and tasks.
        strategy: which children are restarted when one ends. ``"one_for_one"``: only that child;
            ``"one_for_all"``: all children; ``"rest_for_one"``: that child and those added after it, which
            depend on it.
        intensity: maximum number of restarts in `period`; one more escalates.
        period: in seconds.
        backoff: any tenacity wait, for the delay between the end of a child and its restart. Its
            ``attempt_number`` is the number of restarts that this child caused within `period`, including this
            one. The default is 0.1, 0.2, 0.4 … 10 s, ±10 %.
        escalation: ``"raise"`` stops all children and raises `SupervisorFailed` from `run`. ``"retry"`` marks the
            child as failed and restarts it after `retry_interval`, while children that do not depend on it
            continue. Each child then has an intensity of its own.
        retry_interval: in seconds.
        in_turn: whether children start and stop one after the other. False is for ``one_for_one`` only.
        on_event: called with each `SupervisionEvent`; it must not block. By default events are logged.
        chance: source of random numbers from 0 (inclusive) to 1, for the jitter of the backoff.

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
    _children: Children = attrs.field(init=False)
    _state: ServiceState = attrs.field(init=False, default=ServiceState.STOPPED)
    _force: bool = attrs.field(init=False, default=False)
    _failure: SupervisorFailed | None = attrs.field(init=False, default=None)
    _foreign: BaseException | None = attrs.field(init=False, default=None)
    _nursery: trio.Nursery | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._children = Children(self.name)
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

    # -- public methods ------------------------------------------------------------------------------------

    def add(
        self,
        async_fn: Function | Supervisor,
        *args: object,
        name: str | None = None,
        restart: Restart = "permanent",
        shutdown: float | None = None,
        stop: Callable[[], object] | None = None,
    ) -> str:
        """Add a child and return its name. If the supervisor is running, the child starts immediately.

        Args:
            async_fn: async function to run. If it has a parameter `task_status`, it is up when it calls
                ``started()``; otherwise it is up immediately. A `Supervisor`, or its ``run``, is shown as a
                subtree.
            args: positional arguments of the function.
            name: name of the child, unique among its siblings. The default is the name of the function, with a
                number if that is taken.
            restart: when to restart the child. ``"permanent"``: whenever it ends; ``"transient"``: when it ends
                with an error; ``"temporary"``: never.
            shutdown: time in seconds to end after being asked, and again after being cancelled. A child that
                takes longer is reported, and still awaited. The default is 5; for a supervisor, the time that
                its children need.
            stop: function that asks the child to end, such as the ``set`` of an event; it must not block. A
                running child is asked first, and cancelled after `shutdown` seconds.

        Raises:
            ValueError: the name is taken, an option is invalid, or a supervisor would contain itself.
            RuntimeError: the supervisor is stopping.

        """
        nested = _supervisor_of(async_fn)
        function = async_fn.run if isinstance(async_fn, Supervisor) else async_fn
        if self._state is ServiceState.STOPPING:
            raise RuntimeError(f"supervisor {self.name!r} is stopping")
        if nested is not None and nested.contains(self):
            raise ValueError(f"supervisor {self.name!r} cannot contain itself")
        check_options(restart, shutdown)
        if nested is not None and stop is None:
            stop = nested.stop
        default = name_of(function) if nested is None else nested.name
        name = self._children.new_name(name, default=default)
        child = Child(name, function, args=args, shutdown=shutdown, stop=stop, nested=nested)
        slot = Slot(restart, stop is not None)
        self._children.add(child, slot)
        if self._nursery is not None:
            self._children.set_slot(child, attrs.evolve(slot, phase=Phase.WAITING))
        return name

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[Supervisor] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the children until `stop` is called or the surrounding scope is cancelled.

        With ``nursery.start``, it reports the supervisor as started when all children are up, have ended or are
        set aside. It continues without children, because more can be added. After it has ended it can run again.

        Raises:
            SupervisorFailed: there were more than `intensity` restarts in `period`. ``__cause__`` is the last
                error.
            RuntimeError: it is already running.

        """
        if self._nursery is not None:
            raise RuntimeError(f"supervisor {self.name!r} is already running")
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
        """Stop all children, last added first; `run` returns when they have ended.

        A child added with ``stop=`` is asked, and cancelled when its time is over. Other children are cancelled
        immediately. Cancelling the scope around `run` does the same, but asks no child. Does nothing if the
        supervisor is not running.
        """
        if self._nursery is not None:
            self._state = ServiceState.STOPPING
            self._children.set_slots(decisions.stop_all(self._children.slots))

    def restart_child(self, name: str) -> None:
        """Restart a child and its group; this does not count as a restart.

        A running child is stopped first. A child that is stopped, waiting or failed starts immediately.

        Raises:
            LookupError: there is no such child.
            RuntimeError: the supervisor is not running or is stopping, or the child is being removed.

        """
        child = self._children.find(name)
        if child.removed or self._nursery is None or self._state is ServiceState.STOPPING:
            raise RuntimeError(
                f"supervisor {self.name!r} cannot restart {name!r}: one of them is stopped or stopping"
            )
        slots = decisions.restart_child(self._policy, self._children.slots, name, now=trio.current_time())
        self._children.set_slots(slots)

    def remove(self, name: str) -> None:
        """Stop a child and remove it. Its name is free when it has ended.

        Raises:
            LookupError: there is no such child.

        """
        child = self._children.find(name)
        child.removed = True
        self._children.set_slots(decisions.stop_child(self._children.slots, name))
        self._children.forget_removed(child)

    def statistics(self) -> SupervisorStatistics:
        """Return a snapshot of the tree. While the supervisor is running, call this in its Trio thread."""
        period_start = math.inf if self._nursery is None else trio.current_time() - self.period
        return SupervisorStatistics(
            name=self.name,
            strategy=self.strategy,
            state=self._state,
            children=self._children.statistics(period_start=period_start),
        )

    def stop_timeout(self) -> float:
        """Return the maximum time in seconds of a stop in which every child ends in time."""
        return 1.0 + self._children.stop_timeout(in_turn=self.in_turn)  # a second for the supervisor itself

    def contains(self, other: object) -> bool:
        """Return whether `other` is this supervisor or is below it."""
        return other is self or self._children.have_below(other)

    # -- the controller ------------------------------------------------------------------------------------

    def _open(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._state = ServiceState.STARTING
        self._force = False
        self._failure = None
        self._foreign = None
        self._children.set_slots(decisions.start_all(self._children.slots))

    async def _serve(self, task_status: trio.TaskStatus[Supervisor]) -> None:
        try:
            await self._control(task_status)
        except BaseException:
            # Cancelled from outside, or because Ctrl-C in a child ends the nursery: the same order, without grace.
            self._stop_now()
            with trio.CancelScope(shield=True):
                await self._control(trio.TASK_STATUS_IGNORED)
            raise
        finally:
            for child in self._children:  # all have ended, unless a second Ctrl-C interrupted the stop
                child.scope.cancel(reason="its supervisor has ended")

    async def _control(self, task_status: trio.TaskStatus[Supervisor]) -> None:
        """Perform actions until the supervisor is stopping and all children have ended."""
        while True:
            self._children.changed = trio.Event()  # before the decisions, so that no later change is missed
            self._advance()
            slots = self._children.slots
            if self._state is ServiceState.STOPPING and not any(slot.alive for slot in slots.values()):
                return
            if self._state is ServiceState.STARTING and decisions.start_finished(self._policy, slots):
                self._state = ServiceState.RUNNING
                task_status.started(self)
            with trio.CancelScope(deadline=decisions.next_time(slots, now=trio.current_time())):
                await self._children.changed.wait()

    def _advance(self) -> None:
        while following := decisions.next_action(
            self._policy,
            self._children.slots,
            now=trio.current_time(),
            stopping=self._state is ServiceState.STOPPING,
            force=self._force,
        ):
            action, name = following
            self._perform(action, self._children.find(name))

    def _perform(self, action: Action, child: Child) -> None:
        match action:
            case Action.START:
                self._start(child)
            case Action.ASK:
                self._ask(child)
            case Action.CANCEL:
                self._set_stopping(child, Phase.CANCELLED, seconds=child.stop_timeout())
                child.scope.cancel(reason=f"supervisor {self.name!r} stops {child.name!r}")
            case Action.REPORT:
                self._set_stopping(child, Phase.STUCK, seconds=math.inf)
                self._report(ChildStuck(self.name, child.name, child.stop_timeout()))
            case _:
                assert_never(action)

    def _start(self, child: Child) -> None:
        assert self._nursery is not None  # noqa: S101  # only the controller calls this
        child.scope = trio.CancelScope(shield=True)
        self._children.set_slot(child, self._children.slots[child.name].started(trio.current_time()))
        self._nursery.start_soon(self._run_child, child, name=f"{self.name}/{child.name}")

    def _ask(self, child: Child) -> None:
        assert child.stop is not None  # noqa: S101  # otherwise its slot is not graceful
        self._set_stopping(child, Phase.ASKED, seconds=child.stop_timeout())
        try:
            child.stop()
        except Exception:
            _logger.exception("%s: stop() of %s failed, so it is cancelled", self.name, child.name)
            self._set_stopping(child, Phase.ASKED, seconds=0.0)

    def _stop_now(self) -> None:
        """Stop in the usual order, but ask no child."""
        self._force = True
        self.stop()

    def _set_stopping(self, child: Child, phase: Phase, *, seconds: float) -> None:
        slot = self._children.slots[child.name]
        self._children.set_slot(child, slot.stopping(phase, trio.current_time() + seconds))

    # -- tasks of children ---------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def _run_child(self, child: Child) -> None:
        """Run a task of a child until it ends, in whatever way."""
        propagating: BaseException | None = None
        error: Exception | None = None
        try:
            with child.scope as scope:
                await self._call(child, scope)
        except BaseException as failure:  # noqa: BLE001  # split; what a restart does not handle is raised below
            propagating, error = decisions.split_error(failure)
            # A `Cancelled` here belongs to another scope. An error cancels our nursery, which would then take the
            # `Cancelled` for its own and swallow it. So `run` raises it again.
            self._foreign = self._foreign or cancelled_part(failure)
        self._ended(child, error, propagating=propagating)
        if propagating is not None:
            raise propagating

    @trio.lowlevel.disable_ki_protection
    async def _call(self, child: Child, scope: trio.CancelScope) -> None:
        def up() -> None:
            if child not in self._children or child.scope is not scope:
                return  # the status of an earlier task, or of a child that was removed
            slot = self._children.slots[child.name]
            if slot.phase is Phase.STARTING:
                self._children.set_slot(child, attrs.evolve(slot, phase=Phase.RUNNING))
                self._report(ChildStarted(self.name, child.name))

        await child.run(up)

    def _ended(self, child: Child, error: Exception | None, *, propagating: BaseException | None) -> None:
        """Record the end of a task, and decide what follows."""
        if propagating is not None:  # it will cancel the nursery, so all children stop
            self._stop_now()
        failure = error or propagating
        before = self._children.slots
        self._children.set_slot(child, attrs.evolve(before[child.name], phase=Phase.STOPPED))
        try:
            decision = decisions.after_end(
                self._policy,
                before,
                name=child.name,
                crashed=failure is not None,
                now=trio.current_time(),
                backoff=lambda attempt: self._delay(attempt, error),
            )
            self._carry_out(decision, child, error)
        finally:  # the user's backoff may raise, but the end of the child is always reported
            if failure is not None:
                child.record_error(decisions.describe(failure))
            ended = (self.name, child.name)
            self._report(ChildStopped(*ended) if failure is None else ChildFailed(*ended, failure))
        if failure is None and decision.consequence is not Consequence.NOTHING:
            child.record_error(RETURNED)
        recent = len(decision.slots[child.name].restarts_since(trio.current_time() - self.period))
        self._report(
            restart_event(self.name, child.name, decision=decision, recent_restarts=recent, error=error)
        )
        self._children.forget_removed(child)

    def _carry_out(self, decision: Decision, child: Child, error: Exception | None) -> None:
        if decision.consequence is Consequence.GIVE_UP:
            self._state = ServiceState.STOPPING
            self._failure = SupervisorFailed(
                f"supervisor {self.name!r} gave up: {child.name!r} ended again after "
                f"{self.intensity} restarts in {self.period:g} s"
            )
            self._failure.__cause__ = error
        self._children.set_slots(decision.slots)

    def _delay(self, attempt: int, error: Exception | None) -> float:
        cause = error or RuntimeError(RETURNED)
        state = CallState(attempt=attempt, error=cause, chance=self.chance)
        return max(0.0, float(self.backoff(state)))

    def _report(self, event: SupervisionEvent | None) -> None:
        if event is None:
            return
        try:
            self.on_event(event)
        except Exception:  # a faulty observer must not affect the children
            _logger.exception("on_event of supervisor %r failed for %r", self.name, event)


def _supervisor_of(function: Function | Supervisor) -> Supervisor | None:
    owner = function if isinstance(function, Supervisor) else getattr(function, "__self__", None)
    return owner if isinstance(owner, Supervisor) else None
