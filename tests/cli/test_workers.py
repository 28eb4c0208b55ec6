"""Tests of how supervision trees are shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from rich.console import Console

import jobrt
from jobrt._core.limits import Demand
from jobrt._storage.contract import WorkerRow
from jobrt._views.trees import headline
from jobrt.cli.workers import draw_trees
from tests.support.worker_info import worker_info

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Command = Callable[..., Result]


async def _leave_workers(url: str) -> None:
    """Leave a row of a live worker with a running job, and a row of a dead worker."""

    class Long(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            ctx.progress(3, 4, "nearly")
            await trio.sleep_forever()

    app = jobrt.App(url, jobs=[Long], queues={"default": 3}, lease=60)
    async with app.open_client() as jobs, app.open_storage() as storage, trio.open_nursery() as nursery:
        await jobs.enqueue(Long())
        worker = await nursery.start(app.run_worker)
        info = json.loads(json.dumps(worker.info().to_dict()))
        info["tree"]["children"][0] |= {"last_error": "OSError: no", "restarts": 2, "recent_restarts": 1}
        info["queues"]["default"]["stuck"] = [1]
        await storage.workers.register("alive.1", lease=600, info=worker_info(**info))
        await storage.workers.register("dead.2", lease=-1, info=worker_info(**info))
        await worker.stop(grace=0)


@pytest.fixture
def left(shop: Path) -> None:
    """Two workers in the database of the shop."""
    trio.run(_leave_workers, f"sqlite:///{shop}/shop.db")


def test_a_worker_that_has_only_registered_shows_no_heartbeat() -> None:
    """Its row is as old as the worker, so the age of a heartbeat would be its uptime once more."""
    now = datetime.now(UTC)
    began = now - timedelta(seconds=3.6)
    row = WorkerRow(
        id="w1", started_at=began, beat_at=began, expires_at=now, alive=True, info=worker_info(leader=True)
    )
    assert headline(row, now) == "w1  alive, just started, up 3.6 s, no heartbeat yet, leader"
    row = attrs.evolve(row, beat_at=now - timedelta(seconds=2))
    assert headline(row, now) == "w1  alive, up 3.6 s, last heartbeat 2.0 s ago, leader"


def test_workers_shows_each_tree(jobrt_command: Command, left: None) -> None:
    """The tree shows states, slots, restarts and last errors."""
    shown = jobrt_command("workers").out
    assert "alive.1  alive" in shown
    assert "dead.2  dead, its jobs await rescue" in shown
    assert "restarts 2 (1 recent)  last error: OSError: no" in shown
    assert "0 of 3 slots" in shown
    assert len(json.loads(jobrt_command("workers", "--json").out)) == 2


def test_top_shows_queues_and_trees_once(jobrt_command: Command, left: None) -> None:
    """In a pipe, `top` prints its tables once."""
    shown = jobrt_command("top", "--once").out
    assert "default" in shown
    assert "alive.1" in shown


def test_doctor_reports_dead_workers_and_stuck_jobs(jobrt_command: Command, left: None) -> None:
    """Dead workers and stuck jobs are findings."""
    found = jobrt_command("doctor")
    assert found.status == 1
    assert "worker dead.2 is dead" in found.out
    assert "stuck jobs in queue default: 1; see its log" in found.out


def test_show_reports_cancellation_phases_and_watchdog_notices(jobrt_command: Command, shop: Path) -> None:
    """The phase and the notices come from the row of the job's worker. Without a row, the phase is "requested"."""
    trio.run(_leave_a_stuck_job, f"sqlite:///{shop}/shop.db")
    shown = jobrt_command("show", "1").out
    assert "stuck: the job does not stop" in shown
    assert "job 1 (Long) has ignored its cancellation for at least 7 s, in shop.py:9 in run" in shown
    assert "requested; the worker has not confirmed it yet" in jobrt_command("show", "2").out
    assert "cancelling: stuck" in jobrt_command("top", "--once").out.replace("\n", " ")


async def _leave_a_stuck_job(url: str) -> None:
    """Leave two running jobs that are being cancelled. The worker reports a phase for the first."""

    class Long(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None: ...

    app = jobrt.App(url, jobs=[Long])
    async with app.open_client() as jobs, app.open_storage() as storage:
        first, second = await jobs.enqueue_many([Long(), Long()])
        notice = {"what": "uncancellable", "job": first.id, "name": "Long", "seconds": 7.2, "ago": 3.0}
        queue = {"concurrency": 3, "running": 2, "claimed": 0, "finished": 0, "paused": False, "stuck": []}
        info = {
            "queues": {"default": {**queue, "cancelling": {str(first.id): "stuck"}}},
            "notices": [{**notice, "at": "shop.py:9 in run"}],
        }
        await storage.workers.register("w", lease=600, info=worker_info(**info))
        await storage.attempts.exchange((), Demand("w", "default", 2, ("Long",)))
        await jobs.cancel(jobrt.where.id_in([first.id, second.id]), "no")


async def _leave_notices(url: str) -> None:
    """Leave a worker with every kind of watchdog notice."""
    notices = [
        {"what": "blocking", "job": 1, "name": "A", "seconds": 2.14, "at": "a.py:1 in run", "ago": 61.0},
        {"what": "blocking", "job": 0, "name": "(no job)", "seconds": 1.5, "at": "", "ago": 2.0},
        {"what": "slow", "job": 2, "name": "B", "seconds": 75.0, "at": "", "ago": 2.0},
        {"what": "stalled", "queue": "mail", "due": 3, "free": 2, "ago": 2.0},
    ]
    async with jobrt.App(url).open_storage() as storage:
        await storage.workers.register("w", lease=600, info=worker_info(notices=notices))


def test_doctor_reports_watchdog_notices(jobrt_command: Command, shop: Path) -> None:
    """Each kind of notice is a sentence that says when and where."""
    trio.run(_leave_notices, f"sqlite:///{shop}/shop.db")
    found = jobrt_command("doctor")
    assert found.status == 1
    for notice in (
        "job 1 (A) blocked the event loop for 2.1 s, in a.py:1 in run (1 min 1 s ago)",
        "the event loop was blocked for 1.5 s while no job ran on it",
        "job 2 (B) has run for at least 75 s, far longer than usual (2.0 s ago)",
        "queue mail had 3 due jobs and 2 free slots but claimed nothing; its fetcher was restarted (2.0 s ago)",
    ):
        assert notice in found.out
        assert notice in jobrt_command("workers").out


def test_trees_are_folded_if_they_do_not_fit() -> None:
    """A folded tree is a line with the load of the queues, and the children that need attention."""
    child = {"state": "running", "restarts": 0, "recent_restarts": 0, "last_error": None, "nested": None}
    child["since"] = datetime.now(UTC).isoformat()
    queue = {"concurrency": 3, "running": 1, "claimed": 2, "finished": 9, "paused": False, "stuck": []}
    actors = [{**child, "name": name} for name in ("executors", "fetcher")]
    queues = {
        "name": "queues",
        "children": [{**child, "name": "mail", "nested": {"name": "mail", "children": actors}}],
    }
    cron = {**child, "name": "cron", "restarts": 2, "recent_restarts": 1, "last_error": "OSError: no"}
    children = [{**child, "name": "heartbeat"}, {**child, "name": "queues", "nested": queues}, cron]
    info = {"queues": {"mail": queue}, "tree": {"name": "worker", "children": children}}
    now = datetime.now(UTC)
    row = WorkerRow(
        id="w",
        started_at=now,
        beat_at=now,
        expires_at=now + timedelta(seconds=9),
        alive=True,
        info=worker_info(**info),
    )
    whole, brief = (
        _printed(draw_trees([row], now=now, whole=True, height=7)),
        _printed(draw_trees([row], now=now, whole=True, height=6)),
    )
    assert "│  └─ mail" in "\n".join(whole)
    assert "fetcher" in "\n".join(whole)
    assert "1 of 3 slots, 2 claimed, 9 done" in "\n".join(whole)
    assert brief[1:2] == ["   mail 1 of 3"]
    assert len(brief) == 3
    assert "restarts 2 (1 recent)  OSError: no" in "\n".join(brief)


def _printed(drawing: Any) -> list[str]:
    console = Console(width=120, record=True, file=StringIO())
    console.print(drawing)
    return console.export_text().splitlines()
