"""Job queues on PostgreSQL that jobrt is measured beside: one small adapter each, run by `harness.py`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import attrs

__all__ = ["PEERS", "Peer"]

HERE = Path(__file__).parent


@attrs.frozen
class Peer:
    """One job queue.

    ``packages`` are installed into a virtual environment of its own at first use; none is jobrt, which runs where
    the benchmark does. ``unfinished`` is a query for one row as long as the end of any job is not committed.
    ``settings`` are names that the adapter knows; the first is what its documentation offers at no choice.
    """

    name: str
    packages: tuple[str, ...]
    unfinished: str
    settings: tuple[str, ...] = ("default",)

    @property
    def script(self) -> Path:
        """Return the adapter."""
        return HERE / f"adapter_{self.name}.py"

    def python(self) -> str:
        """Return the interpreter that has the packages; it is made if it is not there."""
        if not self.packages:
            return sys.executable
        home = Path(
            tempfile.gettempdir(),
            f"jobrt-bench-{self.name}-{sys.version_info.major}.{sys.version_info.minor}",
        )
        python = home / "bin" / "python"
        if not (home / "ready").exists():
            venv.create(home, with_pip=True, clear=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *self.packages], check=True)
            (home / "ready").touch()
        return str(python)


PEERS = {
    peer.name: peer
    for peer in (
        Peer("jobrt", (), "select 1 from jobrt.job where finished_at is null limit 1"),
        Peer(
            "pgqueuer",
            ("pgqueuer", "asyncpg", "uvloop"),
            "select 1 from pgqueuer limit 1",
            ("default", "best"),
        ),
        Peer(
            "procrastinate",
            ("procrastinate",),
            "select 1 from procrastinate_jobs where status in ('todo', 'doing') limit 1",
            ("default", "best"),
        ),
    )
}
