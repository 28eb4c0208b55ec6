"""The dashboard in a program of one's own: below a path of a Starlette application, beside its pages.

Who may see it is the program's affair: here it is read-only, and answers to this machine's names alone. Let your own
login stand before it, and name the hosts by which browsers reach you: ``asgi(app, jobs, hosts=["shop.example.com"])``.

It needs ``pip install 'jobrt[dashboard]'``. Run it with ``python examples/dashboard.py``.
"""

import re
from functools import partial
from urllib.request import urlopen

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import jobrt
import jobrt.dashboard

app = jobrt.App("sqlite:///:memory:")


@app.job
async def greet(ctx: jobrt.Context, name: str) -> str:
    """Be a job to look at."""
    return f"hello {name}"


async def home(request: Request) -> PlainTextResponse:
    """Be a page of the program's own."""
    return PlainTextResponse("welcome to the shop")


def read(url: str) -> str:
    """Be a browser."""
    with urlopen(url, timeout=20) as answer:  # noqa: S310 - our own server
        text: str = answer.read().decode()
    return text


async def main() -> None:
    """Serve the shop and the dashboard, run a job, look at both, stop."""
    config = Config.from_mapping(bind="127.0.0.1:0", errorlog=None)
    stopping = trio.Event()
    async with app.open_client() as jobs, trio.open_nursery() as nursery:
        dashboard = jobrt.dashboard.asgi(app, jobs, read_only=True)
        pages = Starlette(routes=[Route("/", home), Mount("/jobs", dashboard)])
        server = partial(serve, pages, config, shutdown_trigger=stopping.wait)
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
