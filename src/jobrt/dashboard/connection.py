"""One client connection of the dashboard's server: HTTP/1.1 by Hypercorn, with limits."""

import math
from typing import Any, Final

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import parse_socket_addr

_READ_BYTES: Final = 65536
_SEND_SECONDS: Final = 30.0
"""Seconds in which a client must take what is sent at once. A page is small; a client that reads nothing is gone."""


class _Http11(H11Protocol):
    """HTTP/1.1 that ignores requests to change to HTTP/2.

    A proxy in front of this server sees no request after such a change, so its rules would not be applied. HTTP lets a
    server ignore the request, and Hypercorn has no setting for that.
    """

    async def _check_protocol(self, event: h11.Request) -> None:
        pass


class Connection(TCPServer):
    """Connection that is served until the client closes it, is idle or silent for too long, or reads nothing."""

    def __init__(  # noqa: PLR0917 - as Hypercorn's, but for the state of a lifespan
        self, app: AppWrapper, config: Config, context: WorkerContext, stream: Any
    ) -> None:
        super().__init__(app, config, context, ConnectionState({}), stream)

    async def run(self) -> None:
        """Serve the requests of the connection and close it."""
        socket = self.stream.socket
        try:
            client = parse_socket_addr(socket.family, socket.getpeername())
            server = parse_socket_addr(socket.family, socket.getsockname())
            async with TaskGroup() as self._task_group:
                # Hypercorn's type is the wrapper that changes to HTTP/2.
                protocol: Any = _Http11(
                    self.app,
                    self.config,
                    self.context,
                    self._task_group,
                    ConnectionState({}),
                    ssl=False,
                    client=client,
                    server=server,
                    send=self.protocol_send,
                )
                self.protocol = protocol
                await self.idle_task.restart(self._task_group, self._idle_timeout)
                await self._read_data()
        except OSError:
            pass  # the client has gone
        finally:
            await self._close()

    async def _read_data(self) -> None:
        """Pass on what the client sends. It must not be silent in the middle of a request, but may be in a response."""
        while True:
            protocol: Any = self.protocol  # Hypercorn's type is the wrapper that changes to HTTP/2
            answering = protocol.connection.their_state in {h11.DONE, h11.MUST_CLOSE}
            limit = math.inf if answering else self.config.read_timeout or math.inf
            try:
                with trio.fail_after(limit):
                    data = await self.stream.receive_some(_READ_BYTES)
            except (trio.ClosedResourceError, trio.BrokenResourceError, trio.TooSlowError):
                break
            await self.protocol.handle(RawData(bytes(data)))
            if not data:
                break
        await self.protocol.handle(Closed())

    async def protocol_send(self, event: Event) -> None:
        """Send; close the connection if the client does not read. Hypercorn would wait for it even in a shutdown."""
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                with trio.fail_after(_SEND_SECONDS):
                    await self.stream.send_all(event.data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self.protocol.handle(Closed())
            except trio.TooSlowError:
                await trio.aclose_forcefully(self.stream)
                await self.protocol.handle(Closed())
