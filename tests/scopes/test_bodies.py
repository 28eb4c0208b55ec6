"""A nursery that is being ended ends its body, wherever that is: it runs, is parked, or is suspended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

import jobrt
from jobrt import State, where
from tests.runtime.test_worker import working

if TYPE_CHECKING:
    from tests.scopes.conftest import Site

WAITS = ("runs", "receives", "sleeps", "has children")

LIMIT = 60
"""Seconds after which a test fails; none needs more than a few."""


class Fails(jobrt.Job):
    """Child that fails when it is told to."""

    MAX_ATTEMPTS = 1

    async def run(self, ctx: jobrt.Context) -> None:
        while "fail" not in ctx.state:
            await trio.sleep(0.005)
        raise LookupError("bad")


class Parent(jobrt.Job):
    """Job whose body does not end by itself."""

    MAX_ATTEMPTS = 1

    waits: str
    deadline: float | None = None

    async def run(self, ctx: jobrt.Context) -> str:
        try:
            async with ctx.open_nursery("outer", deadline=self.deadline) as nursery:
                if self.deadline is None:
                    await nursery.enqueue(Fails())
                ctx.state.append("waits")
                match self.waits:
                    case "runs":
                        await trio.sleep_forever()
                    case "receives":
                        await ctx.receive("never")
                    case "sleeps":
                        await ctx.sleep(86400, name="long")
                    case _:
                        async with ctx.open_nursery("inner") as inner:
                            await inner.enqueue(Fails(), schedule_in=86400)
        except* jobrt.JobFailed:
            ended = "a child failed"
        except* trio.TooSlowError:
            ended = "too slow"
        await ctx.sleep(0.01)  # a wait after the block is not ended with it
        return ended


class Suspended(Parent):
    """The same, not in memory."""

    PARK = 0


async def test_a_child_that_fails_ends_the_body(site: Site) -> None:
    """Also if no other child is alive."""
    parents = [parent(waits) for parent in (Parent, Suspended) for waits in WAITS]
    async with site(Parent, Suspended, Fails, slots=20) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            handles = await scene.jobs.enqueue_many(parents)
            while await scene.jobs.count(where.state("suspended")) < len(
                [job for job in parents if job.waits != "runs"]
            ):
                await trio.sleep(0.01)
            scene.log.append("fail")
            assert [await handle.result() for handle in handles] == ["a child failed"] * len(parents)
        children = await scene.jobs.query(where.name("Fails"), limit=None)
    assert {child.state for child in children} == {State.DISCARDED, State.CANCELLED}


async def test_a_deadline_ends_the_body(site: Site) -> None:
    """Also if no child is alive."""
    parents = [parent(waits, deadline=0.1) for parent in (Parent, Suspended) for waits in WAITS]
    async with site(Parent, Suspended, Fails, slots=20) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            handles = await scene.jobs.enqueue_many(parents)
            assert [await handle.result() for handle in handles] == ["too slow"] * len(parents)
        children = await scene.jobs.query(where.name("Fails"), limit=None)
    assert {child.state for child in children} <= {State.CANCELLED}


class Late(jobrt.Job):
    """Job whose body asks for another child after one has failed, and before it is told of that."""

    MAX_ATTEMPTS = 1

    async def run(self, ctx: jobrt.Context) -> str:
        try:
            async with ctx.open_nursery() as nursery:
                nursery._waits.scopes.bodies["children"] = trio.CancelScope()  # the body is not told
                child = await nursery.enqueue(Fails())
                ctx.state.append("fail")
                while (await ctx.client.get(child.id)).state is not State.DISCARDED:
                    await trio.sleep(0.005)
                await nursery.enqueue(Fails())
        except* jobrt.JobFailed as group:
            ended = f"{len(group.exceptions)} failed"
        return ended


async def test_a_child_that_comes_too_late_ends_the_body(site: Site) -> None:
    """The block raises what its children raise, and nothing that depends on which came first."""
    async with site(Late, Fails) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            assert await (await scene.jobs.enqueue(Late())).result() == "1 failed"
        assert await scene.jobs.count(where.name("Fails")) == 1
