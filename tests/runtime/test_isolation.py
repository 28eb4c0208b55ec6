"""A job or queue does not affect later attempts, other queues or the lease."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.runtime.test_fencing import LEASE, scene
from tests.support.roles import Replaced
from trio.testing import MockClock

import jobrt
from jobrt import End, State
from jobrt.events import JobRescued


class Wander(jobrt.Job):
    """Job that returns the current directory, and changes it."""

    to: str

    async def run(self, ctx: jobrt.Context) -> str:
        here = os.getcwd()  # noqa: PTH109 - it is compared with a str
        os.chdir(self.to)
        return here


@pytest.mark.parametrize("queues", [{"default": 1}, {"default": 3}])
async def test_a_current_directory_of_one_attempt_never_reaches_the_next(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queues: dict[str, int]
) -> None:
    """Each job starts in the directory in which the worker was started."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    async with scene(lambda _name: None, [Wander], queues=queues) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        handles = await here.client.enqueue_many([Wander(str(tmp_path)) for _ in range(5)])
        assert {await one.result() for one in handles} == {str(home)}
        await worker.stop()
    assert Path.cwd() == home


class Held(jobrt.Job):
    """Job that blocks a thread until it is released, and records each run."""

    def run(self, ctx: jobrt.Context) -> str:
        log: list[int] = ctx.state["log"]
        log.append(ctx.job.attempt)
        ctx.state["go"].wait(60)
        return "done"


async def test_a_job_that_holds_a_thread_past_the_lease_runs_once(mock_clock: MockClock) -> None:
    """The heartbeat does not depend on the thread, so another worker finds no job to rescue."""
    state: dict[str, Any] = {"log": [], "go": threading.Event()}
    rescued: list[object] = []
    async with scene(lambda _name: None, [Held], state=state) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        other = await nursery.start(here.app.run_worker)
        handle = await here.client.enqueue(Held())
        while not state["log"]:
            await trio.testing.wait_all_tasks_blocked(0.001)
            mock_clock.jump(0.01)
        for _ in range(int(10 * LEASE)):
            mock_clock.jump(1)
            await trio.testing.wait_all_tasks_blocked()
        state["go"].set()
        mock_clock.autojump_threshold = 0.01
        record = await handle.wait()
        rescued += [one for one in here.events if isinstance(one, JobRescued)]
        await worker.stop()
        await other.stop()
    assert (record.state, state["log"], rescued) == (State.COMPLETED, [1], [])
    assert [one.end for one in record.attempts] == [End.FINISHED]


async def test_a_queue_whose_claims_fail_for_a_bug_leaves_the_others_alone(autojump_clock: MockClock) -> None:
    """Its supervisor restarts it, sets it aside, and retries later.

    Jobs of other queues run, and the worker continues.
    """

    class Work(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> str:
            return ctx.job.queue

    async with scene(lambda _name: None, [Work], queues={"bad": 1, "good": 1}) as here:
        attempts, broken = here.app._storage.attempts, True

        class Buggy:
            def __getattr__(self, name: str) -> Any:
                return getattr(attempts, name)

            async def exchange(self, outcomes: Any, demand: Any) -> Any:
                if broken and demand.queue == "bad":
                    raise ZeroDivisionError("a bug")
                return await attempts.exchange(outcomes, demand)

        here.app._storage = Replaced(here.app._storage, attempts=Buggy())
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(here.app.run_worker)
            stuck = await here.client.enqueue(Work(), queue="bad")
            for _ in range(20):
                assert await (await here.client.enqueue(Work(), queue="good")).result() == "good"
                await trio.sleep(10)
            assert (await here.client.get(stuck.id)).state is State.AVAILABLE
            tree = {one.name: one.nested for one in worker.statistics().children}["queues"]
            assert tree is not None
            queues = {one.name: one for one in tree.children}
            assert queues["bad"].restarts > 0
            assert queues["good"].restarts == 0
            broken = False
            assert await stuck.result() == "bad"
            await worker.stop()
