"""A simulated cluster keeps its guarantees under random faults from a seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.simulate import simulate

pytestmark = pytest.mark.unmeasured

SEEDS = range(int(os.environ.get("JOBRT_SIMULATION_SEEDS", "20")) * 3 // 5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_guarantees_hold_under_random_faults(seed: int) -> None:
    """No job runs twice at a time, no stale outcome is stored, limits hold, stops end, and every job finishes."""
    summary = simulate(seed)
    assert summary.runs > 20, "too few runs to test anything"


@pytest.mark.slow
@pytest.mark.process
def test_a_seed_replays_exactly() -> None:
    """The same seed gives the same calls at the same times, in another process too, which has other hashes."""
    here = simulate(4)
    assert simulate(4) == here
    code = "from tests.simulation.simulate import simulate; print(simulate(4).digest)"
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), *sys.path])
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == here.digest, done.stderr
