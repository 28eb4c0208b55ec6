"""The jobs of the simulation: each uses another part of what jobrt promises."""

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
    """Take a while, drawn from the seed."""

    MAX_ATTEMPTS = None
    BACKOFF = tenacity.wait_fixed(1)

    who: str = "a"

    async def run(self, ctx: jobrt.Context) -> Any:
        with ctx.state.world.running_in(ctx, ctx.state.name):
            await trio.sleep(ctx.state.world.chance.choice([0, 0, 0.1, 1, 5, 20]))
            return await self.work(ctx)

    async def work(self, ctx: jobrt.Context) -> Any:
        """Return the result."""
        return "ok"


class Plain(Simulated):
    """Succeed."""


class Limited(Simulated):
    """Run few at once."""

    MAX_CONCURRENCY = NAME_LIMIT


class Flaky(Simulated):
    """Fail half of the time."""

    async def work(self, ctx: jobrt.Context) -> Any:
        if ctx.state.world.chance.random() < 0.5:
            raise OSError("half of the time")
        return "ok"


class Hasty(Simulated):
    """Have a time limit that some runs miss."""

    TIMEOUT = 4


class Sleepy(Simulated):
    """Snooze now and then."""

    async def work(self, ctx: jobrt.Context) -> Any:
        if ctx.state.world.chance.random() < 0.5:
            return jobrt.Snooze(timedelta(seconds=ctx.state.world.chance.choice([0, 1, 7])))
        return "ok"


class Careful(Simulated):
    """Save what it has, and a step."""

    async def work(self, ctx: jobrt.Context) -> Any:
        ctx.progress(1, 2)
        async with ctx.step("one") as step:
            if step.todo:
                await trio.sleep(1)
                step.value = "ok"
        for number in range(ctx.saved or 0, 3):
            await ctx.checkpoint(number + 1)
            await trio.sleep(1)
            ctx.progress(number, 3)
        return step.value


class Exact(Simulated):
    """Write a row and complete, in one transaction."""

    async def work(self, ctx: jobrt.Context) -> Any:
        async with ctx.transaction(result="ok") as conn:
            conn.execute("insert into written values (?)", (ctx.job.id,))
        if ctx.state.world.chance.random() < 0.3:
            raise OSError("after the end")
        return None


class Parent(Simulated):
    """Enqueue two children and wait for them; a lost reply may make it enqueue more than two."""

    async def work(self, ctx: jobrt.Context) -> Any:
        if ctx.saved is None:
            children = [await ctx.enqueue(Plain()) for _ in range(2)]
            await ctx.checkpoint([one.id for one in children])
            return jobrt.After(children)
        records = [await ctx.client.get(one) for one in ctx.saved]
        open_ones = [one for one in records if one.state not in {State.COMPLETED, State.CANCELLED}]
        if open_ones:
            assert any(one.name != "Plain" or one.attempts for one in open_ones)
            return jobrt.After(ctx.saved)
        return "ok"


JOBS: list[type[Simulated]] = [Plain, Limited, Flaky, Hasty, Sleepy, Careful, Exact, Parent]
