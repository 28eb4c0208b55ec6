"""Supervisors below supervisors: what one gives up on is its parent's failure, and all of it can be seen."""

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
from tests.supervision.supervising import Stage, running, states


@pytest.fixture
def stage() -> Stage:
    """Return a stage for this test."""
    return Stage()


# -- nesting -----------------------------------------------------------------------------------------------


async def test_what_a_supervisor_gives_up_on_is_a_failure_for_its_parent(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """The parent restarts the whole subtree, with an allowance as new; its siblings do not notice."""
    inner = stage.supervisor("inner", intensity=1)
    inner.add(stage.child("a"), name="a")
    inner.add(stage.child("b", *[ValueError("b")] * 3), name="b")
    outer = stage.supervisor("outer")
    outer.add(inner)
    outer.add(stage.child("c"), name="c")
    async with running(outer):
        await trio.sleep(8)
        (below, beside) = outer.statistics().children
        assert below.restarts == 1
        assert below.last_error is not None
        assert below.last_error.startswith("SupervisorFailed: supervisor 'inner' gave up: 'b' ended again")
        assert below.nested is not None
        assert [child.restarts for child in below.nested.children] == [0, 2]
        assert beside.restarts == 0
    assert stage.played[:-3] == [
        *("0 +a", "0 +b", "0 +c", "1 -b", "2 +b", "3 -b", "3 -a"),
        *("4 +a", "4 +b", "5 -b", "6 +b"),
    ]


async def test_a_failure_goes_up_as_far_as_it_has_to(stage: Stage, autojump_clock: MockClock) -> None:
    """Each level has its allowance: 2 x 2 x 2 starts, then the whole tree is down and the causes are chained."""
    tree = stage.supervisor("bottom", intensity=1)
    tree.add(stage.child("a", *[ValueError("a")] * 100), name="a")
    for name in ("middle", "top"):
        parent = stage.supervisor(name, intensity=1)
        parent.add(tree.run)
        tree = parent
    with pytest.raises(SupervisorFailed, match="'top' gave up: 'middle'") as info:
        await tree.run()
    assert len([entry for entry in stage.played if entry.endswith("+a")]) == 8
    causes = []
    error: BaseException | None = info.value
    while error is not None:
        causes.append(type(error))
        error = error.__cause__
    assert causes == [SupervisorFailed, SupervisorFailed, SupervisorFailed, ValueError]


async def test_a_subtree_can_be_set_aside(stage: Stage, autojump_clock: MockClock) -> None:
    """As a worker does with its queues: the bad one is failed and tried each minute, the others go on."""
    queues = stage.supervisor("queues", intensity=1, escalation="retry", in_turn=False)
    for name, lives in (("good", []), ("bad", [ValueError("x")] * 100)):
        queue = stage.supervisor(name, intensity=1, strategy="one_for_all")
        queue.add(stage.child(f"{name} fetcher", *lives), name="fetcher")
        queues.add(queue)
    async with running(queues):
        await trio.sleep(30)
        assert states(queues) == {"good": "running", "bad": "failed"}
        await trio.sleep(38)
        assert states(queues) == {"good": "running", "bad": "running"}
        await trio.sleep(3)
        assert states(queues) == {"good": "running", "bad": "failed"}
    assert [entry for entry in stage.played if "good" in entry] == ["0 +good fetcher", "71 -good fetcher"]


async def test_a_subtree_is_up_when_all_of_it_is(stage: Stage, autojump_clock: MockClock) -> None:
    """What is added after it waits for that."""
    inner = stage.supervisor("inner")
    inner.add(stage.slow("a", 2))
    inner.add(stage.slow("b", 3))
    outer = stage.supervisor("outer")
    outer.add(inner)
    outer.add(stage.child("c"), name="c")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outer.run)
        await trio.sleep(4)
        assert states(outer) == {"inner": "starting", "c": "waiting"}
        await trio.sleep(2)
        assert states(outer) == {"inner": "running", "c": "running"}
        outer.stop()
    assert stage.played == ["0 +a", "2 +b", "5 +c", "6 -c", "6 -b", "6 -a"]


async def test_a_stop_asks_all_the_way_down(stage: Stage, autojump_clock: MockClock) -> None:
    """A supervisor among the children is asked, not cancelled, so its own children are asked as well."""
    asked = trio.Event()

    async def polite() -> None:
        await asked.wait()
        await trio.sleep(20)
        stage.note("in peace")

    inner = stage.supervisor("inner")
    inner.add(polite, stop=asked.set, shutdown=30, restart="transient")
    outer = stage.supervisor("outer")
    outer.add(stage.child("a"))
    outer.add(inner)
    async with running(outer):
        pass
    assert stage.played == ["0 +a", "20 in peace", "20 -a"]


async def test_a_subtree_has_the_time_that_its_children_have(stage: Stage, autojump_clock: MockClock) -> None:
    """A stuck grandchild is named by its supervisor; then the subtree is named too, and the rest goes on."""
    inner = stage.supervisor("inner")
    inner.add(stage.stubborn("a", 100), name="a", shutdown=3)
    inner.add(stage.child("b"), name="b", shutdown=4, stop=lambda: None)
    outer = stage.supervisor("outer")
    outer.add(stage.child("c"), name="c")
    outer.add(inner)
    assert inner.patience() == 1 + 3 + 2 * 4
    assert outer.patience() == 1 + 5 + 2 * inner.patience()
    async with running(outer):
        pass
    assert stage.played[3:] == ["4 -b", "24 -c", "104 -a"]
    stuck = [event for event in stage.events if isinstance(event, ChildStuck)]
    assert stuck == [ChildStuck("inner", "a", 3), ChildStuck("outer", "inner", 12)]


def test_out_of_turn_a_stop_takes_as_long_as_the_slowest() -> None:
    """Limits add up only where children wait for each other; an empty supervisor needs a moment too."""
    supervisor = Supervisor("top", in_turn=False)
    assert supervisor.patience() == 1
    supervisor.add(trio.sleep_forever, shutdown=3)
    supervisor.add(trio.sleep_forever, shutdown=7)
    assert supervisor.patience() == 8


def test_a_supervisor_cannot_contain_itself() -> None:
    """Neither directly nor through another."""
    inner, outer = Supervisor("inner"), Supervisor("outer")
    outer.add(trio.sleep_forever)
    outer.add(inner)
    assert outer.contains(inner)
    assert not inner.contains(outer)
    for child in (outer, inner):
        with pytest.raises(ValueError, match=f"supervisor '{inner.name}' cannot contain itself"):
            inner.add(child)


async def test_a_supervisor_in_two_places_is_a_visible_failure(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """It runs in one of them; in the other it fails with the reason."""
    inner = stage.supervisor("inner")
    outer = stage.supervisor("outer")
    outer.add(inner, name="first")
    outer.add(inner, name="second", restart="temporary")
    async with running(outer):
        await trio.sleep(1)
        assert states(outer) == {"first": "running", "second": "stopped"}
        assert outer.statistics().children[1].last_error == (
            "RuntimeError: supervisor 'inner' is running already"
        )


async def test_ctrl_c_below_ends_the_whole_tree_in_order(stage: Stage, autojump_clock: MockClock) -> None:
    """It travels up through every level."""

    async def bad() -> None:
        await trio.sleep(1)
        raise KeyboardInterrupt

    inner = stage.supervisor("inner")
    inner.add(stage.stubborn("a", 1))
    inner.add(bad)
    outer = stage.supervisor("outer")
    outer.add(stage.stubborn("c", 1))
    outer.add(inner)
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        await outer.run()
    assert stage.played == ["0 +c", "0 +a", "2 -a", "3 -c"]


# -- the snapshot ------------------------------------------------------------------------------------------


async def tree(stage: Stage) -> SupervisorStatistics:
    """Return the statistics of a tree in which much has happened."""
    inner = stage.supervisor("inner", strategy="rest_for_one")
    inner.add(stage.child("a", ValueError("one\ntwo")), name="a")
    inner.add(stage.slow("b", 5), name="b", restart="transient")
    outer = stage.supervisor("outer")
    outer.add(inner)
    outer.add(stage.child("c", 1.0), name="c", restart="temporary")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outer.run)
        await trio.sleep(4)
        statistics = outer.statistics()
        outer.stop()
    return statistics


async def test_statistics_show_the_whole_tree(stage: Stage, autojump_clock: MockClock) -> None:
    """Names, strategies, states, restarts, errors and since when; JSON carries all of it."""
    statistics = await tree(stage)
    inner = statistics.children[0].nested
    assert inner is not None

    def rough(moment: object) -> object:
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
                return rough(tree)

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


async def test_statistics_are_a_snapshot_that_nothing_changes(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """It is frozen all the way down, and stays as it was while the tree goes on."""
    statistics = await tree(stage)
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


def test_statistics_can_be_had_without_trio() -> None:
    """Before and after a run, anywhere."""
    supervisor = Supervisor("top")
    supervisor.add(trio.sleep_forever, name="a")
    (child,) = supervisor.statistics().children
    assert (child.state.value, child.since, child.since_clock) == ("stopped", None, None)
    assert json.loads(json.dumps(supervisor.statistics().to_dict()))["children"][0]["since"] is None


async def test_restarts_leave_the_window_and_stay_in_the_total(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """`recent_restarts` is what counts against the intensity now."""
    supervisor = stage.supervisor(period=10)
    supervisor.add(stage.child("a", ValueError(), ValueError()), name="a")
    seen = []
    async with running(supervisor):
        for _ in range(4):
            await trio.sleep(4)
            (child,) = supervisor.statistics().children
            seen.append((child.recent_restarts, child.restarts))
    assert seen == [(2, 2), (2, 2), (1, 2), (0, 2)]
