"""A worker whose SQLite file is deleted and made anew says so and goes on in the new one."""

from __future__ import annotations

from pathlib import Path

import trio
from tests.runtime.test_worker import working

import jobrt
from jobrt.events import StorageDown, StorageUp, WorkerFenced


class Hang(jobrt.Job):
    """Run until cancelled, and tell how that was."""

    async def run(self, ctx: jobrt.Context) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ctx.state.append(ctx.cancelled)


class Quick(jobrt.Job):
    """Be done."""

    async def run(self, ctx: jobrt.Context) -> str:
        return "done"


def _remove(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_file():  # the sockets of the worker are in a folder
            path.unlink()


async def test_a_worker_registers_in_the_new_file(tmp_path: Path) -> None:
    """It reports the outage, ends what it ran under the old lease, and runs the new file's jobs under a new id."""
    url = f"sqlite:///{tmp_path}/jobs.db"
    stops: list[object] = []
    app = jobrt.App(url, jobs=[Hang, Quick], queues={"default": 3}, state=stops)
    told: list[jobrt.events.Event] = []
    with trio.fail_after(60), app.events.subscribed(told.append, routine=False):
        async with app.open_client() as jobs, working(app) as worker:
            hanging = await jobs.enqueue(Hang())
            assert await (await jobs.enqueue(Quick())).result() == "done"
            before = worker.id
            assert hanging.id == 1
            _remove(tmp_path)
            while not any(isinstance(event, StorageDown) for event in told):
                await trio.sleep(0.01)
            async with jobrt.App(url, jobs=[Hang, Quick]).open_client() as fresh:
                made = await fresh.enqueue(Quick())
                assert await made.result() == "done"
                (row,) = await fresh.workers()
            assert row.id == worker.id != before
            assert [one.id for one in await jobs.query()] == [made.id]
    (down, *_), (fenced, *_) = (
        [event for event in told if isinstance(event, kind)] for kind in (StorageDown, WorkerFenced)
    )
    assert "was deleted or moved" in str(down)
    assert fenced
    assert any(isinstance(event, StorageUp) for event in told)
    assert stops == [(jobrt.Stop.LEASE_LOST, "the database does not know this worker any more")]
