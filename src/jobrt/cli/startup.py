"""Startup of a worker process: waiting for the database, and the link to the parent process.

The link is a socket, which the child gets as its standard input. The child sends a line::

    up            the worker is registered and serves its queues
    not up: …     the worker failed to start, and why
    (nothing)     the process ended before it could report

Only the parent prints the report. Otherwise eight processes would print the same error eight times.

Later the parent sends a byte for each request to stop. It sends no signals: service managers and terminals send
theirs to all processes, so that a child would count each twice. When the parent dies, the link ends, and that is a
request to stop.
"""

import math
import os
import socket
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
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

CHILD_OPTION = click.option("--child", is_flag=True, hidden=True, help="Standard input is the parent's link.")


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

    parent: socket.socket | None = None
    _reported: bool = False

    def up(self) -> None:
        """Report that the worker is up. From now on, this process prints its errors itself."""
        self._send(_UP)

    def fail(self, error: Exception) -> bool:
        """Report why the worker failed to start; return whether the parent received it."""
        return self._send(_NOT_UP + in_one_line(error))

    def _send(self, text: str) -> bool:
        if self.parent is None or self._reported:
            return False
        self._reported = True
        try:
            self.parent.send(f"{text}\n".encode(errors="replace"))  # the link is empty, so it does not block
        except OSError:  # the parent has died
            return False
        return True


@contextmanager
def report_startup(*, child: bool) -> Generator[StartupReporter]:
    """Provide a reporter. An error before ``up()`` is reported to the parent instead of being printed."""
    reporter = _take_link() if child else StartupReporter()
    try:
        yield reporter
    except Exception as error:
        if reporter.fail(error) and not os.environ.get("JOBRT_DEBUG"):
            raise click.exceptions.Exit(1) from error
        raise


def _take_link() -> StartupReporter:
    """Move the link away from standard input, where the processes that jobs start would inherit it."""
    link = socket.socket(fileno=os.dup(0))
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    link.settimeout(0)
    return StartupReporter(link)


# ---------------------------------------------------------------------- in the parent


@attrs.define(eq=False)
class ChildLink:
    """Link to a worker process, with its report: it is up, it failed with an error, or nothing was received yet."""

    _socket: socket.socket
    _requests: int = 0
    up: bool = False
    error: str = ""

    async def receive(self) -> None:
        """Wait for the report, or for the end of the link.

        The link stays open as long as any process that was forked meanwhile holds its other end.
        """
        received = b""
        while not received.endswith(b"\n"):
            await trio.lowlevel.wait_readable(self._socket)
            try:
                chunk = self._socket.recv(4096)
            except ConnectionResetError:  # the process has ended with a request unread
                chunk = b""
            if not chunk:
                break
            received += chunk
        text = received.decode(errors="replace").rstrip("\n")
        self.up = text == _UP
        if text.startswith(_NOT_UP):
            self.error = text.removeprefix(_NOT_UP)

    def request_stop(self, count: int) -> None:
        """Tell the process that there were so many requests to stop."""
        new, self._requests = max(0, count - self._requests), max(count, self._requests)
        with suppress(OSError):  # the process has ended
            self._socket.send(b"\n" * new)

    def close(self) -> None:
        """Close the link, which stops the process."""
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()


async def start_process(
    command: Sequence[str], *, inherited: Sequence[int] = ()
) -> tuple[trio.Process, ChildLink]:
    """Start a worker process with a link to it; it keeps the `inherited` file descriptors."""
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    link = ChildLink(ours)
    try:
        process = await trio.lowlevel.open_process([*command, "--child"], stdin=theirs, pass_fds=inherited)
    except BaseException:
        link.close()
        raise
    finally:
        theirs.close()
    return process, link
