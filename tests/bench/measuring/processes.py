"""Run clients and workers, each in a process of its own."""

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

PATIENCE = 600.0
"""Seconds for a client, or for a worker to begin."""


class MeasurementError(Exception):
    """A client or a worker did not do what it is for; the message says what it said last."""


@attrs.frozen
class Contestant:
    """A peer with one of its settings."""

    peer: Peer
    setting: str
    python: str
    """The interpreter that has it."""

    @property
    def name(self) -> str:
        """Return the name of its row."""
        return f"{self.peer.name} {self.setting}"

    def command(self, *arguments: str) -> list[str]:
        """Return a command of its adapter."""
        return [self.python, str(self.peer.script), *arguments]


@attrs.frozen
class Bench:
    """A place for databases, and one for files."""

    databases: Databases
    folder: Path

    @property
    def _marks(self) -> Path:
        return self.folder / "marks"

    @contextmanager
    def database(self, who: Contestant) -> Generator[Database]:
        """Make a database with a peer's tables."""
        with self.databases.fresh() as database:
            self.ask(who, "setup", database.url)
            yield database

    def ask(self, who: Contestant, *arguments: str) -> Any:
        """Run a command of an adapter and return what it printed."""
        try:
            done = subprocess.run(
                who.command(*arguments),
                env=self._environment(who),
                capture_output=True,
                text=True,
                check=True,
                timeout=PATIENCE,
            )
        except subprocess.SubprocessError as error:
            raise MeasurementError(
                f"{arguments[0]}: {_last(str(getattr(error, 'stderr', '') or error))}"
            ) from error
        return json.loads(done.stdout.splitlines()[-1])

    @contextmanager
    def working(self, who: Contestant, url: str, *, jobs: int) -> Generator[Working]:
        """Run a worker for the length of a block, for jobs with numbers below one; stop it gracefully."""
        marks, log = Marks.make(self._marks, jobs), self.folder / "log"
        with log.open("wb") as said:
            process = psutil.Popen(
                who.command("work", url, who.setting),
                env=self._environment(who),
                stdout=said,
                stderr=said,
            )
        try:
            yield Working(process, marks, log)
        finally:
            _stop(process)

    def _environment(self, who: Contestant) -> dict[str, str]:
        return {**os.environ, "MARKS": str(self._marks), "SETTING": who.setting}


@attrs.frozen
class Working:
    """A worker process and what its jobs left."""

    process: psutil.Popen
    marks: Marks
    log: Path

    def cpu(self) -> float:
        """Return the CPU seconds that it and its children have used."""
        total = 0.0
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])  # the last two are those of children that have ended
        return total

    def peak(self) -> float:
        """Return the peak memory of it and its children in MiB, as Linux counts it; nan elsewhere."""
        total = 0.0
        for process in self._tree():
            try:
                with open(f"/proc/{process.pid}/status", encoding="ascii") as status:  # noqa: PTH123
                    total += next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
            except (OSError, StopIteration):
                continue
        return total / 1024 or float("nan")

    def until(self, reached: Callable[[], object], *, deadline: float) -> bool:
        """Wait for something to become true; return whether it has, in time."""
        while not reached():
            if self.process.poll() is not None:
                said = self.log.read_text(encoding="utf-8", errors="replace")
                raise MeasurementError(f"the worker ended: {_last(said)}")
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def begin(self) -> None:
        """Wait for the first body."""
        if not self.until(lambda: self.marks.begun, deadline=time.monotonic() + 60):
            raise MeasurementError("the worker did not start a job within 60 s")

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self.process, *self.process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def memory() -> str | None:
    """Return a folder in memory, so that what bodies note is not in the way of the server's commits."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _stop(process: psutil.Popen) -> None:
    """Stop a worker gracefully, and what is left of it by force."""
    with suppress(psutil.NoSuchProcess):
        tree = [process, *process.children(recursive=True)]
        process.terminate()
        with suppress(psutil.TimeoutExpired):
            process.wait(10)
        for one in tree:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()


def _last(said: str) -> str:
    lines = said.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
