"""Messages and sleeps: decided once, kept, and found again by later runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import attrs
import psycopg
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


@attrs.frozen
class Decision:
    """A message with a type."""

    yes: bool
    why: str = ""


class Ask(jobrt.Job):
    """Job that waits for a decision."""

    PARK = 0

    async def run(self, ctx: jobrt.Context) -> list[Any]:
        ctx.state.append("asks")
        first = await ctx.receive("approval", Decision)
        second = await ctx.receive("approval", Decision)
        return [first.yes, second.why]


async def test_messages_come_in_order_and_are_kept(site: Site) -> None:
    """Also those that were sent before the job asked for them, and between two runs."""
    async with site(Ask) as scene:
        job = await scene.jobs.enqueue(Ask())
        assert await job.send("approval", Decision(yes=True), key="a")
        assert not await job.send("approval", Decision(yes=False), key="a")  # a duplicate is dropped
        with trio.fail_after(LIMIT):
            async with working(scene.app):
                while (await scene.jobs.get(job.id)).state is not State.SUSPENDED:
                    await trio.sleep(0.01)
                await job.send("approval", {"yes": False, "why": "late"})
                assert await job.result() == [True, "late"]
    assert scene.log.count("asks") == 2


async def test_a_message_that_does_not_fit_fails_the_attempt(site: Site) -> None:
    """The error has the path."""
    async with site(Ask) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            job = await scene.jobs.enqueue(Ask().with_options(max_attempts=1))
            await job.send("approval", {"yes": "maybe"})
            record = await job.wait()
    assert record.state is State.DISCARDED
    assert "message 'approval'.yes" in (record.attempts[-1].message or "")


@pytest.mark.parametrize("final", [True, False])
async def test_who_cannot_get_a_message(site: Site, final: bool) -> None:
    """A final job, or none at all."""
    async with site(Ask) as scene:
        if final:
            job = await scene.jobs.enqueue(Ask())
            await scene.jobs.cancel(job.id)
            with pytest.raises(jobrt.JobStateError):
                await job.send("approval")
        else:
            with pytest.raises(jobrt.JobNotFound):
                await scene.jobs.send(99, "approval")


class Patient(jobrt.Job):
    """Job that is out of patience after a day, and then sleeps."""

    PARK = 0

    async def run(self, ctx: jobrt.Context) -> str:
        ctx.state.append(("run", trio.current_time()))
        try:
            await ctx.receive("word", within=86400)
        except trio.TooSlowError:
            await ctx.sleep(3600, name="pause")
            return "too slow"
        return "in time"


async def test_a_limit_is_decided_once(autojump_clock: MockClock) -> None:
    """A message that comes after the limit does not change the branch that the job has taken."""
    log: list[Any] = []
    async with open_app(jobs=[Patient], state=log) as (app, jobs), working(app):
        job = await jobs.enqueue(Patient())
        await trio.sleep(86400 + 600)
        await job.send("word", "late")
        assert await job.result() == "too slow"
        assert trio.current_time() == pytest.approx(86400 + 3600, abs=5)
    assert len(log) == 3


async def test_a_sleep_goes_on_after_a_restart(autojump_clock: MockClock) -> None:
    """The first call decides the time."""

    class Sleeper(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> float:
            await ctx.sleep(7200)
            return trio.current_time()

    async with open_app(jobs=[Sleeper]) as (app, jobs):
        job = await jobs.enqueue(Sleeper())
        async with working(app):
            await trio.sleep(100)
        await trio.sleep(1000)
        async with working(app):
            assert await job.result() == pytest.approx(7200, abs=5)


class Hears(jobrt.Job):
    """Job that waits in memory, and ends in some way."""

    PARK = 600
    MAX_ATTEMPTS = 1

    how: str

    async def run(self, ctx: jobrt.Context) -> Any:
        await ctx.receive("word")
        match self.how:
            case "result":
                return 1
            case "failure":
                raise LookupError("heard")
            case "transaction":
                async with ctx.transaction(result=2):
                    pass
            case "snooze":
                return jobrt.Snooze(3600)
        return None


async def test_no_job_that_is_over_is_kept_as_parked(site: Site, url: str) -> None:
    """Heartbeats look at the parked jobs of their worker: those of its whole life would be too many."""
    ends = ["nothing", "result", "failure", "transaction", "snooze", "cancel"]
    async with site(Hears, slots=1) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            jobs = {how: await scene.jobs.enqueue(Hears(how)) for how in ends}
            while await scene.jobs.count(jobrt.where.state("suspended")) < len(ends):
                await trio.sleep(0.01)
            assert _marks(url) == len(ends)
            await scene.jobs.cancel(jobs.pop("cancel").id)
            for job in jobs.values():
                await job.send("word", "go")
            while await scene.jobs.count(~jobrt.where.state("suspended", "available", "executing")) < len(
                ends
            ):
                await trio.sleep(0.01)
            assert _marks(url) == 0


def _marks(url: str) -> int:
    """Return how many jobs are marked as parked."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            return int(file.execute("select count(worker) from jobrt_waiting").fetchone()[0])
    with psycopg.connect(url) as conn:
        return int(conn.execute("select count(worker) from jobrt.waiting").fetchall()[0][0])


async def test_an_actor_forgets_what_it_has_saved(site: Site) -> None:
    """A long-lived job keeps its state in a checkpoint; later runs start behind it."""

    class Actor(jobrt.Job):
        PARK = 0

        async def run(self, ctx: jobrt.Context) -> int:
            total = ctx.saved or 0
            while True:
                message = await ctx.receive("add")
                if message is None:
                    return int(total)
                total += message
                await ctx.checkpoint(total, forget=True)

    async with site(Actor) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            job = await scene.jobs.enqueue(Actor())
            for number in [1, 2, 3, None]:
                await job.send("add", number)
                if number is not None:
                    while (await scene.jobs.get(job.id)).state is not State.SUSPENDED:
                        await trio.sleep(0.005)
            assert await job.result() == 6
