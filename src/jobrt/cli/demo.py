"""``demo``: the main job on real input, with its progress and its report."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import click
import trio
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import jobrt
from jobrt._core.states import FINAL
from jobrt._demo.files import resolve_directory, standard_library
from jobrt._demo.run import DEFAULT_URL, Prepared, make_app, prepare, run
from jobrt._views.words import age
from jobrt.cli.output import JSON_OPTION, console, on_terminal, print_json
from jobrt.cli.setting import Setting, in_trio
from jobrt.cli.worker import prepare_process
from jobrt.events import Event, JobEnded

_PLAIN_INTERVAL = 2.0
"""Seconds between two lines of progress in a pipe."""


@click.command(short_help="Hash and count every file of a directory, durably.")
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@click.option(
    "--report",
    "output",
    type=click.Path(path_type=Path),
    help="File for the digests; default jobrt-demo.sha256.",
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
    root = _checked(directory or standard_library())
    output = (output or Path("jobrt-demo.sha256")).absolute()
    app = make_app(setting.url or os.environ.get("JOBRT_URL") or DEFAULT_URL)
    async with app.open_client() as jobs:
        prepared = await prepare(jobs, root, output=output, again=again, on_error=_print_skipped)
        _print_prepared(root, prepared)
        with _progress(app, prepared):
            record = await run(app, prepared.report)
    _print_report(record, output, as_json=as_json)
    return 0


def _checked(directory: Path) -> str:
    try:
        return resolve_directory(directory)
    except OSError as error:
        msg = f"{directory}: {error.strerror or error}"
        raise click.ClickException(msg) from None


def _print_skipped(error: OSError) -> None:
    click.echo(f"skipped: {error}", err=True)


def _print_prepared(root: str, prepared: Prepared) -> None:
    if prepared.complete:
        click.echo("already done, nothing is done twice; --again starts over", err=True)
        return
    known = prepared.known
    earlier = f", {prepared.done} of {known} from before are done already" if known else ""
    click.echo(f"{root}: {prepared.added} files enqueued{earlier}", err=True)


@contextmanager
def _progress(app: jobrt.App, prepared: Prepared) -> Generator[None]:
    """Show progress while a worker runs: bars on a terminal, lines in a pipe."""
    with ExitStack() as stack:
        if not (on_terminal() and sys.stderr.isatty()):
            stack.enter_context(app.events.subscribed(_PlainProgress(prepared.total, prepared.done)))
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        bars = stack.enter_context(Progress(*columns, TextColumn("{task.fields[note]}")))
        stack.enter_context(app.events.subscribed(_BarProgress(bars, prepared.total, prepared.done)))
        yield


@attrs.define
class _PlainProgress:
    """Subscriber that prints a line now and then."""

    total: int
    done: int
    started: float = attrs.Factory(trio.current_time)
    last: float = float("-inf")

    def __call__(self, event: Event) -> None:
        """Count the files that have ended."""
        if not isinstance(event, JobEnded) or event.queue != "files" or event.state not in FINAL:
            return
        self.done += 1
        now = trio.current_time()
        if now - self.last >= _PLAIN_INTERVAL or self.done == self.total:
            self.last = now
            click.echo(f"files: {self.done} of {self.total}, {age(now - self.started)}", err=True)


class _BarProgress:
    """Subscriber that moves a bar for each queue."""

    def __init__(self, bars: Progress, total: int, done: int) -> None:
        self._bars = bars
        self._retries = 0
        self._tasks = {
            "files": bars.add_task("files", total=total, completed=done, note=""),
            "report": bars.add_task("report", total=1, note=""),
        }

    def __call__(self, event: Event) -> None:
        """Count the jobs that have ended, and the failed attempts."""
        if not isinstance(event, JobEnded) or event.queue not in self._tasks:
            return
        if event.state in FINAL:
            self._bars.advance(self._tasks[event.queue])
        elif event.state is jobrt.State.RETRYABLE:
            self._retries += 1
            self._bars.update(self._tasks[event.queue], note=f"{self._retries} retried")


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
    for failure in report["failed"]:
        click.echo(f"failed: {failure['path']}: {failure['reason']}")
    click.echo(f"{report['total']['files']} files, {report['failed_count']} failed; digests are in {output}")


COMMANDS = (demo,)
