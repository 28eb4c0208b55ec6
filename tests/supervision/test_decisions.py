"""Decisions of a supervisor, without Trio: restarts, their limit, and the next child to start or stop."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

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
    after_end,
    describe,
    next_action,
    next_time,
    restart_child,
    split_error,
    start_all,
    start_finished,
    stop_all,
    stop_child,
)

STRATEGIES: tuple[Strategy, ...] = ("one_for_one", "one_for_all", "rest_for_one")
RESTARTS: tuple[Restart, ...] = ("permanent", "transient", "temporary")
ESCALATIONS: tuple[Escalation, ...] = ("raise", "retry")


def running(**changes: Any) -> Slot:
    """Return a child that has been running since time 0."""
    return attrs.evolve(Slot(phase=Phase.RUNNING, started_at=0.0), **changes)


def waiting(**changes: Any) -> Slot:
    """Return a child that waits for its first start."""
    return attrs.evolve(Slot(phase=Phase.WAITING), **changes)


def after(policy: Policy, slots: dict[str, Slot], name: str, **changes: Any) -> Decision:
    """Return the decision after a crash of `name`, with a delay of two seconds."""
    details: dict[str, Any] = {"crashed": True, "now": 100.0, "backoff": lambda _: 2.0}
    return after_end(policy, slots, name=name, **(details | changes))


def phases(slots: Any) -> dict[str, Phase]:
    """Return the phase of each child."""
    return {name: slot.phase for name, slot in slots.items()}


# -- the policy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "invalid",
    [
        {"strategy": "two_for_one"},
        {"intensity": -1},
        {"period": 0},
        {"escalation": "exit"},
        {"retry_interval": 0},
        {"strategy": "rest_for_one", "in_turn": False},
        {"strategy": "one_for_all", "in_turn": False},
    ],
    ids=repr,
)
def test_invalid_policies_are_refused(invalid: dict[str, Any]) -> None:
    """An unknown word, a number out of range, and a group without order are refused."""
    with pytest.raises(ValueError, match=next(reversed(invalid))):
        Policy(**invalid)


@pytest.mark.parametrize(
    ("strategy", "group"),
    [("one_for_one", ("b",)), ("one_for_all", ("a", "b", "c")), ("rest_for_one", ("b", "c"))],
)
def test_the_strategy_defines_the_group(strategy: Strategy, group: tuple[str, ...]) -> None:
    """A child restarts alone, with all children, or with those added after it."""
    assert Policy(strategy=strategy).group("abc", "b") == group


@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.value)
def test_every_phase_is_shown_as_a_state(phase: Phase) -> None:
    """The three phases of stopping are shown as one state."""
    stopping = phase in (Phase.ASKED, Phase.CANCELLED, Phase.STUCK)
    assert phase.state is (ServiceState.STOPPING if stopping else ServiceState(phase.value))


# -- restart types -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("restart", "crashed", "again"),
    [
        ("permanent", True, True),
        ("permanent", False, True),
        ("transient", True, True),
        ("transient", False, False),
        ("temporary", True, False),
        ("temporary", False, False),
    ],
)
def test_the_restart_type_decides_about_a_restart(restart: Restart, crashed: bool, again: bool) -> None:
    """A permanent child always restarts, a transient child after an error, and a temporary child never."""
    decision = after(Policy(), {"a": running(restart=restart)}, "a", crashed=crashed)

    assert decision.consequence is (Consequence.RESTART if again else Consequence.NOTHING)
    assert decision.slots["a"].phase is (Phase.WAITING if again else Phase.STOPPED)
    assert decision.slots["a"].restarts == int(again)


def test_a_restart_is_due_after_its_delay_and_takes_its_group_with_it() -> None:
    """Running siblings restart, a temporary one only stops, and transient ones that have ended start again."""
    slots = {
        "before": running(),
        "failed": running(),
        "up": running(),
        "temporary": running(restart="temporary"),
        "finished": running(restart="transient", phase=Phase.STOPPED),
        "over": running(restart="temporary", phase=Phase.STOPPED),
        "waits": waiting(due=107.0),
        "waits too": waiting(due=101.0),
    }
    decision = after(Policy(strategy="rest_for_one"), slots, "failed")

    assert (decision.consequence, decision.delay) == (Consequence.RESTART, 2.0)
    assert decision.slots["before"] == slots["before"]
    assert decision.slots["failed"].due == 102.0
    assert decision.slots["up"] == running(stale=True, due=102.0)
    assert decision.slots["temporary"] == running(restart="temporary", wanted=False)
    assert decision.slots["finished"].phase is Phase.WAITING
    assert decision.slots["over"].phase is Phase.STOPPED
    assert decision.slots["waits"].due == 107.0
    assert decision.slots["waits too"].due == 102.0


def test_the_end_of_a_child_that_must_end_is_no_failure() -> None:
    """It waits for the restart of its group or stays stopped, and no restart counts."""
    slots = {
        "a": running(stale=True, due=9.0),
        "b": running(wanted=False),
        "c": running(stale=True, wanted=False),
    }
    for name, phase in (("a", Phase.WAITING), ("b", Phase.STOPPED), ("c", Phase.STOPPED)):
        decision = after(Policy(), slots, name)
        assert decision.consequence is Consequence.NOTHING
        assert (decision.slots[name].phase, decision.slots[name].stale) == (phase, False)
        assert decision.slots[name].restarts == 0


# -- intensity ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("oldest", "fate"),
    [(70.0, Consequence.GIVE_UP), (math.nextafter(70.0, 0), Consequence.RESTART)],
    ids=["at", "past"],
)
def test_a_restart_counts_for_exactly_a_period(oldest: float, fate: Consequence) -> None:
    """A restart 30 s ago counts; one that is any older does not."""
    slots = {"a": running(recent_restarts=(oldest, 80.0, 90.0))}
    assert after(Policy(intensity=3, period=30), slots, "a").consequence is fate


def test_children_share_the_intensity_if_the_supervisor_gives_up() -> None:
    """Two restarts of one child and one of another count as three."""
    slots = {
        "a": running(recent_restarts=(90.0, 95.0)),
        "b": running(recent_restarts=(99.0,)),
        "c": running(),
    }
    assert after(Policy(intensity=4), slots, "c").consequence is Consequence.RESTART
    decision = after(Policy(intensity=3), slots, "c")
    assert decision.consequence is Consequence.GIVE_UP
    assert [slot.wanted for slot in decision.slots.values()] == [False, False, False]
    assert decision.slots["c"].phase is Phase.STOPPED
    assert decision.slots["a"].must_end


def test_each_child_has_its_own_intensity_if_it_is_set_aside() -> None:
    """A child with too many restarts is due after the interval; its siblings still restart as usual."""
    slots = {"a": running(recent_restarts=(90.0, 95.0)), "b": running()}
    policy = Policy(intensity=2, escalation="retry", retry_interval=60)

    decision = after(policy, slots, "a")
    assert (decision.consequence, decision.delay) == (Consequence.RETRY, 60.0)
    assert (decision.slots["a"].phase, decision.slots["a"].due) == (Phase.FAILED, 160.0)
    assert decision.slots["b"] == slots["b"]
    assert after(policy, slots, "b").consequence is Consequence.RESTART


@pytest.mark.parametrize(
    ("end", "fate"), [(130.0, Consequence.RETRY), (130.5, Consequence.RESTART)], ids=["soon", "late"]
)
def test_a_child_set_aside_must_stay_up_for_a_period(end: float, fate: Consequence) -> None:
    """Restarted at 100, a child is set aside again if it ends by 130; later it restarts as usual."""
    slot = Slot(phase=Phase.FAILED).started(100.0)
    policy = Policy(escalation="retry", period=30)
    assert after(policy, {"a": slot}, "a", now=end).consequence is fate


def test_with_intensity_0_the_first_failure_is_too_many() -> None:
    """Intensity 0 means no restart: the supervisor gives up, or sets the child aside."""
    assert after(Policy(intensity=0), {"a": running()}, "a").consequence is Consequence.GIVE_UP
    assert (
        after(Policy(intensity=0, escalation="retry"), {"a": running()}, "a").consequence is Consequence.RETRY
    )


def test_the_backoff_gets_the_number_of_restarts_within_the_period() -> None:
    """The first restart is number 1; restarts older than the period no longer count."""
    attempts: list[int] = []

    def backoff(attempt: int) -> float:
        attempts.append(attempt)
        return 0.0

    slots: dict[str, Slot] = {"a": running()}
    for now in (0.0, 10.0, 20.0, 45.0, 200.0):
        decision = after(Policy(period=30), slots, "a", now=now, backoff=backoff)
        slots = {"a": decision.slots["a"].started(now)}

    assert attempts == [1, 2, 3, 2, 1]
    assert slots["a"].recent_restarts == (200.0,)
    assert slots["a"].restarts == 5


@given(
    strategy=st.sampled_from(STRATEGIES),
    escalation=st.sampled_from(ESCALATIONS),
    intensity=st.integers(0, 4),
    period=st.floats(0.5, 50),
    failures=st.lists(st.tuples(st.floats(0, 20), st.sampled_from("abc"), st.booleans()), max_size=60),
)
def test_there_are_never_more_restarts_in_a_period_than_allowed(
    *,
    strategy: Strategy,
    escalation: Escalation,
    intensity: int,
    period: float,
    failures: list[tuple[float, str, bool]],
) -> None:
    """Whichever children fail, any `period` seconds have at most `intensity` restarts."""
    policy = Policy(strategy=strategy, escalation=escalation, intensity=intensity, period=period)
    slots: dict[str, Slot] = {name: running() for name in "abc"}
    restarts: list[tuple[float, str]] = []
    now = 0.0
    for pause, name, crashed in failures:
        now += pause
        decision = after(policy, slots, name, now=now, crashed=crashed, backoff=lambda _: 0.0)
        if decision.consequence is Consequence.GIVE_UP:
            break
        if decision.consequence is Consequence.RESTART:
            restarts.append((now, name))
        slots = {  # all children start again immediately
            each: slot if slot.alive and not slot.must_end else attrs.evolve(slot.started(now), stale=False)
            for each, slot in decision.slots.items()
        }
    for counted in "abc" if escalation == "retry" else ["abc"]:
        times = [time for time, name in restarts if name in counted]
        for end in times:
            assert sum(end - period <= time <= end for time in times) <= intensity


# -- what to do next ---------------------------------------------------------------------------------------


def starts(policy: Policy, slots: dict[str, Slot], *, now: float = 0.0) -> list[str]:
    """Return the children that are started before any of them is up."""
    names = []
    while following := next_action(policy, slots, now=now):
        action, name = following
        assert action is Action.START
        names.append(name)
        slots = {**slots, name: slots[name].started(now)}
    return names


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_at_first_each_child_waits_for_the_one_before(strategy: Strategy) -> None:
    """At first, a child is started when the one before it is up."""
    slots: dict[str, Slot] = {name: waiting() for name in "abc"}
    assert starts(Policy(strategy=strategy), slots) == ["a"]
    assert starts(Policy(strategy=strategy), {**slots, "a": running()}) == ["b"]


def test_out_of_turn_all_start_at_once() -> None:
    """With in_turn=False no child waits for a sibling."""
    assert starts(Policy(in_turn=False), {name: waiting() for name in "abc"}) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("strategy", "started"), [("one_for_one", ["b", "c"]), ("one_for_all", []), ("rest_for_one", [])]
)
def test_dependent_children_wait_for_a_backoff(strategy: Strategy, started: list[str]) -> None:
    """In a group, children wait while one added before them waits; independent children do not."""
    slots = {
        "a": waiting(started_at=0.0, due=5.0),
        "b": waiting(started_at=0.0),
        "c": waiting(started_at=0.0),
    }
    assert starts(Policy(strategy=strategy), slots) == started


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.CANCELLED, Phase.STUCK])
def test_a_group_has_ended_before_any_of_it_starts(strategy: Strategy, phase: Phase) -> None:
    """No child of a group starts while another one is alive, even if it is stuck."""
    slots = {"a": waiting(), "b": running(phase=phase, stale=True, deadline=math.inf)}
    following = next_action(Policy(strategy=strategy), slots, now=0.0)
    assert following == ((Action.CANCEL, "b") if phase is Phase.RUNNING else None)


def test_independent_children_start_while_another_is_stuck() -> None:
    """With one_for_one, a child that does not end delays no sibling."""
    slots = {"a": waiting(), "b": running(phase=Phase.STUCK, stale=True)}
    assert starts(Policy(), slots) == ["a"]


def test_a_failed_child_is_started_when_its_interval_is_over() -> None:
    """A failed child starts on probation; a child that only waited does not."""
    slots = {"a": running(phase=Phase.FAILED, due=60.0)}
    assert starts(Policy(), slots, now=59.0) == []
    assert starts(Policy(), slots, now=60.0) == ["a"]
    assert slots["a"].started(60.0).probation
    assert not waiting().started(60.0).probation


@pytest.mark.parametrize(
    ("slot", "force", "action"),
    [
        (running(), False, Action.CANCEL),
        (running(graceful=True), False, Action.ASK),
        (running(graceful=True), True, Action.CANCEL),
        (running(graceful=True, phase=Phase.STARTING), False, Action.CANCEL),
        (running(phase=Phase.ASKED, deadline=1.0), False, None),
        (running(phase=Phase.ASKED, deadline=1.0), True, Action.CANCEL),
        (running(phase=Phase.ASKED, deadline=0.0), False, Action.CANCEL),
        (running(phase=Phase.CANCELLED, deadline=1.0), True, None),
        (running(phase=Phase.CANCELLED, deadline=0.0), False, Action.REPORT),
        (running(phase=Phase.STUCK, deadline=0.0), True, None),
    ],
)
def test_a_child_is_asked_then_cancelled_then_reported(
    slot: Slot, force: bool, action: Action | None
) -> None:
    """Each action waits for the deadline of the one before; with `force` no child is asked."""
    slots = stop_all({"a": slot})
    following = next_action(Policy(), slots, now=0.0, stopping=True, force=force)
    assert following == (None if action is None else (action, "a"))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_children_stop_in_reverse_order_and_a_stuck_child_is_skipped(strategy: Strategy) -> None:
    """A child is stopped when the one added after it has ended or is stuck."""
    policy = Policy(strategy=strategy)
    slots = stop_all({name: running() for name in "abc"})
    assert next_action(policy, slots, now=0.0, stopping=True) == (Action.CANCEL, "c")
    slots["c"] = slots["c"].stopping(Phase.CANCELLED, 5.0)
    assert next_action(policy, slots, now=0.0, stopping=True) is None
    assert next_action(policy, slots, now=5.0, stopping=True) == (Action.REPORT, "c")
    slots["c"] = slots["c"].stopping(Phase.STUCK, math.inf)
    assert next_action(policy, slots, now=5.0, stopping=True) == (Action.CANCEL, "b")
    slots["b"] = attrs.evolve(slots["b"], phase=Phase.STOPPED)
    assert next_action(policy, slots, now=5.0, stopping=True) == (Action.CANCEL, "a")


@pytest.mark.parametrize("in_turn", [True, False])
def test_independent_children_can_be_stopped_at_once(in_turn: bool) -> None:
    """`in_turn` decides this for a stop; removed children never wait for each other."""
    slots = stop_all({name: running() for name in "abc"})
    slots["c"] = slots["c"].stopping(Phase.CANCELLED, 5.0)
    policy = Policy(in_turn=in_turn)
    assert next_action(policy, slots, now=0.0, stopping=True) == (None if in_turn else (Action.CANCEL, "b"))
    assert next_action(policy, slots, now=0.0) == (Action.CANCEL, "b")


def test_the_next_time_is_the_earliest_in_the_future() -> None:
    """Times of starts and deadlines count if they are in the future; without any it is infinity."""
    slots = {
        "over": waiting(due=5.0),
        "due": waiting(due=20.0),
        "asked": running(phase=Phase.ASKED, deadline=12.0),
        "cancelled": running(phase=Phase.CANCELLED, deadline=11.0),
        "running": running(deadline=7.0, due=7.0),
    }
    assert [next_time(slots, now=now) for now in (10.0, 11.0, 12.0)] == [11.0, 12.0, 20.0]
    assert next_time(slots, now=20.0) == math.inf
    assert next_time({"a": running(phase=Phase.FAILED, due=60.0)}, now=20.0) == 60.0


@pytest.mark.parametrize(
    ("strategy", "last", "finished"),
    [
        ("one_for_one", running(), True),
        ("one_for_one", running(phase=Phase.STOPPED), True),
        ("one_for_one", running(phase=Phase.STARTING), False),
        ("one_for_one", waiting(), False),
        ("one_for_one", running(stale=True), False),
        ("rest_for_one", waiting(), False),
    ],
)
def test_the_start_is_finished_when_all_are_up_or_have_ended(
    strategy: Strategy, last: Slot, finished: bool
) -> None:
    """The start is not finished while a child is starting, waiting or must end."""
    assert start_finished(Policy(strategy=strategy), {"a": running(), "b": last}) is finished


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_start_does_not_wait_for_a_child_set_aside(strategy: Strategy) -> None:
    """In a group, the start does not wait for the children that depend on it either."""
    slots = {"a": running(phase=Phase.FAILED, due=60.0), "b": waiting()}
    assert start_finished(Policy(strategy=strategy), slots) is (strategy != "one_for_one")
    assert start_finished(Policy(strategy=strategy), {**slots, "b": running()})


# -- start, stop, restart by hand --------------------------------------------------------------------------


def test_at_the_start_no_restart_counts() -> None:
    """All children wait without recent restarts; the total is kept for the statistics."""
    slots = stop_all(
        {"a": running(graceful=True, recent_restarts=(1.0,), restarts=7, restart="transient", probation=True)}
    )
    assert start_all(slots) == {"a": waiting(graceful=True, restarts=7, restart="transient")}


def test_a_stopped_child_must_end_and_the_others_continue() -> None:
    """A child that is not running is stopped immediately."""
    slots = {"a": running(), "b": waiting(), "c": running()}
    slots = stop_child(stop_child(slots, "a"), "b")
    assert [slot.must_end for slot in slots.values()] == [True, False, False]
    assert slots["b"].phase is Phase.STOPPED


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.FAILED, Phase.STOPPED])
def test_a_child_that_has_ended_can_be_started_by_hand(phase: Phase) -> None:
    """It starts immediately and without probation, even if it is temporary."""
    slots = {"a": running(phase=phase, due=60.0, restart="temporary", wanted=False)}
    slots = restart_child(Policy(), slots, "a", now=5.0)
    assert starts(Policy(), slots, now=5.0) == ["a"]
    assert not slots["a"].started(5.0).probation


def test_a_running_child_can_be_restarted_with_its_group() -> None:
    """The child and those that depend on it end first; no restart counts."""
    slots = restart_child(Policy(strategy="rest_for_one"), {name: running() for name in "abc"}, "b", now=5.0)
    assert slots == {"a": running(), "b": running(stale=True, due=5.0), "c": running(stale=True, due=5.0)}


def test_a_stopped_child_does_not_restart_with_its_group() -> None:
    """A child that was stopped stays stopped when its group restarts."""
    slots = stop_child({"a": running(), "b": waiting()}, "b")
    slots = restart_child(Policy(strategy="one_for_all"), slots, "a", now=5.0)
    assert (slots["b"].phase, slots["b"].wanted) == (Phase.STOPPED, False)


# -- errors ------------------------------------------------------------------------------------------------


class Stop(BaseException):
    """A `BaseException` that is not an `Exception`."""


def test_an_exception_is_handled_and_others_propagate() -> None:
    """A single error is either handled or propagates."""
    error, stop = ValueError("x"), Stop()
    assert split_error(error) == (None, error)
    assert split_error(stop) == (stop, None)


def test_a_group_is_split() -> None:
    """Leaves are split at any depth; the rest keeps its groups, and a single error loses them."""
    error, stop = ValueError("x"), Stop()
    rest, handled = split_error(BaseExceptionGroup("outer", [BaseExceptionGroup("inner", [error, stop])]))
    assert handled is error
    assert isinstance(rest, BaseExceptionGroup)
    assert rest.subgroup(lambda leaf: leaf is stop) is not None
    assert rest.subgroup(ValueError) is None


def test_a_group_of_several_errors_stays_a_group() -> None:
    """Groups of a single error are removed; a group without an `Exception` leaves nothing to handle."""
    both = ExceptionGroup("both", [ValueError("x"), KeyError("y")])
    assert split_error(ExceptionGroup("outer", [both])) == (None, both)
    assert split_error(ExceptionGroup("outer", [ExceptionGroup("inner", [ValueError("z")])]))[1].args == (
        "z",
    )  # type: ignore[union-attr]
    rest, handled = split_error(BaseExceptionGroup("stop", [Stop()]))
    assert handled is None
    assert isinstance(rest, BaseExceptionGroup)


class Broken(Exception):
    """An error whose ``__str__`` raises."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no\n  good"), "ValueError: no good"),
        (ValueError(), "ValueError"),
        (Broken(), "Broken: (str() failed)"),
        (
            ExceptionGroup("g", [ValueError("a"), ExceptionGroup("h", [OSError("b")])]),
            "ValueError: a; OSError: b",
        ),
    ],
)
def test_an_error_is_described_in_one_line(error: Exception, text: str) -> None:
    """The description has type and message of each leaf."""
    assert describe(error) == text


def test_a_long_description_is_shortened() -> None:
    """A description is at most 300 characters long."""
    text = describe(ValueError("x" * 1_000))
    assert len(text) == 300
    assert text.endswith("x…")


# -- everything together -----------------------------------------------------------------------------------


class Supervision(RuleBasedStateMachine):
    """Failures, ends, stops and restarts by hand in any order, with a model of Trio's part."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.policy = Policy()
        self.slots: dict[str, Slot] = {}
        self.alive: dict[str, bool] = {}  # name -> whether it was cancelled
        self.stopping = False

    @precondition(lambda self: not self.slots)
    @rule(
        strategy=st.sampled_from(STRATEGIES),
        escalation=st.sampled_from(ESCALATIONS),
        intensity=st.integers(0, 3),
        children=st.lists(st.tuples(st.sampled_from(RESTARTS), st.booleans()), min_size=1, max_size=4),
    )
    def begins(
        self,
        *,
        strategy: Strategy,
        escalation: Escalation,
        intensity: int,
        children: list[tuple[Restart, bool]],
    ) -> None:
        """Start a supervisor."""
        self.policy = Policy(
            strategy=strategy, escalation=escalation, intensity=intensity, period=10, retry_interval=20
        )
        self.slots = start_all({f"{number}": Slot(*child) for number, child in enumerate(children)})
        self.advance()

    def advance(self) -> None:
        """Perform actions as the controller does, and check each of them."""
        for _ in range(4 * len(self.slots) + 1):
            following = next_action(self.policy, self.slots, now=self.now, stopping=self.stopping)
            if following is None:
                return
            self.perform(*following)
        pytest.fail("there is always a next action")

    def perform(self, action: Action, name: str) -> None:
        """Perform an action."""
        slot = self.slots[name]
        if action is Action.START:
            assert name not in self.alive
            assert not self.stopping
            assert not (self.policy.grouped and any(each.must_end for each in self.slots.values()))
            self.alive[name] = False
            slot = slot.started(self.now)
        else:
            assert name in self.alive
            assert slot.must_end
            later = list(self.slots)[list(self.slots).index(name) + 1 :]
            if self.stopping and action is not Action.REPORT:
                assert all(self.slots[each].phase is Phase.STUCK for each in later if each in self.alive)
            phase = {Action.ASK: Phase.ASKED, Action.CANCEL: Phase.CANCELLED, Action.REPORT: Phase.STUCK}[
                action
            ]
            self.alive[name] = self.alive[name] or action is Action.CANCEL
            slot = slot.stopping(phase, self.now + 3 if action is not Action.REPORT else math.inf)
        self.slots = {**self.slots, name: slot}

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def comes_up(self, data: st.DataObject) -> None:
        """A child reports that it is up."""
        name = data.draw(st.sampled_from(sorted(self.alive)))
        if self.slots[name].phase is Phase.STARTING:
            self.slots = {**self.slots, name: attrs.evolve(self.slots[name], phase=Phase.RUNNING)}
        self.advance()

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), crashed=st.booleans(), delay=st.floats(0, 5))
    def ends(self, data: st.DataObject, *, crashed: bool, delay: float) -> None:
        """A child ends, by itself or because it was stopped."""
        name = data.draw(st.sampled_from(sorted(self.alive)))
        del self.alive[name]
        decision = after_end(
            self.policy, self.slots, name=name, crashed=crashed, now=self.now, backoff=lambda _: delay
        )
        assert list(decision.slots) == list(self.slots)
        self.slots = dict(decision.slots)
        self.stopping = self.stopping or decision.consequence is Consequence.GIVE_UP
        self.advance()

    @precondition(lambda self: self.slots)
    @rule(seconds=st.floats(0, 15))
    def time_passes(self, seconds: float) -> None:
        """Time passes without an event."""
        self.now += seconds
        self.advance()

    @precondition(lambda self: self.slots and not self.stopping)
    @rule(data=st.data())
    def is_restarted(self, data: st.DataObject) -> None:
        """A child is restarted by hand."""
        name = data.draw(st.sampled_from(sorted(self.slots)))
        self.slots = restart_child(self.policy, self.slots, name, now=self.now)
        self.advance()

    @precondition(lambda self: self.slots)
    @rule()
    def is_stopped(self) -> None:
        """The supervisor is stopped."""
        self.stopping = True
        self.slots = stop_all(self.slots)
        self.advance()

    @invariant()
    def the_slots_match_the_tasks(self) -> None:
        """A slot is alive exactly if its child has a task."""
        assert {name for name, slot in self.slots.items() if slot.alive} == set(self.alive)

    @invariant()
    def a_stop_always_progresses(self) -> None:
        """A stopping supervisor has ended, or waits for a child that is stopping."""
        if self.stopping and self.alive:
            assert any(self.slots[name].phase.state is ServiceState.STOPPING for name in self.alive)

    @invariant()
    def no_child_is_forgotten(self) -> None:
        """When all starts are due and no child is starting or must end, no child is left waiting."""
        all_due = all(slot.due <= self.now for slot in self.slots.values())
        settled = not any(slot.must_end or slot.phase is Phase.STARTING for slot in self.slots.values())
        if all_due and settled:
            assert not any(slot.pending for slot in self.slots.values())


TestSupervision = Supervision.TestCase
