"""Identity of children: what a nursery is asked for."""

from __future__ import annotations

import pytest

from jobrt._core.family import Roll
from jobrt._core.job import NewJob
from jobrt._core.scopes import Member
from jobrt.errors import InvalidJob, NurseryChanged

PAGE, COVER = NewJob("Page", "{}"), NewJob("Cover", "{}")


def test_equal_children_are_counted() -> None:
    """The n-th equal one is the n-th; a key is its own identity, for one job."""
    roll = Roll("nursery", sealed=False)
    first, second = roll.identity(PAGE, None), roll.identity(PAGE, None)
    assert first != second
    assert roll.identity(PAGE, "a") == roll.identity(PAGE, "a") == "key:a"
    with pytest.raises(InvalidJob, match="two different jobs"):
        roll.identity(COVER, "a")


def test_a_sealed_nursery_has_its_members_only() -> None:
    """What is asked for is found by identity, or is the next unclaimed child of that job name."""
    roll = Roll("nursery", sealed=True)
    roll.add([Member(1, "key:a", 7, "Page", "completed"), Member(2, "other", 8, "Page", "completed")])
    found = roll.find("key:a", PAGE), roll.find("changed", PAGE)
    assert [member.id for member in found if member is not None] == [7, 8]
    with pytest.raises(NurseryChanged, match="has not asked for this Page"):
        roll.find("one more", PAGE)


def test_a_member_is_one_job() -> None:
    """An identity that belongs to another job name is refused; an open nursery takes what is new."""
    roll = Roll("nursery", sealed=False)
    roll.add([Member(1, "key:a", 7, "Page", "completed")])
    with pytest.raises(NurseryChanged, match="is a Page and not a Cover"):
        roll.find("key:a", COVER)
    assert roll.find("key:b", COVER) is None
