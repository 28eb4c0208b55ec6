"""Supervisors: starts in order, restarts by type and strategy, backoff, giving up and setting aside."""

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
from tests.supervision.supervising import Recorder, running, states


@pytest.fixture
def recorder() -> Recorder:
    """Return the recorder of the test."""
    return Recorder()


# -- starting ----------------------------------------------------------------------------------------------


async def test_children_start_in_order_and_the_supervisor_is_up_when_they_are(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """Each child starts when the one before is up; `nursery.start` returns the supervisor after the last."""
    supervisor = recorder.supervisor()
    supervisor.add(recorder.slow("a", 2))
    supervisor.add(recorder.child("b"))
    supervisor.add(recorder.slow("c", 3))
    async with trio.open_nursery() as nursery:
        started = await nursery.start(supervisor.run)
        assert started is supervisor
        assert recorder.actions == ["0 +a", "2 +b", "2 +c"]
        assert trio.current_time() == 5
        assert supervisor.statistics().state is ServiceState.RUNNING
        supervisor.stop()


async def test_without_in_turn_children_start_and_stop_together(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """With in_turn=False a slow child delays no other."""
    supervisor = recorder.supervisor(in_turn=False)
    for name in "abc":
        supervisor.add(recorder.slow(name, 2))
    async with running(supervisor):
        assert sorted(recorder.actions) == ["0 +a", "0 +b", "0 +c"]
        assert trio.current_time() == 2


async def test_a_child_that_fails_before_it_is_up_is_restarted(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """Independent siblings start meanwhile; the start is finished when the child is up."""
    errors = [ValueError("not yet")]

    async def child(*, task_status: trio.TaskStatus[str]) -> None:
        if errors:
            raise errors.pop()
        task_status.started("ignored")
        await trio.sleep_forever()

    supervisor = recorder.supervisor()
    supervisor.add(child, name="a")
    supervisor.add(recorder.child("b"))
    async with running(supervisor):
        assert recorder.actions == ["0 +b"]
        assert recorder.reported == ["0 a failed", "0 a restarting", "0 child up", "1 a up"]


async def test_a_child_may_end_without_ever_being_up(recorder: Recorder, autojump_clock: MockClock) -> None:
    """A transient child that returns before `started()` has ended, and delays no other."""

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(1)

    supervisor = recorder.supervisor()
    supervisor.add(child, name="a", restart="transient")
    async with running(supervisor):
        assert states(supervisor) == {"a": "stopped"}
        assert recorder.reported == ["1 a ended"]


async def test_calling_started_twice_is_an_error_of_the_child(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """As in Trio, the second call raises."""

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        task_status.started()

    supervisor = recorder.supervisor()
    supervisor.add(child, restart="temporary")
    async with running(supervisor):
        assert isinstance(recorder.events[1], ChildFailed)
        assert "twice" in str(recorder.events[1].error)


async def test_a_status_used_too_late_changes_nothing(recorder: Recorder, autojump_clock: MockClock) -> None:
    """The status of an earlier task does not report the next task as up."""
    statuses: list[trio.TaskStatus[None]] = []

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        statuses.append(task_status)
        if len(statuses) == 1:
            raise ValueError
        await trio.sleep(5)
        task_status.started()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        supervisor = recorder.supervisor()
        supervisor.add(child)
        nursery.start_soon(supervisor.run)
        await trio.sleep(3)
        statuses[0].started()
        assert states(supervisor) == {"child": "starting"}
        await trio.sleep(4)
        assert states(supervisor) == {"child": "running"}
        supervisor.stop()


async def test_a_status_of_a_removed_child_changes_nothing(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """A removed child's status is ignored, even if another child has its name now."""
    statuses: list[trio.TaskStatus[None]] = []

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        statuses.append(task_status)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        supervisor = recorder.supervisor()
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


async def test_a_child_that_is_stopping_cannot_come_up(recorder: Recorder, autojump_clock: MockClock) -> None:
    """Its status is ignored, as Trio does for a cancelled task."""

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            task_status.started()
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        supervisor = recorder.supervisor()
        supervisor.add(child)
        nursery.start_soon(supervisor.run)
        await trio.sleep(1)
        supervisor.stop()
        await trio.sleep(0.5)
        assert states(supervisor) == {"child": "stopping"}
    assert recorder.reported == ["2 child ended"]


async def test_a_child_can_be_added_while_the_supervisor_runs(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """It starts immediately, and stops first."""
    supervisor = recorder.supervisor()
    supervisor.add(recorder.child("a"))
    async with running(supervisor):
        await trio.sleep(1)
        supervisor.add(recorder.child("b"))
        await trio.sleep(1)
    assert recorder.actions == ["0 +a", "1 +b", "2 -b", "2 -a"]


async def test_a_supervisor_without_children_runs_until_it_is_stopped(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """Children can be added later."""
    supervisor = recorder.supervisor()
    async with running(supervisor):
        await trio.sleep(100)
        assert supervisor.statistics().state is ServiceState.RUNNING
    assert supervisor.statistics().state is ServiceState.STOPPED


async def test_a_supervisor_can_run_again_but_not_twice_at_a_time(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """All children start again, even those that had ended, and no restart counts."""
    supervisor = recorder.supervisor(intensity=1)
    supervisor.add(recorder.child("a", ValueError(), 100), name="a")
    supervisor.add(recorder.child("b", 1), name="b", restart="temporary")
    async with running(supervisor):
        await trio.sleep(3)
        with pytest.raises(RuntimeError, match="'top' is already running"):
            await supervisor.run()
        assert supervisor.statistics().children[0].recent_restarts == 1
    async with running(supervisor):
        assert states(supervisor) == {"a": "running", "b": "running"}
        assert supervisor.statistics().children[0].recent_restarts == 0
        assert supervisor.statistics().children[0].restarts == 1


async def test_positional_arguments_are_passed_at_each_start(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """Each start gets the same arguments."""
    seen: list[tuple[object, ...]] = []

    async def child(*args: object) -> None:
        seen.append(args)
        await trio.sleep(5)

    supervisor = recorder.supervisor()
    supervisor.add(child, 1, "two")
    async with running(supervisor):
        await trio.sleep(8)
    assert seen == [(1, "two")] * 2


# -- names and options -------------------------------------------------------------------------------------


class Service:
    """A child as an object."""

    async def run(self) -> None:
        """Run as a method."""

    async def __call__(self) -> None:
        """Run as a callable object."""


def test_a_child_is_named_after_its_function() -> None:
    """Functions, methods, partials and callable objects have a name; a number makes it unique."""

    async def poll() -> None: ...

    supervisor = Supervisor("top")
    assert supervisor.add(poll) == "poll"
    assert supervisor.add(poll) == "poll-2"
    assert supervisor.add(functools.partial(poll)) == "poll-3"
    assert supervisor.add(Service().run) == "Service.run"
    assert supervisor.add(Service()) == "Service"
    assert supervisor.add(poll, name="mine") == "mine"
    assert repr(supervisor) == "<Supervisor 'top': stopped, 6 children>"


def test_a_function_without_a_signature_gets_no_task_status() -> None:
    """A callable whose signature is unknown is called without a task status."""
    assert Supervisor("top").add(dict) == "dict"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "taken"}, "already has a child 'taken'"),
        ({"restart": "always"}, "restart is 'always': use permanent, transient, temporary"),
        ({"shutdown": 0}, "shutdown is 0: use a number above zero"),
    ],
)
def test_invalid_options_of_a_child_are_refused(options: dict[str, Any], message: str) -> None:
    """The message names the option; no child is added."""
    supervisor = Supervisor("top")
    supervisor.add(Service(), name="taken")
    with pytest.raises(ValueError, match=message):
        supervisor.add(Service(), **options)
    assert len(supervisor.statistics().children) == 1


@pytest.mark.parametrize("options", [{"name": ""}, {"strategy": "all"}, {"intensity": -1}, {"period": 0}])
def test_invalid_options_of_a_supervisor_are_refused(options: dict[str, Any]) -> None:
    """The message names the option."""
    with pytest.raises(ValueError, match=next(iter(options))):
        Supervisor(**({"name": "top"} | options))


# -- restarting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("restart", "run", "again"),
    [
        ("permanent", 1.0, True),
        ("permanent", ValueError("x"), True),
        ("transient", 1.0, False),
        ("transient", ValueError("x"), True),
        ("temporary", 1.0, False),
        ("temporary", ValueError("x"), False),
    ],
)
async def test_the_restart_type_decides_about_a_restart(
    *, recorder: Recorder, autojump_clock: MockClock, restart: Restart, run: Any, again: bool
) -> None:
    """A permanent child always restarts, a transient child after an error, and a temporary child never."""
    supervisor = recorder.supervisor()
    supervisor.add(recorder.child("a", run), name="a", restart=restart)
    async with running(supervisor):
        await trio.sleep(1.5)
        assert states(supervisor) == {"a": "waiting" if again else "stopped"}
        await trio.sleep(1.5)
        assert states(supervisor) == {"a": "running" if again else "stopped"}
        (child,) = supervisor.statistics().children
        text = "ValueError: x" if run != 1.0 else "returned, but is permanent" if again else None
        assert child.last_error == text
        assert (child.last_error_at is None) == (text is None)
        assert recorder.actions == ["0 +a", "1 -a", "2 +a"][: 3 if again else 2]


@pytest.mark.parametrize(
    ("strategy", "played"),
    [
        ("one_for_one", ["1 -b", "2 +b"]),
        ("one_for_all", ["1 -b", "1 -d", "1 -c", "1 -a", "2 +a", "2 +b", "2 +c", "2 +d"]),
        ("rest_for_one", ["1 -b", "1 -d", "1 -c", "2 +b", "2 +c", "2 +d"]),
    ],
)
async def test_the_strategy_defines_the_group_that_restarts(
    *, recorder: Recorder, autojump_clock: MockClock, strategy: Strategy, played: list[str]
) -> None:
    """The group stops, last added first, and starts after the backoff, first added first."""
    supervisor = recorder.supervisor(strategy=strategy)
    for name in "abcd":
        supervisor.add(recorder.child(name, ValueError()) if name == "b" else recorder.child(name), name=name)
    async with running(supervisor):
        await trio.sleep(3)
        assert recorder.actions[4:] == played
        assert set(states(supervisor).values()) == {"running"}
        assert [child.restarts for child in supervisor.statistics().children] == [0, 1, 0, 0]


async def test_a_group_restarts_when_all_of_it_has_ended(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """No child starts while another is alive; the backoff elapses meanwhile."""
    supervisor = recorder.supervisor(strategy="one_for_all")
    supervisor.add(recorder.child("a", ValueError()))
    supervisor.add(recorder.stubborn("b", 4))
    async with running(supervisor):
        await trio.sleep(6)
    assert recorder.actions == ["0 +a", "0 +b", "1 -a", "5 -b", "5 +a", "5 +b", "10 -b", "10 -a"]


async def test_a_temporary_sibling_stops_with_its_group_and_does_not_restart(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """A temporary child never restarts, whichever child failed."""
    supervisor = recorder.supervisor(strategy="one_for_all")
    supervisor.add(recorder.child("a", ValueError()), name="a")
    supervisor.add(recorder.child("b"), name="b", restart="temporary")
    async with running(supervisor):
        await trio.sleep(3)
        assert recorder.actions == ["0 +a", "0 +b", "1 -a", "1 -b", "2 +a"]
        assert states(supervisor) == {"a": "running", "b": "stopped"}


async def test_a_failure_during_the_restart_of_its_group_causes_another(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """A child that fails at its restart restarts the group once more, and counts once more."""
    supervisor = recorder.supervisor(strategy="rest_for_one")
    supervisor.add(recorder.child("a"), name="a")
    supervisor.add(recorder.child("b", ValueError(), ValueError()), name="b")
    supervisor.add(recorder.slow("c", 3), name="c")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.sleep(8.5)
        supervisor.stop()
    assert recorder.actions == [
        *("0 +a", "0 +b", "0 +c"),
        *("1 -b", "1 -c", "2 +b", "2 +c"),
        *("3 -b", "3 -c", "4 +b", "4 +c"),
        *("8.5 -c", "8.5 -b", "8.5 -a"),
    ]


async def test_a_failure_of_an_earlier_child_widens_a_restart(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """While "c" waits for its restart, "a" fails: "b" stops too, and all start when "a" is due."""
    supervisor = recorder.supervisor(strategy="rest_for_one", backoff=tenacity.wait_fixed(4))

    async def late() -> None:
        await trio.sleep(2)
        await recorder.child("a", ValueError())()

    supervisor.add(late)
    supervisor.add(recorder.child("b"))
    supervisor.add(recorder.child("c", ValueError()))
    async with running(supervisor):
        await trio.sleep(9)
    assert recorder.actions[:8] == ["0 +b", "0 +c", "1 -c", "2 +a", "3 -a", "3 -b", "7 +b", "7 +c"]


async def test_an_error_of_a_stopping_child_is_reported_but_does_not_count(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """A child that raises while its group is stopped causes no second restart."""

    async def sore() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("ouch")

    supervisor = recorder.supervisor(strategy="one_for_all", intensity=1)
    supervisor.add(recorder.child("a", ValueError()), name="a")
    supervisor.add(sore)
    async with running(supervisor):
        await trio.sleep(3)
        assert recorder.reported[2:5] == ["1 a failed", "1 a restarting", "1 sore failed"]
        assert supervisor.statistics().children[1].last_error == "OSError: ouch"
        assert supervisor.statistics().children[1].restarts == 0
        assert states(supervisor) == {"a": "running", "sore": "running"}


# -- errors ------------------------------------------------------------------------------------------------


async def test_a_group_of_errors_is_one_failure(recorder: Recorder, autojump_clock: MockClock) -> None:
    """A child whose nursery fails is restarted; a group with a single error is reported as that error."""

    async def crowd() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(recorder.child("x", ValueError("one")))
            nursery.start_soon(trio.sleep_forever)

    supervisor = recorder.supervisor()
    supervisor.add(crowd)
    async with running(supervisor):
        await trio.sleep(1.5)
        event = recorder.events[1]
        assert isinstance(event, ChildFailed)
        assert isinstance(event.error, ValueError)
        assert isinstance(recorder.events[2], ChildRestarting)
        assert recorder.events[2].error is event.error


async def test_a_child_that_swallows_its_cancellation_has_stopped(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """A child that returns when it is cancelled has stopped without a failure."""

    async def quiet() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return

    supervisor = recorder.supervisor()
    supervisor.add(quiet)
    async with running(supervisor):
        pass
    assert recorder.reported == ["0 quiet up", "0 quiet ended"]


# -- backoff and intensity -----------------------------------------------------------------------------------


async def test_the_backoff_depends_on_the_restarts_within_the_period(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """The default starts at 0.1 s and doubles; restarts older than the period no longer count."""
    runs = [*[ValueError()] * 3, 40.0, ValueError()]
    supervisor = Supervisor("top", on_event=recorder.on_event, chance=lambda: 0.5)
    supervisor.add(recorder.child("a", *runs))
    async with running(supervisor):
        await trio.sleep(60)
    waits = [(event.delay, event.restarts) for event in recorder.events if isinstance(event, ChildRestarting)]
    assert waits == [
        (pytest.approx(0.1), 1),
        (pytest.approx(0.2), 2),
        (pytest.approx(0.4), 3),
        (pytest.approx(0.1), 1),
        (pytest.approx(0.2), 2),
    ]


async def test_a_backoff_gets_the_error(recorder: Recorder, autojump_clock: MockClock) -> None:
    """Tenacity's `wait_exception` works; for a child that returned it gets the error that is shown."""
    seen: list[BaseException] = []

    def wait(error: BaseException) -> float:
        seen.append(error)
        return -5.0

    supervisor = recorder.supervisor(backoff=tenacity.wait_exception(wait))
    supervisor.add(recorder.child("a", ValueError("x"), 1.0))
    async with running(supervisor):
        await trio.sleep(5)
    assert [repr(error) for error in seen] == [
        "ValueError('x')",
        "RuntimeError('returned, but is permanent')",
    ]
    assert recorder.actions == ["0 +a", "1 -a", "1 +a", "2 -a", "2 +a", "5 -a"]
    assert [event.delay for event in recorder.events if isinstance(event, ChildRestarting)] == [0.0, 0.0]


async def test_an_error_of_the_backoff_is_raised_by_the_supervisor(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """An error of the backoff is raised after all children have stopped and were reported."""

    def broken(_: tenacity.RetryCallState) -> float:
        raise ZeroDivisionError

    supervisor = recorder.supervisor(backoff=broken)
    supervisor.add(recorder.child("a"))
    supervisor.add(recorder.child("b", ValueError()), name="b")
    with pytest.RaisesGroup(ZeroDivisionError):
        await supervisor.run()
    assert recorder.reported[2:] == ["1 b failed", "1 child ended"]
    assert states(supervisor) == {"child": "stopped", "b": "stopped"}


async def test_too_many_restarts_stop_all_children_and_raise(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """After two restarts within the period, the third failure makes the supervisor give up, and is the cause."""
    supervisor = recorder.supervisor(intensity=2, period=30)
    errors = [ValueError(number) for number in range(3)]
    supervisor.add(recorder.child("a"), name="a")
    supervisor.add(recorder.child("b", *errors), name="b")
    supervisor.add(recorder.child("c"), name="c")
    with pytest.raises(
        SupervisorFailed, match=r"'top' gave up: 'b' ended again after 2 restarts in 30 s"
    ) as info:
        await supervisor.run()

    assert info.value.__cause__ is errors[2]
    assert recorder.actions[3:] == ["1 -b", "2 +b", "3 -b", "4 +b", "5 -b", "5 -c", "5 -a"]
    assert recorder.reported[-4:] == ["5 b failed", "5 b gave up", "5 c ended", "5 a ended"]
    assert recorder.events[-3] == SupervisorGaveUp("top", "b", errors[2])
    assert supervisor.statistics().state is ServiceState.FAILED


@pytest.mark.parametrize(("period", "gives_up"), [(8, True), (7.5, False)])
async def test_a_restart_counts_until_the_period_is_over(
    *, recorder: Recorder, autojump_clock: MockClock, period: float, gives_up: bool
) -> None:
    """With failures at 1, 5 and 9, the first counts at the third if the period is 8, and not if it is less."""
    supervisor = recorder.supervisor(intensity=2, period=period, backoff=tenacity.wait_fixed(3))
    supervisor.add(recorder.child("a", *[ValueError()] * 3))
    with trio.move_on_after(20) as scope:
        if gives_up:
            with pytest.raises(SupervisorFailed):
                await supervisor.run()
        else:
            await supervisor.run()
    assert scope.cancelled_caught is not gives_up


async def test_giving_up_on_a_child_that_returned_has_no_cause(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """Without an error there is no cause."""
    supervisor = recorder.supervisor(intensity=0)
    supervisor.add(recorder.child("a", 1.0), name="a")
    with pytest.raises(SupervisorFailed, match="'a' ended again after 0 restarts") as info:
        await supervisor.run()
    assert info.value.__cause__ is None
    assert recorder.events[-1] == SupervisorGaveUp("top", "a", None)


async def test_giving_up_at_the_start_is_raised_by_nursery_start(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """`nursery.start` raises the reason why the supervisor cannot start."""

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        raise OSError("no such device")

    supervisor = recorder.supervisor(intensity=2)
    supervisor.add(child)
    async with trio.open_nursery() as nursery:
        with pytest.raises(SupervisorFailed) as info:
            await nursery.start(supervisor.run)
    assert isinstance(info.value.__cause__, OSError)


async def test_a_child_set_aside_restarts_each_minute_while_others_continue(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """It restarts once a minute; after running for a period, its restarts are as before."""
    supervisor = recorder.supervisor(intensity=1, escalation="retry")
    supervisor.add(recorder.child("a", *[ValueError()] * 3, 40.0), name="a")
    supervisor.add(recorder.child("b"), name="b")
    async with running(supervisor):
        await trio.sleep(3.5)
        assert states(supervisor) == {"a": "failed", "b": "running"}
        await trio.sleep(61)
        assert states(supervisor) == {"a": "failed", "b": "running"}
        await trio.sleep(61)
        assert states(supervisor) == {"a": "running", "b": "running"}
        await trio.sleep(62)
        assert supervisor.statistics().children[0].restarts == 4
    assert recorder.actions[:-2] == [
        *("0 +a", "0 +b", "1 -a", "2 +a", "3 -a"),
        *("63 +a", "64 -a", "124 +a", "164 -a", "165 +a"),
    ]
    assert [type(event) for event in recorder.events if event.child == "a"] == [
        *(ChildStarted, ChildFailed, ChildRestarting, ChildStarted, ChildFailed, ChildSetAside),
        *(ChildStarted, ChildFailed, ChildSetAside, ChildStarted, ChildStopped, ChildRestarting),
        *(ChildStarted, ChildStopped),
    ]


async def test_the_start_does_not_wait_for_a_child_set_aside(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """`nursery.start` returns although the child and those that depend on it are not up."""
    supervisor = recorder.supervisor(intensity=0, escalation="retry", strategy="rest_for_one")

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        raise OSError

    supervisor.add(child, name="a")
    supervisor.add(recorder.child("b"), name="b")
    async with running(supervisor):
        assert states(supervisor) == {"a": "failed", "b": "waiting"}
        assert trio.current_time() == 0


# -- changes by hand -----------------------------------------------------------------------------------------------


async def test_a_child_can_be_restarted_by_hand(recorder: Recorder, autojump_clock: MockClock) -> None:
    """A running child is stopped and started; this does not count as a restart."""
    supervisor = recorder.supervisor(backoff=tenacity.wait_fixed(100))
    supervisor.add(recorder.child("a", 5.0), name="a")
    async with running(supervisor):
        supervisor.restart_child("a")
        await trio.sleep(2)
        assert supervisor.statistics().children[0].restarts == 0
    assert recorder.actions == ["0 +a", "0 -a", "0 +a", "2 -a"]


async def test_a_waiting_child_can_be_started_by_hand(recorder: Recorder, autojump_clock: MockClock) -> None:
    """It does not wait for the end of its backoff."""
    supervisor = recorder.supervisor(backoff=tenacity.wait_fixed(100))
    supervisor.add(recorder.child("a", 5.0), name="a")
    async with running(supervisor):
        await trio.sleep(8)
        supervisor.restart_child("a")
        await trio.sleep(1)
        assert states(supervisor) == {"a": "running"}
    assert recorder.actions == ["0 +a", "5 -a", "8 +a", "9 -a"]


async def test_a_child_that_cannot_run_cannot_be_restarted(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """A restart is refused if the supervisor is not running or is stopping, or the child is removed or unknown."""
    supervisor = recorder.supervisor()
    supervisor.add(recorder.stubborn("a", 1), name="a")
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


async def test_a_child_can_be_removed(recorder: Recorder, autojump_clock: MockClock) -> None:
    """It is stopped and forgotten; until then its name is taken. Others are not affected."""
    supervisor = recorder.supervisor()
    supervisor.add(recorder.child("a"), name="a")
    supervisor.add(recorder.stubborn("b", 2), name="b")
    async with running(supervisor):
        supervisor.remove("b")
        supervisor.remove("b")
        await trio.sleep(1)
        assert states(supervisor) == {"a": "running", "b": "stopping"}
        with pytest.raises(ValueError, match="already has a child 'b'"):
            supervisor.add(recorder.child("b"), name="b")
        await trio.sleep(2)
        assert states(supervisor) == {"a": "running"}
        supervisor.add(recorder.child("b"), name="b")
        await trio.sleep(1)
        assert states(supervisor) == {"a": "running", "b": "running"}


async def test_a_child_without_a_task_is_removed_immediately(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """This holds before the run and during a backoff; an unknown child is an error."""
    supervisor = recorder.supervisor()
    supervisor.add(recorder.child("a"), name="a")
    supervisor.remove("a")
    assert states(supervisor) == {}
    with pytest.raises(LookupError, match="has no child 'a'"):
        supervisor.remove("a")
    supervisor.add(recorder.child("a", 1.0), name="a")
    async with running(supervisor):
        await trio.sleep(1.5)
        supervisor.remove("a")
        await trio.sleep(5)
    assert recorder.actions == ["0 +a", "1 -a"]


# -- observers ------------------------------------------------------------------------------------------


async def test_an_observer_that_raises_is_logged_and_changes_nothing(
    recorder: Recorder, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A faulty observer does not affect the children."""

    def broken(event: SupervisionEvent) -> None:
        raise RuntimeError(event)

    supervisor = recorder.supervisor(on_event=broken)
    supervisor.add(recorder.child("a", ValueError()), name="a")
    async with running(supervisor):
        await trio.sleep(3)
        assert states(supervisor) == {"a": "running"}
    assert "on_event of supervisor 'top' failed for ChildFailed" in caplog.text


@pytest.mark.parametrize("kind", [ChildFailed, ChildRestarting])
async def test_an_observer_can_change_children(
    recorder: Recorder, autojump_clock: MockClock, kind: type[SupervisionEvent]
) -> None:
    """An observer can add and remove children."""
    supervisor = recorder.supervisor()

    def act(event: SupervisionEvent) -> None:
        recorder.on_event(event)
        if isinstance(event, kind):
            supervisor.remove("a")
            supervisor.add(recorder.child("b"), name="a")

    supervisor.on_event = act
    supervisor.add(recorder.child("a", ValueError()), name="a")
    async with running(supervisor):
        await trio.sleep(5)
        assert states(supervisor) == {"a": "running"}
    assert recorder.actions == ["0 +a", "1 -a", "1 +b", "5 -b"]


async def test_no_child_can_be_added_to_a_supervisor_that_gave_up(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """Adding is refused as soon as the failure is reported: such a child would never be stopped."""
    refused: list[BaseException] = []
    supervisor = recorder.supervisor(intensity=0)

    def act(event: SupervisionEvent) -> None:
        if isinstance(event, ChildFailed):
            with pytest.raises(RuntimeError, match="is stopping") as info:
                supervisor.add(recorder.child("b"))
            refused.append(info.value)

    supervisor.on_event = act
    supervisor.add(recorder.child("a", ValueError()))
    with pytest.raises(SupervisorFailed):
        await supervisor.run()
    assert len(refused) == 1


@pytest.mark.parametrize(
    ("event", "level", "text"),
    [
        (ChildStarted("s", "c"), logging.INFO, "s: c is up"),
        (ChildStopped("s", "c"), logging.INFO, "s: c ended"),
        (ChildFailed("s", "c", ValueError("x")), logging.ERROR, "s: c failed"),
        (ChildRestarting("s", "c", 0.25, 3, None), logging.WARNING, "s: c restarts in 0.2 s (restart 3)"),
        (ChildSetAside("s", "c", 60.0, None), logging.ERROR, "s: c failed too often, and restarts in 60 s"),
        (ChildStuck("s", "c", 5.0), logging.ERROR, "s: c was cancelled 5.0 s ago and has not ended"),
        (SupervisorGaveUp("s", "c", None), logging.CRITICAL, "s: gave up, because c failed too often"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_events_are_logged_by_default(
    *, caplog: pytest.LogCaptureFixture, event: SupervisionEvent, level: int, text: str
) -> None:
    """Without an `on_event` each event is logged."""
    caplog.set_level(logging.INFO, "jobrt.supervisor")
    Supervisor("top").on_event(event)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (level, text)
    assert (record.exc_info is not None) == isinstance(event, ChildFailed)
    assert Supervisor("top").on_event is log_event


def test_a_child_can_be_any_async_callable() -> None:
    """A method, a supervisor and its `run` can be added, for type checkers too."""
    function: Callable[..., Awaitable[object]] = Service().run
    supervisor = Supervisor("top")
    for child in (function, Supervisor("first"), Supervisor("second").run):
        supervisor.add(child)
    assert list(states(supervisor)) == ["Service.run", "first", "second"]
