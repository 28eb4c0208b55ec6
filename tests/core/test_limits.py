"""`jobrt._core.limits`: how much to ask for, and which due jobs there is room for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrt._core.limits import Demand, Room, demand, limit_key
from jobrt._core.queues import Queue
from jobrt._core.rates import AHEAD, Rate


def _ask(
    room: int, free: dict[str, int], *, names: tuple[str, ...] = ("a",), queue: Queue | None = None
) -> Demand:
    return demand("w", "q", settings=queue or Queue(), room=room, names=names, free=free)


def test_what_is_free_is_asked_for() -> None:
    """Names without a limit up to the room, limited ones up to what is free of each."""
    assert _ask(5, {"b": 2, "c": 9, "d": 0, "e": -1}) == Demand("w", "q", 5, ("a",), (("b", 2), ("c", 5)))


@pytest.mark.parametrize(
    ("room", "names", "free", "empty"),
    [
        (1, ("a",), {}, False),
        (1, (), {"b": 1}, False),
        (1, (), {"b": 0}, True),
        (1, (), {}, True),
        (0, ("a",), {"b": 1}, True),
        (-3, ("a",), {"b": 1}, True),
    ],
)
def test_nothing_is_asked_for_when_nothing_fits(
    room: int, names: tuple[str, ...], free: dict[str, int], empty: bool
) -> None:
    """Without room, or with every name full, there is nothing to claim."""
    asked = _ask(room, free, names=names)
    assert asked.empty is empty
    assert asked.limit >= 0


@given(st.integers(-5, 50), st.dictionaries(st.sampled_from("bcdef"), st.integers(-5, 50)))
def test_no_more_than_can_start(room: int, free: dict[str, int]) -> None:
    """Neither the room nor any name's limit is ever exceeded, and no free place is forgotten."""
    asked = _ask(room, free)
    assert asked.limit == max(room, 0)
    assert all(0 < count <= min(free[name], room) for name, count in asked.capped)
    wanted = {name for name, count in free.items() if count > 0 and room > 0}
    assert {name for name, _ in asked.capped} == wanted


def test_tokens_are_taken_in_advance_for_one_rate_only() -> None:
    """A start that waits for a token of one rate would be too soon after another for the other."""
    rate = Rate(5)
    assert Demand("w", "q", 1, (), rate=rate).tokens_ahead == AHEAD
    assert Demand("w", "q", 1, (), key="name", per_key_rate=rate).tokens_ahead == AHEAD
    assert Demand("w", "q", 1, (), key="name", per_key_rate=rate, rate=rate).tokens_ahead == 0
    assert not Demand("w", "q", 1, ()).rated


@pytest.mark.parametrize(
    ("options", "clustered"),
    [({}, False), ({"cluster_limit": 4}, True), ({"key": "name", "per_key": 2}, True)],
)
def test_the_queues_limits_go_along(options: dict[str, Any], clustered: bool) -> None:
    """What holds over the cluster is for the storage to keep."""
    asked = _ask(1, {}, queue=Queue(**options))
    assert asked.clustered is clustered
    assert (asked.cluster_limit, asked.key, asked.per_key) == (
        options.get("cluster_limit"),
        options.get("key"),
        options.get("per_key"),
    )


# ---------------------------------------------------------------------- room


def _room(limit: int = 5, *, running: dict[str, int] | None = None, **options: Any) -> Room:
    return Room(Demand("w", "q", limit, ("a", "b"), **options), running)


def test_without_limits_the_first_jobs_fit() -> None:
    """Only the number asked for counts."""
    room = _room(2)
    assert not room.chooses
    assert [room.take(name, "") for name in ("a", "b", "a")] == [True, True, False]
    assert room.left == 0


def test_a_capped_name_is_passed_over_when_its_cap_is_reached() -> None:
    """And is no longer among the names to look for."""
    room = _room(capped=(("c", 1), ("d", 2)))
    assert room.chooses
    assert room.names == ("a", "b", "c", "d")
    assert [room.take(name, "") for name in ("c", "c", "a", "d")] == [True, False, True, True]
    assert room.names == ("a", "b", "d")
    assert room.left == 2


@pytest.mark.parametrize(("most", "left"), [(3, 3), (9, 5), (0, 0), (-2, 0)])
def test_a_room_can_be_limited(most: int, left: int) -> None:
    """To what a limit of the queue leaves; never less than nothing is left."""
    room = _room()
    room.limit(most)
    assert room.left == left


def test_a_key_has_room_until_its_tokens_are_gone() -> None:
    """Those that were taken before its tokens were known count, too."""
    room = _room(key="args.k")
    assert room.take("a", "x")
    room.allow("x", 2)
    room.allow("y", 0)
    assert room.full_keys == ["y"]
    assert [room.take("a", key) for key in ("y", "x", "x", "z")] == [False, True, False, True]
    assert room.full_keys == ["x", "y"]
    assert room.taken == {"x": 2, "z": 1}


def test_a_job_goes_on_without_a_token() -> None:
    """It takes room, of its name and of its key, too; others begin only while there are tokens."""
    room = _room(capped=(("c", 1),), key="args.k", per_key=2)
    assert room.starts == 5
    room.limit_starts(1)
    room.limit_starts(3)
    room.allow("x", 0)
    assert room.starts == 1
    assert [room.take("a", key) for key in ("x", "y", "z")] == [False, True, False]
    assert room.starts == 0
    assert [room.take("a", "x", begins=False) for _ in range(3)] == [True, True, False]
    assert [room.take("c", key, begins=False) for key in ("y", "z")] == [True, False]
    assert (room.left, room.started, room.taken) == (1, 1, {"y": 1})
    assert [room.take("b", "z", begins=False) for _ in range(2)] == [True, False]


def test_a_key_has_room_until_its_limit() -> None:
    """Those that run count, and those that were taken; a key that has none is full."""
    room = _room(running={"x": 1, "y": 2}, key="args.k", per_key=2)
    assert room.chooses
    assert room.full_keys == ["y"]
    assert [room.take("a", key) for key in ("y", "x", "x", "z")] == [False, True, False, True]
    assert sorted(room.full_keys) == ["x", "y"]
    room.allow("x", 0)
    assert room.busy_keys == ["y"], "x is held back by more than what runs"


NAMES = st.sampled_from("abcd")
KEYS = st.sampled_from("xyz")


@given(
    due=st.lists(st.tuples(NAMES, KEYS), max_size=30),
    limit=st.integers(0, 20),
    caps=st.dictionaries(st.sampled_from("cd"), st.integers(1, 5)),
    running=st.dictionaries(KEYS, st.integers(1, 4)),
    most=st.integers(0, 30),
    per_key=st.none() | st.integers(1, 4),
)
def test_no_limit_is_exceeded_and_no_job_passed_over_for_nothing(
    due: list[tuple[str, str]],
    limit: int,
    caps: dict[str, int],
    running: dict[str, int],
    most: int,
    per_key: int | None,
) -> None:
    """Each job that is not taken would break a limit at its turn."""
    path = None if per_key is None else "args.k"
    room = Room(Demand("w", "q", limit, ("a", "b"), tuple(caps.items()), key=path, per_key=per_key), running)
    room.limit(most)
    taken: list[tuple[str, str]] = []
    for name, key in due:
        names = Counter(one for one, _ in taken)
        keys = Counter(running) + Counter(one for _, one in taken)
        fits = (
            len(taken) < min(limit, most)
            and names[name] < caps.get(name, limit)
            and (per_key is None or keys[key] < per_key)
        )
        assert room.take(name, key) == fits
        if fits:
            taken.append((name, key))


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (None, "send"),
        ("name", "send"),
        ("args.n", "1"),
        ("args.deep.er", '"1"'),
        ("args.none", "null"),
        ("args.n.further", "null"),
        ("metadata.n", "null"),
    ],
)
def test_a_key_is_the_name_or_a_value_of_the_payload(path: str | None, key: str) -> None:
    """As text in which the number 1 and the text "1" differ; what is missing, or no JSON, is null."""
    args = '{"n": 1, "deep": {"er": "1"}}'
    assert limit_key(path, "send", args=args, metadata='{"a"') == key
