"""Scheduled jobs: cron expressions with time zones, intervals, several schedules for one job.

Each tick enqueues one job, even if several workers run. The last tick is stored, so a restart neither repeats nor
loses a tick.

Run it with ``python examples/by_the_clock.py``. It ends after two ticks of the entry "seconds".
"""

from datetime import timedelta

import trio

import jobrt

app = jobrt.App("sqlite:///:memory:")
ticks: list[str] = []
enough = trio.Event()


@app.job
async def report(ctx: jobrt.Context, kind: str) -> None:
    """Write a report. The job's context names the tick."""
    ticks.append(kind)
    print(kind, "report for", " ".join((ctx.job.context or "").split()[:2]))
    if ticks.count("every second") > 1:
        enough.set()


@app.job(unique=jobrt.Unique(by=("name",)))
async def clean_up(ctx: jobrt.Context) -> None:
    """Apply the retention, as workers also do by themselves. It is unique, so slow runs do not pile up."""
    print("cleaning up:", await ctx.client.prune(), "jobs deleted")


app.cron("0 3 * * *", report.new("nightly"), timezone="Europe/Berlin")
app.cron("0 8 * * mon", report.new("weekly"), timezone="America/New_York", missed="skip")
app.cron("* * * * * *", report.new("every second"), name="seconds")  # with six fields, the first is seconds
app.every(timedelta(hours=6), clean_up.new(), name="clean-up")  # now, and then every six hours


async def main() -> None:
    """Run two workers; pause and change cron entries while they run."""
    async with app.open_client() as jobs, trio.open_nursery() as nursery:
        workers = [await nursery.start(app.run_worker) for _ in range(2)]
        await enough.wait()
        await jobs.pause_cron("seconds")
        await jobs.update_cron("clean-up", interval=timedelta(hours=12), missed="skip")
        for row in await jobs.crons():
            print(row.name, "· paused" if row.paused else f"· missed: {row.spec['missed']}")
        for worker in workers:
            await worker.stop()
        count = await jobs.count(jobrt.where.args("kind", "every second"))
        print("each tick was one job:", count == len(ticks))


if __name__ == "__main__":
    trio.run(main)
