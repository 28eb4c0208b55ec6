"""A cluster in virtual time, with everything that chance decides drawn from a seed, keeps its promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.slow
@pytest.mark.process
def test_a_seed_replays_in_another_process() -> None:
    """Nothing hangs on where objects lie or how texts are hashed: what CI saw can be looked at elsewhere."""
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
    assert done.stdout.strip() == simulate(4).digest, done.stderr
