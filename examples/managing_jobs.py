"""Job management: options, unique jobs, and finding, changing, cancelling and rerunning jobs.

Run it with ``python examples/managing_jobs.py``.
"""

import trio

import jobrt
from jobrt import where

app = jobrt.App("sqlite:///:memory:")
once_in_five_minutes = jobrt.Unique(
    by=("name",), within=300, states="all", on_conflict=jobrt.Replace("priority")
)


@app.job(max_attempts=1)
async def simple(ctx: jobrt.Context, data: str) -> str | jobrt.Cancel:
    """Return a text about the data. Fail if there is none; cancel the job if it is ``"…"``."""
    if not data:
        msg = "no data"
        raise ValueError(msg)
    return jobrt.Cancel("nothing to do") if data == "…" else f"simple job running with {data!r}"


@app.job(unique=once_in_five_minutes)
async def unique_job(ctx: jobrt.Context) -> None:
    """Do nothing, at most once in five minutes."""


async def main() -> None:
    """Use each operation once."""
    async with app.open_client() as jobs:
        first = await jobs.enqueue(simple.new("First job"), tags=["initial_job", "delayed"], schedule_in=7200)
        await jobs.enqueue(simple.new("…"), metadata={"from": "web"}, priority=-5)
        broken = await jobs.enqueue(simple.new(""), max_attempts=1)
        original = await jobs.enqueue(unique_job.new())
        duplicate = await jobs.enqueue(unique_job.new(), priority=42)
        print("same job:", original.id == duplicate.id, duplicate.duplicate)
        print("its priority now:", (await jobs.get(original.id)).priority)

        delayed = where.tagged_any(["delayed"]) & ~(where.state("completed") | where.name("other"))
        found = await jobs.query(delayed)
        print("found:", [(job.id, job.args) for job in found])
        await jobs.update(first.id, args={"data": "Changed job"}, max_attempts=3, schedule_in=0)
        later = await jobs.enqueue(simple.new("never"), schedule_in=3600)
        await jobs.cancel(later.id, "No longer needed")

        await app.drain()
        print(await first.result())
        cancelled = await jobs.query(where.state("cancelled"), order_by="id")
        print("cancelled:", [job.cancel_reason for job in cancelled])
        print("dead letters:", [(job.id, job.attempts[-1].message) for job in await jobs.failed()])

        await jobs.rerun(
            where.state("discarded")
        )  # all that match; jobs.rerun(broken.id) reruns a single job
        await jobs.update(broken.id, args=simple.new("repaired"))
        await app.drain()
        print(await broken.result())
        try:
            await jobs.cancel(12345)
        except jobrt.JobNotFound as error:
            print(error)


if __name__ == "__main__":
    trio.run(main)
