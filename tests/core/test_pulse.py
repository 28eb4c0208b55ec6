"""Times at which those who look from time to time do so."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from jobrt._core.pulse import next_pulse


@given(st.floats(0, 1e7), st.floats(0.01, 1e3))
@example(15589.84, 0.02)  # the quotient is rounded down, and the multiple is not later
def test_the_next_one_is_later_by_no_more_than_an_interval(now: float, interval: float) -> None:
    """So nobody waits for longer than an interval, or not at all."""
    assert now < next_pulse(now, interval) <= now + interval + 1e-6


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_all_have_the_same_ones(one: float, other: float) -> None:
    """Two who look at the same interval wake up together, whenever each began."""
    assert (next_pulse(one, 0.5) - next_pulse(other, 0.5)) % 0.5 == 0
