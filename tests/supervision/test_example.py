"""The example of `jobrt.Supervisor`."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import trio

import jobrt

EXAMPLE = Path(__file__).parents[2] / "examples" / "supervised_services.py"


def test_the_example_runs_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    """The meter fails and is restarted, the server always answers, and both are stopped at the end."""
    main = runpy.run_path(str(EXAMPLE))["main"]

    async def bounded() -> None:
        with trio.fail_after(30):
            await main()

    trio.run(bounded)
    printed = capsys.readouterr().out
    assert "ms late" in printed
    assert "last error OSError: the meter does not answer" in printed
    assert "    server: running, 0 restarts" in printed
    assert printed.rstrip().splitlines()[-1] == "    server: stopped, 0 restarts"


def test_the_supervisor_is_public() -> None:
    """The class, its error and its statistics are names of the package."""
    statistics = jobrt.Supervisor("top").statistics()
    assert isinstance(statistics, jobrt.SupervisorStatistics)
    assert issubclass(jobrt.SupervisorFailed, jobrt.JobrtError)
    assert jobrt.ChildStatistics.__name__ in jobrt.__all__
