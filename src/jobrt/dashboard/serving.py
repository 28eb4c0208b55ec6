"""Server for the dashboard alone, with Hypercorn."""

import signal
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from typing import Final, cast

import attrs
import hypercorn.trio
import trio
from hypercorn.config import Config
from hypercorn.typing import Framework
from starlette.types import ASGIApp

from jobrt.app import App
from jobrt.dashboard.site import asgi
from jobrt.errors import JobrtError

_GRACE: Final = 5.0
"""Seconds for requests to end after a signal, so that an action that has begun is completed."""


async def serve(
    app: App,
    *,
    host: str,
    port: int,
    on_ready: Callable[[str], None],
    hosts: Iterable[str] = (),
    password: str | None = None,
    read_only: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT; call `on_ready` with the dashboard's address when it accepts requests.

    After the first signal, requests have some seconds to end. A second signal, or a signal during startup, stops the
    server immediately.

    Raises:
        JobrtError: the server cannot listen on this address, or the database cannot be used at startup.

    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            server = _Server(nursery.cancel_scope)
            nursery.start_soon(server.handle_signals, signals)
            async with app.open_client() as jobs:
                pages = asgi(app, jobs, hosts=hosts, password=password, read_only=read_only)
                await server.serve(pages, await _bind(host, port), on_ready)
            nursery.cancel_scope.cancel()


@attrs.define(eq=False)
class _Server:
    """Server that stops at a signal; ``scope`` encloses the whole command."""

    scope: trio.CancelScope
    stopping: trio.Event = attrs.Factory(trio.Event)
    up: bool = False

    async def handle_signals(self, signals: AsyncIterator[int]) -> None:
        """Handle signals until cancelled."""
        async for _ in signals:
            if self.stopping.is_set() or not self.up:
                self.scope.cancel()
            self.stopping.set()

    async def serve(self, pages: ASGIApp, config: Config, on_ready: Callable[[str], None]) -> None:
        """Serve until a signal, then let the current requests end."""
        # Hypercorn and Starlette have different types for ASGI messages.
        framework = cast("Framework", pages)
        server = partial(hypercorn.trio.serve, framework, config, shutdown_trigger=self.stopping.wait)
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(server)
            self.up = True
            on_ready(addresses[0])


async def _bind(host: str, port: int) -> Config:
    """Return the server's settings with bound sockets. Hypercorn would leave a socket open that it cannot bind."""
    config = Config()
    config.loglevel, config.graceful_timeout = "WARNING", _GRACE
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise JobrtError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}; use another --host or --port"
        ) from error
    config.bind = [f"fd://{listener.socket.detach()}" for listener in listeners]  # Hypercorn closes them
    return config
