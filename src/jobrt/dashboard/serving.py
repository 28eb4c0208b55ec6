"""Serve the dashboard by itself, with Hypercorn, until a signal."""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import attrs
import hypercorn.trio
import trio
from hypercorn.config import Config

from jobrt.dashboard.site import asgi
from jobrt.errors import JobrtError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from hypercorn.typing import Framework
    from starlette.types import ASGIApp

    from jobrt.app import App

__all__ = ["serve"]

_GRACE: Final = 5.0
"""Seconds for requests to end after a signal: what a button has begun is carried out, if it is not too long."""


async def serve(
    app: App,
    *,
    host: str,
    port: int,
    tell: Callable[[str], None],
    hosts: Iterable[str] = (),
    password: str | None = None,
    read_only: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT; `tell` gets the address once it can be asked.

    The first signal lets requests end, for some seconds; the second, or one before it serves, ends all at once.

    Raises:
        JobrtError: the address cannot be listened on; or the database cannot be used when this starts.

    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            stopping = _Stopping(nursery.cancel_scope)
            nursery.start_soon(stopping.obey, signals)
            async with app.open_client() as jobs:
                pages = asgi(app, jobs, hosts=hosts, password=password, read_only=read_only)
                await stopping.serve(pages, await _listening(host, port), tell)
            nursery.cancel_scope.cancel()


@attrs.define(eq=False)
class _Stopping:
    """Serve until told to stop; `scope` is around everything."""

    scope: trio.CancelScope
    told: trio.Event = attrs.Factory(trio.Event)
    up: bool = False

    async def obey(self, signals: AsyncIterator[int]) -> None:
        """Obey signals until cancelled."""
        async for _ in signals:
            if self.told.is_set() or not self.up:
                self.scope.cancel()
            self.told.set()

    async def serve(self, pages: ASGIApp, config: Config, tell: Callable[[str], None]) -> None:
        """Run the server until told to stop, and the requests that it has to their end."""
        # Its types of ASGI messages are other ones than Starlette's.
        framework = cast("Framework", pages)
        server = partial(hypercorn.trio.serve, framework, config, shutdown_trigger=self.told.wait)
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(server)
            self.up = True
            tell(addresses[0])


async def _listening(host: str, port: int) -> Config:
    """Return the server's settings, with sockets that are bound; by itself it would leave one open that cannot be."""
    config = Config()
    config.loglevel, config.graceful_timeout = "WARNING", _GRACE
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        msg = f"cannot listen on {host}, port {port}: {error.strerror or error}; choose another --host or --port"
        raise JobrtError(msg) from error
    config.bind = [f"fd://{one.socket.detach()}" for one in listeners]  # it closes them
    return config
