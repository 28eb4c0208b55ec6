"""A short run of the chaos test, which ``python -m tests.chaos`` runs for any time.

``JOBRT_CHAOS`` sets the seconds for each engine. A test may take at most four minutes in total.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
import trio

from tests.chaos.disk import small_disk
from tests.chaos.run import durable, run_chaos

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.postgres import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.unmeasured]

SECONDS = float(os.environ.get("JOBRT_CHAOS", "20"))
AFTERWARDS = 120.0
"""Seconds for starting, settling and stopping."""
SEED = random.SystemRandom().randrange(1 << 32)


async def test_nothing_goes_wrong_on_postgres(private_postgres: Cluster, tmp_path: Path) -> None:
    """Every invariant holds, and no worker ends by itself."""
    url = durable(private_postgres).server.create_database("chaos")
    with trio.fail_after(SECONDS + AFTERWARDS):
        run = await run_chaos(url, tmp_path, seconds=SECONDS, seed=SEED, cluster=private_postgres)
    assert run.violations == (), f"seed {SEED}"
    assert run.counts["jobs"]


async def test_nothing_goes_wrong_on_sqlite(tmp_path: Path) -> None:
    """The same holds for a SQLite file that several processes share, on a disk that is full at times."""
    with small_disk(16) as disk, trio.fail_after(SECONDS + AFTERWARDS):
        url = f"sqlite:///{disk.folder / 'jobs.db'}"
        full = None if disk.refused else disk  # without the right to mount a disk, there are the other faults
        run = await run_chaos(url, tmp_path, seconds=SECONDS, seed=SEED, disk=full)
    assert run.violations == (), f"seed {SEED}"
    assert run.counts["jobs"]
