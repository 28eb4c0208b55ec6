"""Stand between a client and a server and misbehave on request: be silent, hang up, split, truncate, lose replies.

Nothing here waits for time to pass. A delay is `silence()` and then `speak()`: what was held goes on from there.
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
    """Forward connections to `target`; `open_proxy` makes one and runs it.

    `piece` is how many bytes are passed on at once; None is as many as there are.
    """

    target: tuple[str, int]
    listener: trio.SocketListener
    piece: int | None = None
    accepted: int = 0
    """Connections that clients have made so far, those to cancel a query included."""
    seen: bytearray = attrs.field(factory=bytearray)
    """Everything that was passed on to the server."""

    _links: set["_Link"] = attrs.field(factory=set["_Link"], init=False)
    _speaking: trio.Event = attrs.field(factory=trio.Event, init=False)
    _moved: trio.Event = attrs.field(factory=trio.Event, init=False)
    _fatal_request: bytes | None = attrs.field(default=None, init=False)
    _reply_budget: int | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._speaking.set()

    @property
    def port(self) -> int:
        """The TCP port on which it listens."""
        return int(self.listener.socket.getsockname()[1])

    def silence(self) -> None:
        """Pass on nothing in either direction, for connections that are there and those to come."""
        if self._speaking.is_set():
            self._speaking = trio.Event()

    def speak(self) -> None:
        """Pass on again, first what was held."""
        self._speaking.set()

    async def refuse(self) -> None:
        """Take no connections any more; those that are there stay."""
        await self.listener.aclose()

    def reset(self) -> None:
        """Cut all connections as a crashed machine does: with RST, to both sides."""
        for link in list(self._links):
            link.reset()

    def lose_reply_to(self, request: bytes) -> None:
        """Pass on the next bytes of a client's that contain `request`, await the server's reply, and cut instead."""
        self._fatal_request = request

    def truncate_replies(self, budget: int) -> None:
        """Pass on `budget` more bytes of the server's, and then cut."""
        self._reply_budget = budget

    async def until_accepted(self, connections: int) -> None:
        """Wait until clients have made so many connections since the start."""
        while self.accepted < connections:
            await self._moved.wait()

    async def until_sent(self, request: bytes) -> None:
        """Wait until `request` has been passed on to the server."""
        while request not in self.seen:
            await self._moved.wait()

    async def until_idle(self) -> None:
        """Wait until no connection is open through the proxy."""
        while self._links:
            await self._moved.wait()

    async def serve(self) -> None:
        """Take connections until cancelled, or until `refuse()`."""
        async with trio.open_nursery() as nursery:
            with suppress(trio.ClosedResourceError):
                while True:
                    nursery.start_soon(self._link, await self.listener.accept())

    def _tell(self) -> None:
        self._moved.set()
        self._moved = trio.Event()

    async def _link(self, client: trio.SocketStream) -> None:
        self.accepted += 1
        link = _Link(client)
        self._links.add(link)
        self._tell()
        try:
            with link.scope:
                async with client:
                    await self._connect(link)
        finally:
            self._links.discard(link)
            self._tell()

    async def _connect(self, link: "_Link") -> None:
        await self._speaking.wait()
        try:
            server = await trio.open_tcp_stream(*self.target)
        except OSError:
            return  # the server is down: hang up
        async with server, trio.open_nursery() as nursery:
            link.server = server
            nursery.start_soon(self._requests, link, server)
            nursery.start_soon(self._replies, link, server)

    async def _requests(self, link: "_Link", server: trio.SocketStream) -> None:
        while data := await _receive(link.client):
            if self._fatal_request and self._fatal_request in data:
                self._fatal_request = None
                link.doomed = True
            await self._pass(data, server)
            self.seen += data
            self._tell()
        link.scope.cancel()

    async def _replies(self, link: "_Link", server: trio.SocketStream) -> None:
        while data := await _receive(server):
            if link.doomed:
                link.reset()
                return
            passing = data if self._reply_budget is None else data[: self._reply_budget]
            await self._pass(passing, link.client)
            if self._reply_budget is not None:
                self._reply_budget -= len(passing)
                if self._reply_budget == 0:
                    self._reply_budget = None
                    break
        link.scope.cancel()

    async def _pass(self, data: bytes, sink: trio.SocketStream) -> None:
        step = self.piece or max(1, len(data))
        for start in range(0, len(data), step):
            await self._speaking.wait()
            with suppress(trio.BrokenResourceError):  # whoever reads from that side hears of it too
                await sink.send_all(data[start : start + step])


@attrs.define(eq=False)
class _Link:
    """One connection through the proxy."""

    client: trio.SocketStream
    server: trio.SocketStream | None = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    doomed: bool = False

    def reset(self) -> None:
        """Close both sides with RST."""
        for stream in (self.client, self.server):
            if stream is not None:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.scope.cancel()


async def _receive(stream: trio.SocketStream) -> bytes:
    """Return what arrives; nothing at the end of the stream, whichever way it ends."""
    try:
        return bytes(await stream.receive_some(65536))
    except trio.BrokenResourceError:
        return b""


@asynccontextmanager
async def open_proxy(host: str, port: int) -> AsyncGenerator[TcpProxy]:
    """Run a proxy to `host:port` on a free port of this machine for the time of the block."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = TcpProxy((host, port), listener)
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(proxy.serve)
        try:
            yield proxy
        finally:
            nursery.cancel_scope.cancel()
