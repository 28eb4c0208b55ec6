"""Features of *cja* (``Job<AppState>``), on both engines."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import jobrt
from jobrt import End, State, where
from jobrt._core.limits import Demand
from jobrt._core.worker_info import WorkerInfo
from jobrt.cli import main
from jobrt.events import CronFired, Event
from tests.parity.conftest import Open
from tests.parity.jobs import JOBS, Echo, Fail


async def test_every_run_can_be_cancelled_and_sees_a_shutdown(opened: Open) -> None:
    """A job that runs longer than the grace is given back, without using an attempt."""
    started = trio.Event()
    seen: list[Any] = []

    class Long(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            started.set()
            try:
                await trio.sleep_forever()
            finally:
                seen.append((ctx.shutting_down.is_set(), ctx.cancelled and ctx.cancelled[0]))

    async with opened(jobs=[Long]) as (app, jobs):
        handle = await jobs.enqueue(Long())
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            await started.wait()
            await worker.stop(grace=0)
        record = await jobs.get(handle.id)
    assert seen == [(True, jobrt.Stop.SHUTDOWN)]
    assert (record.state, record.attempt, record.attempts[0].end) == (State.AVAILABLE, 0, End.INTERRUPTED)


async def test_a_name_and_a_stored_value_run_directly(opened: Open) -> None:
    """`run_from_value` is ``app.perform(name, payload)``; an invalid payload is refused with its path."""

    class Typed(jobrt.Job):
        number: int

        async def run(self, ctx: jobrt.Context) -> int:
            await ctx.enqueue(Echo("from within"))
            return self.number + ctx.state

    async with opened(jobs=[Typed, Echo], state=40) as (app, jobs):
        assert await app.perform("Typed", {"number": 2}) == 42
        assert await app.perform("Typed", '{"number": 3}') == 43
        assert await jobs.count() == 2  # the children, and not the job itself
        with pytest.raises(jobrt.UndecodablePayload, match="number"):
            await app.perform("Typed", {"number": "two"})
        with pytest.raises(jobrt.UnknownJob, match="Typed"):
            await app.perform("Type", {})


async def test_the_context_string_is_stored_and_shown(
    opened: Open, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The context is in the record, in ``ctx.job`` and in the output of ``show``."""

    class Inspect(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> Any:
            return ctx.job.context

    async with opened(jobs=[Inspect]) as (app, jobs):
        handle = await jobs.enqueue(Inspect(), context="user-signup", priority=-3)
        await app.drain()
        assert await handle.result() == "user-signup"
    arguments = ["--url", database_url, "show", str(handle.id)]
    assert await trio.to_thread.run_sync(main, arguments) == 0
    assert "user-signup" in capsys.readouterr().out


async def test_dead_letters_after_max_attempts_and_redrive(opened: Open) -> None:
    """Twenty retries are twenty-one attempts, all errors are kept, and redrive is a bulk rerun."""
    async with opened() as (app, jobs):
        handle = await jobs.enqueue(Fail(21), max_attempts=21)
        await app.drain()
        record = await jobs.get(handle.id)
        assert (record.state, len(record.attempts)) == (State.DISCARDED, 21)
        assert all(attempt.message and attempt.finished_at for attempt in record.attempts)
        assert await jobs.rerun(where.state("discarded")) == 1
        await app.drain()
        assert await handle.result() == 22


async def test_a_dead_workers_job_runs_again_by_heartbeat_not_by_age(opened: Open) -> None:
    """The lock timeout is the lease of the worker, and does not limit the duration of a job."""
    async with opened(lease=0.6) as (app, jobs):
        handle = await jobs.enqueue(Echo("again"))
        async with app.open_storage() as storage:
            await storage.workers.register("dead", lease=0.2, info=WorkerInfo())
            await storage.attempts.exchange([], Demand("dead", "default", 1, ("Echo",)))
        assert (await jobs.get(handle.id)).state is State.EXECUTING
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            assert await handle.result() == "again"
            await worker.stop()
        record = await jobs.get(handle.id)
        assert [attempt.end for attempt in record.attempts] == [End.CRASHED, End.FINISHED]


@pytest.mark.parametrize("disabled", ["worker", "cron", "worker,cron"])
async def test_workers_and_cron_are_switched_off_by_the_environment(
    opened: Open, monkeypatch: pytest.MonkeyPatch, disabled: str
) -> None:
    """``JOBRT_DISABLED`` disables workers, cron or both."""
    monkeypatch.setenv("JOBRT_DISABLED", disabled)
    async with opened() as (app, jobs):
        app.every(3600, Echo("tick"), name="tick")
        handle = await jobs.enqueue(Echo("job"))
        ticked = trio.Event()

        def on_event(event: Event) -> None:
            if isinstance(event, CronFired):
                ticked.set()

        with app.events.subscribed(on_event):
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
    """An unknown value of ``JOBRT_DISABLED`` is refused."""
    monkeypatch.setenv("JOBRT_DISABLED", "workers")
    with pytest.raises(jobrt.InvalidSetting, match="workers"):
        trio.run(jobrt.App("sqlite:///:memory:", jobs=JOBS).run_worker)
