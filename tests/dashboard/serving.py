"""Dashboard servers for tests, and a client for them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import attrs
import h11
import hypercorn.trio
import trio
from hypercorn.config import Config

import jobrt
import jobrt.dashboard

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

__all__ = ["IO_TIMEOUT", "Answer", "Board", "ask", "serve", "serve_pages", "shop", "value"]

IO_TIMEOUT = 30
"""Time limit in seconds for the real I/O of one test."""


@attrs.frozen
class Answer:
    """Response of a server."""

    status: int
    headers: Mapping[str, str]
    text: str


async def ask(
    port: int, method: str, target: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Answer:
    """Send a request with exactly these headers on a new connection, and return the response."""
    sent = {"host": f"127.0.0.1:{port}", **(headers or {}), "connection": "close"}
    if body:
        sent["content-length"] = str(len(body))
    connection = h11.Connection(h11.CLIENT)
    given = {key: value for key, value in sent.items() if value}
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(
            connection.send(h11.Request(method=method, target=target, headers=list(given.items())))
        )
        await stream.send_all(
            (connection.send(h11.Data(data=body)) or b"") + (connection.send(h11.EndOfMessage()) or b"")
        )
        head, text = None, b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                text += bytes(event.data)
    assert head is not None
    found = {key.decode(): value.decode() for key, value in head.headers}
    return Answer(head.status_code, found, text.decode())


@attrs.frozen
class Board:
    """A running dashboard, its client, and requests as its own pages send them."""

    app: jobrt.App
    jobs: jobrt.Client
    port: int
    root: str = ""

    @property
    def url(self) -> str:
        """Return the dashboard's URL."""
        return f"http://127.0.0.1:{self.port}{self.root}"

    async def get(self, target: str, **headers: str) -> Answer:
        """Request a page; underscores in the names of headers stand for hyphens."""
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return await ask(self.port, "GET", self.root + target, headers=named)

    async def post(self, target: str, *, headers: Mapping[str, str] | None = None, **fields: Any) -> Answer:
        """Send a form as our own pages do. `headers` override its headers; an empty value removes one."""
        sent = {
            "content-type": "application/x-www-form-urlencoded",
            "origin": f"http://127.0.0.1:{self.port}",
            "sec-fetch-site": "same-origin",
            **(headers or {}),
        }
        body = urlencode(fields, doseq=True).encode()
        return await ask(self.port, "POST", self.root + target, headers=sent, body=body)

    async def state(self, job_id: int) -> str:
        """Return the state of a job."""
        return (await self.jobs.get(job_id)).state.value


@asynccontextmanager
async def serve_pages(pages: Any) -> AsyncGenerator[int]:
    """Serve an ASGI application with Hypercorn on a free port."""
    config = Config.from_mapping(bind="127.0.0.1:0", loglevel="WARNING")
    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(partial(hypercorn.trio.serve, pages, config))
        yield int(address.rpartition(":")[2])
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def serve(app: jobrt.App, **options: Any) -> AsyncGenerator[Board]:
    """Serve the dashboard of an app, with these options of `jobrt.dashboard.asgi`."""
    with trio.fail_after(IO_TIMEOUT):
        async with app.open_client() as jobs, serve_pages(jobrt.dashboard.asgi(app, jobs, **options)) as port:
            yield Board(app, jobs, port)


def shop(url: str, **options: Any) -> jobrt.App:
    """Return an app with a job that completes, a job that fails, and a job that runs until it is cancelled."""
    app = jobrt.App(url, queues={"default": 4, "mail": 2}, migrate=True, **options)

    @app.job
    async def hello(ctx: jobrt.Context, name: str = "you") -> str:
        return f"hello {name}"

    @app.job(queue="mail", max_attempts=1)
    async def fail(ctx: jobrt.Context, text: str = "no such address") -> None:
        raise LookupError(text)

    @app.job
    async def wait(ctx: jobrt.Context) -> None:
        ctx.progress(3, 4, "nearly")
        await trio.sleep_forever()

    return app


def value(app: jobrt.App, job: str, /, **fields: Any) -> Any:
    """Return a job value for a job name."""
    return app.registry.get(job).decode(fields)
