"""Let a worker process tell its parent that it is up, or why it is not.

The child has the writing end of a pipe. It says one thing, in one line, and closes it::

    up            the worker is registered and serves its queues
    not up: …     why it never will
    (nothing)     it died before it could say

What it says is for the parent alone to print: with eight processes the same line would else stand there eight times.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs
import click
import trio

from jobrt.cli.output import in_one_line

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

__all__ = ["REPORT_OPTION", "Report", "Reporter", "reporting", "start_reporting"]

_UP: Final = "up"
_NOT_UP: Final = "not up: "

REPORT_OPTION = click.option("--report", type=int, hidden=True, help="Where the parent listens.")
"""The pipe's descriptor: an option, since the environment would go on to whatever jobs start."""


# ---------------------------------------------------------------------- in the child


@attrs.define(eq=False)
class Reporter:
    """Say one thing to the parent, if there is one."""

    pipe: int | None

    def up(self) -> None:
        """Say that the worker is up; from now on its errors are printed by itself."""
        self._say(_UP)

    def fail(self, error: Exception) -> bool:
        """Say why the worker does not come up; return whether the parent has heard it."""
        return self._say(_NOT_UP + in_one_line(error))

    def _say(self, text: str) -> bool:
        pipe, self.pipe = self.pipe, None
        if pipe is None:
            return False
        try:
            os.write(pipe, f"{text}\n".encode())  # fits into an empty pipe, so it does not block
        except BrokenPipeError:  # a parent that has died has no use for it
            return False
        finally:
            os.close(pipe)
        return True


@contextmanager
def reporting(pipe: int | None) -> Generator[Reporter]:
    """Give what says "up" to the parent, and tell the parent of an error before that instead of printing it."""
    if pipe is not None:
        os.set_inheritable(pipe, False)  # noqa: FBT003 - it would stay open in what jobs start
    reporter = Reporter(pipe)
    try:
        yield reporter
    except Exception as error:
        if reporter.fail(error) and not os.environ.get("JOBRT_DEBUG"):
            raise click.exceptions.Exit(1) from error
        raise


# ---------------------------------------------------------------------- in the parent


@attrs.define(eq=False)
class Report:
    """What a worker process has said: that it is up, or why not, or nothing yet."""

    pipe: trio.abc.ReceiveStream
    up: bool = False
    error: str = ""

    async def listen(self) -> None:
        """Wait for what it says, or for its end; a process that came to be while it starts may hold that up."""
        said = b""
        async with self.pipe:
            while not said.endswith(b"\n") and (more := await self.pipe.receive_some()):
                said += more
        text = said.decode(errors="replace").rstrip("\n")
        self.up = text == _UP
        if text.startswith(_NOT_UP):
            self.error = text.removeprefix(_NOT_UP)


async def start_reporting(command: Sequence[str]) -> tuple[trio.Process, Report]:
    """Start a worker process that reports."""
    reading, writing = os.pipe()
    report = Report(trio.lowlevel.FdStream(reading))
    try:
        process = await trio.lowlevel.open_process(
            [*command, f"--report={writing}"], stdin=subprocess.DEVNULL, pass_fds=(writing,)
        )
    except BaseException:
        await trio.aclose_forcefully(report.pipe)
        raise
    finally:
        os.close(writing)
    return process, report
