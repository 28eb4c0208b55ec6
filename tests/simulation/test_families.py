"""Families keep their guarantees under random faults from a seed."""

from __future__ import annotations

import os

import pytest

from tests.simulation.simulate import simulate

pytestmark = pytest.mark.unmeasured

SEEDS = range(int(os.environ.get("JOBRT_SIMULATION_SEEDS", "20")) // 5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_families_hold_under_random_faults(seed: int) -> None:
    """Nobody outlives an ancestor or enters a scope that is over, messages are received once, and every job ends."""
    summary = simulate(seed, families=True)
    assert summary.runs > 20, "too few runs to test anything"
