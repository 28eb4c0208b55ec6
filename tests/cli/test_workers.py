"""The supervision tree of every worker, as people see it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import trio

import jobrt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Command = Callable[..., Result]


async def _leave_workers(url: str) -> None:
    """Leave a worker that looks alive, with a job it runs, and one that died."""

    class Long(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            ctx.progress(3, 4, "nearly")
            await trio.sleep_forever()

    app = jobrt.App(url, jobs=[Long], queues={"default": 3}, lease=60)
    async with app.open_client() as jobs, app.open_storage() as storage, trio.open_nursery() as nursery:
        await jobs.enqueue(Long())
        worker = await nursery.start(app.run_worker)
        info = json.loads(json.dumps(worker.info()))
        info["tree"]["children"][0] |= {"last_error": "OSError: no", "restarts": 2, "recent_restarts": 1}
        info["queues"]["default"]["stuck"] = [1]
        await storage.register("alive.1", lease=600, info=info)
        await storage.register("dead.2", lease=-1, info=info)
        await worker.stop(grace=0)


@pytest.fixture
def left(shop: Path) -> None:
    """Have two workers in the database of the shop."""
    trio.run(_leave_workers, f"sqlite:///{shop}/shop.db")


def test_workers_shows_each_tree(jobrt_command: Command, left: None) -> None:
    """State, slots, restarts, last error."""
    shown = jobrt_command("workers").out
    assert "alive.1  alive" in shown
    assert "dead.2  dead, its jobs await rescue" in shown
    assert "restarts 2 (1 lately)  last error: OSError: no" in shown
    assert "0 of 3 slots" in shown
    assert len(json.loads(jobrt_command("workers", "--json").out)) == 2


def test_top_shows_queues_and_trees_once(jobrt_command: Command, left: None) -> None:
    """What `top` draws is printed once into a pipe."""
    shown = jobrt_command("top", "--once").out
    assert "default" in shown
    assert "alive.1" in shown


def test_doctor_names_the_dead_and_the_stuck(jobrt_command: Command, left: None) -> None:
    """Each with what follows."""
    found = jobrt_command("doctor")
    assert found.status == 1
    assert "worker dead.2 is dead" in found.out
    assert "jobs 1 in queue default are stuck" in found.out
