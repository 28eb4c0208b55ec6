"""Clients and workers, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import psutil
from tests.bench.peers.harness import Marks

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.bench.measuring.databases import Database, Databases
    from tests.bench.peers import Peer

__all__ = ["Bench", "Contestant", "MeasurementError", "Working", "memory"]

CLIENT_SECONDS = 600.0
"""Maximum seconds of a client."""


class MeasurementError(Exception):
    """Raised when a client or a worker fails; the message has its last line of output."""


@attrs.frozen
class Contestant:
    """A peer with one of its settings."""

    peer: Peer
    setting: str
    python: str
    """The Python interpreter with its packages."""

    @property
    def name(self) -> str:
        """The name of its row in the tables."""
        return f"{self.peer.name} {self.setting}"

    def command(self, *arguments: str) -> list[str]:
        """Return a command line for its adapter."""
        return [self.python, str(self.peer.script), *arguments]


@attrs.frozen
class Bench:
    """Databases and a folder for measurements."""

    databases: Databases
    folder: Path

    @property
    def _marks(self) -> Path:
        return self.folder / "marks"

    @contextmanager
    def database(self, who: Contestant) -> Generator[Database]:
        """Create a database with the tables of a peer."""
        with self.databases.fresh() as database:
            self.ask(who, "setup", database.url)
            yield database

    def ask(self, who: Contestant, *arguments: str) -> Any:
        """Run a command of an adapter and return its result."""
        try:
            done = subprocess.run(
                who.command(*arguments),
                env=self._environment(who),
                capture_output=True,
                text=True,
                check=True,
                timeout=CLIENT_SECONDS,
            )
        except subprocess.SubprocessError as error:
            raise MeasurementError(
                f"{arguments[0]}: {_last_line(str(getattr(error, 'stderr', '') or error))}"
            ) from error
        return json.loads(done.stdout.splitlines()[-1])

    @contextmanager
    def working(self, who: Contestant, url: str, *, jobs: int) -> Generator[Working]:
        """Run a worker during the block, for jobs with numbers below `jobs`, and stop it gracefully."""
        marks, log = Marks.make(self._marks, jobs), self.folder / "log"
        with log.open("wb") as output:
            process = psutil.Popen(
                who.command("work", url, who.setting),
                env=self._environment(who),
                stdout=output,
                stderr=output,
            )
        try:
            yield Working(process, marks, log)
        finally:
            _stop(process)

    def _environment(self, who: Contestant) -> dict[str, str]:
        return {**os.environ, "MARKS": str(self._marks), "SETTING": who.setting}


@attrs.frozen
class Working:
    """A worker process and the marks of its jobs."""

    process: psutil.Popen
    marks: Marks
    log: Path

    def cpu(self) -> float:
        """Return the CPU seconds of the process and its children."""
        total = 0.0
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])  # without the times of ended children
        return total

    def peak(self) -> float:
        """Return the peak memory of the process and its children in MiB; NaN outside of Linux."""
        total = 0.0
        for process in self._tree():
            try:
                with open(f"/proc/{process.pid}/status", encoding="ascii") as status:  # noqa: PTH123
                    total += next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
            except (OSError, StopIteration):
                continue
        return total / 1024 or float("nan")

    def until(self, reached: Callable[[], object], *, deadline: float) -> bool:
        """Wait until a condition is true, and return whether that was in time."""
        while not reached():
            if self.process.poll() is not None:
                output = self.log.read_text(encoding="utf-8", errors="replace")
                raise MeasurementError(f"the worker ended: {_last_line(output)}")
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def begin(self) -> None:
        """Wait for the start of the first body."""
        if not self.until(lambda: self.marks.begun, deadline=time.monotonic() + 60):
            raise MeasurementError("the worker did not start a job within 60 s")

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self.process, *self.process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def memory() -> str | None:
    """Return a folder in memory, so that the marks cause no disk writes; None if there is none."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _stop(process: psutil.Popen) -> None:
    """Stop a worker gracefully, and kill the remaining processes."""
    with suppress(psutil.NoSuchProcess):
        tree = [process, *process.children(recursive=True)]
        process.terminate()
        with suppress(psutil.TimeoutExpired):
            process.wait(10)
        for member in tree:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait()


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1] if lines else "no output"
