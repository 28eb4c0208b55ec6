"""Server for the dashboard alone: Hypercorn's HTTP, with limits on connections."""

import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from typing import Final, cast

import attrs
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework
from hypercorn.utils import repr_socket_addr
from starlette.types import ASGIApp

from jobrt.app import App
from jobrt.dashboard.connection import Connection
from jobrt.dashboard.site import asgi
from jobrt.errors import JobrtError

_GRACE: Final = 5.0
"""Seconds for requests to end after a signal, so that an action that has begun is completed."""
_SILENCE: Final = 15
"""Seconds of silence in the middle of a request after which its connection is closed."""
_MOST_CONNECTIONS: Final = 200
"""Connections at once; those beyond are closed. A browser opens at most six."""

_log = logging.getLogger("jobrt.dashboard")


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
            server = Server(nursery.cancel_scope)
            nursery.start_soon(server.handle_signals, signals)
            async with app.open_client() as jobs:
                pages = asgi(app, jobs, hosts=hosts, password=password, read_only=read_only)
                await server.serve(pages, await _bind(host, port), on_ready)
            nursery.cancel_scope.cancel()


@attrs.define(eq=False)
class Server:
    """Server that stops at a signal; ``scope`` encloses the whole command."""

    scope: trio.CancelScope
    stopping: trio.Event = attrs.Factory(trio.Event)
    up: bool = False
    connections: int = 0

    async def handle_signals(self, signals: AsyncIterator[int]) -> None:
        """Handle signals until cancelled."""
        async for _ in signals:
            if self.stopping.is_set() or not self.up:
                self.scope.cancel()
            self.stopping.set()

    async def serve(
        self, pages: ASGIApp, listeners: list[trio.SocketListener], on_ready: Callable[[str], None]
    ) -> None:
        """Serve until a signal; then close idle connections, and the others when their request has ended."""
        # Hypercorn and Starlette have different types for ASGI messages.
        wrapped = ASGIWrapper(cast("ASGIFramework", pages))
        context = WorkerContext(None)
        connect = partial(self._limited, partial(Connection, wrapped, _config(), context))
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                serve = partial(trio.serve_listeners, connect, listeners, handler_nursery=connections)
                await accepting.start(serve)
                self.up = True
                on_ready(_url(listeners[0]))
                await self.stopping.wait()
                accepting.cancel_scope.cancel()
            await context.terminated.set()
            connections.cancel_scope.deadline = trio.current_time() + _GRACE

    async def _limited(
        self, connect: Callable[[trio.SocketStream], Connection], stream: trio.SocketStream
    ) -> None:
        """Serve a connection if there are not too many."""
        if self.connections >= _MOST_CONNECTIONS:
            await trio.aclose_forcefully(stream)
            return
        self.connections += 1
        try:
            await connect(stream).run()
        except Exception:  # noqa: BLE001 - a connection must not end the server
            _log.exception("a connection failed")
        finally:
            self.connections -= 1


def _config() -> Config:
    """Return the settings of connections. Idle ones, also those that send no whole request, are closed after 5 s."""
    config = Config()
    config.loglevel, config.errorlog, config.read_timeout = "WARNING", _log, _SILENCE
    return config


def _url(listener: trio.SocketListener) -> str:
    return f"http://{repr_socket_addr(listener.socket.family, listener.socket.getsockname())}"


async def _bind(host: str, port: int) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise JobrtError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}; use another --host or --port"
        ) from error
