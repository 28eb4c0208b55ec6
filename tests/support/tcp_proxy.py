"""A TCP proxy with faults on request: silence, resets, split messages, truncated and lost replies.

Nothing here waits for a time. For a delay call `silence()` and later `speak()`, which forwards the held data.
"""

import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import attrs
import trio

_RESET = struct.pack("ii", 1, 0)  # linger for no time: closing sends RST instead of FIN


@attrs.define(eq=False)
class TcpProxy:
    """Proxy for connections to `target`; created by `open_proxy`.

    `piece` is the maximum number of bytes to forward at once; None means no limit.
    """

    target: tuple[str, int]
    listener: trio.SocketListener
    piece: int | None = None
    accepted: int = 0
    """Number of connections accepted so far, including cancel requests."""
    seen: bytearray = attrs.field(factory=bytearray)
    """All data forwarded to the server."""

    _links: set["_Link"] = attrs.field(factory=set["_Link"], init=False)
    _speaking: trio.Event = attrs.field(factory=trio.Event, init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)
    _fatal_request: bytes | None = attrs.field(default=None, init=False)
    _reply_budget: int | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._speaking.set()

    @property
    def port(self) -> int:
        """The TCP port of the proxy."""
        return int(self.listener.socket.getsockname()[1])

    def silence(self) -> None:
        """Stop forwarding in both directions, for present and future connections."""
        if self._speaking.is_set():
            self._speaking = trio.Event()

    def speak(self) -> None:
        """Continue forwarding, starting with the held data."""
        self._speaking.set()

    async def refuse(self) -> None:
        """Refuse new connections; present connections stay."""
        await self.listener.aclose()

    def reset(self) -> None:
        """Reset all connections on both sides, as a crashed machine does."""
        for link in list(self._links):
            link.reset()

    def lose_reply_to(self, request: bytes) -> None:
        """Forward the next data with `request`, and reset the connection when the server replies."""
        self._fatal_request = request

    def truncate_replies(self, budget: int) -> None:
        """Forward `budget` more bytes of the server's replies, and then close the connection."""
        self._reply_budget = budget

    async def until_accepted(self, connections: int) -> None:
        """Wait until so many connections were accepted."""
        while self.accepted < connections:
            await self._changed.wait()

    async def until_sent(self, request: bytes) -> None:
        """Wait until `request` was forwarded to the server."""
        while request not in self.seen:
            await self._changed.wait()

    async def until_idle(self) -> None:
        """Wait until no connection is open through the proxy."""
        while self._links:
            await self._changed.wait()

    async def serve(self) -> None:
        """Accept connections until cancelled, or until `refuse()`."""
        async with trio.open_nursery() as nursery:
            with suppress(trio.ClosedResourceError):
                while True:
                    nursery.start_soon(self._link, await self.listener.accept())

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _link(self, client: trio.SocketStream) -> None:
        self.accepted += 1
        link = _Link(client)
        self._links.add(link)
        self._notify()
        try:
            with link.scope:
                async with client:
                    await self._connect(link)
        finally:
            self._links.discard(link)
            self._notify()

    async def _connect(self, link: "_Link") -> None:
        await self._speaking.wait()
        try:
            server = await trio.open_tcp_stream(*self.target)
        except OSError:
            return  # the server is down: close the connection
        async with server, trio.open_nursery() as nursery:
            link.server = server
            nursery.start_soon(self._requests, link, server)
            nursery.start_soon(self._replies, link, server)

    async def _requests(self, link: "_Link", server: trio.SocketStream) -> None:
        while data := await _receive(link.client):
            if self._fatal_request and self._fatal_request in data:
                self._fatal_request = None
                link.fatal = True
            await self._forward(data, server)
            self.seen += data
            self._notify()
        link.scope.cancel()

    async def _replies(self, link: "_Link", server: trio.SocketStream) -> None:
        while data := await _receive(server):
            if link.fatal:
                link.reset()
                return
            forwarded = data if self._reply_budget is None else data[: self._reply_budget]
            await self._forward(forwarded, link.client)
            if self._reply_budget is not None:
                self._reply_budget -= len(forwarded)
                if self._reply_budget == 0:
                    self._reply_budget = None
                    break
        link.scope.cancel()

    async def _forward(self, data: bytes, sink: trio.SocketStream) -> None:
        step = self.piece or max(1, len(data))
        for start in range(0, len(data), step):
            await self._speaking.wait()
            with suppress(trio.BrokenResourceError):  # the reader of that side notices it too
                await sink.send_all(data[start : start + step])


@attrs.define(eq=False)
class _Link:
    """A connection through the proxy."""

    client: trio.SocketStream
    server: trio.SocketStream | None = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    fatal: bool = False

    def reset(self) -> None:
        """Close both sides with RST."""
        for stream in (self.client, self.server):
            if stream is not None:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.scope.cancel()


async def _receive(stream: trio.SocketStream) -> bytes:
    """Return received data, or nothing when the stream has ended or is broken."""
    try:
        return bytes(await stream.receive_some(65536))
    except trio.BrokenResourceError:
        return b""


@asynccontextmanager
async def open_proxy(host: str, port: int) -> AsyncGenerator[TcpProxy]:
    """Run a proxy to `host:port` on a free local port during the block."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = TcpProxy((host, port), listener)
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(proxy.serve)
        try:
            yield proxy
        finally:
            nursery.cancel_scope.cancel()
