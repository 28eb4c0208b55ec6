"""Log records that carry the job: its id, name, queue and attempt, and the ids of its trace.

A hook around attempts puts the job into a context variable. A factory of log records reads it, so that the lines of
every library have these fields, whatever handlers and formatters the program has. Jobs in threads and under asyncio
have the same context. The traces are those of OpenTelemetry; without it, leave out the lines with ``trace``.

Run it with ``python examples/log_context.py``; it needs ``pip install 'jobrt[otel]' opentelemetry-sdk``.
"""

import logging
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import jobrt
import jobrt.otel

logger = logging.getLogger("shop")
current: ContextVar[jobrt.JobRecord | None] = ContextVar("current", default=None)
make_record = logging.getLogRecordFactory()


def make_record_of_job(*args: Any, **kwargs: Any) -> logging.LogRecord:
    """Return a log record with the fields ``job``, ``name_of_job``, ``queue``, ``attempt``, ``trace`` and ``span``."""
    record, job = make_record(*args, **kwargs), current.get()
    span = trace.get_current_span().get_span_context()
    record.job, record.name_of_job = (job.id, job.name) if job else (0, "-")
    record.queue, record.attempt = (job.queue, job.attempt) if job else ("-", 0)
    record.trace = trace.format_trace_id(span.trace_id)
    record.span = trace.format_span_id(span.span_id)
    return record


app = jobrt.App("sqlite:///:memory:", queues={"mail": 1})
jobrt.otel.instrument(app, TracerProvider())  # first, so that the spans are around the other hooks


@app.around_attempt
async def with_job(ctx: jobrt.Context, run: Callable[[], Awaitable[Any]]) -> Any:
    """Tell log records which job is running; jobrt resets the variable after the attempt."""
    current.set(ctx.job)
    return await run()


@app.job(queue="mail")
async def send(ctx: jobrt.Context, to: str) -> None:
    """Pretend to send a mail."""
    logger.info("sending to %s", to)


@app.job(queue="mail")
def render(ctx: jobrt.Context, template: str) -> None:
    """Pretend to render a template, in a thread."""
    logger.info("rendering %s", template)


async def main() -> None:
    """Enqueue two jobs and run them."""
    async with app.open_client() as jobs:
        await jobs.enqueue(send.new(to="ada@example.com"))
        await jobs.enqueue(render.new(template="welcome"))
        await app.drain()
    logger.info("done")


if __name__ == "__main__":
    layout = "%(message)s [%(name_of_job)s %(job)d, queue %(queue)s, attempt %(attempt)d, trace %(trace)s]"
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(layout))
    logging.setLogRecordFactory(make_record_of_job)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    trio.run(main)
