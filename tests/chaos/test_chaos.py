"""A short run of the maltreatment that ``python -m tests.chaos`` does for as long as it is told.

``JOBRT_CHAOS`` asks for another number of seconds on each engine; a test may take four minutes, all in all.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
import trio

from tests.chaos.run import maltreat

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.postgres import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.process]

SECONDS = float(os.environ.get("JOBRT_CHAOS", "15"))
AFTERWARDS = 60.0
"""Seconds for starting, calming down and stopping."""
SEED = random.SystemRandom().randrange(1 << 32)


async def test_nothing_goes_wrong_on_postgres(private_postgres: Cluster, tmp_path: Path) -> None:
    """No job is lost, doubled, stuck or overlapping, whoever dies; no worker ends by itself."""
    url = private_postgres.server.create_database("chaos")
    with trio.fail_after(SECONDS + AFTERWARDS):
        run = await maltreat(url, tmp_path, seconds=SECONDS, seed=SEED, cluster=private_postgres)
    assert run.faults == (), f"seed {SEED}"
    assert run.report.jobs


async def test_nothing_goes_wrong_on_sqlite(sqlite_url: str, tmp_path: Path) -> None:
    """The same on a file that several processes share."""
    with trio.fail_after(SECONDS + AFTERWARDS):
        run = await maltreat(sqlite_url, tmp_path, seconds=SECONDS, seed=SEED)
    assert run.faults == (), f"seed {SEED}"
    assert run.report.jobs
