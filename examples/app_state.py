"""Application state that jobs share, and a worker that stops when the program is done.

The state is an async context manager. It opens when the worker starts and closes after the last job. Each queue has
its own limits and retention.

Run it with ``python examples/app_state.py``.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

import jobrt


@attrs.define
class Pool:
    """Stand-in for a connection pool."""

    uses: int = 0
    countdown_over: trio.Event = attrs.Factory(trio.Event)


@asynccontextmanager
async def lifespan() -> AsyncIterator[Pool]:
    """Provide the pool while the worker runs."""
    print("pool is open")
    yield (pool := Pool())
    print("pool is closed after", pool.uses, "uses")


class Count(jobrt.Job):
    """Job that uses the pool once."""

    QUEUE = "numbers"

    number: int

    async def run(self, ctx: jobrt.Context) -> None:
        """Count one use; the job with number 0 ends the countdown."""
        ctx.state.uses += 1
        print(f"job {ctx.job.id}, attempt {ctx.job.attempt} of {ctx.job.max_attempts}: {self.number}")
        if self.number == 0:
            ctx.state.countdown_over.set()


numbers = jobrt.Queue(1, poll_interval=0.1, keep={"completed": jobrt.Keep(age=0), "discarded": jobrt.Keep()})
app = jobrt.App("sqlite:///:memory:", jobs=[Count], queues={"numbers": numbers}, state=lifespan, grace=5)


async def main() -> None:
    """Run the worker until the countdown is over."""
    async with app.open_client() as jobs:
        await jobs.enqueue_many([Count(3), Count(2), Count(1), Count(0)])
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            await worker.state.countdown_over.wait()
            await worker.stop()
        print(await jobs.prune(), "completed jobs deleted by the queue's retention")


if __name__ == "__main__":
    trio.run(main)
