"""A flow of jobs, and a family, survive SIGKILL at any point."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.unmeasured]

EVERY = os.environ.get("JOBRT_FLOW_EVERY", "6")
"""Step between tested moments; ``1`` tests all of about fifty, before and after each storage call."""


@pytest.mark.parametrize(("flow", "moments"), [("flow", 30), ("family", 18)])
def test_a_flow_survives_sigkill_anywhere(database_url: str, flow: str, moments: int) -> None:
    """Each child is enqueued once, the parent knows how each has ended, and the result is correct."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"tests.chaos.{flow}", database_url, EVERY],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=200 if EVERY != "1" else 900,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split()[0]) * int(EVERY) >= moments, "a flow has at least so many moments"
