"""Run of the demo: enqueue a job for each file, then run a worker until the report is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import trio

import jobrt
from jobrt import where
from jobrt._core.states import FINAL
from jobrt._demo.files import walk
from jobrt._demo.jobs import CountFile, Report, files_of
from jobrt._demo.report import is_written

DEFAULT_URL = "sqlite:///jobrt-demo.db"

_CHUNK = 1000
_LEASE = 5.0
"""Seconds: short, so that a demo that was killed goes on soon after it is started again."""


@attrs.frozen
class Prepared:
    """The demo with all its jobs enqueued.

    Args:
        report: the handle of the report.
        added: how many files were enqueued now.
        known: how many files had a job from an earlier run.
        done: how many files are counted, or failed for good.
        total: how many files there are.
        complete: whether an earlier run has done everything, and the report is there.

    """

    report: jobrt.Handle[dict[str, Any]]
    added: int
    known: int
    done: int
    total: int
    complete: bool


def make_app(url: str) -> jobrt.App:
    """Return the app of the demo, on that database."""
    return jobrt.App(
        url,
        jobs=[CountFile, Report],
        queues={"files": os.cpu_count() or 1, "report": 1},
        lease=_LEASE,
        migrate=True,
    )


async def prepare(
    jobs: jobrt.Client, root: str, *, output: Path, again: bool, on_error: Callable[[OSError], object]
) -> Prepared:
    """Enqueue what is still to be done.

    Args:
        jobs: a client of the app.
        root: the directory, an absolute path.
        output: where the report writes the digests.
        again: whether to forget what earlier runs have done.
        on_error: is called for each file or folder that cannot be read.

    """
    if again:
        await jobs.delete(files_of(root) | (where.name("Report") & where.args("root", root)))
    added, known = await _enqueue_files(jobs, root, on_error=on_error)
    report = await jobs.enqueue(Report(root, output))
    complete = False
    if report.duplicate and (record := await jobs.get(report.id)).state in FINAL:
        complete = not added and is_written(output, record)
        if not complete:  # there are new files, or what it wrote is gone
            await jobs.rerun(report.id)
    done = await jobs.count(files_of(root) & where.state("completed", "cancelled", "discarded"))
    return Prepared(report, added, known, done, await jobs.count(files_of(root)), complete)


async def _enqueue_files(
    jobs: jobrt.Client, root: str, *, on_error: Callable[[OSError], object]
) -> tuple[int, int]:
    """Enqueue a job for each file that has none; return how many files are new and how many had one."""
    added = known = 0
    chunk: list[CountFile] = []

    async def flush() -> None:
        nonlocal added, known
        handles = await jobs.enqueue_many(chunk)
        known += sum(handle.duplicate for handle in handles)
        added += sum(not handle.duplicate for handle in handles)
        chunk.clear()

    for path in walk(root, on_error=on_error):
        chunk.append(CountFile(root, path))
        if len(chunk) == _CHUNK:
            await flush()
    await flush()
    return added, known


async def run(app: jobrt.App, report: jobrt.Handle[dict[str, Any]]) -> jobrt.JobRecord:
    """Run a worker until the report is final, and return the report's record.

    Raises:
        JobrtError: the report failed.

    """
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.run_worker)
        record = await report.wait()
        await worker.stop()
    if record.state is not jobrt.State.COMPLETED:
        raise jobrt.errors.JobrtError(f"the report failed: {record.attempts[-1].message}")
    return record
