"""Jobs of a rated queue that wait, with real workers: they go on without a token."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trio

import jobrt
from jobrt import State
from jobrt.testing import open_app
from tests.runtime.test_worker import working

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.scopes.conftest import Site

LIMIT = 60
HOURLY = jobrt.Rate(1, per=timedelta(hours=1))


class Child(jobrt.Job):
    """Child in a queue without a rate. It ends when its parent is parked."""

    MAX_ATTEMPTS = 1

    parent: int

    async def run(self, ctx: jobrt.Context) -> str:
        await _suspended(ctx.client.handle(self.parent))
        return "a child"


class Rated(jobrt.Job):
    """Job that waits for something."""

    QUEUE = "rated"
    PARK = 600
    MAX_ATTEMPTS = 1

    kind: str = "message"

    async def run(self, ctx: jobrt.Context) -> Any:
        ctx.state.append(self.kind)
        match self.kind:
            case "message":
                return await ctx.receive("word")
            case "time":
                await ctx.sleep(0.05, name="first")
                await ctx.sleep(0.05, name="second")
                return "a time"
            case _:
                async with ctx.open_nursery() as nursery:
                    child = await nursery.enqueue(Child(ctx.job.id), queue="default")
                return await child.result()


async def _suspended(handle: Any) -> None:
    async for update in handle.follow():
        if update.state is State.SUSPENDED:
            return


def _queues(**limits: Any) -> dict[str, jobrt.Queue]:
    """Return queues whose workers are not helped by a poll."""
    return {
        "rated": jobrt.Queue(2, poll_interval=LIMIT * 10, **limits),
        "default": jobrt.Queue(2, poll_interval=LIMIT * 10),
    }


@pytest.mark.parametrize(
    ("kind", "limits"),
    [
        ("message", {"rate": HOURLY}),
        ("time", {"rate": HOURLY}),
        ("children", {"rate": HOURLY}),
        ("message", {"key": "name", "per_key_rate": HOURLY}),
        ("message", {"key": "name", "fair": True, "rate": HOURLY}),
    ],
    ids=["message", "time", "children", "key", "turns"],
)
async def test_a_job_goes_on_although_there_is_no_token_for_an_hour(
    site: Site, kind: str, limits: dict[str, Any]
) -> None:
    """It had taken the only one. The next job has to wait for another."""
    async with site(Rated, Child, queues=_queues(**limits)) as scene:
        job = await scene.jobs.enqueue(Rated(kind))
        with trio.fail_after(LIMIT):
            async with working(scene.app):
                if kind == "message":
                    await _suspended(job)
                other = await scene.jobs.enqueue(Rated(kind))
                if kind == "message":
                    await job.send("word", "a message")
                assert (await job.result()).startswith("a ")
                assert (await scene.jobs.get(other.id)).state is State.AVAILABLE
        assert scene.log == [kind]


async def test_more_are_parked_than_a_claim_looks_at(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim goes on with the others after a moment, until all that may go on do."""
    monkeypatch.setattr("jobrt._runtime.parked_jobs.MANY_PARKED", 3)
    queues = {"rated": jobrt.Queue(20, rate=jobrt.Rate(1, per=3600, burst=10), poll_interval=3600)}
    async with open_app(jobs=[Rated], queues=queues, state=[]) as (app, jobs):
        handles = [await jobs.enqueue(Rated()) for _ in range(10)]
        async with working(app):
            for handle in handles:
                await _suspended(handle)
            began = trio.current_time()
            for handle in handles[::-1]:
                await handle.send("word", handle.id)
            assert [await handle.result() for handle in handles] == [handle.id for handle in handles]
            assert trio.current_time() - began < 5
