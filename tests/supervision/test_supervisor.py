"""Supervising: start in order, restart by type and strategy, wait in between, give up or set aside."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import tenacity
import trio
from trio.testing import MockClock

from jobrt._supervision.child import log_event
from jobrt._supervision.decisions import Restart, ServiceState, Strategy
from jobrt._supervision.records import (
    ChildFailed,
    ChildRestarting,
    ChildSetAside,
    ChildStarted,
    ChildStopped,
    ChildStuck,
    SupervisionEvent,
    SupervisorGaveUp,
)
from jobrt._supervision.supervisor import Supervisor
from jobrt.errors import SupervisorFailed
from tests.supervision.supervising import Stage, running, states


@pytest.fixture
def stage() -> Stage:
    """Return a stage for this test."""
    return Stage()


# -- starting ----------------------------------------------------------------------------------------------


async def test_children_start_in_order_and_the_supervisor_is_up_when_they_are(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Each start waits until the one before is up; `nursery.start` returns the supervisor after the last."""
    supervisor = stage.supervisor()
    supervisor.add(stage.slow("a", 2))
    supervisor.add(stage.child("b"))
    supervisor.add(stage.slow("c", 3))
    async with trio.open_nursery() as nursery:
        started = await nursery.start(supervisor.run)
        assert started is supervisor
        assert stage.played == ["0 +a", "2 +b", "2 +c"]
        assert trio.current_time() == 5
        assert supervisor.statistics().state is ServiceState.RUNNING
        supervisor.stop()


async def test_out_of_turn_children_start_and_stop_at_once(stage: Stage, autojump_clock: MockClock) -> None:
    """With in_turn=False a slow one holds up nobody."""
    supervisor = stage.supervisor(in_turn=False)
    for name in "abc":
        supervisor.add(stage.slow(name, 2))
    async with running(supervisor):
        assert sorted(stage.played) == ["0 +a", "0 +b", "0 +c"]
        assert trio.current_time() == 2


async def test_a_child_that_fails_before_it_is_up_is_restarted(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Independent siblings start meanwhile; the start is over when it is up at last."""
    lives = [ValueError("not yet")]

    async def child(*, task_status: trio.TaskStatus[str]) -> None:
        if lives:
            raise lives.pop()
        task_status.started("ignored")
        await trio.sleep_forever()

    supervisor = stage.supervisor()
    supervisor.add(child, name="a")
    supervisor.add(stage.child("b"))
    async with running(supervisor):
        assert stage.played == ["0 +b"]
        assert stage.told == ["0 a failed", "0 a restarting", "0 child up", "1 a up"]


async def test_a_child_may_end_without_ever_being_up(stage: Stage, autojump_clock: MockClock) -> None:
    """A transient child that returns before `started()` is done, and holds up nobody."""

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(1)

    supervisor = stage.supervisor()
    supervisor.add(child, name="a", restart="transient")
    async with running(supervisor):
        assert states(supervisor) == {"a": "stopped"}
        assert stage.told == ["1 a ended"]


async def test_started_twice_is_the_childs_error(stage: Stage, autojump_clock: MockClock) -> None:
    """As with Trio's own task status, the second call raises."""

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        task_status.started()

    supervisor = stage.supervisor()
    supervisor.add(child, restart="temporary")
    async with running(supervisor):
        assert isinstance(stage.events[1], ChildFailed)
        assert "twice" in str(stage.events[1].error)


async def test_a_status_used_too_late_changes_nothing(stage: Stage, autojump_clock: MockClock) -> None:
    """The status of an incarnation that is gone does not make the next one count as up."""
    statuses: list[trio.TaskStatus[None]] = []

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        statuses.append(task_status)
        if len(statuses) == 1:
            raise ValueError
        await trio.sleep(5)
        task_status.started()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        supervisor = stage.supervisor()
        supervisor.add(child)
        nursery.start_soon(supervisor.run)
        await trio.sleep(3)
        statuses[0].started()
        assert states(supervisor) == {"child": "starting"}
        await trio.sleep(4)
        assert states(supervisor) == {"child": "running"}
        supervisor.stop()


async def test_a_status_of_a_removed_child_changes_nothing(stage: Stage, autojump_clock: MockClock) -> None:
    """Not for nobody, and not for another child that has its name by now."""
    statuses: list[trio.TaskStatus[None]] = []

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        statuses.append(task_status)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        supervisor = stage.supervisor()
        nursery.start_soon(supervisor.run)
        await trio.sleep(1)
        for _ in range(2):
            supervisor.add(child, name="a")
            await trio.sleep(1)
            supervisor.remove("a")
            await trio.sleep(1)
        statuses[0].started()
        supervisor.add(child, name="a")
        await trio.sleep(1)
        statuses[1].started()
        assert states(supervisor) == {"a": "starting"}
        supervisor.stop()


async def test_a_child_on_its_way_out_cannot_come_up(stage: Stage, autojump_clock: MockClock) -> None:
    """Its status is ignored, as is that of a task whose scope is cancelled in Trio."""

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            task_status.started()
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        supervisor = stage.supervisor()
        supervisor.add(child)
        nursery.start_soon(supervisor.run)
        await trio.sleep(1)
        supervisor.stop()
        await trio.sleep(0.5)
        assert states(supervisor) == {"child": "stopping"}
    assert stage.told == ["2 child ended"]


async def test_a_child_can_be_added_while_the_supervisor_runs(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """It starts at once, and stops first, as the latest."""
    supervisor = stage.supervisor()
    supervisor.add(stage.child("a"))
    async with running(supervisor):
        await trio.sleep(1)
        supervisor.add(stage.child("b"))
        await trio.sleep(1)
    assert stage.played == ["0 +a", "1 +b", "2 -b", "2 -a"]


async def test_a_supervisor_without_children_runs_until_it_is_stopped(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Children may come later."""
    supervisor = stage.supervisor()
    async with running(supervisor):
        await trio.sleep(100)
        assert supervisor.statistics().state is ServiceState.RUNNING
    assert supervisor.statistics().state is ServiceState.STOPPED


async def test_a_supervisor_runs_once_at_a_time_but_again_and_again(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """All that was added starts anew, also what had ended, and restarts are counted from nothing."""
    supervisor = stage.supervisor(intensity=1)
    supervisor.add(stage.child("a", ValueError(), 100), name="a")
    supervisor.add(stage.child("b", 1), name="b", restart="temporary")
    async with running(supervisor):
        await trio.sleep(3)
        with pytest.raises(RuntimeError, match="'top' is running already"):
            await supervisor.run()
        assert supervisor.statistics().children[0].recent_restarts == 1
    async with running(supervisor):
        assert states(supervisor) == {"a": "running", "b": "running"}
        assert supervisor.statistics().children[0].recent_restarts == 0
        assert supervisor.statistics().children[0].restarts == 1


async def test_positional_arguments_are_given_at_each_start(stage: Stage, autojump_clock: MockClock) -> None:
    """They are the same each time."""
    seen: list[tuple[object, ...]] = []

    async def child(*args: object) -> None:
        seen.append(args)
        await trio.sleep(5)

    supervisor = stage.supervisor()
    supervisor.add(child, 1, "two")
    async with running(supervisor):
        await trio.sleep(8)
    assert seen == [(1, "two")] * 2


# -- names and options -------------------------------------------------------------------------------------


class Service:
    """A child that is an object."""

    async def run(self) -> None:
        """Be a method."""

    async def __call__(self) -> None:
        """Be callable."""


def test_a_child_is_named_after_its_function() -> None:
    """Functions, methods, partials and callable objects all have a name; a number makes it unique."""

    async def poll() -> None: ...

    supervisor = Supervisor("top")
    assert supervisor.add(poll) == "poll"
    assert supervisor.add(poll) == "poll-2"
    assert supervisor.add(functools.partial(poll)) == "poll-3"
    assert supervisor.add(Service().run) == "Service.run"
    assert supervisor.add(Service()) == "Service"
    assert supervisor.add(poll, name="mine") == "mine"
    assert repr(supervisor) == "<Supervisor 'top': stopped, 6 children>"


def test_a_function_without_a_signature_is_taken_as_it_is() -> None:
    """What cannot be looked into gets no task status."""
    assert Supervisor("top").add(dict) == "dict"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "taken"}, "has a child 'taken' already"),
        ({"restart": "always"}, "restart must be"),
        ({"shutdown": 0}, "shutdown must be above zero"),
    ],
)
def test_wrong_options_of_a_child_are_refused(options: dict[str, Any], message: str) -> None:
    """The error says what is wrong; nothing is added."""
    supervisor = Supervisor("top")
    supervisor.add(Service(), name="taken")
    with pytest.raises(ValueError, match=message):
        supervisor.add(Service(), **options)
    assert len(supervisor.statistics().children) == 1


@pytest.mark.parametrize("options", [{"name": ""}, {"strategy": "all"}, {"intensity": -1}, {"period": 0}])
def test_wrong_options_of_a_supervisor_are_refused(options: dict[str, Any]) -> None:
    """It cannot be made."""
    with pytest.raises(ValueError, match=next(iter(options))):
        Supervisor(**({"name": "top"} | options))


# -- restarting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("restart", "life", "again"),
    [
        ("permanent", 1.0, True),
        ("permanent", ValueError("x"), True),
        ("transient", 1.0, False),
        ("transient", ValueError("x"), True),
        ("temporary", 1.0, False),
        ("temporary", ValueError("x"), False),
    ],
)
async def test_a_child_is_restarted_as_its_type_says(
    *, stage: Stage, autojump_clock: MockClock, restart: Restart, life: Any, again: bool
) -> None:
    """Permanent: always; transient: after an error; temporary: never. An error is shown in any case."""
    supervisor = stage.supervisor()
    supervisor.add(stage.child("a", life), name="a", restart=restart)
    async with running(supervisor):
        await trio.sleep(1.5)
        assert states(supervisor) == {"a": "waiting" if again else "stopped"}
        await trio.sleep(1.5)
        assert states(supervisor) == {"a": "running" if again else "stopped"}
        (child,) = supervisor.statistics().children
        text = "ValueError: x" if life != 1.0 else "returned, though it is permanent" if again else None
        assert child.last_error == text
        assert (child.last_error_at is None) == (text is None)
        assert stage.played == ["0 +a", "1 -a", "2 +a"][: 3 if again else 2]


@pytest.mark.parametrize(
    ("strategy", "played"),
    [
        ("one_for_one", ["1 -b", "2 +b"]),
        ("one_for_all", ["1 -b", "1 -d", "1 -c", "1 -a", "2 +a", "2 +b", "2 +c", "2 +d"]),
        ("rest_for_one", ["1 -b", "1 -d", "1 -c", "2 +b", "2 +c", "2 +d"]),
    ],
)
async def test_the_strategy_says_who_is_restarted_with_a_child(
    *, stage: Stage, autojump_clock: MockClock, strategy: Strategy, played: list[str]
) -> None:
    """Its group is stopped, the latest first, and started after the backoff, the earliest first."""
    supervisor = stage.supervisor(strategy=strategy)
    for name in "abcd":
        supervisor.add(stage.child(name, ValueError()) if name == "b" else stage.child(name), name=name)
    async with running(supervisor):
        await trio.sleep(3)
        assert stage.played[4:] == played
        assert set(states(supervisor).values()) == {"running"}
        assert [child.restarts for child in supervisor.statistics().children] == [0, 1, 0, 0]


async def test_a_group_waits_for_the_slowest_to_end(stage: Stage, autojump_clock: MockClock) -> None:
    """Nobody is started while one of the old group is there; the backoff runs at the same time."""
    supervisor = stage.supervisor(strategy="one_for_all")
    supervisor.add(stage.child("a", ValueError()))
    supervisor.add(stage.stubborn("b", 4))
    async with running(supervisor):
        await trio.sleep(6)
    assert stage.played == ["0 +a", "0 +b", "1 -a", "5 -b", "5 +a", "5 +b", "10 -b", "10 -a"]


async def test_a_temporary_sibling_is_stopped_with_its_group_and_stays_down(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """It is never restarted, whoever's failure it was."""
    supervisor = stage.supervisor(strategy="one_for_all")
    supervisor.add(stage.child("a", ValueError()), name="a")
    supervisor.add(stage.child("b"), name="b", restart="temporary")
    async with running(supervisor):
        await trio.sleep(3)
        assert stage.played == ["0 +a", "0 +b", "1 -a", "1 -b", "2 +a"]
        assert states(supervisor) == {"a": "running", "b": "stopped"}


async def test_a_failure_while_its_group_restarts_is_answered_anew(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """One that fails as it comes up again takes the group down again, and counts again."""
    supervisor = stage.supervisor(strategy="rest_for_one")
    supervisor.add(stage.child("a"), name="a")
    supervisor.add(stage.child("b", ValueError(), ValueError()), name="b")
    supervisor.add(stage.slow("c", 3), name="c")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.sleep(8.5)
        supervisor.stop()
    assert stage.played == [
        *("0 +a", "0 +b", "0 +c"),
        *("1 -b", "1 -c", "2 +b", "2 +c"),
        *("3 -b", "3 -c", "4 +b", "4 +c"),
        *("8.5 -c", "8.5 -b", "8.5 -a"),
    ]


async def test_a_failure_of_one_they_depend_on_widens_a_restart(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """While "c" waits for its restart "a" fails: "b" goes too, and all come back when "a" is due."""
    supervisor = stage.supervisor(strategy="rest_for_one", backoff=tenacity.wait_fixed(4))

    async def late() -> None:
        await trio.sleep(2)
        await stage.child("a", ValueError())()

    supervisor.add(late)
    supervisor.add(stage.child("b"))
    supervisor.add(stage.child("c", ValueError()))
    async with running(supervisor):
        await trio.sleep(9)
    assert stage.played[:8] == ["0 +b", "0 +c", "1 -c", "2 +a", "3 -a", "3 -b", "7 +b", "7 +c"]


async def test_an_error_on_the_way_out_is_told_but_not_counted(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """A child that raises while its group is stopped is no second failure."""

    async def sore() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("ouch")

    supervisor = stage.supervisor(strategy="one_for_all", intensity=1)
    supervisor.add(stage.child("a", ValueError()), name="a")
    supervisor.add(sore)
    async with running(supervisor):
        await trio.sleep(3)
        assert stage.told[2:5] == ["1 a failed", "1 a restarting", "1 sore failed"]
        assert supervisor.statistics().children[1].last_error == "OSError: ouch"
        assert supervisor.statistics().children[1].restarts == 0
        assert states(supervisor) == {"a": "running", "sore": "running"}


# -- errors ------------------------------------------------------------------------------------------------


async def test_a_group_of_errors_is_one_failure(stage: Stage, autojump_clock: MockClock) -> None:
    """A child whose own nursery fails is restarted; a group of one is told as its only error."""

    async def crowd() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.child("x", ValueError("one")))
            nursery.start_soon(trio.sleep_forever)

    supervisor = stage.supervisor()
    supervisor.add(crowd)
    async with running(supervisor):
        await trio.sleep(1.5)
        event = stage.events[1]
        assert isinstance(event, ChildFailed)
        assert isinstance(event.error, ValueError)
        assert isinstance(stage.events[2], ChildRestarting)
        assert stage.events[2].error is event.error


async def test_a_hidden_swallow_of_cancellation_is_no_failure(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """A child that ends quietly when cancelled has stopped."""

    async def quiet() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return

    supervisor = stage.supervisor()
    supervisor.add(quiet)
    async with running(supervisor):
        pass
    assert stage.told == ["0 quiet up", "0 quiet ended"]


# -- how long, how often -----------------------------------------------------------------------------------


async def test_the_backoff_grows_and_falls_back_with_the_window(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """The default doubles from 0.1 s; when restarts leave the window it starts over. No jitter here."""
    lives = [*[ValueError()] * 3, 40.0, ValueError()]
    supervisor = Supervisor("top", on_event=stage.hear, chance=lambda: 0.5)
    supervisor.add(stage.child("a", *lives))
    async with running(supervisor):
        await trio.sleep(60)
    waits = [(event.delay, event.restarts) for event in stage.events if isinstance(event, ChildRestarting)]
    assert waits == [
        (pytest.approx(0.1), 1),
        (pytest.approx(0.2), 2),
        (pytest.approx(0.4), 3),
        (pytest.approx(0.1), 1),
        (pytest.approx(0.2), 2),
    ]


async def test_a_backoff_sees_the_error(stage: Stage, autojump_clock: MockClock) -> None:
    """Tenacity's `wait_exception` works; for a child that returned it sees what is shown."""
    seen: list[BaseException] = []

    def look(error: BaseException) -> float:
        seen.append(error)
        return -5.0

    supervisor = stage.supervisor(backoff=tenacity.wait_exception(look))
    supervisor.add(stage.child("a", ValueError("x"), 1.0))
    async with running(supervisor):
        await trio.sleep(5)
    assert [repr(error) for error in seen] == [
        "ValueError('x')",
        "RuntimeError('returned, though it is permanent')",
    ]
    assert stage.played == ["0 +a", "1 -a", "1 +a", "2 -a", "2 +a", "5 -a"]
    assert [event.delay for event in stage.events if isinstance(event, ChildRestarting)] == [0.0, 0.0]


async def test_a_broken_backoff_ends_the_supervisor_loudly(stage: Stage, autojump_clock: MockClock) -> None:
    """A bug in the caller's function is raised, after all children were stopped and told of."""

    def broken(_: tenacity.RetryCallState) -> float:
        raise ZeroDivisionError

    supervisor = stage.supervisor(backoff=broken)
    supervisor.add(stage.child("a"))
    supervisor.add(stage.child("b", ValueError()), name="b")
    with pytest.RaisesGroup(ZeroDivisionError):
        await supervisor.run()
    assert stage.told[2:] == ["1 b failed", "1 child ended"]
    assert states(supervisor) == {"child": "stopped", "b": "stopped"}


async def test_too_many_restarts_stop_everybody_and_are_raised(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """After the second restart within the period the third failure is one too many; it is the cause."""
    supervisor = stage.supervisor(intensity=2, period=30)
    errors = [ValueError(number) for number in range(3)]
    supervisor.add(stage.child("a"), name="a")
    supervisor.add(stage.child("b", *errors), name="b")
    supervisor.add(stage.child("c"), name="c")
    with pytest.raises(
        SupervisorFailed, match=r"'top' gave up: 'b' ended again after 2 restarts in 30 s"
    ) as info:
        await supervisor.run()

    assert info.value.__cause__ is errors[2]
    assert stage.played[3:] == ["1 -b", "2 +b", "3 -b", "4 +b", "5 -b", "5 -c", "5 -a"]
    assert stage.told[-4:] == ["5 b failed", "5 b too much", "5 c ended", "5 a ended"]
    assert stage.events[-3] == SupervisorGaveUp("top", "b", errors[2])
    assert supervisor.statistics().state is ServiceState.FAILED


@pytest.mark.parametrize(("period", "gives_up"), [(8, True), (7.5, False)])
async def test_a_restart_counts_until_the_period_is_over(
    *, stage: Stage, autojump_clock: MockClock, period: float, gives_up: bool
) -> None:
    """Failures at 1, 5 and 9: the first still counts at the third if the period is 8, not if it is less."""
    supervisor = stage.supervisor(intensity=2, period=period, backoff=tenacity.wait_fixed(3))
    supervisor.add(stage.child("a", *[ValueError()] * 3))
    with trio.move_on_after(20) as scope:
        if gives_up:
            with pytest.raises(SupervisorFailed):
                await supervisor.run()
        else:
            await supervisor.run()
    assert scope.cancelled_caught is not gives_up


async def test_a_permanent_child_that_keeps_returning_is_too_much_without_a_cause(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """There is no error to be the cause."""
    supervisor = stage.supervisor(intensity=0)
    supervisor.add(stage.child("a", 1.0), name="a")
    with pytest.raises(SupervisorFailed, match="'a' ended again after 0 restarts") as info:
        await supervisor.run()
    assert info.value.__cause__ is None
    assert stage.events[-1] == SupervisorGaveUp("top", "a", None)


async def test_giving_up_at_the_start_is_raised_from_nursery_start(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Whoever starts a supervisor that cannot come up learns why."""

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        raise OSError("no such device")

    supervisor = stage.supervisor(intensity=2)
    supervisor.add(child)
    async with trio.open_nursery() as nursery:
        with pytest.raises(SupervisorFailed) as info:
            await nursery.start(supervisor.run)
    assert isinstance(info.value.__cause__, OSError)


async def test_a_child_set_aside_is_failed_and_tried_again_while_others_go_on(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """After its allowance it is tried each minute, once; up for a period, it may fail as before."""
    supervisor = stage.supervisor(intensity=1, escalation="retry")
    supervisor.add(stage.child("a", *[ValueError()] * 3, 40.0), name="a")
    supervisor.add(stage.child("b"), name="b")
    async with running(supervisor):
        await trio.sleep(3.5)
        assert states(supervisor) == {"a": "failed", "b": "running"}
        await trio.sleep(61)
        assert states(supervisor) == {"a": "failed", "b": "running"}
        await trio.sleep(61)
        assert states(supervisor) == {"a": "running", "b": "running"}
        await trio.sleep(62)
        assert supervisor.statistics().children[0].restarts == 4
    assert stage.played[:-2] == [
        *("0 +a", "0 +b", "1 -a", "2 +a", "3 -a"),
        *("63 +a", "64 -a", "124 +a", "164 -a", "165 +a"),
    ]
    assert [type(event) for event in stage.events if event.child == "a"] == [
        *(ChildStarted, ChildFailed, ChildRestarting, ChildStarted, ChildFailed, ChildSetAside),
        *(ChildStarted, ChildFailed, ChildSetAside, ChildStarted, ChildStopped, ChildRestarting),
        *(ChildStarted, ChildStopped),
    ]


async def test_a_child_set_aside_at_the_start_does_not_hold_up_its_supervisor(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """`nursery.start` returns although it, and what depends on it, is not up."""
    supervisor = stage.supervisor(intensity=0, escalation="retry", strategy="rest_for_one")

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        raise OSError

    supervisor.add(child, name="a")
    supervisor.add(stage.child("b"), name="b")
    async with running(supervisor):
        assert states(supervisor) == {"a": "failed", "b": "waiting"}
        assert trio.current_time() == 0


# -- by hand -----------------------------------------------------------------------------------------------


async def test_a_child_can_be_restarted_by_hand(stage: Stage, autojump_clock: MockClock) -> None:
    """A running one goes first, one in its backoff starts at once; nothing is counted."""
    supervisor = stage.supervisor(backoff=tenacity.wait_fixed(100))
    supervisor.add(stage.child("a", 5.0), name="a")
    async with running(supervisor):
        supervisor.restart_child("a")
        await trio.sleep(2)
        assert supervisor.statistics().children[0].restarts == 0
    assert stage.played == ["0 +a", "0 -a", "0 +a", "2 -a"]


async def test_a_waiting_child_can_be_started_by_hand(stage: Stage, autojump_clock: MockClock) -> None:
    """Its backoff is cut short."""
    supervisor = stage.supervisor(backoff=tenacity.wait_fixed(100))
    supervisor.add(stage.child("a", 5.0), name="a")
    async with running(supervisor):
        await trio.sleep(8)
        supervisor.restart_child("a")
        await trio.sleep(1)
        assert states(supervisor) == {"a": "running"}
    assert stage.played == ["0 +a", "5 -a", "8 +a", "9 -a"]


async def test_a_child_cannot_be_restarted_where_it_would_not_run(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Not by a supervisor that does not run or is stopping, nor when it is being removed or unknown."""
    supervisor = stage.supervisor()
    supervisor.add(stage.stubborn("a", 1), name="a")
    with pytest.raises(RuntimeError, match="cannot restart 'a'"):
        supervisor.restart_child("a")
    with pytest.raises(LookupError, match="has no child 'x'"):
        supervisor.restart_child("x")
    async with running(supervisor):
        supervisor.remove("a")
        with pytest.raises(RuntimeError, match="cannot restart 'a'"):
            supervisor.restart_child("a")
        supervisor.stop()
        with pytest.raises(RuntimeError, match="cannot restart 'a'"):
            supervisor.restart_child("a")


async def test_a_child_can_be_removed(stage: Stage, autojump_clock: MockClock) -> None:
    """It is stopped, then forgotten; until then its name is taken. Others do not notice."""
    supervisor = stage.supervisor()
    supervisor.add(stage.child("a"), name="a")
    supervisor.add(stage.stubborn("b", 2), name="b")
    async with running(supervisor):
        supervisor.remove("b")
        supervisor.remove("b")
        await trio.sleep(1)
        assert states(supervisor) == {"a": "running", "b": "stopping"}
        with pytest.raises(ValueError, match="has a child 'b' already"):
            supervisor.add(stage.child("b"), name="b")
        await trio.sleep(2)
        assert states(supervisor) == {"a": "running"}
        supervisor.add(stage.child("b"), name="b")
        await trio.sleep(1)
        assert states(supervisor) == {"a": "running", "b": "running"}


async def test_a_child_that_is_down_is_removed_at_once(stage: Stage, autojump_clock: MockClock) -> None:
    """Before the run, or between two starts; one that is unknown is an error."""
    supervisor = stage.supervisor()
    supervisor.add(stage.child("a"), name="a")
    supervisor.remove("a")
    assert states(supervisor) == {}
    with pytest.raises(LookupError, match="has no child 'a'"):
        supervisor.remove("a")
    supervisor.add(stage.child("a", 1.0), name="a")
    async with running(supervisor):
        await trio.sleep(1.5)
        supervisor.remove("a")
        await trio.sleep(5)
    assert stage.played == ["0 +a", "1 -a"]


# -- who looks on ------------------------------------------------------------------------------------------


async def test_an_observer_that_raises_is_logged_and_changes_nothing(
    stage: Stage, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever looks on must not break what it looks at."""

    def broken(event: SupervisionEvent) -> None:
        raise RuntimeError(event)

    supervisor = stage.supervisor(on_event=broken)
    supervisor.add(stage.child("a", ValueError()), name="a")
    async with running(supervisor):
        await trio.sleep(3)
        assert states(supervisor) == {"a": "running"}
    assert "on_event of supervisor 'top' failed for ChildFailed" in caplog.text


@pytest.mark.parametrize("kind", [ChildFailed, ChildRestarting])
async def test_an_observer_may_act(
    stage: Stage, autojump_clock: MockClock, kind: type[SupervisionEvent]
) -> None:
    """It may stop the supervisor, or add and remove children, from within the event."""
    supervisor = stage.supervisor()

    def act(event: SupervisionEvent) -> None:
        stage.hear(event)
        if isinstance(event, kind):
            supervisor.remove("a")
            supervisor.add(stage.child("b"), name="a")

    supervisor.on_event = act
    supervisor.add(stage.child("a", ValueError()), name="a")
    async with running(supervisor):
        await trio.sleep(5)
        assert states(supervisor) == {"a": "running"}
    assert stage.played == ["0 +a", "1 -a", "1 +b", "5 -b"]


async def test_nothing_is_added_to_a_supervisor_that_gave_up(stage: Stage, autojump_clock: MockClock) -> None:
    """From the moment it tells so, adding is refused; it would never be stopped."""
    refused: list[BaseException] = []
    supervisor = stage.supervisor(intensity=0)

    def act(event: SupervisionEvent) -> None:
        if isinstance(event, ChildFailed):
            with pytest.raises(RuntimeError, match="is stopping") as info:
                supervisor.add(stage.child("b"))
            refused.append(info.value)

    supervisor.on_event = act
    supervisor.add(stage.child("a", ValueError()))
    with pytest.raises(SupervisorFailed):
        await supervisor.run()
    assert len(refused) == 1


@pytest.mark.parametrize(
    ("event", "level", "text"),
    [
        (ChildStarted("s", "c"), logging.INFO, "s: c is up"),
        (ChildStopped("s", "c"), logging.INFO, "s: c ended"),
        (ChildFailed("s", "c", ValueError("x")), logging.ERROR, "s: c failed"),
        (ChildRestarting("s", "c", 0.25, 3, None), logging.WARNING, "s: c starts again in 0.2 s (restart 3)"),
        (ChildSetAside("s", "c", 60.0, None), logging.ERROR, "s: c fails too often, next try in 60 s"),
        (ChildStuck("s", "c", 5.0), logging.ERROR, "s: c was cancelled 5.0 s ago and does not end"),
        (SupervisorGaveUp("s", "c", None), logging.CRITICAL, "s: gives up, c fails too often"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_events_are_logged_by_default(
    *, caplog: pytest.LogCaptureFixture, event: SupervisionEvent, level: int, text: str
) -> None:
    """Nothing happens unseen, also without an `on_event` of one's own."""
    caplog.set_level(logging.INFO, "jobrt.supervisor")
    Supervisor("top").on_event(event)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (level, text)
    assert (record.exc_info is not None) == isinstance(event, ChildFailed)
    assert Supervisor("top").on_event is log_event


def test_a_child_may_be_any_callable() -> None:
    """Types: a function, a method, a partial, a supervisor or its `run` can all be added."""
    function: Callable[..., Awaitable[object]] = Service().run
    supervisor = Supervisor("top")
    for child in (function, Supervisor("one"), Supervisor("two").run):
        supervisor.add(child)
    assert list(states(supervisor)) == ["Service.run", "one", "two"]
