"""Jobs whose end is decided while their children live: they are closing, and their parents wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tenacity
import trio

import jobrt
from jobrt import State
from tests.runtime.test_worker import working
from tests.scopes.test_nursery import LIMIT, _until, _until_state

if TYPE_CHECKING:
    from tests.scopes.conftest import Site


class Stubborn(jobrt.Job):
    """Grandchild that ends only when the test says so."""

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.state.append("stubborn begun")
        with trio.CancelScope(shield=True):
            while "free" not in ctx.state:
                await trio.sleep(0.005)


class Middle(jobrt.Job):
    """Child with a child of its own."""

    async def run(self, ctx: jobrt.Context) -> None:
        async with ctx.open_nursery() as nursery:
            await nursery.enqueue(Stubborn())


class Top(jobrt.Job):
    """Parent of `Middle`."""

    async def run(self, ctx: jobrt.Context) -> None:
        async with ctx.open_nursery(on_failure="continue") as nursery:
            await nursery.enqueue(Middle())


async def test_a_parent_waits_for_a_child_that_is_closing(site: Site) -> None:
    """The child's end is decided, but its own child is alive. Looking after scopes in between changes nothing."""
    async with site(Top, Middle, Stubborn) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            top = await scene.jobs.enqueue(Top())
            await _until(scene, "stubborn begun")
            await _until_state(scene, State.SUSPENDED, 2)
            try:
                await scene.jobs.cancel((await scene.jobs.tree(top.id))[1].id, "enough")
                await _until_state(scene, State.CLOSING, 1)
                await scene.jobs._storage.scopes.tend()
                states = [job.state for job in await scene.jobs.tree(top.id)]
            finally:
                scene.log.append("free")
            assert states == [State.SUSPENDED, State.CLOSING, State.EXECUTING]
            await top.wait()
        family = await scene.jobs.tree(top.id)
    assert [job.state for job in family] == [State.COMPLETED, State.CANCELLED, State.COMPLETED]


class Declines(jobrt.Job):
    """Child that cancels itself."""

    async def run(self, ctx: jobrt.Context) -> jobrt.Cancel:
        ctx.state.append("declined")
        return jobrt.Cancel("not needed")


class Retries(jobrt.Job):
    """Parent that does not stay in memory, and whose first attempt fails."""

    PARK = 0
    BACKOFF = tenacity.wait_none()

    async def run(self, ctx: jobrt.Context) -> None:
        async with ctx.open_nursery() as nursery:
            await nursery.enqueue(Declines())
        if ctx.job.attempt == 1:
            raise LookupError("once")


async def test_a_retry_runs_a_child_again_only_once(site: Site) -> None:
    """The second attempt is suspended until the child has ended once more, and then runs from the top."""
    async with site(Retries, Declines) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            await (await scene.jobs.enqueue(Retries())).result()
    assert scene.log.count("declined") == 2


class Refuses(jobrt.Job):
    """Child that discards itself."""

    async def run(self, ctx: jobrt.Context) -> jobrt.Discard:
        ctx.state.append("refused")
        return jobrt.Discard("no")


class Insists(jobrt.Job):
    """Parent that waits in the body of its nursery, not in memory, and fails once."""

    PARK = 0
    BACKOFF = staticmethod(lambda _record: 0.0)

    async def run(self, ctx: jobrt.Context) -> str:
        async with ctx.open_nursery(on_failure="continue") as nursery:
            child = await nursery.enqueue(Refuses())
            await child.wait()
            await ctx.sleep(0.001)
            if ctx.job.attempt == 1:
                raise LookupError("fails as asked")
        return "done"


async def test_a_child_runs_again_once_in_an_attempt(site: Site) -> None:
    """However often the attempt is suspended in the body: else it would wait for the child again and again."""
    async with site(Insists, Refuses) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            assert await (await scene.jobs.enqueue(Insists())).result() == "done"
    assert scene.log == ["refused", "refused"]
