"""`jobrt._core.limits`: how much to ask for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrt._core.limits import Demand, demand
from jobrt._core.queues import Queue


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
