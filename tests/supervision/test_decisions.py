"""Supervision, decided without Trio: who restarts, when it is too often, who is stopped and started next."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jobrt._supervision.decisions import (
    Escalation,
    Fate,
    Phase,
    Policy,
    Restart,
    ServiceState,
    Slot,
    Step,
    Strategy,
    Verdict,
    begin,
    describe,
    dismiss,
    ended,
    next_step,
    next_time,
    renew,
    settled,
    stop_all,
    take_apart,
)

STRATEGIES: tuple[Strategy, ...] = ("one_for_one", "one_for_all", "rest_for_one")
RESTARTS: tuple[Restart, ...] = ("permanent", "transient", "temporary")
ESCALATIONS: tuple[Escalation, ...] = ("raise", "retry")


def running(**changes: Any) -> Slot:
    """Return a child that is up since time 0."""
    return attrs.evolve(Slot(phase=Phase.RUNNING, born=0.0), **changes)


def waiting(**changes: Any) -> Slot:
    """Return a child that was never started and may start."""
    return attrs.evolve(Slot(phase=Phase.WAITING), **changes)


def after(policy: Policy, slots: dict[str, Slot], name: str, **changes: Any) -> Verdict:
    """Return what follows from a crash of `name`, with a delay of two seconds."""
    details: dict[str, Any] = {"crashed": True, "now": 100.0, "backoff": lambda _: 2.0}
    return ended(policy, slots, name=name, **(details | changes))


def phases(slots: Any) -> dict[str, Phase]:
    """Return where everybody is."""
    return {name: slot.phase for name, slot in slots.items()}


# -- the policy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
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
def test_a_policy_refuses_what_makes_no_sense(wrong: dict[str, Any]) -> None:
    """A policy with an unknown word, a number out of range, or groups without order cannot be made."""
    with pytest.raises(ValueError, match=next(reversed(wrong))):
        Policy(**wrong)


@pytest.mark.parametrize(
    ("strategy", "group"),
    [("one_for_one", ("b",)), ("one_for_all", ("a", "b", "c")), ("rest_for_one", ("b", "c"))],
)
def test_the_strategy_says_who_is_restarted_together(strategy: Strategy, group: tuple[str, ...]) -> None:
    """One; all; or one and those added after it."""
    assert Policy(strategy=strategy).group("abc", "b") == group


@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.value)
def test_every_phase_is_shown_as_a_state(phase: Phase) -> None:
    """Only the three steps on the way out look alike from outside."""
    gone = phase in (Phase.ASKED, Phase.CANCELLED, Phase.STUCK)
    assert phase.shown is (ServiceState.STOPPING if gone else ServiceState(phase.value))


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
def test_the_restart_type_says_whose_end_is_answered(restart: Restart, crashed: bool, again: bool) -> None:
    """Permanent: always; transient: after an error; temporary: never."""
    verdict = after(Policy(), {"a": running(restart=restart)}, "a", crashed=crashed)

    assert verdict.fate is (Fate.RESTART if again else Fate.NOTHING)
    assert verdict.slots["a"].phase is (Phase.WAITING if again else Phase.STOPPED)
    assert verdict.slots["a"].restarts == int(again)


def test_a_restart_is_due_after_its_delay_and_takes_its_group_with_it() -> None:
    """Siblings that are up have to go and come back; a temporary one only goes; finished ones run again."""
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
    verdict = after(Policy(strategy="rest_for_one"), slots, "failed")

    assert (verdict.fate, verdict.delay) == (Fate.RESTART, 2.0)
    assert verdict.slots["before"] == slots["before"]
    assert verdict.slots["failed"].due == 102.0
    assert verdict.slots["up"] == running(stale=True, due=102.0)
    assert verdict.slots["temporary"] == running(restart="temporary", wanted=False)
    assert verdict.slots["finished"].phase is Phase.WAITING
    assert verdict.slots["over"].phase is Phase.STOPPED
    assert verdict.slots["waits"].due == 107.0
    assert verdict.slots["waits too"].due == 102.0


def test_the_end_of_a_child_that_has_to_go_is_no_new_failure() -> None:
    """It waits for its group's restart, or stays down; no restart is counted, however it ended."""
    slots = {
        "a": running(stale=True, due=9.0),
        "b": running(wanted=False),
        "c": running(stale=True, wanted=False),
    }
    for name, phase in (("a", Phase.WAITING), ("b", Phase.STOPPED), ("c", Phase.STOPPED)):
        verdict = after(Policy(), slots, name)
        assert verdict.fate is Fate.NOTHING
        assert (verdict.slots[name].phase, verdict.slots[name].stale) == (phase, False)
        assert verdict.slots[name].restarts == 0


# -- intensity ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("oldest", "fate"), [(70.0, Fate.GIVE_UP), (math.nextafter(70.0, 0), Fate.RESTART)], ids=["at", "past"]
)
def test_a_restart_counts_for_exactly_a_period(oldest: float, fate: Fate) -> None:
    """A restart 30 s ago still counts; the least bit longer ago it does not."""
    slots = {"a": running(recent=(oldest, 80.0, 90.0))}
    assert after(Policy(intensity=3, period=30), slots, "a").fate is fate


def test_children_share_the_allowance_if_the_supervisor_gives_up() -> None:
    """Two restarts by one child and one by another are three."""
    slots = {"a": running(recent=(90.0, 95.0)), "b": running(recent=(99.0,)), "c": running()}
    assert after(Policy(intensity=4), slots, "c").fate is Fate.RESTART
    verdict = after(Policy(intensity=3), slots, "c")
    assert verdict.fate is Fate.GIVE_UP
    assert [slot.wanted for slot in verdict.slots.values()] == [False, False, False]
    assert verdict.slots["c"].phase is Phase.STOPPED
    assert verdict.slots["a"].leaving


def test_each_child_has_its_own_allowance_if_it_is_set_aside() -> None:
    """The one with too many fails and is due after the interval; another's restart is not too many."""
    slots = {"a": running(recent=(90.0, 95.0)), "b": running()}
    policy = Policy(intensity=2, escalation="retry", retry_interval=60)

    verdict = after(policy, slots, "a")
    assert (verdict.fate, verdict.delay) == (Fate.RETRY, 60.0)
    assert (verdict.slots["a"].phase, verdict.slots["a"].due) == (Phase.FAILED, 160.0)
    assert verdict.slots["b"] == slots["b"]
    assert after(policy, slots, "b").fate is Fate.RESTART


@pytest.mark.parametrize(("end", "fate"), [(130.0, Fate.RETRY), (130.5, Fate.RESTART)], ids=["soon", "late"])
def test_a_child_set_aside_must_stay_up_for_a_period(end: float, fate: Fate) -> None:
    """Tried again at 100, it is set aside at once if it ends by 130; after that it starts with a clean slate."""
    slot = Slot(phase=Phase.FAILED).started(100.0)
    policy = Policy(escalation="retry", period=30)
    assert after(policy, {"a": slot}, "a", now=end).fate is fate


def test_with_no_allowance_the_first_failure_is_too_many() -> None:
    """Intensity 0 means: no restarts, only giving up or trying again in a while."""
    assert after(Policy(intensity=0), {"a": running()}, "a").fate is Fate.GIVE_UP
    assert after(Policy(intensity=0, escalation="retry"), {"a": running()}, "a").fate is Fate.RETRY


def test_the_backoff_is_asked_with_the_restarts_in_the_window() -> None:
    """The first is number 1; the number falls back as restarts leave the window."""
    asked: list[int] = []

    def backoff(attempt: int) -> float:
        asked.append(attempt)
        return 0.0

    slots: dict[str, Slot] = {"a": running()}
    for now in (0.0, 10.0, 20.0, 45.0, 200.0):
        verdict = after(Policy(period=30), slots, "a", now=now, backoff=backoff)
        slots = {"a": verdict.slots["a"].started(now)}

    assert asked == [1, 2, 3, 2, 1]
    assert slots["a"].recent == (200.0,)
    assert slots["a"].restarts == 5


@given(
    strategy=st.sampled_from(STRATEGIES),
    escalation=st.sampled_from(ESCALATIONS),
    intensity=st.integers(0, 4),
    period=st.floats(0.5, 50),
    failures=st.lists(st.tuples(st.floats(0, 20), st.sampled_from("abc"), st.booleans()), max_size=60),
)
def test_there_are_never_more_restarts_in_a_window_than_allowed(
    *,
    strategy: Strategy,
    escalation: Escalation,
    intensity: int,
    period: float,
    failures: list[tuple[float, str, bool]],
) -> None:
    """Whoever fails whenever: no stretch of `period` seconds holds more than `intensity` restarts."""
    policy = Policy(strategy=strategy, escalation=escalation, intensity=intensity, period=period)
    slots: dict[str, Slot] = {name: running() for name in "abc"}
    restarts: list[tuple[float, str]] = []
    now = 0.0
    for pause, name, crashed in failures:
        now += pause
        verdict = after(policy, slots, name, now=now, crashed=crashed, backoff=lambda _: 0.0)
        if verdict.fate is Fate.GIVE_UP:
            break
        if verdict.fate is Fate.RESTART:
            restarts.append((now, name))
        slots = {  # all of them come up again at once
            each: slot if slot.alive and not slot.leaving else attrs.evolve(slot.started(now), stale=False)
            for each, slot in verdict.slots.items()
        }
    for whose in "abc" if escalation == "retry" else ["abc"]:
        times = [time for time, name in restarts if name in whose]
        for end in times:
            assert sum(end - period <= time <= end for time in times) <= intensity


# -- what to do next ---------------------------------------------------------------------------------------


def starts(policy: Policy, slots: dict[str, Slot], *, now: float = 0.0) -> list[str]:
    """Return who is started, if nobody comes up meanwhile."""
    names = []
    while step := next_step(policy, slots, now=now):
        assert step[0] is Step.START
        names.append(step[1])
        slots = {**slots, step[1]: slots[step[1]].started(now)}
    return names


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_at_first_each_child_waits_for_the_one_before(strategy: Strategy) -> None:
    """The next is started when the one before is up."""
    slots: dict[str, Slot] = {name: waiting() for name in "abc"}
    assert starts(Policy(strategy=strategy), slots) == ["a"]
    assert starts(Policy(strategy=strategy), {**slots, "a": running()}) == ["b"]


def test_out_of_turn_all_start_at_once() -> None:
    """With in_turn=False nobody waits for a sibling."""
    assert starts(Policy(in_turn=False), {name: waiting() for name in "abc"}) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("strategy", "started"), [("one_for_one", ["b", "c"]), ("one_for_all", []), ("rest_for_one", [])]
)
def test_who_depends_on_a_child_waits_for_its_backoff(strategy: Strategy, started: list[str]) -> None:
    """In a group those added later wait while one before them waits; independent ones do not."""
    slots = {"a": waiting(born=0.0, due=5.0), "b": waiting(born=0.0), "c": waiting(born=0.0)}
    assert starts(Policy(strategy=strategy), slots) == started


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.CANCELLED, Phase.STUCK])
def test_a_group_is_down_before_any_of_it_starts(strategy: Strategy, phase: Phase) -> None:
    """While one of the group is still there, also a stuck one, nobody is started."""
    slots = {"a": waiting(), "b": running(phase=phase, stale=True, until=math.inf)}
    step = next_step(Policy(strategy=strategy), slots, now=0.0)
    assert step == ((Step.CANCEL, "b") if phase is Phase.RUNNING else None)


def test_independent_children_start_while_another_is_stuck() -> None:
    """In one_for_one a sibling that does not end holds up nobody."""
    slots = {"a": waiting(), "b": running(phase=Phase.STUCK, stale=True)}
    assert starts(Policy(), slots) == ["a"]


def test_a_failed_child_is_started_when_its_interval_is_over() -> None:
    """It is on probation then; one that merely waited is not."""
    slots = {"a": running(phase=Phase.FAILED, due=60.0)}
    assert starts(Policy(), slots, now=59.0) == []
    assert starts(Policy(), slots, now=60.0) == ["a"]
    assert slots["a"].started(60.0).probation
    assert not waiting().started(60.0).probation


@pytest.mark.parametrize(
    ("slot", "hurry", "step"),
    [
        (running(), False, Step.CANCEL),
        (running(graceful=True), False, Step.ASK),
        (running(graceful=True), True, Step.CANCEL),
        (running(graceful=True, phase=Phase.STARTING), False, Step.CANCEL),
        (running(phase=Phase.ASKED, until=1.0), False, None),
        (running(phase=Phase.ASKED, until=1.0), True, Step.CANCEL),
        (running(phase=Phase.ASKED, until=0.0), False, Step.CANCEL),
        (running(phase=Phase.CANCELLED, until=1.0), True, None),
        (running(phase=Phase.CANCELLED, until=0.0), False, Step.REPORT),
        (running(phase=Phase.STUCK, until=0.0), True, None),
    ],
)
def test_the_way_out_is_asked_then_cancelled_then_reported(
    slot: Slot, hurry: bool, step: Step | None
) -> None:
    """Each step waits for the limit of the one before; in a hurry nobody is asked."""
    slots = stop_all({"a": slot})
    taken = next_step(Policy(), slots, now=0.0, stopping=True, hurry=hurry)
    assert taken == (None if step is None else (step, "a"))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_children_stop_one_by_one_latest_first_and_a_stuck_one_is_passed(strategy: Strategy) -> None:
    """The next is stopped when the one after it has ended, or is stuck."""
    policy = Policy(strategy=strategy)
    slots = stop_all({name: running() for name in "abc"})
    assert next_step(policy, slots, now=0.0, stopping=True) == (Step.CANCEL, "c")
    slots["c"] = slots["c"].going(Phase.CANCELLED, 5.0)
    assert next_step(policy, slots, now=0.0, stopping=True) is None
    assert next_step(policy, slots, now=5.0, stopping=True) == (Step.REPORT, "c")
    slots["c"] = slots["c"].going(Phase.STUCK, math.inf)
    assert next_step(policy, slots, now=5.0, stopping=True) == (Step.CANCEL, "b")
    slots["b"] = attrs.evolve(slots["b"], phase=Phase.STOPPED)
    assert next_step(policy, slots, now=5.0, stopping=True) == (Step.CANCEL, "a")


@pytest.mark.parametrize("in_turn", [True, False])
def test_independent_children_can_be_stopped_at_once(in_turn: bool) -> None:
    """In a stop this is the policy's choice; those removed one by one never wait for each other."""
    slots = stop_all({name: running() for name in "abc"})
    slots["c"] = slots["c"].going(Phase.CANCELLED, 5.0)
    policy = Policy(in_turn=in_turn)
    assert next_step(policy, slots, now=0.0, stopping=True) == (None if in_turn else (Step.CANCEL, "b"))
    assert next_step(policy, slots, now=0.0) == (Step.CANCEL, "b")


def test_the_next_time_is_the_next_that_is_still_to_come() -> None:
    """Backoffs and limits count, those that are over do not, and without any there is nothing to wait for."""
    slots = {
        "over": waiting(due=5.0),
        "due": waiting(due=20.0),
        "asked": running(phase=Phase.ASKED, until=12.0),
        "cancelled": running(phase=Phase.CANCELLED, until=11.0),
        "running": running(until=7.0, due=7.0),
    }
    assert [next_time(slots, now=now) for now in (10.0, 11.0, 12.0)] == [11.0, 12.0, 20.0]
    assert next_time(slots, now=20.0) == math.inf
    assert next_time({"a": running(phase=Phase.FAILED, due=60.0)}, now=20.0) == 60.0


@pytest.mark.parametrize(
    ("strategy", "last", "over"),
    [
        ("one_for_one", running(), True),
        ("one_for_one", running(phase=Phase.STOPPED), True),
        ("one_for_one", running(phase=Phase.STARTING), False),
        ("one_for_one", waiting(), False),
        ("one_for_one", running(stale=True), False),
        ("rest_for_one", waiting(), False),
    ],
)
def test_the_start_is_over_when_all_are_up_or_done(strategy: Strategy, last: Slot, over: bool) -> None:
    """Starting, waiting or going children are waited for."""
    assert settled(Policy(strategy=strategy), {"a": running(), "b": last}) is over


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_child_set_aside_does_not_hold_up_the_end_of_the_start(strategy: Strategy) -> None:
    """In a group those that wait for it are not waited for either."""
    slots = {"a": running(phase=Phase.FAILED, due=60.0), "b": waiting()}
    assert settled(Policy(strategy=strategy), slots) is (strategy != "one_for_one")
    assert settled(Policy(strategy=strategy), {**slots, "b": running()})


# -- start, stop, restart by hand --------------------------------------------------------------------------


def test_a_supervisor_begins_with_a_clean_slate() -> None:
    """All wait to be started, without restarts in the window; the total is kept for people to see."""
    slots = stop_all(
        {"a": running(graceful=True, recent=(1.0,), restarts=7, restart="transient", probation=True)}
    )
    assert begin(slots) == {"a": waiting(graceful=True, restarts=7, restart="transient")}


def test_who_is_dismissed_goes_and_the_others_stay() -> None:
    """One that is not running is simply down."""
    slots = {"a": running(), "b": waiting(), "c": running()}
    slots = dismiss(dismiss(slots, "a"), "b")
    assert [slot.leaving for slot in slots.values()] == [True, False, False]
    assert slots["b"].phase is Phase.STOPPED


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.FAILED, Phase.STOPPED])
def test_a_child_that_is_down_can_be_started_now(phase: Phase) -> None:
    """Its backoff or interval is cut short, it is not on probation, also if it was temporary."""
    slots = {"a": running(phase=phase, due=60.0, restart="temporary", wanted=False)}
    slots = renew(Policy(), slots, "a", now=5.0)
    assert starts(Policy(), slots, now=5.0) == ["a"]
    assert not slots["a"].started(5.0).probation


def test_a_running_child_can_be_restarted_with_its_group() -> None:
    """It and those that depend on it go first; no restart is counted."""
    slots = renew(Policy(strategy="rest_for_one"), {name: running() for name in "abc"}, "b", now=5.0)
    assert slots == {"a": running(), "b": running(stale=True, due=5.0), "c": running(stale=True, due=5.0)}


def test_a_dismissed_child_does_not_come_back_with_its_group() -> None:
    """Whoever shall not start again stays down, whatever happens to the others."""
    slots = dismiss({"a": running(), "b": waiting()}, "b")
    slots = renew(Policy(strategy="one_for_all"), slots, "a", now=5.0)
    assert (slots["b"].phase, slots["b"].wanted) == (Phase.STOPPED, False)


# -- errors ------------------------------------------------------------------------------------------------


class Stop(BaseException):
    """Something that is no `Exception`."""


def test_an_exception_is_ours_and_what_is_none_travels() -> None:
    """Single errors are one or the other."""
    error, stop = ValueError("x"), Stop()
    assert take_apart(error) == (None, error)
    assert take_apart(stop) == (stop, None)


def test_a_group_is_taken_apart() -> None:
    """Mixed leaves part, at any depth; what travels keeps its shape, one error is taken out of its groups."""
    error, stop = ValueError("x"), Stop()
    travels, ours = take_apart(BaseExceptionGroup("outer", [BaseExceptionGroup("inner", [error, stop])]))
    assert ours is error
    assert isinstance(travels, BaseExceptionGroup)
    assert travels.subgroup(lambda leaf: leaf is stop) is not None
    assert travels.subgroup(ValueError) is None


def test_a_group_of_errors_stays_a_group_if_it_is_more_than_one() -> None:
    """Wrappings of one are taken off around it; a group without errors of ours leaves nothing."""
    both = ExceptionGroup("both", [ValueError("x"), KeyError("y")])
    assert take_apart(ExceptionGroup("outer", [both])) == (None, both)
    assert take_apart(ExceptionGroup("outer", [ExceptionGroup("inner", [ValueError("z")])]))[1].args == ("z",)  # type: ignore[union-attr]
    travels, ours = take_apart(BaseExceptionGroup("stop", [Stop()]))
    assert ours is None
    assert isinstance(travels, BaseExceptionGroup)


class Broken(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no\n  good"), "ValueError: no good"),
        (ValueError(), "ValueError"),
        (Broken(), "Broken: (its text cannot be had)"),
        (
            ExceptionGroup("g", [ValueError("a"), ExceptionGroup("h", [OSError("b")])]),
            "ValueError: a; OSError: b",
        ),
    ],
)
def test_an_error_is_described_in_one_line(error: Exception, text: str) -> None:
    """Type and message of each leaf."""
    assert describe(error) == text


def test_a_long_description_is_cut() -> None:
    """It travels with every heartbeat."""
    text = describe(ValueError("x" * 1_000))
    assert len(text) == 300
    assert text.endswith("x…")


# -- everything together -----------------------------------------------------------------------------------


class Supervision(RuleBasedStateMachine):
    """Any order of failures, ends, time, stops and orders from outside, on a model of Trio's part."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.policy = Policy()
        self.slots: dict[str, Slot] = {}
        self.alive: dict[str, bool] = {}  # name -> was cancelled
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
        self.slots = begin({f"{number}": Slot(*child) for number, child in enumerate(children)})
        self.advance()

    def advance(self) -> None:
        """Do what the controller does, and check each step on the way."""
        for _ in range(4 * len(self.slots) + 1):
            step = next_step(self.policy, self.slots, now=self.now, stopping=self.stopping)
            if step is None:
                return
            self.take(*step)
        pytest.fail("there is always a next step")

    def take(self, step: Step, name: str) -> None:
        """Take one step."""
        slot = self.slots[name]
        if step is Step.START:
            assert name not in self.alive
            assert not self.stopping
            assert not (self.policy.grouped and any(each.leaving for each in self.slots.values()))
            self.alive[name] = False
            slot = slot.started(self.now)
        else:
            assert name in self.alive
            assert slot.leaving
            later = list(self.slots)[list(self.slots).index(name) + 1 :]
            if self.stopping and step is not Step.REPORT:
                assert all(self.slots[each].phase is Phase.STUCK for each in later if each in self.alive)
            phase = {Step.ASK: Phase.ASKED, Step.CANCEL: Phase.CANCELLED, Step.REPORT: Phase.STUCK}[step]
            self.alive[name] = self.alive[name] or step is Step.CANCEL
            slot = slot.going(phase, self.now + 3 if step is not Step.REPORT else math.inf)
        self.slots = {**self.slots, name: slot}

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def comes_up(self, data: st.DataObject) -> None:
        """A child says that it is up."""
        name = data.draw(st.sampled_from(sorted(self.alive)))
        if self.slots[name].phase is Phase.STARTING:
            self.slots = {**self.slots, name: attrs.evolve(self.slots[name], phase=Phase.RUNNING)}
        self.advance()

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), crashed=st.booleans(), delay=st.floats(0, 5))
    def ends(self, data: st.DataObject, *, crashed: bool, delay: float) -> None:
        """A child ends, whether it was told to or not."""
        name = data.draw(st.sampled_from(sorted(self.alive)))
        del self.alive[name]
        verdict = ended(
            self.policy, self.slots, name=name, crashed=crashed, now=self.now, backoff=lambda _: delay
        )
        assert list(verdict.slots) == list(self.slots)
        self.slots = dict(verdict.slots)
        self.stopping = self.stopping or verdict.fate is Fate.GIVE_UP
        self.advance()

    @precondition(lambda self: self.slots)
    @rule(seconds=st.floats(0, 15))
    def time_passes(self, seconds: float) -> None:
        """Nothing happens for a while."""
        self.now += seconds
        self.advance()

    @precondition(lambda self: self.slots and not self.stopping)
    @rule(data=st.data())
    def is_restarted(self, data: st.DataObject) -> None:
        """Somebody restarts a child by hand."""
        name = data.draw(st.sampled_from(sorted(self.slots)))
        self.slots = renew(self.policy, self.slots, name, now=self.now)
        self.advance()

    @precondition(lambda self: self.slots)
    @rule()
    def is_stopped(self) -> None:
        """Somebody stops the supervisor."""
        self.stopping = True
        self.slots = stop_all(self.slots)
        self.advance()

    @invariant()
    def the_slots_know_who_is_alive(self) -> None:
        """The plan and the world agree on who is there."""
        assert {name for name, slot in self.slots.items() if slot.alive} == set(self.alive)

    @invariant()
    def somebody_can_always_go_on(self) -> None:
        """A supervisor that stops has ended, or waits for a child that knows it has to go."""
        if self.stopping and self.alive:
            assert any(self.slots[name].phase.shown is ServiceState.STOPPING for name in self.alive)

    @invariant()
    def nobody_is_forgotten(self) -> None:
        """If all that may start are due and nobody is on the way, then nobody is left waiting."""
        late = all(slot.due <= self.now for slot in self.slots.values())
        calm = not any(slot.leaving or slot.phase is Phase.STARTING for slot in self.slots.values())
        if late and calm:
            assert not any(slot.pending for slot in self.slots.values())


TestSupervision = Supervision.TestCase
