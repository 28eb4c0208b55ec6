"""Rates: buckets of tokens, by any clock."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jobrt
from jobrt._core.rates import AHEAD, Bucket, Rate, new_bucket
from jobrt.errors import InvalidSetting

RATES = st.builds(
    Rate,
    st.integers(1, 50) | st.sampled_from([333, 1000]),
    per=st.sampled_from([0.3, 1.0, 7.0, 60.0]),
    burst=st.integers(1, 50),
)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"count": 0}, "Rate.count"),
        ({"count": 1.5}, "Rate.count"),
        ({"count": True}, "Rate.count"),
        ({"count": 1, "per": float("nan")}, "Rate.per"),
        ({"count": 1, "per": 0}, "Rate.per"),
        ({"count": 1, "per": "s"}, "Rate.per"),
        ({"count": 1, "per": 1e-9}, "Rate.per"),
        ({"count": 1, "per": timedelta(days=400)}, "Rate.per"),
        ({"count": 1, "burst": 0}, "Rate.burst"),
        ({"count": 1, "burst": 10**6}, "Rate.burst"),
    ],
)
def test_a_wrong_rate_is_refused_in_one_line(given: dict[str, Any], named: str) -> None:
    """The error names the setting, shows the value, and says what to use."""
    with pytest.raises(InvalidSetting, match=f"^{named} is .*: use [^\n]*$"):
        jobrt.Rate(**given)


def test_per_may_be_a_timedelta() -> None:
    """A minute is a minute."""
    assert Rate(5, per=timedelta(minutes=1)) == Rate(5, per=60)


@given(
    RATES,
    st.lists(st.tuples(st.integers(-3_000_000, 3_000_000), st.integers(0, 30)), max_size=40),
    st.booleans(),
)
def test_no_window_has_more_starts_than_allowed(
    rate: Rate, steps: list[tuple[int, int]], in_advance: bool
) -> None:
    """However claims come, and with tokens taken in advance, any time t has `burst + count * t / per` starts at most.

    While the clock is set back, real time is the sum of its steps forward.
    """
    bucket, clock, real, starts = new_bucket(rate, 0), 0, 0, []
    for step, wanted in steps:
        clock, real = clock + step, real + max(step, 0)
        bucket = bucket.filled(rate, clock)
        number = min(wanted, bucket.tokens(rate, ahead=AHEAD if in_advance else 0))
        delays = [bucket.start(rate, n) for n in range(1, number + 1)]
        assert all(delay <= (AHEAD if in_advance else 0) for delay in delays)
        starts += [real + delay for delay in delays]
        bucket = bucket.take(number)
    assert starts == sorted(starts)
    for first in range(len(starts)):
        for last in range(first, len(starts)):
            window = starts[last] - starts[first]
            assert last - first + 1 <= rate.burst + rate.count * Fraction(window, round(rate.per * 1e6))


@given(RATES, st.integers(0, 10**7), st.integers(0, 60))
def test_a_token_is_there_after_the_wait(rate: Rate, elapsed: int, taken: int) -> None:
    """The wait is the shortest after which one more may start: nobody has to ask before, and nobody asks in vain."""
    bucket = new_bucket(rate, 0).take(min(taken, rate.burst)).filled(rate, elapsed)
    wait = bucket.wait(rate)
    assert bucket.filled(rate, elapsed + wait).tokens(rate) >= 1
    assert wait == 0 or bucket.filled(rate, elapsed + wait - 1).tokens(rate) == 0


@given(RATES, st.integers(0, 50))
def test_a_full_bucket_is_as_good_as_none(rate: Rate, taken: int) -> None:
    """When `full_at` has come, the bucket allows what a new one does, and not before."""
    bucket = new_bucket(rate, 0).take(min(taken, rate.burst))
    at = bucket.full_at(rate)
    assert bucket.filled(rate, at).parts == rate.full
    assert at == 0 or bucket.filled(rate, at - 1).parts < rate.full


@given(st.integers(1, 100_000), st.sampled_from([0.001, 1.0, 60.0]))
def test_a_rate_is_kept_within_a_hundredth(count: int, per: float) -> None:
    """The time between two tokens is a whole number of microseconds, unless it is very short."""
    rate = Rate(count, per=per)
    kept = Fraction(rate.gain, rate.unit) / Fraction(count, round(per * 1e6))
    assert Fraction(99, 100) <= kept <= 1


def test_a_changed_rate_keeps_the_tokens() -> None:
    """Half a bucket of an hour is half a bucket of a second."""
    bucket = new_bucket(Rate(1, per=3600, burst=10), 0).take(5)
    assert bucket.filled(Rate(1, burst=10), 0).tokens(Rate(1, burst=10)) == 5


def test_nothing_starts_while_a_bucket_is_held() -> None:
    """A pause counts besides the tokens; the later of the two decides."""
    rate = Rate(1)
    held = Bucket(0, rate.full, rate.unit, held_until=5_000_000)
    assert held.tokens(rate) == 0
    assert held.wait(rate) == 5_000_000
    assert all(
        a <= b for a, b in pairwise(held.filled(rate, at).tokens(rate) for at in (0, 4_999_999, 5_000_000))
    )


def test_a_hold_for_more_than_an_hour_does_not_count() -> None:
    """The clock was wrong when it was made."""
    rate = Rate(1)
    assert Bucket(0, rate.full, rate.unit, held_until=3_600_000_000).tokens(rate) == 0
    wrong = Bucket(0, rate.full, rate.unit, held_until=3_600_000_001)
    assert (wrong.tokens(rate), wrong.wait(rate)) == (1, 0)


@pytest.mark.parametrize("number", [-(2**63), -1, 0, 2**63 - 1])
def test_any_row_is_a_bucket(number: int) -> None:
    """It delays a start by a token and what claims take in advance at most, and never allows more than the burst."""
    rate = Rate(10, burst=3)
    for odd in (Bucket(number, 0, 7), Bucket(0, number, 7), Bucket(0, 0, number), Bucket(0, 0, 7, number)):
        found = odd.filled(rate, 5)
        assert 0 <= found.tokens(rate) <= 3
        assert found.wait(rate) <= 2 * rate.unit // rate.gain + AHEAD
