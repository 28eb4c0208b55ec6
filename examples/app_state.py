"""Give jobs what the application has, and let the worker end when something of yours ends.

The state is made when the worker starts and closed after its last job: an async context manager in the worker's
scope. A job knows its id, its attempts and when it was enqueued. Queues have their own limits and retention.

Run it with ``python examples/app_state.py``.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

import jobrt


@attrs.define
class Pool:
    """Stand in for a pool of connections."""

    used: int = 0
    empty: trio.Event = attrs.Factory(trio.Event)


@asynccontextmanager
async def lifespan() -> AsyncIterator[Pool]:
    """Open what jobs need, for as long as the worker runs."""
    print("pool is open")
    yield (pool := Pool())
    print("pool is closed after", pool.used, "uses")


class Count(jobrt.Job):
    """Use the pool once."""

    QUEUE = "numbers"

    number: int

    async def run(self, ctx: jobrt.Context) -> None:
        """Count, and say so at the last one."""
        ctx.state.used += 1
        print(f"job {ctx.job.id}, attempt {ctx.job.attempt} of {ctx.job.max_attempts}: {self.number}")
        if self.number == 0:
            ctx.state.empty.set()


numbers = jobrt.Queue(1, poll_interval=0.1, keep={"completed": jobrt.Keep(age=0), "discarded": jobrt.Keep()})
app = jobrt.App("sqlite:///:memory:", jobs=[Count], queues={"numbers": numbers}, state=lifespan, grace=5)


async def main() -> None:
    """Run until the countdown is over: any async function of yours can say when that is."""
    async with app.open_client() as jobs:
        await jobs.enqueue_many([Count(3), Count(2), Count(1), Count(0)])
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            await worker.state.empty.wait()
            await worker.stop()
        print(await jobs.prune(), "completed jobs removed, as the queue's retention says")


if __name__ == "__main__":
    trio.run(main)
