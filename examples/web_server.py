"""A web server and a worker in one nursery: requests enqueue jobs, and wait for them if they like.

Starlette on Hypercorn, both driven by Trio. A request answers at once with the job's address; whoever asks there is
answered when the job has ended, or after ten seconds. Stopping lets requests and jobs finish first.

It needs ``pip install starlette "hypercorn[trio]"``. Run it with ``python examples/web_server.py``.
"""

import json
from functools import partial
from typing import Any
from urllib.request import Request as Call
from urllib.request import urlopen

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import jobrt

PATIENCE = 10

worker_app = jobrt.App("sqlite:///:memory:", queues={"reports": 2})


@worker_app.job(queue="reports")
async def report(ctx: jobrt.Context, customer: str) -> dict[str, Any]:
    """Add up what a customer bought; slow enough for nobody to wait for it in a request."""
    await trio.sleep(0.1)
    return {"customer": customer, "total": 1999}


async def order(request: Request) -> JSONResponse:
    """Enqueue a report, say where to ask for it."""
    jobs: jobrt.Client = request.app.state.jobs
    handle = await jobs.enqueue(report.new(request.path_params["customer"]))
    return JSONResponse({"id": handle.id}, status_code=202, headers={"location": f"/jobs/{handle.id}"})


async def look(request: Request) -> JSONResponse:
    """Wait for a job, without asking the database again and again, and say what became of it."""
    jobs: jobrt.Client = request.app.state.jobs
    number = request.path_params["id"]
    try:
        with trio.move_on_after(PATIENCE):
            await jobs.wait(number)
        record = await jobs.get(number)
    except jobrt.JobNotFound:
        return JSONResponse({"error": f"there is no job {number}"}, status_code=404)
    return JSONResponse({"state": record.state, "result": record.result})


web_app = Starlette(
    routes=[Route("/reports/{customer}", order, methods=["POST"]), Route("/jobs/{id:int}", look)]
)


async def ask(method: str, url: str) -> Any:
    """Be a browser."""

    def call() -> Any:
        with urlopen(Call(url, method=method), timeout=20) as answer:  # noqa: S310 - our own server
            return json.load(answer)

    return await trio.to_thread.run_sync(call)


async def main() -> None:
    """Start a worker and a server, ask for a report, stop both."""
    config = Config.from_mapping(bind="127.0.0.1:0", errorlog=None, graceful_timeout=5)
    stopping = trio.Event()
    async with worker_app.open_client() as jobs, trio.open_nursery() as nursery:
        web_app.state.jobs = jobs
        worker = await nursery.start(worker_app.run_worker)
        server = partial(serve, web_app, config, shutdown_trigger=stopping.wait)
        (address,) = await nursery.start(server)
        ordered = await ask("POST", f"{address}/reports/ada")
        print("ordered job", ordered["id"])
        print(await ask("GET", f"{address}/jobs/{ordered['id']}"))
        stopping.set()  # first nobody asks any more, then nothing runs any more
        await worker.stop()
        print("stopped; outcomes written:", worker.info()["landed"])


if __name__ == "__main__":
    trio.run(main)
