"""Jobs that enqueue jobs, each with its own queue and backoff.

Run it with ``python examples/jobs_that_enqueue.py``.
"""

import attrs
import tenacity
import trio

import jobrt


@attrs.frozen
class Settings:
    """Settings that jobs read from ``ctx.state``."""

    app_name: str = "background-jobs"


def backoff(job: jobrt.JobRecord) -> float:
    """Return a longer wait for larger numbers. A backoff can depend on the payload."""
    return 0.01 * int(job.args["first"])


class Adding(jobrt.Job):
    """Job that adds two numbers and enqueues the sum."""

    QUEUE = "adding"
    MAX_ATTEMPTS = 2
    BACKOFF = backoff

    first: int
    second: int

    async def run(self, ctx: jobrt.Context) -> int:
        """Fail once, then enqueue a job that shows the sum."""
        if ctx.job.attempt == 1:
            msg = "carry lost"
            raise ArithmeticError(msg)
        await ctx.enqueue(Showing(self.first + self.second), schedule_in=0.05, tags=[f"from-{ctx.job.id}"])
        return self.first + self.second


class Showing(jobrt.Job):
    """Job that prints a number."""

    QUEUE = "showing"
    MAX_ATTEMPTS = None  # no limit
    BACKOFF = tenacity.wait_fixed(2)

    number: int

    async def run(self, ctx: jobrt.Context) -> None:
        """Print the number and the job's tags."""
        print(f"{ctx.state.app_name}: {self.number} {list(ctx.job.tags)}")


app = jobrt.App(
    "sqlite:///:memory:", jobs=[Adding, Showing], queues={"adding": 16, "showing": 1}, state=Settings
)


async def main() -> None:
    """Add three pairs of numbers and wait until every sum is shown."""
    async with app.open_client() as jobs:
        adding = await jobs.enqueue_many([Adding(1, 2), Adding(3, 4), Adding(5, 6)])
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            for handle in adding:
                await handle.wait()
            for showing in await jobs.query(jobrt.where.name("Showing")):
                await jobs.wait(showing.id)
            await worker.stop()
        for job in await jobs.totals():
            counts = job.all_time
            print(job.queue, job.name, counts.completed, "completed,", counts.failed, "failed attempts")


if __name__ == "__main__":
    trio.run(main)
