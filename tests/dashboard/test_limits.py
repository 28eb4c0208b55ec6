"""Tests of the server's limits: hostile and slow clients, on real sockets."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import h11
import pytest
import trio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import jobrt.dashboard
from jobrt.dashboard import serving
from tests.dashboard.serving import IO_TIMEOUT, ask, shop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request
    from starlette.types import ASGIApp

HEAD = b"POST /queues/change HTTP/1.1\r\nhost: 127.0.0.1\r\nsec-fetch-site: same-origin\r\n"


@asynccontextmanager
async def served(pages: ASGIApp) -> AsyncGenerator[tuple[serving.Server, int]]:
    """Run the command's server on a free port, and stop it at the end."""
    with trio.fail_after(IO_TIMEOUT):
        async with trio.open_nursery() as nursery:
            server = serving.Server(nursery.cancel_scope)
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            ready = trio.Event()
            nursery.start_soon(server.serve, pages, listeners, lambda _url: ready.set())
            await ready.wait()
            yield server, listeners[0].socket.getsockname()[1]
            server.stopping.set()


async def _large(request: Request) -> PlainTextResponse:
    return PlainTextResponse("x" * 50_000_000)


LARGE = Starlette(routes=[Route("/", _large)])


async def read_all(stream: trio.SocketStream) -> bytes:
    """Return what the server sends until it closes the connection."""
    found = b""
    try:
        async for data in stream:
            found += data
    except trio.BrokenResourceError:
        pass
    return found


@pytest.mark.parametrize(
    "request_lines",
    [
        b"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, close\r\nupgrade: h2c\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_it_stays_with_http_1(sqlite_url: str, request_lines: bytes) -> None:
    """A proxy in front would see no request after a change to HTTP/2: the wish for it is ignored."""
    app = shop(sqlite_url)
    async with app.open_client() as jobs, served(jobrt.dashboard.asgi(app, jobs)) as (_, port):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(request_lines)
            first = await stream.receive_some()
        assert first.startswith(b"HTTP/1.1 "), first
        assert not first.startswith(b"HTTP/1.1 101"), first
        assert (await ask(port, "GET", "/")).status == 200


async def test_a_form_that_does_not_arrive(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a time limit it is answered with status 408, although its connection sends a byte now and then."""
    monkeypatch.setattr("jobrt.dashboard.actions._FORM_SECONDS", 0.2)
    app = shop(sqlite_url)
    async with (
        app.open_client() as jobs,
        served(jobrt.dashboard.asgi(app, jobs)) as (_, port),
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
    ):
        await stream.send_all(HEAD + b"content-length: 1000\r\n\r\naction=pa")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 408 ")


async def test_a_request_that_stops_in_the_middle(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is silent in the middle of a request is closed."""
    monkeypatch.setattr(serving, "_SILENCE", 0.2)
    app = shop(sqlite_url)
    async with (
        app.open_client() as jobs,
        served(jobrt.dashboard.asgi(app, jobs)) as (_, port),
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
    ):
        await stream.send_all(HEAD + b"content-length: 1000\r\n\r\naction=pa")
        await read_all(stream)


async def test_connections_are_limited(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than the limit is closed; when another has gone there is room again."""
    monkeypatch.setattr(serving, "_MOST_CONNECTIONS", 2)
    app = shop(sqlite_url)
    async with app.open_client() as jobs, served(jobrt.dashboard.asgi(app, jobs)) as (_, port):
        async with (
            await trio.open_tcp_stream("127.0.0.1", port),
            await trio.open_tcp_stream("127.0.0.1", port),
            await trio.open_tcp_stream("127.0.0.1", port) as third,
        ):
            assert await read_all(third) == b""
        while not await _is_answered(port):
            await trio.sleep(0.01)


async def _is_answered(port: int) -> bool:
    try:
        return (await ask(port, "GET", "/jobs")).status == 200
    except (OSError, trio.BrokenResourceError, h11.RemoteProtocolError):
        return False


async def test_a_client_that_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is disconnected after a time limit, and the server goes on."""
    monkeypatch.setattr("jobrt.dashboard.connection._SEND_SECONDS", 0.2)
    async with served(LARGE) as (server, port), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        while server.connections:
            await trio.sleep(0.01)


async def test_open_pages_do_not_delay_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle connections close at once; a client that reads nothing has the grace of the server and no more."""
    monkeypatch.setattr(serving, "_GRACE", 0.2)
    async with served(LARGE) as (server, port):
        idle = await trio.open_tcp_stream("127.0.0.1", port)
        stuck = await trio.open_tcp_stream("127.0.0.1", port)
        async with idle, stuck:
            await idle.send_all(b"GET /none HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert b"404" in await idle.receive_some()
            await stuck.send_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            await stuck.receive_some()
            server.stopping.set()
            await read_all(idle)
            while server.connections:
                await trio.sleep(0.01)
