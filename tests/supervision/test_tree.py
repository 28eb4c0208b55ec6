"""Trees of supervisors: failures propagate to the parent, and statistics show the whole tree."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import attrs
import pytest
import trio
from trio.testing import MockClock

from jobrt._supervision.records import ChildStuck, SupervisorStatistics
from jobrt._supervision.supervisor import Supervisor
from jobrt.errors import SupervisorFailed
from tests.supervision.supervising import Recorder, running, states


@pytest.fixture
def recorder() -> Recorder:
    """Return the recorder of the test."""
    return Recorder()


# -- nesting -----------------------------------------------------------------------------------------------


async def test_a_supervisor_that_gives_up_is_a_failure_for_its_parent(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """The parent restarts the subtree, whose restarts count from zero; siblings are not affected."""
    inner = recorder.supervisor("inner", intensity=1)
    inner.add(recorder.child("a"), name="a")
    inner.add(recorder.child("b", *[ValueError("b")] * 3), name="b")
    outer = recorder.supervisor("outer")
    outer.add(inner)
    outer.add(recorder.child("c"), name="c")
    async with running(outer):
        await trio.sleep(8)
        (below, beside) = outer.statistics().children
        assert below.restarts == 1
        assert below.last_error is not None
        assert below.last_error.startswith("SupervisorFailed: supervisor 'inner' gave up: 'b' ended again")
        assert below.nested is not None
        assert [child.restarts for child in below.nested.children] == [0, 2]
        assert beside.restarts == 0
    assert recorder.actions[:-3] == [
        *("0 +a", "0 +b", "0 +c", "1 -b", "2 +b", "3 -b", "3 -a"),
        *("4 +a", "4 +b", "5 -b", "6 +b"),
    ]


async def test_a_failure_propagates_to_the_top(recorder: Recorder, autojump_clock: MockClock) -> None:
    """Each level has its own intensity: after 2 x 2 x 2 starts the tree has failed, and the causes are chained."""
    tree = recorder.supervisor("bottom", intensity=1)
    tree.add(recorder.child("a", *[ValueError("a")] * 100), name="a")
    for name in ("middle", "top"):
        parent = recorder.supervisor(name, intensity=1)
        parent.add(tree.run)
        tree = parent
    with pytest.raises(SupervisorFailed, match="'top' gave up: 'middle'") as info:
        await tree.run()
    assert len([entry for entry in recorder.actions if entry.endswith("+a")]) == 8
    causes = []
    error: BaseException | None = info.value
    while error is not None:
        causes.append(type(error))
        error = error.__cause__
    assert causes == [SupervisorFailed, SupervisorFailed, SupervisorFailed, ValueError]


async def test_a_subtree_can_be_set_aside(recorder: Recorder, autojump_clock: MockClock) -> None:
    """A worker's queues work like this: a bad queue restarts once a minute, and the others continue."""
    queues = recorder.supervisor("queues", intensity=1, escalation="retry", in_turn=False)
    for name, runs in (("good", []), ("bad", [ValueError("x")] * 100)):
        queue = recorder.supervisor(name, intensity=1, strategy="one_for_all")
        queue.add(recorder.child(f"{name} fetcher", *runs), name="fetcher")
        queues.add(queue)
    async with running(queues):
        await trio.sleep(30)
        assert states(queues) == {"good": "running", "bad": "failed"}
        await trio.sleep(38)
        assert states(queues) == {"good": "running", "bad": "running"}
        await trio.sleep(3)
        assert states(queues) == {"good": "running", "bad": "failed"}
    assert [entry for entry in recorder.actions if "good" in entry] == ["0 +good fetcher", "71 -good fetcher"]


async def test_a_subtree_is_up_when_all_its_children_are(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """A child added after it waits for that."""
    inner = recorder.supervisor("inner")
    inner.add(recorder.slow("a", 2))
    inner.add(recorder.slow("b", 3))
    outer = recorder.supervisor("outer")
    outer.add(inner)
    outer.add(recorder.child("c"), name="c")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outer.run)
        await trio.sleep(4)
        assert states(outer) == {"inner": "starting", "c": "waiting"}
        await trio.sleep(2)
        assert states(outer) == {"inner": "running", "c": "running"}
        outer.stop()
    assert recorder.actions == ["0 +a", "2 +b", "5 +c", "6 -c", "6 -b", "6 -a"]


async def test_a_stop_asks_children_at_all_levels(recorder: Recorder, autojump_clock: MockClock) -> None:
    """A supervisor among the children is asked and not cancelled, so its children are asked too."""
    asked = trio.Event()

    async def polite() -> None:
        await asked.wait()
        await trio.sleep(20)
        recorder.record("gracefully")

    inner = recorder.supervisor("inner")
    inner.add(polite, stop=asked.set, shutdown=30, restart="transient")
    outer = recorder.supervisor("outer")
    outer.add(recorder.child("a"))
    outer.add(inner)
    async with running(outer):
        pass
    assert recorder.actions == ["0 +a", "20 gracefully", "20 -a"]


async def test_a_subtree_has_the_time_of_its_children(recorder: Recorder, autojump_clock: MockClock) -> None:
    """A stuck grandchild is reported by its supervisor, then the subtree by its parent; the others continue."""
    inner = recorder.supervisor("inner")
    inner.add(recorder.stubborn("a", 100), name="a", shutdown=3)
    inner.add(recorder.child("b"), name="b", shutdown=4, stop=lambda: None)
    outer = recorder.supervisor("outer")
    outer.add(recorder.child("c"), name="c")
    outer.add(inner)
    assert inner.stop_timeout() == 1 + 3 + 2 * 4
    assert outer.stop_timeout() == 1 + 5 + 2 * inner.stop_timeout()
    async with running(outer):
        pass
    assert recorder.actions[3:] == ["4 -b", "24 -c", "104 -a"]
    stuck = [event for event in recorder.events if isinstance(event, ChildStuck)]
    assert stuck == [ChildStuck("inner", "a", 3), ChildStuck("outer", "inner", 12)]


def test_without_in_turn_a_stop_takes_as_long_as_the_slowest_child() -> None:
    """Times add up only if children stop one after the other; one second is for the supervisor."""
    supervisor = Supervisor("top", in_turn=False)
    assert supervisor.stop_timeout() == 1
    supervisor.add(trio.sleep_forever, shutdown=3)
    supervisor.add(trio.sleep_forever, shutdown=7)
    assert supervisor.stop_timeout() == 8


def test_a_supervisor_cannot_contain_itself() -> None:
    """A supervisor cannot be its own child, directly or through another."""
    inner, outer = Supervisor("inner"), Supervisor("outer")
    outer.add(trio.sleep_forever)
    outer.add(inner)
    assert outer.contains(inner)
    assert not inner.contains(outer)
    for child in (outer, inner):
        with pytest.raises(ValueError, match=f"supervisor '{inner.name}' cannot contain itself"):
            inner.add(child)


async def test_a_supervisor_in_two_places_fails_in_the_second(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """It runs in the first place; in the second, the error has the reason."""
    inner = recorder.supervisor("inner")
    outer = recorder.supervisor("outer")
    outer.add(inner, name="first")
    outer.add(inner, name="second", restart="temporary")
    async with running(outer):
        await trio.sleep(1)
        assert states(outer) == {"first": "running", "second": "stopped"}
        assert outer.statistics().children[1].last_error == (
            "RuntimeError: supervisor 'inner' is already running"
        )


async def test_ctrl_c_in_a_subtree_stops_the_whole_tree_in_order(
    recorder: Recorder, autojump_clock: MockClock
) -> None:
    """KeyboardInterrupt propagates through every level."""

    async def bad() -> None:
        await trio.sleep(1)
        raise KeyboardInterrupt

    inner = recorder.supervisor("inner")
    inner.add(recorder.stubborn("a", 1))
    inner.add(bad)
    outer = recorder.supervisor("outer")
    outer.add(recorder.stubborn("c", 1))
    outer.add(inner)
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        await outer.run()
    assert recorder.actions == ["0 +c", "0 +a", "2 -a", "3 -c"]


# -- the snapshot ------------------------------------------------------------------------------------------


async def tree(recorder: Recorder) -> SupervisorStatistics:
    """Return the statistics of a tree after several events."""
    inner = recorder.supervisor("inner", strategy="rest_for_one")
    inner.add(recorder.child("a", ValueError("one\ntwo")), name="a")
    inner.add(recorder.slow("b", 5), name="b", restart="transient")
    outer = recorder.supervisor("outer")
    outer.add(inner)
    outer.add(recorder.child("c", 1.0), name="c", restart="temporary")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outer.run)
        await trio.sleep(4)
        statistics = outer.statistics()
        outer.stop()
    return statistics


async def test_statistics_show_the_whole_tree(recorder: Recorder, autojump_clock: MockClock) -> None:
    """The statistics have names, strategies, states, restarts, errors and times, and convert to JSON."""
    statistics = await tree(recorder)
    inner = statistics.children[0].nested
    assert inner is not None

    def normalized(moment: object) -> object:
        if isinstance(moment, str) and moment.startswith("20"):
            assert abs(datetime.fromisoformat(moment) - datetime.now(UTC)) < timedelta(minutes=5)
            return "a moment ago"
        return moment

    def strip(tree: object) -> object:
        match tree:
            case dict():
                return {key: strip(value) for key, value in tree.items()}
            case list():
                return [strip(value) for value in tree]
            case _:
                return normalized(tree)

    child = {"recent_restarts": 0, "restarts": 0, "last_error": None, "last_error_at": None, "nested": None}
    assert strip(json.loads(json.dumps(statistics.to_dict()))) == {
        "name": "outer",
        "strategy": "one_for_one",
        "state": "starting",
        "children": [
            {
                **child,
                "name": "inner",
                "state": "starting",
                "restart": "permanent",
                "since": "a moment ago",
                "since_clock": 0.0,
                "nested": {
                    "name": "inner",
                    "strategy": "rest_for_one",
                    "state": "starting",
                    "children": [
                        {
                            **child,
                            "name": "a",
                            "state": "running",
                            "restart": "permanent",
                            "recent_restarts": 1,
                            "restarts": 1,
                            "last_error": "ValueError: one two",
                            "last_error_at": "a moment ago",
                            "since": "a moment ago",
                            "since_clock": 2.0,
                        },
                        {
                            **child,
                            "name": "b",
                            "state": "starting",
                            "restart": "transient",
                            "since": "a moment ago",
                            "since_clock": 2.0,
                        },
                    ],
                },
            },
            {
                **child,
                "name": "c",
                "state": "waiting",
                "restart": "temporary",
                "since": "a moment ago",
                "since_clock": 0.0,
            },
        ],
    }


async def test_statistics_are_an_immutable_snapshot(recorder: Recorder, autojump_clock: MockClock) -> None:
    """The snapshot is immutable at all levels, and does not change while the tree continues."""
    statistics = await tree(recorder)
    before = statistics.to_dict()
    child = statistics.children[0]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        statistics.name = "other"  # type: ignore[misc]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        child.restarts = 7  # type: ignore[misc]
    assert isinstance(statistics.children, tuple)
    assert isinstance(hash(statistics), int)
    await trio.sleep(1)
    assert statistics.to_dict() == before


def test_statistics_are_available_without_trio() -> None:
    """Before and after a run, statistics need no Trio."""
    supervisor = Supervisor("top")
    supervisor.add(trio.sleep_forever, name="a")
    (child,) = supervisor.statistics().children
    assert (child.state.value, child.since, child.since_clock) == ("stopped", None, None)
    assert json.loads(json.dumps(supervisor.statistics().to_dict()))["children"][0]["since"] is None


async def test_old_restarts_count_only_in_the_total(recorder: Recorder, autojump_clock: MockClock) -> None:
    """`recent_restarts` has the restarts within the period, `restarts` all of them."""
    supervisor = recorder.supervisor(period=10)
    supervisor.add(recorder.child("a", ValueError(), ValueError()), name="a")
    seen = []
    async with running(supervisor):
        for _ in range(4):
            await trio.sleep(4)
            (child,) = supervisor.statistics().children
            seen.append((child.recent_restarts, child.restarts))
    assert seen == [(2, 2), (2, 2), (1, 2), (0, 2)]
