"""Verdicts of jobs."""

from __future__ import annotations

import pytest

from jobrt import Throttle
from jobrt.errors import InvalidResult


def test_a_pause_is_at_most_an_hour() -> None:
    """A longer one would be a mistake of the unit."""
    assert Throttle(3600).delay.total_seconds() == 3600
    with pytest.raises(InvalidResult, match=r"Throttle\.delay.*at most an hour"):
        Throttle(3601)
