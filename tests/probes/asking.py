"""Workers with a probe server in the test's process, and requests to it."""

from __future__ import annotations

import http.client
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

import attrs
import trio

from jobrt.probes.loop import LoopSource
from jobrt.probes.report import Reporter
from jobrt.probes.server import bind, respond_from, serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import jobrt

__all__ = ["IO_TIMEOUT", "Seen", "get", "probed"]

IO_TIMEOUT = 30


@attrs.frozen
class Seen:
    """Response of a probe server."""

    status: int
    text: str
    headers: dict[str, str]


def get(port: int, path: str, *, method: str = "GET", **headers: str) -> Seen:
    """Send a request from a thread of its own, and return the response."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=IO_TIMEOUT)) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Seen(response.status, response.read().decode(), found)


@asynccontextmanager
async def probed(app: jobrt.App) -> AsyncGenerator[int]:
    """Serve the probes of the app's workers in this process, and yield the port."""
    source = LoopSource(Reporter(app))
    listener = bind("127.0.0.1", 0)
    port: int = listener.getsockname()[1]
    with trio.fail_after(IO_TIMEOUT), serving(listener, respond_from(source)):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.run)
            yield port
            nursery.cancel_scope.cancel()
