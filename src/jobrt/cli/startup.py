"""Startup of a worker process: waiting for the database, and the report to the parent process.

The child has the writing end of a pipe. It writes one line and closes the pipe::

    up            the worker is registered and serves its queues
    not up: …     the worker failed to start, and why
    (nothing)     the process ended before it could report

Only the parent prints the report. Otherwise eight processes would print the same error eight times.
"""

import math
import os
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final

import attrs
import click
import trio

from jobrt.app import App
from jobrt.cli.output import in_one_line
from jobrt.errors import StorageUnavailable
from jobrt.events import Event, StorageDown, StorageUp
from jobrt.logs import log, log_event

_UP: Final = "up"
_NOT_UP: Final = "not up: "

REPORT_OPTION = click.option("--report", type=int, hidden=True, help="File descriptor of the parent's pipe.")
"""Descriptor of the pipe. An environment variable would be inherited by the processes that jobs start."""


@attrs.define(eq=False)
class _Outage:
    """Subscriber that limits how long an outage of the database may last."""

    seconds: float
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    error: str = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, StorageUp):
            self.scope.deadline = math.inf
        if not isinstance(event, StorageDown):
            log_event(event)
            return
        self.error = event.error
        self.scope.deadline = trio.current_time() + self.seconds
        if self.seconds > 0:
            limit = "" if math.isinf(self.seconds) else f" for {self.seconds:g} s"
            log(event, suffix=f"; retrying{limit}")


async def wait_for_database(app: App, *, seconds: float) -> None:
    """Return when the app's database can be used. The wait is logged and limited, because the URL may be wrong.

    Raises:
        StorageUnavailable: the database is still unavailable after `seconds`. With 0 it is tried once.
        StorageError: waiting will not help.

    """
    outage = _Outage(seconds)
    with app.events.subscribed(outage), outage.scope:
        async with app.await_storage():
            return
    message = f"{outage.error}; gave up after {seconds:g} s" if seconds > 0 else outage.error
    raise StorageUnavailable(message)


# ---------------------------------------------------------------------- in the child


@attrs.define(eq=False)
class StartupReporter:
    """Sender of one startup report to the parent, if there is a parent."""

    pipe: int | None

    def up(self) -> None:
        """Report that the worker is up. From now on, this process prints its errors itself."""
        self._send(_UP)

    def fail(self, error: Exception) -> bool:
        """Report why the worker failed to start; return whether the parent received it."""
        return self._send(_NOT_UP + in_one_line(error))

    def _send(self, text: str) -> bool:
        pipe, self.pipe = self.pipe, None
        if pipe is None:
            return False
        try:
            os.write(pipe, f"{text}\n".encode())  # fits into an empty pipe, so it does not block
        except BrokenPipeError:  # the parent has died
            return False
        finally:
            os.close(pipe)
        return True


@contextmanager
def report_startup(pipe: int | None) -> Generator[StartupReporter]:
    """Provide a reporter. An error before ``up()`` is reported to the parent instead of being printed."""
    if pipe is not None:
        os.set_inheritable(pipe, False)  # noqa: FBT003 - processes that jobs start would keep it open
    reporter = StartupReporter(pipe)
    try:
        yield reporter
    except Exception as error:
        if reporter.fail(error) and not os.environ.get("JOBRT_DEBUG"):
            raise click.exceptions.Exit(1) from error
        raise


# ---------------------------------------------------------------------- in the parent


@attrs.define(eq=False)
class StartupReport:
    """Report of a worker process: it is up, it failed with an error, or nothing was received yet."""

    pipe: trio.abc.ReceiveStream
    up: bool = False
    error: str = ""

    async def receive(self) -> None:
        """Wait for the report or the end of the pipe.

        The pipe stays open as long as any process that was forked meanwhile holds its writing end.
        """
        received = b""
        async with self.pipe:
            while not received.endswith(b"\n") and (chunk := await self.pipe.receive_some()):
                received += chunk
        text = received.decode(errors="replace").rstrip("\n")
        self.up = text == _UP
        if text.startswith(_NOT_UP):
            self.error = text.removeprefix(_NOT_UP)


async def start_process(command: Sequence[str]) -> tuple[trio.Process, StartupReport]:
    """Start a worker process with a pipe for its startup report."""
    reading, writing = os.pipe()
    report = StartupReport(trio.lowlevel.FdStream(reading))
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
