"""Tests of sums of statistics."""

from __future__ import annotations

from jobrt._core.stats import NO_CLASSES, NOTHING, Numbers, total

SOME = Numbers(1, 2, 3, 4, 0.5, 1.5, (1,) * 12, (2,) * 12)


def test_no_numbers_are_nothing() -> None:
    """The sum of nothing has no jobs, and one alone is unchanged."""
    assert total([]) == NOTHING == Numbers(0, 0, 0, 0, 0.0, 0.0, NO_CLASSES, NO_CLASSES)
    assert total([SOME]) == SOME


def test_numbers_are_added_each_by_each() -> None:
    """Classes are added each to its own."""
    assert total([SOME, SOME, NOTHING]) == Numbers(2, 4, 6, 8, 1.0, 3.0, (2,) * 12, (4,) * 12)
