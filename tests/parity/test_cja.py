"""What *cja* (``Job<AppState>``) offers, on both engines."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import jobrt
from jobrt import End, State, where
from jobrt._core.limits import Demand
from jobrt.cli import main
from jobrt.events import CronFired, Event
from tests.parity.conftest import Open
from tests.parity.jobs import JOBS, Echo, Fail


async def test_every_run_can_be_cancelled_and_is_told_of_a_shutdown(opened: Open) -> None:
    """What outlasts the grace is given back, and uses up no attempt; nothing is dropped."""
    begun = trio.Event()
    told: list[Any] = []

    class Long(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            begun.set()
            try:
                await trio.sleep_forever()
            finally:
                told.append((ctx.shutting_down.is_set(), ctx.cancelled and ctx.cancelled[0]))

    async with opened(jobs=[Long]) as (app, jobs):
        handle = await jobs.enqueue(Long())
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            await begun.wait()
            await worker.stop(grace=0)
        record = await jobs.get(handle.id)
    assert told == [(True, jobrt.Stop.SHUTDOWN)]
    assert (record.state, record.attempt, record.attempts[0].end) == (State.AVAILABLE, 0, End.INTERRUPTED)


async def test_a_name_and_a_stored_value_run_directly(opened: Open) -> None:
    """`run_from_value` is ``app.perform(name, payload)``; what does not fit is refused with the path."""

    class Typed(jobrt.Job):
        number: int

        async def run(self, ctx: jobrt.Context) -> int:
            await ctx.enqueue(Echo("from within"))
            return self.number + ctx.state

    async with opened(jobs=[Typed, Echo], state=40) as (app, jobs):
        assert await app.perform("Typed", {"number": 2}) == 42
        assert await app.perform("Typed", '{"number": 3}') == 43
        assert await jobs.count() == 2  # what it enqueued, not itself
        with pytest.raises(jobrt.UndecodablePayload, match="number"):
            await app.perform("Typed", {"number": "two"})
        with pytest.raises(jobrt.UnknownJob, match="Typed"):
            await app.perform("Type", {})


async def test_the_context_string_is_stored_and_shown(
    opened: Open, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Why a job exists is in its record, in ``ctx.job`` and in what ``show`` prints."""

    class Look(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> Any:
            return ctx.job.context

    async with opened(jobs=[Look]) as (app, jobs):
        handle = await jobs.enqueue(Look(), context="user-signup", priority=-3)
        await app.drain()
        assert await handle.result() == "user-signup"
    arguments = ["--url", database_url, "show", str(handle.id)]
    assert await trio.to_thread.run_sync(main, arguments) == 0
    assert "user-signup" in capsys.readouterr().out


async def test_dead_letters_after_max_attempts_and_redrive(opened: Open) -> None:
    """Twenty retries are twenty-one attempts; every error is kept; redrive is a bulk rerun."""
    async with opened() as (app, jobs):
        handle = await jobs.enqueue(Fail(21), max_attempts=21)
        await app.drain()
        record = await jobs.get(handle.id)
        assert (record.state, len(record.attempts)) == (State.DISCARDED, 21)
        assert all(one.message and one.finished_at for one in record.attempts)
        assert await jobs.rerun(where.state("discarded")) == 1
        await app.drain()
        assert await handle.result() == 22


async def test_a_dead_workers_job_runs_again_by_heartbeat_not_by_age(opened: Open) -> None:
    """The lock is the worker's lease, a matter of seconds, and not the two hours a job may take."""
    async with opened(lease=0.6) as (app, jobs):
        handle = await jobs.enqueue(Echo("again"))
        async with app.open_storage() as storage:
            await storage.workers.register("dead", lease=0.2, info={})
            await storage.attempts.exchange([], Demand("dead", "default", 1, ("Echo",)))
        assert (await jobs.get(handle.id)).state is State.EXECUTING
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            assert await handle.result() == "again"
            await worker.stop()
        record = await jobs.get(handle.id)
        assert [one.end for one in record.attempts] == [End.CRASHED, End.FINISHED]


@pytest.mark.parametrize("disabled", ["worker", "cron", "worker,cron"])
async def test_workers_and_cron_are_switched_off_by_the_environment(
    opened: Open, monkeypatch: pytest.MonkeyPatch, disabled: str
) -> None:
    """``JOBRT_DISABLED``: what is off does nothing, the rest goes on."""
    monkeypatch.setenv("JOBRT_DISABLED", disabled)
    async with opened() as (app, jobs):
        app.every(3600, Echo("tick"), name="tick")
        handle = await jobs.enqueue(Echo("job"))
        ticked = trio.Event()

        def hear(event: Event) -> None:
            if isinstance(event, CronFired):
                ticked.set()

        with app.events.subscribed(hear):
            async with trio.open_nursery() as nursery:
                worker = await nursery.start(app.run_worker)
                if disabled == "cron":
                    assert await handle.result() == "job"
                elif disabled == "worker":
                    await ticked.wait()
                await worker.stop()
        ran = disabled == "cron"
        assert (await jobs.get(handle.id)).state is (State.COMPLETED if ran else State.AVAILABLE)
        assert await jobs.count(where.args("value", "tick")) == (disabled == "worker")


def test_an_unknown_switch_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip in the environment does not silently leave everything on."""
    monkeypatch.setenv("JOBRT_DISABLED", "workers")
    with pytest.raises(jobrt.InvalidSetting, match="workers"):
        trio.run(jobrt.App("sqlite:///:memory:", jobs=JOBS).run_worker)
