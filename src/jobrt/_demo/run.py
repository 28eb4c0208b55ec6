"""Run of the demo: enqueue a job for each file, then run a worker until the report is written."""

import os
import stat
import sysconfig
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import trio

import jobrt
from jobrt import where
from jobrt._core.states import FINAL
from jobrt._demo.jobs import CountFile, Report, files_of
from jobrt._demo.report import is_written

DEFAULT_URL = "sqlite:///jobrt-demo.db"
_BATCH = 1000
"""Files per call of `enqueue_many`."""
_LEASE = 5.0
"""Seconds. The lease is short, so that a killed demo continues soon after it is started again."""
_INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders in the standard library that contain installed packages."""


def standard_library() -> Path:
    """Return the directory of Python's standard library."""
    return Path(sysconfig.get_path("stdlib")).resolve()


def resolve_directory(directory: Path) -> str:
    """Return the absolute path of a directory.

    Raises:
        OSError: the directory does not exist or cannot be read.

    """
    if not stat.S_ISDIR(directory.stat().st_mode):
        raise NotADirectoryError(0, "it is not a directory", str(directory))
    return str(directory.resolve())


def walk(root: str, *, on_error: Callable[[OSError], object]) -> Iterator[Path]:
    """Yield every regular file below the absolute path `root`, sorted within each folder. Links are not followed.

    Packages that are installed in the standard library are skipped. So are folders and files that cannot be read;
    `on_error` is called for each.
    """
    excluded = _INSTALLED if root == str(standard_library()) else frozenset[str]()
    for folder, names, files in os.walk(root, onerror=on_error):
        names[:] = sorted(set(names) - excluded)
        for name in sorted(files):
            path = Path(folder, name)
            try:
                if stat.S_ISREG(path.lstat().st_mode):
                    yield path
            except OSError as error:
                on_error(error)


@attrs.frozen
class Prepared:
    """Result of enqueueing the demo's jobs.

    ``added`` files were enqueued now, and ``known`` files had a job already. Of all (``total``), ``done`` have ended.
    ``complete`` is true if an earlier run has ended and its report still exists.
    """

    report: jobrt.Handle[dict[str, Any]]
    added: int
    known: int
    done: int
    total: int
    complete: bool


def make_app(url: str) -> jobrt.App:
    """Return the demo's app, with its database at `url`."""
    queues = {"files": os.cpu_count() or 1, "report": 1}
    return jobrt.App(url, jobs=[CountFile, Report], queues=queues, lease=_LEASE, migrate=True)


async def prepare(
    jobs: jobrt.Client, root: str, *, output: Path, again: bool, on_error: Callable[[OSError], object]
) -> Prepared:
    """Enqueue the jobs that are not done yet.

    Args:
        jobs: a client of the app.
        root: the directory, an absolute path.
        output: the file to which the report writes the digests.
        again: whether to delete the results of earlier runs.
        on_error: function that is called for each file or folder that cannot be read.

    """
    if again:
        await jobs.delete(files_of(root) | (where.name("Report") & where.args("root", root)))
    added, known = await _enqueue_files(jobs, root, on_error=on_error)
    report = await jobs.enqueue(Report(root, output))
    complete = False
    if report.duplicate and (record := await jobs.get(report.id)).state in FINAL:
        complete = not added and is_written(output, record)
        if not complete:  # there are new files, or the written file has changed
            await jobs.rerun(report.id)
    done = await jobs.count(files_of(root) & where.state("completed", "cancelled", "discarded"))
    return Prepared(report, added, known, done, await jobs.count(files_of(root)), complete)


async def _enqueue_files(
    jobs: jobrt.Client, root: str, *, on_error: Callable[[OSError], object]
) -> tuple[int, int]:
    """Enqueue a job for each file that has none; return how many files are new and how many had a job."""
    added = known = 0
    paths = walk(root, on_error=on_error)
    while batch := [CountFile(root, path) for path in islice(paths, _BATCH)]:
        handles = await jobs.enqueue_many(batch)
        known += sum(handle.duplicate for handle in handles)
        added += sum(not handle.duplicate for handle in handles)
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
