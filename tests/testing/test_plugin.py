"""Tests of the fixtures of `jobrt.testing.plugin` and of `open_app` and `perform`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import jobrt
from jobrt.events import Event, JobEnded
from jobrt.testing import assert_enqueued, drain, open_app, perform
from tests.parity.jobs import Echo, Other

shop = jobrt.App("sqlite:///never-opened.db", jobs=[Other], queues={"mail": 3})


@pytest.fixture
def jobrt_settings() -> Mapping[str, Any]:
    """Settings for the tests of this module."""
    return {"jobs": [Echo], "queues": {"default": 2}}


async def test_an_app_and_a_client_and_events(
    jobrt_app: jobrt.App, jobrt_client: jobrt.Client, jobrt_events: list[Event], autojump_clock: MockClock
) -> None:
    """The fixtures share one in-memory app with `jobrt_settings`. Scheduled jobs run in virtual time."""
    await jobrt_client.enqueue(Echo("later"), schedule_in=3600)
    await assert_enqueued(jobrt_client, job=Echo("later"), count=1)
    await trio.sleep(3601)
    assert await drain(jobrt_app) == {"completed": 1}
    assert [event.name for event in jobrt_events if isinstance(event, JobEnded)] == ["Echo"]


@pytest.mark.jobrt(jobs=[Other], queues={"slow": 1})
async def test_a_marker_replaces_the_settings(jobrt_app: jobrt.App) -> None:
    """The marker replaces the settings for one test."""
    assert jobrt_app.registry.names == ("Other",)
    assert set(jobrt_app.queues) == {"default", "slow"}


@pytest.mark.jobrt(shop)
async def test_an_app_is_copied(jobrt_app: jobrt.App, jobrt_client: jobrt.Client) -> None:
    """The copy has the jobs and queues of the app on an in-memory database."""
    assert jobrt_app is not shop
    assert jobrt_app.url == "sqlite:///:memory:"
    assert (jobrt_app.registry.names, jobrt_app.queues["mail"].concurrency) == (("Other",), 3)
    await jobrt_client.enqueue(Other())
    await drain(jobrt_app)


async def test_a_copy_has_no_settings() -> None:
    """A copy uses the settings of the app."""
    with pytest.raises(TypeError, match="queues"):
        async with open_app(shop, queues={}):
            pass


async def test_perform_runs_one_value_with_a_real_context() -> None:
    """`perform` returns what `run` returned, which may be a `Snooze`, and raises what `run` raised."""

    class Look(jobrt.Job):
        how: str

        async def run(self, ctx: jobrt.Context) -> Any:
            await ctx.checkpoint({"n": 1})
            if self.how == "fail":
                raise LookupError("no")
            return jobrt.Snooze(5) if self.how == "snooze" else [ctx.state, ctx.saved]

    assert await perform(Look("plain"), state="state") == ["state", {"n": 1}]
    assert await perform(Look("snooze")) == jobrt.Snooze(5)
    with pytest.raises(LookupError):
        await perform(Look("fail"))
