# ruff: noqa: D101, D103 - a program as a user writes it
# pyright: strict
"""A user's jobs outside Trio, as the documentation writes them."""

from typing import Any, assert_type

import jobrt


class Crunch(jobrt.Job):
    RUN_IN = "process"

    below: int

    def run(self, ctx: jobrt.ProcessContext) -> int | jobrt.Snooze:
        with ctx.step("list") as step:
            if step.todo:
                step.value = [1, 2]
        ctx.checkpoint(1)
        ctx.progress(1, 2, "half")
        assert_type(ctx.enqueue(Crunch(1), priority=2), jobrt.blocking.Enqueued)
        assert_type(ctx.deadline, float)
        assert_type(ctx.cancelled, tuple[jobrt.Stop, str] | None)
        return jobrt.Snooze(0) if ctx.shutting_down.is_set() else 7


class Read(jobrt.Job):
    RUN_IN = "thread"

    def run(self, ctx: jobrt.ThreadContext) -> int:
        with ctx.step("list") as step:
            assert_type(step.value, Any)
        ctx.checkpoint(1)
        assert_type(ctx.state, Any)
        return ctx.enqueue(Crunch(1)).id


class Fetch(jobrt.Job):
    RUN_IN = "asyncio"

    async def run(self, ctx: jobrt.AsyncioContext) -> int:
        async with ctx.step("list") as step:
            step.value = 1
        await ctx.checkpoint(step.value)
        await ctx.shutting_down.wait()
        return (await ctx.enqueue(Read())).id


async def results(jobs: jobrt.Client) -> None:
    assert_type(await (await jobs.enqueue(Crunch(1))).result(), int)
    assert_type(await (await jobs.enqueue(Read())).result(), int)
    assert_type(await (await jobs.enqueue(Fetch())).result(), int)


app = jobrt.App("sqlite:///:memory:", jobs=[Crunch, Read, Fetch])
