"""An idle worker makes few queries; a worker that runs for a day keeps no memory of it."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections import Counter
from typing import Any

import psutil
import pytest
import tenacity
import trio
from tests.runtime.test_fencing import scene
from trio.testing import MockClock

import jobrt
from jobrt import State, where

pytestmark = pytest.mark.unmeasured

HOUR = 3600
HOURS = int(os.environ.get("JOBRT_SOAK_HOURS", "1"))
"""Virtual hours of the soak test: one by default, 24 for a whole day (some minutes of CPU)."""


class Step(jobrt.Job):
    """Job that sometimes fails, sometimes snoozes, and enqueues another."""

    BACKOFF = tenacity.wait_fixed(30)
    number: int

    async def run(self, ctx: jobrt.Context) -> Any:
        if self.number % 7 == 0 and ctx.job.attempt == 1:
            raise OSError("now and then")
        if self.number % 11 == 0 and not ctx.job.attempts:
            return jobrt.Snooze(45)
        ctx.progress(1, 2)
        await trio.sleep(self.number % 5)
        if self.number % 3 == 0:
            await ctx.enqueue(Step(self.number + 1), schedule_in=10)
        return {"number": self.number}


async def test_an_idle_worker_asks_seldom_says_nothing_and_takes_no_time(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """With two queues: under three queries a second, no log line of level INFO, and under 1 % of a core."""
    asked: Counter[str] = Counter()

    def count(name: str) -> None:
        asked[name] += 1

    async with (
        scene(count, [Step], queues={"default": 4, "other": 4}) as here,
        trio.open_nursery() as nursery,
    ):
        worker = await nursery.start(here.app.run_worker)
        await trio.sleep(60)
        asked.clear()
        began = time.process_time()
        with caplog.at_level(logging.INFO):
            await trio.sleep(HOUR)
        spent = time.process_time() - began
        await worker.stop()
    assert asked.total() < 3 * HOUR, asked
    assert asked["exchange"] >= 2 * HOUR * 0.9, "it does look, and this test counts"
    assert caplog.records == []
    assert spent < 0.01 * HOUR


def _held(root: psutil.Process) -> dict[str, int]:
    gc.collect()
    kinds = Counter(str(type(one).__module__).partition(".")[0] for one in gc.get_objects())
    return {
        "objects": sum(kinds[name] for name in ("jobrt", "trio", "outcome", "contextvars")),
        "tasks": trio.lowlevel.current_statistics().tasks_living,
        "files": root.num_fds(),
        "threads": root.num_threads(),
    }


@pytest.mark.slow
async def test_a_day_of_work_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    """At the end there are as many objects, tasks, files and threads as after twenty minutes. All jobs have ended."""
    process, samples = psutil.Process(), list[dict[str, int]]()
    async with scene(
        lambda _name: None,
        [Step],
        queues={"default": jobrt.Queue(4, poll_interval=20)},
        keep={"completed": jobrt.Keep(count=20), "discarded": jobrt.Keep(count=20)},
    ) as here:
        here.app.events.subscribers = ()
        here.app.every(30, Step(21), name="often")
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(here.app.run_worker)
            for number in range(HOURS * 60):
                await here.client.enqueue(Step(number))
                await trio.sleep(60)
                if number % 20 == 19:
                    samples.append(_held(process))
            await worker.stop()
        assert await here.client.count(where.state(State.DISCARDED)) == 0
        assert await here.client.count() < 200, "it was pruned meanwhile"
    first, last = samples[0], samples[-1]
    assert last["tasks"] <= first["tasks"] + 2
    assert last["files"] <= first["files"]
    assert last["threads"] <= first["threads"]
    assert last["objects"] <= first["objects"] * 1.05 + 200, samples
