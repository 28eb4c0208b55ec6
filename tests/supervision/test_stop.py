"""Stops: in reverse order, with limits, at any moment, and without losing errors that must propagate."""

from __future__ import annotations

import signal

import pytest
import tenacity
import trio
from trio.testing import MockClock

from jobrt._supervision.decisions import ServiceState, Strategy
from jobrt._supervision.records import ChildFailed, ChildStopped, ChildStuck, SupervisionEvent
from jobrt.errors import SupervisorFailed
from tests.supervision.supervising import Recorder, running, states


@pytest.fixture
def recorder() -> Recorder:
    """Return the recorder of the test."""
    return Recorder()


# -- order and limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cancelled", [False, True], ids=["stop", "cancel"])
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
async def test_children_stop_in_reverse_order(
    *, recorder: Recorder, autojump_clock: MockClock, strategy: Strategy, cancelled: bool
) -> None:
    """A child is cancelled when the one added after it has ended, by `stop()` and by a cancellation."""
    supervisor = recorder.supervisor(strategy=strategy)
    for name in "abc":
        supervisor.add(recorder.stubborn(name, 2), name=name)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            if cancelled:
                scope.cancel()
            supervisor.stop()
    assert scope.cancelled_caught is cancelled
    assert recorder.actions[3:] == ["2 -c", "4 -b", "6 -a"]
    assert recorder.reported[3:] == ["2 c ended", "4 b ended", "6 a ended"]
    assert supervisor.statistics().state is ServiceState.STOPPED


async def test_a_child_that_does_not_end_is_reported_skipped_and_awaited(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """After its limit it is reported and the next child stops; the supervisor waits for its end."""
    supervisor = recorder.supervisor()
    supervisor.add(recorder.child("a"), name="a")
    supervisor.add(recorder.stubborn("b", 60), name="b", shutdown=7)
    supervisor.add(recorder.child("c"), name="c")
    async with running(supervisor):
        pass
    assert recorder.actions[3:] == ["0 -c", "7 -a", "60 -b"]
    assert ChildStuck("top", "b", 7) in recorder.events
    assert recorder.reported[3:] == ["0 c ended", "7 b stuck", "7 a ended", "60 b ended"]


async def test_a_child_is_asked_before_it_is_cancelled(recorder: Recorder, autojump_clock: MockClock) -> None:
    """A child with `stop=` has its limit to end by itself; then it is cancelled."""
    asked = {name: trio.Event() for name in "ab"}

    async def polite(name: str, seconds: float) -> None:
        try:
            await asked[name].wait()
            await trio.sleep(seconds)
            recorder.record(f"{name} gracefully")
        finally:
            recorder.record(f"-{name}")

    supervisor = recorder.supervisor()
    supervisor.add(polite, "a", 20, name="a", shutdown=10, stop=asked["a"].set)
    supervisor.add(polite, "b", 3, name="b", stop=asked["b"].set)
    async with running(supervisor):
        pass
    assert recorder.actions == ["3 b gracefully", "3 -b", "13 -a"]


async def test_a_cancellation_asks_no_child(recorder: Recorder, autojump_clock: MockClock) -> None:
    """Cancelling the scope around `run` stops without grace, even children that were already asked."""
    asked = []
    supervisor = recorder.supervisor()
    supervisor.add(recorder.child("a"), name="a", stop=lambda: asked.append("a"), shutdown=60)
    supervisor.add(recorder.child("b"), name="b", stop=lambda: asked.append("b"), shutdown=60)
    with trio.move_on_after(5) as scope:
        async with running(supervisor):
            pass
    assert scope.cancelled_caught
    assert asked == ["b"]
    assert recorder.actions[2:] == ["5 -b", "5 -a"]


async def test_a_child_that_is_not_up_yet_is_cancelled_without_being_asked(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """A child that is not up has nothing to finish."""
    asked = []
    supervisor = recorder.supervisor()
    supervisor.add(recorder.slow("a", 100), stop=lambda: asked.append("a"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.sleep(1)
        supervisor.stop()
    assert recorder.actions == ["0 +a", "1 -a"]
    assert asked == []


async def test_a_child_whose_stop_function_fails_is_cancelled(
    recorder: Recorder, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The error of the stop function is logged, and the child is cancelled immediately."""

    def broken() -> None:
        raise ZeroDivisionError

    supervisor = recorder.supervisor()
    supervisor.add(recorder.child("a"), name="a", stop=broken, shutdown=60)
    async with running(supervisor):
        pass
    assert recorder.actions == ["0 +a", "0 -a"]
    assert "top: stop() of a failed, so it is cancelled" in caplog.text


async def test_children_are_asked_when_their_group_restarts(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """A sibling of a failed child is asked before it is cancelled, as in a stop."""
    asked = trio.Event()

    async def polite() -> None:
        await asked.wait()
        await trio.sleep(2)
        recorder.record("gracefully")
        await trio.sleep_forever()

    supervisor = recorder.supervisor(strategy="one_for_all")
    supervisor.add(recorder.child("a", ValueError()), name="a")
    supervisor.add(polite, stop=asked.set, shutdown=4)
    async with running(supervisor):
        await trio.sleep(6)
    assert recorder.actions[:4] == ["0 +a", "1 -a", "3 gracefully", "5 +a"]


async def test_an_error_during_the_stop_is_reported_and_not_raised(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """The child has stopped; its error is in the events and in the statistics."""

    async def sore() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("ouch")

    supervisor = recorder.supervisor(intensity=0)
    supervisor.add(recorder.child("a"), name="a")
    supervisor.add(sore)
    async with running(supervisor):
        pass
    assert recorder.reported[2:] == ["0 sore failed", "0 a ended"]
    assert supervisor.statistics().children[1].last_error == "OSError: ouch"
    assert supervisor.statistics().state is ServiceState.STOPPED


async def test_stop_can_be_called_twice_and_before_a_run(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """Before a run it does nothing, a second call changes nothing, and then no child can be added."""
    supervisor = recorder.supervisor()
    supervisor.stop()
    supervisor.add(recorder.stubborn("a", 2), name="a")
    async with running(supervisor):
        supervisor.stop()
        supervisor.stop()
        with pytest.raises(RuntimeError, match="'top' is stopping"):
            supervisor.add(recorder.child("b"))
        assert supervisor.statistics().state is ServiceState.STOPPING
        await trio.sleep(1)
        assert states(supervisor) == {"a": "stopping"}
    assert recorder.actions == ["0 +a", "2 -a"]


async def test_waiting_children_do_not_start_after_a_stop(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """A child that is set aside when the supervisor stops never starts again."""
    supervisor = recorder.supervisor(intensity=0, escalation="retry", retry_interval=50)
    supervisor.add(recorder.child("a", ValueError()), name="a")
    async with running(supervisor):
        await trio.sleep(2)
        assert states(supervisor) == {"a": "failed"}
    assert states(supervisor) == {"a": "stopped"}
    assert trio.current_time() == 2


# -- cancellation ------------------------------------------------------------------------------------------


async def test_in_a_cancelled_scope_no_child_starts(recorder: Recorder, autojump_clock: MockClock) -> None:
    """`run` begins with a checkpoint."""
    supervisor = recorder.supervisor()
    supervisor.add(recorder.child("a"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await supervisor.run()
    assert scope.cancelled_caught
    assert recorder.actions == []


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@pytest.mark.parametrize("stopped", [None, 6.0, 11.0], ids=["running", "stopped early", "stopped late"])
@pytest.mark.parametrize("moment", [half / 2 for half in range(32)])
async def test_a_cancellation_at_any_moment_ends_all_children_in_order(
    *, recorder: Recorder, autojump_clock: MockClock, strategy: Strategy, stopped: float | None, moment: float
) -> None:
    """All children end in reverse order and in time, in whatever state the supervisor is.

    "a" takes 2 s to be up. "b" fails with a backoff of 3 s. "c" is asked and takes 2 s to end. "d" takes longer
    than its limit.
    """
    asked = trio.Event()
    supervisor = recorder.supervisor(strategy=strategy, backoff=tenacity.wait_fixed(3))
    supervisor.add(recorder.slow("a", 2))
    supervisor.add(recorder.child("b", ValueError(), 5.0))
    supervisor.add(recorder.stubborn("c", 2), stop=asked.set, shutdown=3)
    supervisor.add(recorder.stubborn("d", 3), shutdown=1)

    with trio.CancelScope(deadline=moment) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.run)
            if stopped is not None:
                await trio.sleep(stopped)
                supervisor.stop()

    duration = trio.current_time() - moment
    assert scope.cancelled_caught or duration <= 0
    assert duration <= 3  # the limit of "d", and then the time of "c"
    starts = [entry.split("+")[1] for entry in recorder.actions if "+" in entry]
    ends = [entry.split("-")[1] for entry in recorder.actions if "-" in entry]
    assert sorted(starts) == sorted(ends)
    assert set(states(supervisor).values()) == {"stopped"}
    last = {entry.split("-")[1]: number for number, entry in enumerate(recorder.actions) if "-" in entry}
    assert last.get("a", 0) >= max((last.get(name, 0) for name in "bc"), default=0)


async def test_the_reason_of_a_cancellation_names_supervisor_and_child(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """The `Cancelled` has the reason."""
    seen: list[str] = []

    async def child() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            seen.append(str(cancelled))
            raise

    supervisor = recorder.supervisor()
    supervisor.add(child)
    async with running(supervisor):
        pass
    assert "supervisor 'top' stops 'child'" in seen[0]


async def test_a_cancellation_while_giving_up_is_not_lost(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """The scope is cancelled; the event shows that the supervisor gave up."""
    supervisor = recorder.supervisor(intensity=0)
    supervisor.add(recorder.stubborn("a", 3), name="a")
    supervisor.add(recorder.child("b", ValueError()), name="b")
    with trio.move_on_after(2) as scope:
        await supervisor.run()
    assert scope.cancelled_caught
    assert recorder.reported[-2:] == ["1 b gave up", "4 a ended"]
    assert supervisor.statistics().state is ServiceState.FAILED


# -- errors that propagate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_a_base_exception_stops_all_children_and_propagates(
    recorder: Recorder, autojump_clock: MockClock, error: type[BaseException]
) -> None:
    """There is no restart; the others stop in order without being asked, and the error is raised."""
    asked = []

    async def bad() -> None:
        await trio.sleep(1)
        raise error

    supervisor = recorder.supervisor()
    supervisor.add(recorder.stubborn("a", 1), name="a", stop=lambda: asked.append("a"))
    supervisor.add(bad)
    supervisor.add(recorder.stubborn("c", 1), name="c")
    with pytest.RaisesGroup(error):
        await supervisor.run()
    assert recorder.reported[3:] == ["1 bad failed", "2 c ended", "3 a ended"]
    assert asked == []
    assert supervisor.statistics().children[1].last_error == error.__name__
    assert states(supervisor) == {"a": "stopped", "bad": "stopped", "c": "stopped"}


async def test_a_mixed_group_is_split(recorder: Recorder, autojump_clock: MockClock) -> None:
    """The error is the child's failure, and the rest propagates; there is no restart."""

    async def mixed() -> None:
        await trio.sleep(1)
        raise BaseExceptionGroup(
            "both", [ValueError("ours"), BaseExceptionGroup("in", [KeyboardInterrupt()])]
        )

    supervisor = recorder.supervisor()
    supervisor.add(mixed)
    with pytest.RaisesGroup(pytest.RaisesGroup(pytest.RaisesGroup(KeyboardInterrupt))):
        await supervisor.run()
    assert recorder.reported == ["0 mixed up", "1 mixed failed"]
    event = recorder.events[1]
    assert isinstance(event, ChildFailed)
    assert isinstance(event.error, ValueError)


async def a_cancellation() -> trio.Cancelled:
    """Return the `Cancelled` of a scope that has ended."""
    seen: list[trio.Cancelled] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            seen.append(cancelled)
            raise
    return seen[0]


async def test_a_cancellation_of_another_scope_is_not_swallowed(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """A `Cancelled` of another scope propagates; an error in the same group is reported."""
    foreign = await a_cancellation()

    async def odd() -> None:
        raise BaseExceptionGroup("both", [foreign, ValueError("ours")])

    supervisor = recorder.supervisor()
    supervisor.add(odd)
    with pytest.RaisesGroup(trio.Cancelled, flatten_subgroups=True):
        await supervisor.run()
    assert recorder.reported == ["0 odd up", "0 odd failed"]


async def test_a_run_does_not_depend_on_the_end_of_the_run_before(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """After giving up, an interrupt or a cancellation, it runs again and stops gracefully."""
    asked: list[str] = []
    ends: list[BaseException | None] = [ValueError(), KeyboardInterrupt(), await a_cancellation(), None]

    async def child() -> None:
        if end := ends.pop(0):
            raise end
        supervisor.stop()
        await trio.sleep_forever()

    supervisor = recorder.supervisor(intensity=0)
    supervisor.add(recorder.child("a"), stop=lambda: asked.append("a"))
    supervisor.add(child)
    with pytest.raises(SupervisorFailed):
        await supervisor.run()
    with pytest.RaisesGroup(KeyboardInterrupt):
        await supervisor.run()
    with pytest.raises(trio.Cancelled):
        await supervisor.run()
    asked.clear()
    try:
        await supervisor.run()
    except trio.Cancelled:  # the nursery of the test would swallow it, and the test would pass
        pytest.fail("the error of the run before was raised again")
    assert asked == ["a"]
    assert supervisor.statistics().state is ServiceState.STOPPED


async def test_a_group_with_its_own_cancellation_is_an_ordinary_error(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """A stopped child's own `Cancelled` ends at its scope, and the error remains."""

    async def crowd() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("while stopping")

    supervisor = recorder.supervisor()
    supervisor.add(crowd)
    async with running(supervisor):
        pass
    event = recorder.events[-1]
    assert isinstance(event, ChildFailed)
    assert isinstance(event.error, ValueError)


async def test_ctrl_c_interrupts_children_but_not_the_supervisor(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """Ctrl-C can interrupt the code of a child, but the controller only at checkpoints."""
    protected: list[tuple[str, bool]] = []

    def on_event(event: SupervisionEvent) -> None:
        if isinstance(event, ChildStopped):
            protected.append(("event", trio.lowlevel.currently_ki_protected()))

    async def child() -> None:
        protected.append(("child", trio.lowlevel.currently_ki_protected()))
        await trio.sleep_forever()

    supervisor = recorder.supervisor(on_event=on_event)
    supervisor.add(
        child, stop=lambda: protected.append(("ask", trio.lowlevel.currently_ki_protected())), shutdown=1
    )
    async with running(supervisor):
        pass
    assert protected == [("child", False), ("ask", True), ("event", True)]


async def test_a_second_ctrl_c_ends_the_stop_in_order(recorder: Recorder, autojump_clock: MockClock) -> None:
    """A second Ctrl-C during a stop cancels all remaining children immediately, and is raised."""

    def interrupt(event: SupervisionEvent) -> None:
        if isinstance(event, ChildStuck):
            raise KeyboardInterrupt

    supervisor = recorder.supervisor(on_event=interrupt)
    supervisor.add(recorder.stubborn("a", 3))
    supervisor.add(recorder.stubborn("b", 3))
    supervisor.add(recorder.stubborn("c", 10), shutdown=1)
    with trio.move_on_after(5), pytest.RaisesGroup(KeyboardInterrupt):
        await supervisor.run()
    assert recorder.actions[3:] in (["9 -a", "9 -b", "15 -c"], ["9 -b", "9 -a", "15 -c"])


@pytest.mark.parametrize("where", ["child", "controller"])
def test_a_real_ctrl_c_ends_the_program_in_order(recorder: Recorder, where: str) -> None:
    """SIGINT is raised in a child's code, or at the next checkpoint of the main task."""

    def on_event(event: SupervisionEvent) -> None:
        recorder.on_event(event)
        if isinstance(event, ChildStopped) and event.child == "c" and where == "controller":
            signal.raise_signal(signal.SIGINT)

    async def child() -> None:
        if where == "child":
            signal.raise_signal(signal.SIGINT)

    supervisor = recorder.supervisor(on_event=on_event)
    supervisor.add(recorder.stubborn("a", 1), name="a")
    supervisor.add(recorder.stubborn("b", 1), name="b")
    supervisor.add(child, name="c", restart="temporary")
    with pytest.RaisesGroup(KeyboardInterrupt):
        trio.run(supervisor.run, clock=MockClock(autojump_threshold=0))
    assert recorder.reported[3:] == [
        f"0 c {'failed' if where == 'child' else 'ended'}",
        "1 b ended",
        "2 a ended",
    ]
