"""Jobs that enqueue jobs, now and later, on queues of their own, with a backoff of their own.

Run it with ``python examples/jobs_that_enqueue.py``.
"""

import attrs
import tenacity
import trio

import jobrt


@attrs.frozen
class Settings:
    """What the application tells its jobs."""

    app_name: str = "background-jobs"


def backoff(job: jobrt.JobRecord) -> float:
    """Wait longer for big numbers; what decides is the job value, not only its class."""
    return 0.01 * job.args["some"]


class Adding(jobrt.Job):
    """Add two numbers, and pass the sum on."""

    QUEUE = "adding"
    MAX_ATTEMPTS = 2
    BACKOFF = backoff

    some: int
    other: int

    async def run(self, ctx: jobrt.Context) -> int:
        """Fail once, then hand the sum to the next job."""
        if ctx.job.attempt == 1:
            msg = "carry lost"
            raise ArithmeticError(msg)
        await ctx.enqueue(Showing(self.some + self.other), schedule_in=0.05, tags=[f"from-{ctx.job.id}"])
        return self.some + self.other


class Showing(jobrt.Job):
    """Show a number."""

    QUEUE = "showing"
    MAX_ATTEMPTS = None  # no limit
    BACKOFF = tenacity.wait_fixed(2)

    number: int

    async def run(self, ctx: jobrt.Context) -> None:
        """Print it."""
        print(f"{ctx.state.app_name}: {self.number} {list(ctx.job.tags)}")


app = jobrt.App(
    "sqlite:///:memory:", jobs=[Adding, Showing], queues={"adding": 16, "showing": 1}, state=Settings
)


async def main() -> None:
    """Add, and wait until every sum was shown."""
    async with app.open_client() as jobs:
        adding = await jobs.enqueue_many([Adding(1, 2), Adding(3, 4), Adding(5, 6)])
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            for handle in adding:
                await handle.wait()
            for showing in await jobs.query(jobrt.where.name("Showing")):
                await jobs.wait(showing.id)
            await worker.stop()
        for one in await jobs.totals():
            print(
                one.queue,
                one.name,
                one.all_time.completed,
                "completed,",
                one.all_time.failed,
                "failed attempts",
            )


if __name__ == "__main__":
    trio.run(main)
