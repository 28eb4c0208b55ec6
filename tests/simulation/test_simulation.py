"""A cluster in virtual time, with everything that chance decides drawn from a seed, keeps its promises."""

from __future__ import annotations

import os

import pytest

from tests.simulation.simulate import simulate

SEEDS = range(int(os.environ.get("JOBRT_SIMULATION_SEEDS", "50")))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_promises_hold_whatever_goes_wrong(seed: int) -> None:
    """No two copies of a job, no outcome under a stale lease, limits kept, stops bounded, every job ends."""
    summary = simulate(seed)
    assert summary.runs > 20, "a simulation in which little happens shows little"


@pytest.mark.slow
def test_a_seed_replays_exactly() -> None:
    """The same seed gives the same calls at the same times, so that a failure can be looked at again."""
    assert simulate(4) == simulate(4)
