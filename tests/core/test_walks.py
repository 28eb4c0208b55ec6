"""Tests of the decisions for lists at a bounded cost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from jobrt._core import where
from jobrt._core.states import FINAL, HELD, UNSTARTED
from jobrt._core.walks import Look, Place, Walk, depth, given, merged, parse_place, seen, walk_of
from jobrt._core.where import Where
from jobrt.errors import InvalidFilter

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
RARE = where.tagged_any(["rare"])
A, B = where.queue("a"), where.queue("b")
MAIL, SEND = where.name("mail"), where.name("send")


@pytest.mark.parametrize(
    ("filter", "by", "covers"),
    [
        (where.everything(), "id", True),
        (where.created_before(NOON), "id", True),
        (where.created_before(NOON) & RARE, "id", False),
        (RARE, "id", False),
        (A, "id", False),
        (where.state("available", "completed"), "id", False),
        (where.state("available") | A, "id", False),
        (~where.state("available"), "id", False),
        (where.id(7) & where.state("completed"), "given", False),
        (where.parent(7), "children", False),
        (where.state(*FINAL), "ends", True),
        (where.state("completed") & where.state(*FINAL), "ends", True),
        (where.state("completed") & (MAIL | SEND), "ends", True),
        (where.state("completed") & (MAIL | A), "ends", False),
        (where.state("completed") & A, "ends", False),
        (where.state("completed", "executing") & where.state("completed", "available"), "ends", True),
        (where.state(), "ends", True),
        (where.state(*UNSTARTED), "due", True),
        (where.state(*UNSTARTED) & A, "due", True),
        (where.state(*UNSTARTED) & MAIL, "due", False),
        (where.state("retryable"), "due", False),
        (where.state(*HELD), "held", True),
        (where.state(*HELD) & MAIL, "held", False),
        (where.state("executing"), "held", False),
        (where.state("suspended"), "suspended", False),
    ],
)
def test_the_walk_of_a_filter(filter: Where, by: str, covers: bool) -> None:
    """That of the fewest jobs; it covers the filter if the index alone decides."""
    walk = walk_of(filter, newest=True)
    assert (walk.by, walk.covers) == (by, covers)
    assert walk.timed == (by in {"ends", "due"})
    assert walk.by_id() == Walk(by="id", newest=True)


@pytest.mark.parametrize(
    ("filter", "wanted"),
    [
        (where.id_in([3, 1, 2]), {"ids": (3, 2, 1)}),
        (where.parent_in([3, 1]), {"ids": (1, 3)}),
        (where.state("completed", "cancelled"), {"states": ("cancelled", "completed"), "names": None}),
        (where.state("completed") & (MAIL | SEND) & MAIL, {"names": ("mail",)}),
        (where.state("completed") & where.name("\0"), {"names": ()}),
        (where.state("available"), {"queues": None, "due_now": True}),
        (where.state("scheduled") & (A | B), {"queues": ("a", "b"), "due_now": False}),
        (where.state("scheduled", "available"), {"due_now": None}),
        (where.state("scheduled", "retryable"), {"due_now": None}),
    ],
)
def test_what_a_walk_is_limited_to(filter: Where, wanted: dict[str, Any]) -> None:
    """Values of all parts of a filter, as far as an index knows them."""
    walk = walk_of(filter, newest=True)
    assert {name: getattr(walk, name) for name in wanted} == wanted


def test_given_ids_behind_a_place() -> None:
    """In either direction."""
    newest, oldest = (walk_of(where.id_in([1, 5, 9]), newest=way) for way in (True, False))
    assert given(newest, None) == [Place(9), Place(5), Place(1)]
    assert given(newest, Place(5)) == [Place(1)]
    assert given(oldest, Place(5)) == [Place(9)]


@pytest.mark.parametrize(
    ("kinds", "scan", "limit", "wanted"),
    [
        (1, 5000, 0, 5000),
        (7, 5000, 0, 715),
        (1000, 51, 0, 1),
        (1000, 51, 50, 20),
        (7, 51, 50, 51),
        (0, 5, 0, 5),
    ],
)
def test_how_much_is_read_of_each_list(kinds: int, scan: int, limit: int, wanted: int) -> None:
    """Together about what is to be looked at, and enough for a page."""
    assert depth(kinds, scan=scan, limit=limit) == wanted


def test_lists_are_merged_as_far_as_all_are_known() -> None:
    """What is behind the end of a list that was cut is left out, since that list may have something before it."""
    first, second = [Place(9, 30), Place(8, 20)], [Place(7, 25), Place(6, 10), Place(5, 5)]
    assert merged([first, second], depth=4, newest=True)[1] is False
    assert merged([first, second], depth=3, newest=True) == (
        [Place(9, 30), Place(7, 25), Place(8, 20), Place(6, 10), Place(5, 5)],
        True,
    )
    assert merged([first, second], depth=2, newest=True) == ([Place(9, 30), Place(7, 25), Place(8, 20)], True)
    backward = [first[::-1], second[::-1]]
    assert merged(backward, depth=2, newest=False)[0] == [
        Place(5, 5),
        Place(6, 10),
        Place(8, 20),
        Place(7, 25),
    ]
    assert merged(backward, depth=3, newest=False)[0] == [
        Place(5, 5),
        Place(6, 10),
        Place(8, 20),
        Place(7, 25),
    ]
    assert merged([], depth=3, newest=True) == ([], False)


def test_where_a_look_goes_on() -> None:
    """Behind the last job of a full page, or behind all that was looked at."""
    places = [Place(number) for number in (9, 8, 7, 6)]
    assert seen(places, None, more=False, limit=4) == Look((9, 8, 7, 6), None, 4)
    assert seen(places, None, more=False, limit=2) == Look((9, 8), Place(8), 2)
    assert seen(places, {8}, more=False, limit=2) == Look((8,), None, 4)
    assert seen(places, {8}, more=True, limit=2) == Look((8,), Place(6), 4)
    assert seen(places, {8, 7}, more=True, limit=2) == Look((8, 7), Place(7), 3)
    assert seen(places, {8, 7}, more=False, limit=2) == Look((8, 7), None, 4)
    assert seen(places, {9}, more=True, limit=0) == Look((), None, 0)
    assert seen([], None, more=False, limit=2) == Look((), None, 0)


@pytest.mark.parametrize("place", [Place(7), Place(7, 0), Place(7, -5), Place(2**63 - 1, 2**63 - 1)])
def test_a_place_as_text(place: Place) -> None:
    """The text of a place is read again."""
    assert parse_place("after", str(place)) == place


@pytest.mark.parametrize("text", ["", "0", "x", "7.", "7.x", "-7", "9" * 19, "7." + "9" * 19, "²", "9" * 50])
def test_a_text_that_is_no_place(text: str) -> None:
    """The error names the parameter and quotes the beginning of the text."""
    with pytest.raises(InvalidFilter, match=r"^after is '.{0,41}': use a whole number above zero"):
        parse_place("after", text)
