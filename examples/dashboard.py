"""Dashboard mounted at a path of a Starlette application.

Your application decides who may see the dashboard. Here it is read-only and can only be opened from this machine. In
production, protect it with your login, and pass your host names: ``asgi(app, jobs, hosts=["shop.example.com"])``.

It needs ``pip install 'jobrt[dashboard]'``. Run it with ``python examples/dashboard.py``.
"""

import re
from functools import partial
from typing import cast
from urllib.request import urlopen

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import Framework
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import jobrt
import jobrt.dashboard

app = jobrt.App("sqlite:///:memory:")


@app.job
async def greet(ctx: jobrt.Context, name: str) -> str:
    """Return a greeting."""
    return f"hello {name}"


async def home(request: Request) -> PlainTextResponse:
    """Return the application's home page."""
    return PlainTextResponse("welcome to the shop")


def read(url: str) -> str:
    """Return the text at a URL."""
    with urlopen(url, timeout=20) as answer:  # noqa: S310 - our own server
        text: str = answer.read().decode()
    return text


async def main() -> None:
    """Serve both, run a job, and request a page of each."""
    config = Config.from_mapping(bind="127.0.0.1:0", errorlog=None)
    stopping = trio.Event()
    async with app.open_client() as jobs, trio.open_nursery() as nursery:
        dashboard = jobrt.dashboard.asgi(app, jobs, read_only=True)
        pages = Starlette(routes=[Route("/", home), Mount("/jobs", dashboard)])
        framework = cast("Framework", pages)  # Starlette and Hypercorn type the messages of ASGI differently
        server = partial(serve, framework, config, shutdown_trigger=stopping.wait)
        (address,) = await nursery.start(server)
        worker = await nursery.start(app.run_worker)
        handle = await jobs.enqueue(greet.new(name="ada"))
        await handle.wait()
        print(await trio.to_thread.run_sync(read, f"{address}/"))
        page = await trio.to_thread.run_sync(read, f"{address}/jobs/jobs/{handle.id}")
        print("the dashboard's title:", *re.findall("<title>(.*)</title>", page))
        stopping.set()
        await worker.stop()


if __name__ == "__main__":
    trio.run(main)
