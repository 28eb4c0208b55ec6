"""Errors of jobs in Sentry: each attempt has a scope of its own, with tags by which its errors are found.

What a job tags or leaves as a breadcrumb stays in its scope. jobrt logs failed attempts too, which Sentry would report
a second time, so that logger is ignored. Instead of sending, the transport of this example prints the reports.

Run it with ``python examples/error_reports.py``; it needs ``pip install sentry-sdk``.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import sentry_sdk
import trio
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.logging import ignore_logger
from sentry_sdk.transport import Transport

import jobrt


class Printer(Transport):
    """Transport that prints the errors, in place of the one that sends them."""

    def capture_envelope(self, envelope: Envelope) -> None:
        """Print an error and its tags."""
        event = envelope.get_event()
        if event is not None:
            error = event["exception"]["values"][-1]
            tags = ", ".join(f"{key} {value}" for key, value in sorted(event["tags"].items()))
            print(f"{error['type']}: {error['value']} [{tags}]")


app = jobrt.App("sqlite:///:memory:", queues={"import": 1})


@app.around_attempt
async def reporting(ctx: jobrt.Context, run: Callable[[], Awaitable[Any]]) -> Any:
    """Run an attempt in a scope of its own, and report what it raises. A cancellation is no `Exception`."""
    job = ctx.job
    with sentry_sdk.isolation_scope() as scope:
        scope.set_tags({"job": job.name, "queue": job.queue, "attempt": str(job.attempt)})
        scope.set_context("job", {"id": job.id, "args": job.args, "tags": list(job.tags)})
        try:
            return await run()
        except Exception as error:
            sentry_sdk.capture_exception(error)
            raise


@app.job(queue="import", max_attempts=1)
def parse(ctx: jobrt.Context, file: str) -> int:
    """Parse a file, in a thread; its tag is in the scope of this attempt alone."""
    sentry_sdk.set_tag("file", file)
    return int(file.removesuffix(".txt"))


@app.job(queue="import", max_attempts=1)
async def check(ctx: jobrt.Context) -> None:
    """Find what is missing."""
    raise LookupError("nothing was imported")


async def main() -> None:
    """Run a job that succeeds and two that fail."""
    async with app.open_client() as jobs:
        await jobs.enqueue_many([parse.new(file="7.txt"), parse.new(file="seven.txt"), check.new()])
        await app.drain()


if __name__ == "__main__":
    ignore_logger("jobrt")
    sentry_sdk.init(dsn="https://key@sentry.example/1", transport=Printer, auto_session_tracking=False)
    trio.run(main)
