"""Publication that waits for the approval of a person, and reminds them after a day.

While it waits, the job is a row in the database: it needs no slot and no memory, and survives restarts. A clock of the
test tools lets three days pass in no time.

Run it with ``python examples/publication.py``.
"""

import attrs
import trio
from trio.testing import MockClock

import jobrt
from jobrt.testing import open_app

DAY = 86400


@attrs.frozen
class Decision:
    """Message that the job waits for."""

    yes: bool
    why: str = ""


class Remind(jobrt.Job):
    """Job that reminds the editor."""

    draft: str

    async def run(self, ctx: jobrt.Context) -> None:
        """Send the reminder."""
        print(f"day {trio.current_time() / DAY:.0f}: what about {self.draft!r}?")


class Publish(jobrt.Job):
    """Job that publishes a draft when the editor agrees."""

    draft: str

    async def run(self, ctx: jobrt.Context) -> str | jobrt.Cancel:
        """Wait a day for the decision, then remind the editor and wait as long as it takes."""
        try:
            decision = await ctx.receive("decision", Decision, within=DAY)
        except trio.TooSlowError:  # decided once: a decision that comes late does not change it
            async with ctx.open_nursery("reminder") as nursery:  # asked for in each run, and run once
                await nursery.enqueue(Remind(self.draft))
            decision = await ctx.receive("decision", Decision)
        if not decision.yes:
            return jobrt.Cancel(decision.why)
        return f"{self.draft!r} is out"


async def main() -> None:
    """Ask for two decisions. One comes soon, the other one on the third day."""
    async with open_app(jobs=[Remind, Publish], lease=3600) as (app, jobs), trio.open_nursery() as nursery:
        worker = await nursery.start(app.run_worker)
        poem, novel = await jobs.enqueue_many([Publish("poem"), Publish("novel")])
        await trio.sleep(3600)
        await poem.send("decision", Decision(yes=True))
        print(await poem.result())
        await trio.sleep(3 * DAY)
        waiting = (await jobs.get(novel.id)).waiting
        print("the novel waits for a", waiting and waiting.name)
        await novel.send("decision", Decision(yes=False, why="too long"))
        print("the novel was refused:", (await novel.wait()).cancel_reason)
        await worker.stop()


if __name__ == "__main__":
    trio.run(main, clock=MockClock(autojump_threshold=0))
