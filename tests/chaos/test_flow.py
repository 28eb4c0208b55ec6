"""Chains, fan-out and fan-in end once and right, wherever the process that runs them is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.process]

EVERY = os.environ.get("JOBRT_FLOW_EVERY", "6")
"""Which moments are tried: each sixth; ``1`` tries all fifty or so, before and after each call of the storage."""


def test_a_flow_survives_sigkill_anywhere(database_url: str) -> None:
    """Each child is enqueued once, the one that fails is known to its parent, and the result is right."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.chaos.flow", database_url, EVERY],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=55 if EVERY != "1" else 600,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split()[0]) * int(EVERY) >= 30, "a flow has that many moments at least"
