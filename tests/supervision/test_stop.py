"""Stopping: in reverse order, each with its limit, at whatever moment, and never losing what has to travel on."""

from __future__ import annotations

import signal

import pytest
import tenacity
import trio
from trio.testing import MockClock

from jobrt._supervision.decisions import ServiceState, Strategy
from jobrt._supervision.records import ChildFailed, ChildStopped, ChildStuck, SupervisionEvent
from jobrt.errors import SupervisorFailed
from tests.supervision.supervising import Stage, running, states


@pytest.fixture
def stage() -> Stage:
    """Return a stage for this test."""
    return Stage()


# -- order and limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cancelled", [False, True], ids=["stop", "cancel"])
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
async def test_children_stop_in_reverse_order_each_after_the_next(
    *, stage: Stage, autojump_clock: MockClock, strategy: Strategy, cancelled: bool
) -> None:
    """Each is cancelled when the one added after it has ended: by `stop()` and by cancelling the scope alike."""
    supervisor = stage.supervisor(strategy=strategy)
    for name in "abc":
        supervisor.add(stage.stubborn(name, 2), name=name)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            if cancelled:
                scope.cancel()
            supervisor.stop()
    assert scope.cancelled_caught is cancelled
    assert stage.played[3:] == ["2 -c", "4 -b", "6 -a"]
    assert stage.told[3:] == ["2 c ended", "4 b ended", "6 a ended"]
    assert supervisor.statistics().state is ServiceState.STOPPED


async def test_a_child_that_does_not_end_is_named_and_passed_but_waited_for(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """After its limit it is reported and the next one is stopped; the supervisor ends when it does."""
    supervisor = stage.supervisor()
    supervisor.add(stage.child("a"), name="a")
    supervisor.add(stage.stubborn("b", 60), name="b", shutdown=7)
    supervisor.add(stage.child("c"), name="c")
    async with running(supervisor):
        pass
    assert stage.played[3:] == ["0 -c", "7 -a", "60 -b"]
    assert ChildStuck("top", "b", 7) in stage.events
    assert stage.told[3:] == ["0 c ended", "7 b stuck", "7 a ended", "60 b ended"]


async def test_a_child_is_asked_before_it_is_cancelled(stage: Stage, autojump_clock: MockClock) -> None:
    """One that was added with a way to ask has its limit to end by itself; then it is cancelled."""
    asked = {name: trio.Event() for name in "ab"}

    async def polite(name: str, seconds: float) -> None:
        try:
            await asked[name].wait()
            await trio.sleep(seconds)
            stage.note(f"{name} in peace")
        finally:
            stage.note(f"-{name}")

    supervisor = stage.supervisor()
    supervisor.add(polite, "a", 20, name="a", shutdown=10, stop=asked["a"].set)
    supervisor.add(polite, "b", 3, name="b", stop=asked["b"].set)
    async with running(supervisor):
        pass
    assert stage.played == ["3 b in peace", "3 -b", "13 -a"]


async def test_cancelling_asks_nobody(stage: Stage, autojump_clock: MockClock) -> None:
    """Cancelling the scope around `run` is a stop without grace, also for those that were asked already."""
    asked = []
    supervisor = stage.supervisor()
    supervisor.add(stage.child("a"), name="a", stop=lambda: asked.append("a"), shutdown=60)
    supervisor.add(stage.child("b"), name="b", stop=lambda: asked.append("b"), shutdown=60)
    with trio.move_on_after(5) as scope:
        async with running(supervisor):
            pass
    assert scope.cancelled_caught
    assert asked == ["b"]
    assert stage.played[2:] == ["5 -b", "5 -a"]


async def test_a_child_that_is_not_up_yet_is_cancelled_without_being_asked(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """There is nothing to drain."""
    asked = []
    supervisor = stage.supervisor()
    supervisor.add(stage.slow("a", 100), stop=lambda: asked.append("a"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.sleep(1)
        supervisor.stop()
    assert stage.played == ["0 +a", "1 -a"]
    assert asked == []


async def test_a_child_that_cannot_be_asked_is_cancelled(
    stage: Stage, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An error of the way to ask is logged, and the child is not waited for in vain."""

    def broken() -> None:
        raise ZeroDivisionError

    supervisor = stage.supervisor()
    supervisor.add(stage.child("a"), name="a", stop=broken, shutdown=60)
    async with running(supervisor):
        pass
    assert stage.played == ["0 +a", "0 -a"]
    assert "top: a could not be asked to stop" in caplog.text


async def test_a_restarted_group_is_asked_too(stage: Stage, autojump_clock: MockClock) -> None:
    """A sibling that goes with a failed one is asked first, as in a stop."""
    asked = trio.Event()

    async def polite() -> None:
        await asked.wait()
        await trio.sleep(2)
        stage.note("in peace")
        await trio.sleep_forever()

    supervisor = stage.supervisor(strategy="one_for_all")
    supervisor.add(stage.child("a", ValueError()), name="a")
    supervisor.add(polite, stop=asked.set, shutdown=4)
    async with running(supervisor):
        await trio.sleep(6)
    assert stage.played[:4] == ["0 +a", "1 -a", "3 in peace", "5 +a"]


async def test_an_error_during_the_stop_is_told_and_not_raised(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """What was to be stopped has stopped; its error stands in the events and in the statistics."""

    async def sore() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("ouch")

    supervisor = stage.supervisor(intensity=0)
    supervisor.add(stage.child("a"), name="a")
    supervisor.add(sore)
    async with running(supervisor):
        pass
    assert stage.told[2:] == ["0 sore failed", "0 a ended"]
    assert supervisor.statistics().children[1].last_error == "OSError: ouch"
    assert supervisor.statistics().state is ServiceState.STOPPED


async def test_stop_is_idempotent_and_idle_when_nothing_runs(stage: Stage, autojump_clock: MockClock) -> None:
    """Before a run it does nothing; twice is once; nothing can be added then."""
    supervisor = stage.supervisor()
    supervisor.stop()
    supervisor.add(stage.stubborn("a", 2), name="a")
    async with running(supervisor):
        supervisor.stop()
        supervisor.stop()
        with pytest.raises(RuntimeError, match="'top' is stopping"):
            supervisor.add(stage.child("b"))
        assert supervisor.statistics().state is ServiceState.STOPPING
        await trio.sleep(1)
        assert states(supervisor) == {"a": "stopping"}
    assert stage.played == ["0 +a", "2 -a"]


async def test_stop_reaches_children_that_wait(stage: Stage, autojump_clock: MockClock) -> None:
    """In a backoff, set aside, or not yet at their turn: none starts any more."""
    supervisor = stage.supervisor(intensity=0, escalation="retry", retry_interval=50)
    supervisor.add(stage.child("a", ValueError()), name="a")
    async with running(supervisor):
        await trio.sleep(2)
        assert states(supervisor) == {"a": "failed"}
    assert states(supervisor) == {"a": "stopped"}
    assert trio.current_time() == 2


# -- cancellation ------------------------------------------------------------------------------------------


async def test_a_cancelled_scope_starts_nobody(stage: Stage, autojump_clock: MockClock) -> None:
    """`run` checks before it does anything."""
    supervisor = stage.supervisor()
    supervisor.add(stage.child("a"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await supervisor.run()
    assert scope.cancelled_caught
    assert stage.played == []


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@pytest.mark.parametrize("stopped", [None, 6.0, 11.0], ids=["running", "stopped early", "stopped late"])
@pytest.mark.parametrize("moment", [half / 2 for half in range(32)])
async def test_cancelled_at_any_moment_it_ends_in_order_and_leaves_nobody(
    *, stage: Stage, autojump_clock: MockClock, strategy: Strategy, stopped: float | None, moment: float
) -> None:
    """Starting, running, in a backoff, restarting, stopping: everybody ends, the later ones first, in time.

    The children: "a" takes 2 s to be up, "b" fails and its backoff is 3 s, "c" is asked and takes 2 s to end,
    "d" is stubborn for longer than its limit.
    """
    asked = trio.Event()
    supervisor = stage.supervisor(strategy=strategy, backoff=tenacity.wait_fixed(3))
    supervisor.add(stage.slow("a", 2))
    supervisor.add(stage.child("b", ValueError(), 5.0))
    supervisor.add(stage.stubborn("c", 2), stop=asked.set, shutdown=3)
    supervisor.add(stage.stubborn("d", 3), shutdown=1)

    with trio.CancelScope(deadline=moment) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.run)
            if stopped is not None:
                await trio.sleep(stopped)
                supervisor.stop()

    over = trio.current_time() - moment
    assert scope.cancelled_caught or over <= 0
    assert over <= 3  # the limit of "d", and then what "c" takes
    starts = [entry.split("+")[1] for entry in stage.played if "+" in entry]
    ends = [entry.split("-")[1] for entry in stage.played if "-" in entry]
    assert sorted(starts) == sorted(ends)
    assert set(states(supervisor).values()) == {"stopped"}
    last = {entry.split("-")[1]: number for number, entry in enumerate(stage.played) if "-" in entry}
    assert last.get("a", 0) >= max((last.get(name, 0) for name in "bc"), default=0)


async def test_the_reason_of_a_cancellation_names_supervisor_and_child(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Whoever wonders why can read it in the `Cancelled`."""
    seen: list[str] = []

    async def curious() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            seen.append(str(cancelled))
            raise

    supervisor = stage.supervisor()
    supervisor.add(curious)
    async with running(supervisor):
        pass
    assert "supervisor 'top' stops 'curious'" in seen[0]


async def test_cancelled_while_it_gives_up_it_is_cancelled(stage: Stage, autojump_clock: MockClock) -> None:
    """The scope ends as cancelled; that the supervisor gave up was told."""
    supervisor = stage.supervisor(intensity=0)
    supervisor.add(stage.stubborn("a", 3), name="a")
    supervisor.add(stage.child("b", ValueError()), name="b")
    with trio.move_on_after(2) as scope:
        await supervisor.run()
    assert scope.cancelled_caught
    assert stage.told[-2:] == ["1 b too much", "4 a ended"]
    assert supervisor.statistics().state is ServiceState.FAILED


# -- what travels on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_what_is_no_exception_stops_everybody_and_travels_on(
    stage: Stage, autojump_clock: MockClock, error: type[BaseException]
) -> None:
    """No restart; the others are stopped in order and without asking; the error is raised, as from a nursery."""
    asked = []

    async def bad() -> None:
        await trio.sleep(1)
        raise error

    supervisor = stage.supervisor()
    supervisor.add(stage.stubborn("a", 1), name="a", stop=lambda: asked.append("a"))
    supervisor.add(bad)
    supervisor.add(stage.stubborn("c", 1), name="c")
    with pytest.RaisesGroup(error):
        await supervisor.run()
    assert stage.told[3:] == ["1 bad failed", "2 c ended", "3 a ended"]
    assert asked == []
    assert supervisor.statistics().children[1].last_error == error.__name__
    assert states(supervisor) == {"a": "stopped", "bad": "stopped", "c": "stopped"}


async def test_a_mixed_group_is_taken_apart(stage: Stage, autojump_clock: MockClock) -> None:
    """The error is the child's failure, the rest travels on without it; nothing is restarted."""

    async def mixed() -> None:
        await trio.sleep(1)
        raise BaseExceptionGroup(
            "both", [ValueError("ours"), BaseExceptionGroup("in", [KeyboardInterrupt()])]
        )

    supervisor = stage.supervisor()
    supervisor.add(mixed)
    with pytest.RaisesGroup(pytest.RaisesGroup(pytest.RaisesGroup(KeyboardInterrupt))):
        await supervisor.run()
    assert stage.told == ["0 mixed up", "1 mixed failed"]
    event = stage.events[1]
    assert isinstance(event, ChildFailed)
    assert isinstance(event.error, ValueError)


async def a_cancellation() -> trio.Cancelled:
    """Return the `Cancelled` of a scope that is over."""
    seen: list[trio.Cancelled] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            seen.append(cancelled)
            raise
    return seen[0]


async def test_a_cancellation_of_somebody_else_is_not_swallowed(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """A `Cancelled` that the child's scope does not know travels on; an error beside it is told."""
    foreign = await a_cancellation()

    async def odd() -> None:
        raise BaseExceptionGroup("both", [foreign, ValueError("ours")])

    supervisor = stage.supervisor()
    supervisor.add(odd)
    with pytest.RaisesGroup(trio.Cancelled, flatten_subgroups=True):
        await supervisor.run()
    assert stage.told == ["0 odd up", "0 odd failed"]


async def test_however_a_run_ended_the_next_one_is_as_the_first(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """After giving up, a cancellation, an interrupt: it runs again, asks its children, and ends in peace."""
    asked: list[str] = []
    ends: list[BaseException | None] = [ValueError(), KeyboardInterrupt(), await a_cancellation(), None]

    async def child() -> None:
        if end := ends.pop(0):
            raise end
        supervisor.stop()
        await trio.sleep_forever()

    supervisor = stage.supervisor(intensity=0)
    supervisor.add(stage.child("a"), stop=lambda: asked.append("a"))
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
    except trio.Cancelled:  # which the test's own nursery would take for its own, and the test for passed
        pytest.fail("the last run's error came again")
    assert asked == ["a"]
    assert supervisor.statistics().state is ServiceState.STOPPED


async def test_a_mixed_group_with_its_own_cancellation_is_an_ordinary_error(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """When it is stopped, a child's `Cancelled` ends at its scope; what remains is the error."""

    async def crowd() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("on the way out")

    supervisor = stage.supervisor()
    supervisor.add(crowd)
    async with running(supervisor):
        pass
    event = stage.events[-1]
    assert isinstance(event, ChildFailed)
    assert isinstance(event.error, ValueError)


async def test_ctrl_c_is_let_into_children_but_not_into_the_bookkeeping(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """A child's code may be interrupted; the controller and its events only at checkpoints."""
    protected: list[tuple[str, bool]] = []

    def hear(event: SupervisionEvent) -> None:
        if isinstance(event, ChildStopped):
            protected.append(("event", trio.lowlevel.currently_ki_protected()))

    async def child() -> None:
        protected.append(("child", trio.lowlevel.currently_ki_protected()))
        await trio.sleep_forever()

    supervisor = stage.supervisor(on_event=hear)
    supervisor.add(
        child, stop=lambda: protected.append(("ask", trio.lowlevel.currently_ki_protected())), shutdown=1
    )
    async with running(supervisor):
        pass
    assert protected == [("child", False), ("ask", True), ("event", True)]


async def test_a_second_ctrl_c_ends_the_ordered_stop(stage: Stage, autojump_clock: MockClock) -> None:
    """One that arrives while children are being stopped cancels all that are left at once, and is raised."""

    def interrupt(event: SupervisionEvent) -> None:
        if isinstance(event, ChildStuck):
            raise KeyboardInterrupt

    supervisor = stage.supervisor(on_event=interrupt)
    supervisor.add(stage.stubborn("a", 3))
    supervisor.add(stage.stubborn("b", 3))
    supervisor.add(stage.stubborn("c", 10), shutdown=1)
    with trio.move_on_after(5), pytest.RaisesGroup(KeyboardInterrupt):
        await supervisor.run()
    assert stage.played[3:] in (["9 -a", "9 -b", "15 -c"], ["9 -b", "9 -a", "15 -c"])


@pytest.mark.parametrize("where", ["child", "controller"])
def test_a_real_ctrl_c_ends_the_program_in_order(stage: Stage, where: str) -> None:
    """SIGINT comes up in a child's code, or at the next checkpoint of the main task that runs the supervisor."""

    def hear(event: SupervisionEvent) -> None:
        stage.hear(event)
        if isinstance(event, ChildStopped) and event.child == "c" and where == "controller":
            signal.raise_signal(signal.SIGINT)

    async def child() -> None:
        if where == "child":
            signal.raise_signal(signal.SIGINT)

    supervisor = stage.supervisor(on_event=hear)
    supervisor.add(stage.stubborn("a", 1), name="a")
    supervisor.add(stage.stubborn("b", 1), name="b")
    supervisor.add(child, name="c", restart="temporary")
    with pytest.RaisesGroup(KeyboardInterrupt):
        trio.run(supervisor.run, clock=MockClock(autojump_threshold=0))
    assert stage.told[3:] == [f"0 c {'failed' if where == 'child' else 'ended'}", "1 b ended", "2 a ended"]
