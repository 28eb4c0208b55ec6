"""The mutants fit the sources, and the environment applies one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.mutants import MUTANTS, VARIABLE

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.unmeasured]


def test_every_mutant_still_fits() -> None:
    """Each can be applied; what they are for is tested by ``python -m tests.chaos.mutants``."""
    code = (
        "import os\n"
        "from tests.chaos.mutants import MUTANTS\n"
        "for name, mutant in MUTANTS.items():\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        mutant()\n"
        "        os._exit(0)\n"
        "    assert os.waitpid(pid, 0)[1] == 0, name\n"
    )
    _run(code, mutant="")
    assert len(MUTANTS) >= 12


def test_the_environment_names_a_mutant() -> None:
    """A worker process applies it when it imports its application."""
    code = (
        "import tests.chaos.jobs\n"
        "from jobrt._storage.sqlite.transaction import SQL\n"
        "assert 'last_tick <= :tick' in SQL['crons/fire']\n"
    )
    _run(code, mutant="cron_fires_twice")


def _run(code: str, *, mutant: str) -> None:
    environment = {**os.environ, VARIABLE: mutant}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
