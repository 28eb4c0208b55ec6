"""The `demo` command: its progress and its report."""

import logging
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import click
import trio
from rich.progress import Progress, TextColumn
from rich.table import Table

import jobrt
from jobrt._core.escape import printable
from jobrt._core.states import FINAL
from jobrt._demo.run import DEFAULT_URL, Prepared, make_app, prepare, resolve_directory, run, standard_library
from jobrt._views.words import age
from jobrt.cli.output import JSON_OPTION, console, print_json, progress_bars, say
from jobrt.cli.setting import Setting, in_trio
from jobrt.cli.worker import prepare_process
from jobrt.events import Event, JobEnded

_PLAIN_INTERVAL = 2.0
"""Seconds between two lines of progress in a pipe."""
_COUNTS = ("files", "bytes", "lines", "tokens")


@click.command(short_help="Hash and count every file of a directory, durably.")
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@click.option(
    "--report",
    "output",
    type=click.Path(path_type=Path),
    default="jobrt-demo.sha256",
    show_default=True,
    callback=lambda _context, _option, path: path.absolute(),
    help="File for the digests.",
)
@click.option("--again", is_flag=True, help="Delete the results of earlier runs and start over.")
@JSON_OPTION
@in_trio
async def demo(setting: Setting, directory: Path | None, output: Path, again: bool, as_json: bool) -> int:
    """Hash and count every file of DIRECTORY (default: Python's standard library), with one durable job per file.

    You can kill it at any time. When you start it again, it continues.
    """
    prepare_process(verbose=False, quiet=True, log_format=None)
    logging.getLogger("jobrt").setLevel(logging.CRITICAL)  # the report names what failed
    root = _resolve(directory or standard_library())
    app = make_app(setting.url or os.environ.get("JOBRT_URL") or DEFAULT_URL)
    async with app.open_client() as jobs:
        prepared = await prepare(jobs, root, output=output, again=again, on_error=_print_skipped)
        _print_prepared(root, prepared)
        with _progress(prepared) as subscriber, app.events.subscribed(subscriber):
            record = await run(app, prepared.report)
    _print_report(record, output, as_json=as_json)
    return 0


def _resolve(directory: Path) -> str:
    try:
        return resolve_directory(directory)
    except OSError as error:
        msg = f"{directory}: {error.strerror or error}"
        raise click.ClickException(msg) from None


def _print_skipped(error: OSError) -> None:
    say(f"skipped: {error}", err=True)


def _print_prepared(root: str, prepared: Prepared) -> None:
    if prepared.complete:
        say("already done; pass --again to start over", err=True)
        return
    known = prepared.known
    earlier = f"; {prepared.done} of {known} files from earlier runs are done" if known else ""
    say(f"{root}: {prepared.added} files enqueued{earlier}", err=True)


@contextmanager
def _progress(prepared: Prepared) -> Generator[Callable[[Event], None]]:
    """Provide a subscriber that shows progress: bars on a terminal, lines in a pipe."""
    bars = progress_bars(TextColumn("{task.fields[note]}", markup=False))
    if bars is None:
        yield _PlainProgress(prepared.total, prepared.done)
        return
    with bars:
        yield _BarProgress(bars, prepared.total, prepared.done)


@attrs.define
class _PlainProgress:
    """Subscriber that prints a line every two seconds."""

    total: int
    done: int
    started: float = attrs.Factory(trio.current_time)
    last: float = float("-inf")

    def __call__(self, event: Event) -> None:
        if not isinstance(event, JobEnded) or event.queue != "files" or event.state not in FINAL:
            return
        self.done += 1
        now = trio.current_time()
        if now - self.last >= _PLAIN_INTERVAL or self.done == self.total:
            self.last = now
            say(f"files: {self.done} of {self.total}, {age(now - self.started)}", err=True)


class _BarProgress:
    """Subscriber that moves a bar for each queue, and counts the retried attempts."""

    def __init__(self, bars: Progress, total: int, done: int) -> None:
        self._bars = bars
        self._retries = 0
        self._tasks = {
            "files": bars.add_task("files", total=total, completed=done, note=""),
            "report": bars.add_task("report", total=1, note=""),
        }

    def __call__(self, event: Event) -> None:
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
    table.add_column("kind")
    for name in _COUNTS:
        table.add_column(name, justify="right")
    for row in [*report["kinds"], {"kind": "all", **report["total"]}]:
        table.add_row(printable(row["kind"]), *[f"{row[name]:,}" for name in _COUNTS])
    console().print(table)
    for failure in report["failed"]:
        say(f"failed: {failure['path']}: {failure['reason']}")
    say(f"{report['total']['files']} files, {report['failed_count']} failed; digests are in {output}")


COMMANDS = (demo,)
