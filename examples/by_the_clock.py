"""Enqueue jobs by the clock: cron expressions in a time zone, intervals, several schedules of one job.

Each tick is one job, however many workers tick; the last one is stored, so restarts neither repeat nor lose one.

Run it with ``python examples/by_the_clock.py``; it ends after the second tick of the seconds.
"""

from datetime import timedelta

import trio

import jobrt

app = jobrt.App("sqlite:///:memory:")
ticks: list[str] = []
enough = trio.Event()


@app.job
async def report(ctx: jobrt.Context, kind: str) -> None:
    """Write a report; the job's context says which tick it is for."""
    ticks.append(kind)
    print(kind, "because of", " ".join((ctx.job.context or "").split()[:2]))
    if ticks.count("every second") > 1:
        enough.set()


@app.job(unique=jobrt.Unique(by=("name",)))
async def clean_up(ctx: jobrt.Context) -> None:
    """Apply the retention; workers do that by themselves, too. Unique: slow ones do not pile up."""
    print("cleaning up:", await ctx.client.prune(), "jobs deleted")


app.cron("0 3 * * *", report.new("nightly"), timezone="Europe/Berlin")
app.cron("0 8 * * mon", report.new("weekly"), timezone="America/New_York", missed="skip")
app.cron("* * * * * *", report.new("every second"), name="seconds")  # six fields: seconds come first
app.every(timedelta(hours=6), clean_up.new(), name="clean-up")  # at once, and every six hours from then on


async def main() -> None:
    """Tick with two workers; change and pause entries while they run."""
    async with app.open_client() as jobs, trio.open_nursery() as nursery:
        workers = [await nursery.start(app.run_worker) for _ in range(2)]
        await enough.wait()
        await jobs.pause_cron("seconds")
        await jobs.update_cron("clean-up", interval=timedelta(hours=12), missed="skip")
        for row in await jobs.crons():
            print(row.name, "· paused" if row.paused else f"· missed: {row.spec['missed']}")
        for worker in workers:
            await worker.stop()
        print(
            "each tick was one job:", await jobs.count(jobrt.where.args("kind", "every second")) == len(ticks)
        )


if __name__ == "__main__":
    trio.run(main)
