"""Structured log lines of jobs with structlog: each has the job's id, name, queue and attempt, and what the job binds.

A hook binds the job to structlog's context variables. jobrt restores all context variables after an attempt, so that
nothing that a job binds reaches the next one.

Run it with ``python examples/structured_logs.py``; it needs ``pip install structlog``.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import trio

import jobrt

structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(sort_keys=True),
    ]
)
log = structlog.get_logger()
app = jobrt.App("sqlite:///:memory:", queues={"orders": 1})


@app.around_attempt
async def with_job(ctx: jobrt.Context, run: Callable[[], Awaitable[Any]]) -> Any:
    """Bind the job, and log how its attempt ended."""
    job = ctx.job
    structlog.contextvars.bind_contextvars(job=job.id, name=job.name, queue=job.queue, attempt=job.attempt)
    try:
        returned = await run()
    except Exception as error:
        log.warning("failed", error=str(error))
        raise
    log.info("ended")
    return returned


@app.job(queue="orders", max_attempts=1)
async def ship(ctx: jobrt.Context, order: int) -> None:
    """Ship an order; odd ones are out of stock."""
    structlog.contextvars.bind_contextvars(order=order)
    log.info("packing")
    if order % 2:
        raise LookupError("out of stock")


async def main() -> None:
    """Ship two orders."""
    async with app.open_client() as jobs:
        await jobs.enqueue_many([ship.new(order=1), ship.new(order=2)])
        await app.drain()
    log.info("done")


if __name__ == "__main__":
    trio.run(main)
