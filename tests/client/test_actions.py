"""Changes of queues and cron entries by a client are kept as actions: who, what and why."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

import jobrt
from jobrt._client.this_process import this_process
from jobrt._storage.sqlite import open_sqlite
from jobrt.testing import open_app
from tests.simulation.faulty import AppOn, Fault, FaultyStorage


class Hello(jobrt.Job):
    """Job of the cron entry."""

    async def run(self, ctx: jobrt.Context) -> None: ...


async def test_each_change_is_an_action(autojump_clock: MockClock) -> None:
    """With who did it and why; without that, with the user and host of the process."""
    async with open_app(jobs=[Hello]) as (app, jobs):
        app.cron("@hourly", Hello(), name="tick")
        await app.declare_crons()
        await jobs.pause("mail", reason="the relay is down", by="ada")
        await jobs.resume("mail")
        await jobs.scale("mail", 5)
        await jobs.scale("mail", None)
        await jobs.pause_cron("tick", by="bob")
        await jobs.resume_cron("tick")
        await jobs.update_cron("tick", interval=60, reason="more often")
        await jobs.delete_cron("tick")
        found, of_queue, of_cron = (
            await jobs.actions(),
            await jobs.actions(queue="mail", limit=1),
            await jobs.actions(cron="tick"),
        )
    me = this_process()
    assert [(one.who, one.what, one.why) for one in reversed(found)] == [
        ("ada", "paused queue mail", "the relay is down"),
        (me, "resumed queue mail", ""),
        (me, "scaled queue mail to 5", ""),
        (me, "scaled queue mail to the setting of the application", ""),
        ("bob", "paused cron entry tick", ""),
        (me, "resumed cron entry tick", ""),
        (me, "changed cron entry tick: interval 60", "more often"),
        (me, "deleted cron entry tick", ""),
    ]
    assert of_queue == [found[4]]
    assert of_cron == found[:4]


async def test_what_fails_is_no_action() -> None:
    """Neither an unknown entry nor a bad argument is kept, and a bad argument changes nothing."""
    async with open_app() as (_, jobs):
        with pytest.raises(jobrt.CronNotFound):
            await jobs.pause_cron("none")
        with pytest.raises(jobrt.InvalidSetting, match="reason"):
            await jobs.pause("mail", reason=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(jobrt.InvalidSetting, match="concurrency"):
            await jobs.scale("mail", 0)
        with pytest.raises(jobrt.InvalidFilter, match="use one of them"):
            await jobs.actions(queue="a", cron="b")
        assert await jobs.actions(queue="\ud800") == []
        assert (await jobs.actions(limit=None), await jobs.queues()) == ([], [])


async def test_an_action_that_is_not_stored(caplog: pytest.LogCaptureFixture) -> None:
    """The change was made all the same, and the log says so."""

    def decide(name: str) -> tuple[Fault, float] | None:
        return (Fault.REFUSED, 0.0) if name == "record" else None

    async with open_sqlite(":memory:") as real, AppOn(FaultyStorage(real, decide)).open_client() as jobs:
        await jobs.pause("mail", by="ada")
        assert [queue.paused for queue in await jobs.queues()] == [True]
        assert await jobs.actions() == []
    assert "the action is not stored: ada paused queue mail" in caplog.text
