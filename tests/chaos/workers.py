"""Worker processes of a chaos run, which are killed, frozen, stopped and replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import trio

from tests.chaos.history import Fault

__all__ = ["Journal", "Worker"]

ROOT = Path(__file__).parents[2]
EXIT = 0.5 + 5.0 + 10.0
"""Seconds for a worker to exit: its grace, five more, and a margin for a busy machine."""


@attrs.define(eq=False)
class Journal:
    """Record of what was done to the workers."""

    folder: Path
    faults: list[Fault] = attrs.Factory(list)
    errors: list[str] = attrs.Factory(list)
    kills: int = 0

    @property
    def log(self) -> Path:
        """The log of the jobs."""
        return self.folder / "jobs.log"

    def note(self, what: str) -> None:
        """Write an action with its time."""
        with (self.folder / "actions.log").open("a", encoding="utf-8") as file:
            file.write(f"{time.monotonic():.3f} {what}\n")


@attrs.define(eq=False)
class Worker:
    """A worker process, which is replaced when it has ended."""

    journal: Journal
    number: int
    url: str
    process: subprocess.Popen[bytes] = attrs.field(init=False)
    started_at: float = 0.0
    frozen_at: float | None = None
    cut_off: bool = False
    """Whether its network is silent: then a stop may end by force, with status 1."""

    @property
    def age(self) -> float:
        """Seconds since the process was started."""
        return time.monotonic() - self.started_at

    @property
    def frozen(self) -> bool:
        """Whether the process is stopped by SIGSTOP."""
        return self.frozen_at is not None

    def start(self) -> None:
        """Start a process."""
        with (self.journal.folder / f"worker{self.number}.log").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jobrt", "--app", "tests.chaos.jobs:app", "worker", "--quiet"],
                cwd=ROOT,
                env={
                    **os.environ,
                    "JOBRT_URL": self.url,
                    "JOBRT_CHAOS_LOG": str(self.journal.log),
                    "PYTHONFAULTHANDLER": "1",
                },
                stdout=output,
                stderr=output,
            )
        self.started_at = time.monotonic()
        self.journal.note(f"started {self.process.pid}")

    def kill(self) -> None:
        """Kill the process."""
        self.thawed("killed")
        self.process.kill()
        self.process.wait()
        self.journal.note(f"killed {self.process.pid}")
        self.journal.kills += 1

    def freeze(self) -> None:
        """Freeze the process with SIGSTOP."""
        self.journal.note(f"froze {self.process.pid}")
        self.process.send_signal(signal.SIGSTOP)
        self.frozen_at = time.monotonic()

    def thaw(self) -> None:
        """Continue the process, if it is frozen."""
        if self.frozen:
            self.process.send_signal(signal.SIGCONT)
            self.thawed("thawed")

    def thawed(self, how: str) -> None:
        """Record the end of a freeze, if there was one."""
        if self.frozen_at is not None:
            self.journal.note(f"{how} {self.process.pid}")
            self.journal.faults.append(Fault("freeze", self.process.pid, self.frozen_at, time.monotonic()))
            self.frozen_at = None

    async def exit(self) -> None:
        """Stop the process, and check that it ends in time."""
        self.journal.note(f"asked {self.process.pid} to stop")
        began, cut_off = trio.current_time(), self.cut_off
        self.process.terminate()
        await self._wait()
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGABRT)  # writes the stacks to its log
            await self._wait()
        status = f"{self.process.returncode} after {trio.current_time() - began:.1f} s"
        self.journal.note(f"{self.process.pid} ended with {status}")
        expected = {0, -signal.SIGTERM} | ({1} if cut_off or self.cut_off else set())
        if self.process.returncode not in expected:  # SIGTERM ends a process that has just started
            self.journal.errors.append(
                f"worker {self.process.pid} was asked to stop, and ended with {status}"
            )
            self.kill()

    async def _wait(self) -> None:
        with trio.move_on_after(EXIT):
            await trio.to_thread.run_sync(self.process.wait, abandon_on_cancel=True)

    def check(self) -> None:
        """Record a worker that ended by itself, which no outage may cause, and start another."""
        if self.process.poll() is not None:
            self.journal.errors.append(
                f"worker {self.process.pid} ended by itself: {self.process.returncode}"
            )
            self.kill()
            self.start()

    def end(self) -> None:
        """Kill what remains."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
