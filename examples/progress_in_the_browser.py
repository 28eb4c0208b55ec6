"""Progress in the browser: a page that shows what a job does, as it does it.

The server sends the updates of a job as server-sent events, which every browser's ``EventSource`` reads. After a broken
connection the browser tells the id of the last event that it got, and the server goes on behind that. On asyncio,
`jobrt.aio.Client` has the same ``follow``. Here the program itself reads the events.

It needs ``pip install starlette "hypercorn[trio]"``. Run it with ``python examples/progress_in_the_browser.py``.
"""

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import cast
from urllib.request import Request as Call
from urllib.request import urlopen

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import Framework
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import jobrt

PAGE = """<!doctype html><title>Report</title> <progress max=3 value=0></progress> <pre></pre> <script>
fetch("/reports", {method: "POST"}).then(answer => answer.json()).then(({id}) => {
  const updates = new EventSource(`/reports/${id}`), show = text => document.querySelector("pre").append(text + "\\n");
  const on = (kind, use) => updates.addEventListener(kind, event => use(JSON.parse(event.data)));
  on("progress", ({progress}) => document.querySelector("progress").value = progress.done);
  on("log", ({message}) => show(message));
  on("emit", ({value}) => show(`${value.month}: ${value.total}`));
  on("state", ({state}) => ["completed", "cancelled", "discarded"].includes(state) && updates.close());
}); </script>"""

app = jobrt.App("sqlite:///:memory:", queues={"reports": 2})


@app.job(queue="reports")
async def report(ctx: jobrt.Context) -> None:
    """Add up three months, and tell each total as soon as it is known."""
    ctx.log.info("reading the orders")
    for number, month in enumerate(["April", "May", "June"], start=1):
        await trio.sleep(0.05)
        await ctx.emit(
            {"month": month, "total": 1000 * number}, key=month
        )  # once, even if the job runs again
        ctx.progress(number, 3)
    ctx.log.info("done")


async def order_report(request: Request) -> Response:
    """Enqueue a report and return its id."""
    return JSONResponse({"id": (await request.app.state.jobs.enqueue(report.new())).id}, status_code=202)


async def follow_report(request: Request) -> Response:
    """Send what happens to a report, behind the last event that the browser got."""
    jobs: jobrt.Client = request.app.state.jobs
    after = int(request.headers.get("last-event-id", "0"))

    async def events() -> AsyncIterator[str]:
        async for update in jobs.follow(request.path_params["id"], after=after):
            yield f"id: {update.cursor}\nevent: {update.kind}\ndata: {json.dumps(update.as_dict())}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


def read_as_a_browser(address: str) -> None:
    """Order a report and read its events, and read them once more from the middle."""
    with urlopen(Call(f"{address}/reports", method="POST"), timeout=20) as answer:  # noqa: S310 - our own server
        url = f"{address}/reports/{json.load(answer)['id']}"
    for last in ("0", "3"):
        with urlopen(Call(url, headers={"last-event-id": last}), timeout=20) as answer:  # noqa: S310 - the same
            for line in answer:
                field, _, text = line.decode().strip().partition(": ")
                if field == "data" and (update := json.loads(text))["kind"] in {"log", "emit"}:
                    print(update["cursor"], update.get("message") or update["value"])
        print("the stream has ended")


async def main() -> None:
    """Start a worker and a server, read as a browser does, and stop both."""
    page, order = Route("/", lambda _: HTMLResponse(PAGE)), Route("/reports", order_report, methods=["POST"])
    web_app = Starlette(routes=[page, order, Route("/reports/{id:int}", follow_report)])
    config, stopping = Config.from_mapping(bind="127.0.0.1:0", errorlog=None), trio.Event()
    async with app.open_client() as web_app.state.jobs, trio.open_nursery() as nursery:
        worker = await nursery.start(app.run_worker)
        framework = cast("Framework", web_app)  # Starlette and Hypercorn type ASGI's messages differently
        server = partial(serve, framework, config, shutdown_trigger=stopping.wait)
        (address,) = await nursery.start(server)
        await trio.to_thread.run_sync(read_as_a_browser, address)
        stopping.set()
        await worker.stop()


if __name__ == "__main__":
    trio.run(main)
