"""Run the main job on real input: count all files of a directory, durably."""

from __future__ import annotations

import os
import stat
import sys
import sysconfig
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click
import trio
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import jobrt
from jobrt import where
from jobrt._core.states import FINAL
from jobrt._demo.jobs import CountFile, Report, files_of, is_there
from jobrt._views.words import age
from jobrt.cli.output import JSON_OPTION, console, on_terminal, print_json
from jobrt.cli.setting import Setting, in_trio
from jobrt.cli.worker import prepare_process
from jobrt.events import Event, JobEnded

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from jobrt._client import Client, Handle

__all__ = ["COMMANDS"]

_CHUNK = 1000
_PLAIN_INTERVAL = 2.0
_LEASE = 5.0
"""Seconds: short, so that a demo that was killed goes on soon after it is started again."""


@click.command(short_help="Hash and count every file of a directory, durably.")
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@click.option(
    "--report",
    "output",
    type=click.Path(path_type=Path),
    help="Where the digests go; default jobrt-demo.sha256.",
)
@click.option("--again", is_flag=True, help="Forget what was done and start over.")
@JSON_OPTION
@click.pass_obj
@in_trio
async def demo(
    setting: Setting, directory: Path | None, output: Path | None, again: bool, as_json: bool
) -> int:
    """Hash and count every file of DIRECTORY (default: Python's standard library), one durable job each.

    Kill it at any moment and start it again: it goes on where it was.
    """
    prepare_process(verbose=False, quiet=True, log_format="text")
    root = _checked(directory or Path(_standard_library()))
    output = (output or Path("jobrt-demo.sha256")).absolute()
    app = jobrt.App(
        setting.url or os.environ.get("JOBRT_URL") or "sqlite:///jobrt-demo.db",
        jobs=[CountFile, Report],
        queues={"files": os.cpu_count() or 1, "report": 1},
        lease=_LEASE,
        migrate=True,
    )
    async with app.open_client() as jobs:
        if again:
            await jobs.delete(files_of(root) | (where.name("Report") & where.args("root", root)))
        added, there = await _enqueue(jobs, root)
        report = await jobs.enqueue(Report(root, output))
        await _say_what_is_there(jobs, report, root, output=output, added=added, there=there)
        async with trio.open_nursery() as nursery:
            with _progress(app, await _counts(jobs, root)):
                worker = await nursery.start(app.run_worker)
                record = await report.wait()
                await worker.stop()
    if record.state is not jobrt.State.COMPLETED:
        raise jobrt.errors.JobrtError(f"the report failed: {record.attempts[-1].message}")
    _print_report(record, output, as_json=as_json)
    return 0


def _standard_library() -> str:
    return str(Path(sysconfig.get_path("stdlib")).resolve())


def _checked(directory: Path) -> str:
    try:
        if stat.S_ISDIR(directory.stat().st_mode):
            return str(directory.resolve())
        said = "it is not a directory"
    except OSError as error:
        said = error.strerror or str(error)
    msg = f"{directory}: {said}"
    raise click.ClickException(msg)


def _walk(root: str) -> Iterator[Path]:
    """Yield every regular file; links are not followed, a folder that cannot be read is named and left out.

    Of the standard library, what others installed into it is left out.
    """
    leave_out = {"site-packages", "dist-packages"} if root == _standard_library() else set()
    for folder, names, files in os.walk(
        root, onerror=lambda error: click.echo(f"left out: {error}", err=True)
    ):
        names[:] = sorted(set(names) - leave_out)
        for name in sorted(files):
            path = Path(folder, name)
            try:
                if stat.S_ISREG(path.lstat().st_mode):
                    yield path
            except OSError as error:
                click.echo(f"left out: {error}", err=True)


async def _enqueue(jobs: Client, root: str) -> tuple[int, int]:
    """Enqueue a job per file that has none yet; return how many are new and how many were there."""
    added = there = 0
    chunk: list[CountFile] = []

    async def flush() -> None:
        nonlocal added, there
        handles = await jobs.enqueue_many(chunk)
        there += sum(one.duplicate for one in handles)
        added += sum(not one.duplicate for one in handles)
        chunk.clear()

    for path in _walk(root):
        chunk.append(CountFile(root, path))
        if len(chunk) == _CHUNK:
            await flush()
    await flush()
    return added, there


async def _say_what_is_there(
    jobs: Client, report: Handle[Any], root: str, *, output: Path, added: int, there: int
) -> None:
    if report.duplicate and (record := await jobs.get(report.id)).state in FINAL:
        if not added and is_there(output, record):
            click.echo("already done, nothing is done twice; --again starts over", err=True)
            return
        await jobs.rerun(report.id)  # new files came since, or what it wrote is gone: it must be written anew
    done = await jobs.count(files_of(root) & where.state("completed", "cancelled", "discarded"))
    went_on = f", {done} of {there} from before are done already" if there else ""
    click.echo(f"{root}: {added} files enqueued{went_on}", err=True)


async def _counts(jobs: Client, root: str) -> tuple[int, int]:
    """Return how many file jobs are final, and how many there are."""
    final = files_of(root) & where.state("completed", "cancelled", "discarded")
    return await jobs.count(final), await jobs.count(files_of(root))


@attrs.define
class _PlainProgress:
    """Print a line now and then, into a pipe."""

    total: int
    done: int
    started: float = attrs.Factory(trio.current_time)
    last: float = float("-inf")

    def __call__(self, event: Event) -> None:
        """Count the end of a file."""
        if not isinstance(event, JobEnded) or event.queue != "files" or event.state not in FINAL:
            return
        self.done += 1
        now = trio.current_time()
        if now - self.last >= _PLAIN_INTERVAL or self.done == self.total:
            self.last = now
            click.echo(f"files: {self.done} of {self.total}, {age(now - self.started)}", err=True)


@contextmanager
def _progress(app: jobrt.App, counts: tuple[int, int]) -> Generator[None]:
    done, total = counts
    with ExitStack() as stack:
        if not (on_terminal() and sys.stderr.isatty()):
            stack.enter_context(app.events.subscribed(_PlainProgress(total, done)))
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        bars = stack.enter_context(Progress(*columns, TextColumn("{task.fields[note]}")))
        tasks = {
            "files": bars.add_task("files", total=total, completed=done, note=""),
            "report": bars.add_task("report", total=1, note=""),
        }
        retries = 0

        def show(event: Event) -> None:
            nonlocal retries
            if not isinstance(event, JobEnded) or event.queue not in tasks:
                return
            if event.state in FINAL:
                bars.advance(tasks[event.queue])
            elif event.state is jobrt.State.RETRYABLE:
                retries += 1
                bars.update(tasks[event.queue], note=f"{retries} retried")

        stack.enter_context(app.events.subscribed(show))
        yield


def _print_report(record: jobrt.JobRecord, output: Path, *, as_json: bool) -> None:
    report: dict[str, Any] = record.result
    if as_json:
        print_json({**report, "digests": str(output)})
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("kind", "files", "bytes", "lines", "tokens"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for row in [*report["kinds"], {"kind": "all", **report["total"]}]:
        table.add_row(row["kind"], *[f"{row[name]:,}" for name in ("files", "bytes", "lines", "tokens")])
    console().print(table)
    for one in report["failed"]:
        click.echo(f"failed: {one['path']}: {one['reason']}")
    click.echo(f"{report['total']['files']} files, {report['failed_count']} failed; digests are in {output}")


COMMANDS = (demo,)
