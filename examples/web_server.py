"""Web server and worker in one nursery. Requests enqueue jobs and can wait for them.

The server uses Starlette and Hypercorn under Trio. A POST request immediately returns the job's URL. A request for that
URL returns when the job has ended, or after ten seconds. Stopping lets requests and jobs finish first.

It needs ``pip install starlette "hypercorn[trio]"``. Run it with ``python examples/web_server.py``.
"""

import json
from functools import partial
from typing import Any, cast
from urllib.request import Request as Call
from urllib.request import urlopen

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import Framework
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import jobrt

WAIT_SECONDS = 10

worker_app = jobrt.App("sqlite:///:memory:", queues={"reports": 2})


@worker_app.job(queue="reports")
async def report(ctx: jobrt.Context, customer: str) -> dict[str, Any]:
    """Return the total of a customer. This is too slow for a request."""
    await trio.sleep(0.1)
    return {"customer": customer, "total": 1999}


async def order_report(request: Request) -> JSONResponse:
    """Enqueue a report and return its URL."""
    jobs: jobrt.Client = request.app.state.jobs
    handle = await jobs.enqueue(report.new(request.path_params["customer"]))
    return JSONResponse({"id": handle.id}, status_code=202, headers={"location": f"/jobs/{handle.id}"})


async def show_job(request: Request) -> JSONResponse:
    """Wait for a job without polling the database, and return its state and result."""
    jobs: jobrt.Client = request.app.state.jobs
    job_id = request.path_params["id"]
    try:
        with trio.move_on_after(WAIT_SECONDS):
            await jobs.wait(job_id)
        record = await jobs.get(job_id)
    except jobrt.JobNotFound:
        return JSONResponse({"error": f"there is no job {job_id}"}, status_code=404)
    return JSONResponse({"state": record.state, "result": record.result})


web_app = Starlette(
    routes=[Route("/reports/{customer}", order_report, methods=["POST"]), Route("/jobs/{id:int}", show_job)]
)


async def ask(method: str, url: str) -> Any:
    """Send a request and return the JSON that it returns."""

    def call() -> Any:
        with urlopen(Call(url, method=method), timeout=20) as answer:  # noqa: S310 - our own server
            return json.load(answer)

    return await trio.to_thread.run_sync(call)


async def main() -> None:
    """Start a worker and a server, request a report, and stop both."""
    config = Config.from_mapping(bind="127.0.0.1:0", errorlog=None, graceful_timeout=5)
    stopping = trio.Event()
    async with worker_app.open_client() as jobs, trio.open_nursery() as nursery:
        web_app.state.jobs = jobs
        worker = await nursery.start(worker_app.run_worker)
        framework = cast(
            "Framework", web_app
        )  # Starlette and Hypercorn type the messages of ASGI differently
        server = partial(serve, framework, config, shutdown_trigger=stopping.wait)
        (address,) = await nursery.start(server)
        ordered = await ask("POST", f"{address}/reports/ada")
        print("ordered job", ordered["id"])
        print(await ask("GET", f"{address}/jobs/{ordered['id']}"))
        stopping.set()  # first the server stops, then the worker
        await worker.stop()
        print("stopped; outcomes written:", worker.info().landed)


if __name__ == "__main__":
    trio.run(main)
