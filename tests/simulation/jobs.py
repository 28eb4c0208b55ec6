"""Jobs of the simulation; each uses another feature."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import tenacity
import trio

import jobrt
from jobrt import State
from tests.simulation.world import NAME_LIMIT

__all__ = ["JOBS", "Simulated"]


class Simulated(jobrt.Job):
    """Base class: takes a random time, and then calls `work`."""

    MAX_ATTEMPTS = None
    BACKOFF = tenacity.wait_fixed(1)

    who: str = "a"

    async def run(self, ctx: jobrt.Context) -> Any:
        with ctx.state.world.running_in(ctx, ctx.state.name):
            await trio.sleep(ctx.state.world.chance.choice([0, 0, 0.1, 1, 5, 20]))
            return await self.work(ctx)

    async def work(self, ctx: jobrt.Context) -> Any:
        """Return the result of the job."""
        return "ok"


class Plain(Simulated):
    """Job that succeeds."""


class Limited(Simulated):
    """Job with MAX_CONCURRENCY."""

    MAX_CONCURRENCY = NAME_LIMIT


class Flaky(Simulated):
    """Job that fails half of the time."""

    async def work(self, ctx: jobrt.Context) -> Any:
        if ctx.state.world.chance.random() < 0.5:
            raise OSError("half of the time")
        return "ok"


class Hasty(Simulated):
    """Job with a timeout that some runs exceed."""

    TIMEOUT = 4


class Sleepy(Simulated):
    """Job that snoozes half of the time."""

    async def work(self, ctx: jobrt.Context) -> Any:
        if ctx.state.world.chance.random() < 0.5:
            return jobrt.Snooze(timedelta(seconds=ctx.state.world.chance.choice([0, 1, 7])))
        return "ok"


class Polite(Simulated):
    """Job that pauses its key or queue half of the time."""

    async def work(self, ctx: jobrt.Context) -> Any:
        if ctx.state.world.chance.random() < 0.5:
            return jobrt.Throttle(ctx.state.world.chance.choice([0.5, 3]))
        return "ok"


class Careful(Simulated):
    """Job with a step and checkpoints."""

    async def work(self, ctx: jobrt.Context) -> Any:
        ctx.progress(1, 2)
        async with ctx.step("first") as step:
            if step.todo:
                await trio.sleep(1)
                step.value = "ok"
        for number in range(ctx.saved or 0, 3):
            await ctx.checkpoint(number + 1)
            await trio.sleep(1)
            ctx.progress(number, 3)
        return step.value


class Exact(Simulated):
    """Job that writes a row and completes in one transaction."""

    async def work(self, ctx: jobrt.Context) -> Any:
        async with ctx.transaction(result="ok") as conn:
            await conn.execute("insert into written values (?)", (ctx.job.id,))
        if ctx.state.world.chance.random() < 0.3:
            raise OSError("after the commit")
        return None


class Parent(Simulated):
    """Job that enqueues two children and waits for them; after a lost reply it may enqueue more."""

    async def work(self, ctx: jobrt.Context) -> Any:
        if ctx.saved is None:
            children = [await ctx.enqueue(Plain()) for _ in range(2)]
            await ctx.checkpoint([child.id for child in children])
            return jobrt.After(children)
        records = [await ctx.client.get(child_id) for child_id in ctx.saved]
        unfinished = [record for record in records if record.state not in {State.COMPLETED, State.CANCELLED}]
        if unfinished:
            assert any(record.name != "Plain" or record.attempts for record in unfinished)
            return jobrt.After(ctx.saved)
        return "ok"


JOBS: list[type[Simulated]] = [Plain, Limited, Flaky, Hasty, Sleepy, Polite, Careful, Exact, Parent]
