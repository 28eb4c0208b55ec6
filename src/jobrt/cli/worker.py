"""Run a worker, and pass signals on to it."""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import attrs
import click
import trio

from jobrt._runtime.plan import choose_queues
from jobrt.cli.patience import wait_for_database
from jobrt.cli.processes import serve_processes
from jobrt.cli.reports import REPORT_OPTION, Reporter, reporting
from jobrt.cli.setting import Setting, in_trio
from jobrt.logs import JsonFormatter, log_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from jobrt._runtime.worker import Worker
    from jobrt.app import App

__all__ = ["COMMANDS"]

_CLEANUP = 4.0
"""Seconds after the grace at which attempts that do not end are reported and the process exits."""


@click.command()
@click.option("--queue", "queues", multiple=True, help="Serve only this queue; repeat for more.")
@click.option(
    "--grace", type=click.FloatRange(0), help="Seconds that running jobs have when the worker stops."
)
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="Worker processes.")
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to try again when the database is away at the start; 0: not at all.",
)
@click.option("--drain", is_flag=True, help="Run until nothing is due, then stop.")
@click.option("--verbose", is_flag=True, help="Log every attempt.")
@click.option("--quiet", is_flag=True, help="Log only what is wrong.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@REPORT_OPTION
@click.pass_obj
@in_trio
async def worker(
    setting: Setting,
    queues: tuple[str, ...],
    grace: float | None,
    processes: int,
    wait: float,
    drain: bool,
    verbose: bool,
    quiet: bool,
    log_format: str,
    report: int | None,
) -> None:
    """Run jobs until told to stop.

    A database that goes away later is waited for as long as it takes.

    SIGTERM or SIGINT stops gracefully: running jobs have their grace. A second signal ends the grace, a third
    the process.

    With --processes, a process that dies is started again; one that does not come up five times in a row ends all.
    """
    prepare_process(verbose=verbose, quiet=quiet, log_format=log_format)
    with reporting(report) as reporter:
        app = setting.app_with_jobs()
        choose_queues(app.queues, queues or None)  # a wrong name is said before anything is waited for
        grace = app.grace if grace is None else grace
        if processes == 1:
            await serve(app, queues=queues or None, grace=grace, wait=wait, drain=drain, reporter=reporter)
            return
        if drain:
            msg = "--drain runs one process: leave out --processes"
            raise click.UsageError(msg)
        arguments = [*setting.arguments(), "worker", f"--grace={grace}", f"--log-format={log_format}"]
        arguments.append(
            "--wait=inf"
        )  # the parent has waited: those that start later stay up, as those before
        arguments += [f"--queue={one}" for one in queues] + ["--verbose"] * verbose + ["--quiet"] * quiet
        await serve_processes(app, processes, arguments=arguments, grace=grace, wait=wait)


def prepare_process(*, verbose: bool, quiet: bool, log_format: str) -> None:
    """Log to stderr, and let threads take turns quickly: what a process that only runs jobs wants."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(JsonFormatter() if log_format == "json" else text)
    # Python lets a busy thread keep the lock for 5 ms: with a few jobs in threads the loop would wait that
    # long at each turn.
    sys.setswitchinterval(0.0005)
    logger = logging.getLogger("jobrt")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)


async def serve(
    app: App,
    *,
    queues: tuple[str, ...] | None,
    grace: float,
    wait: float,
    drain: bool,
    reporter: Reporter,
) -> None:
    """Run a worker that obeys signals; give up if the database is not there after `wait` seconds."""
    with ExitStack() as stack:
        signals = stack.enter_context(trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT))
        async with trio.open_nursery() as nursery:
            starting = trio.CancelScope()
            obeying = Signals(grace, starting)
            nursery.start_soon(obeying.run, signals)
            with starting:
                await wait_for_database(app, seconds=wait)
                verbose = logging.getLogger("jobrt").isEnabledFor(logging.DEBUG)
                stack.enter_context(app.events.subscribed(log_event, routine=verbose))
                obeying.worker = await nursery.start(_run(app, queues))
            if obeying.worker is not None:
                reporter.up()
                if obeying.count:  # came while it was starting
                    obeying.worker.begin_stop(grace=grace)
                if drain:
                    nursery.start_soon(_stop_when_idle, obeying.worker, grace)
                await obeying.worker.stopped.wait()
            nursery.cancel_scope.cancel()


def _run(app: App, queues: tuple[str, ...] | None):  # type: ignore[no-untyped-def]  # noqa: ANN202 - for nursery.start
    async def run(*, task_status: trio.TaskStatus[Worker]) -> None:
        await app.run_worker(queues=queues, task_status=task_status)

    return run


async def _stop_when_idle(running: Worker, grace: float) -> None:
    await running.wait_idle()
    await running.stop(grace=grace)


@attrs.define(eq=False)
class Signals:
    """Obey signals: the first stops the worker, the second ends the grace, the third the process."""

    grace: float
    starting: trio.CancelScope
    worker: Worker | None = None
    count: int = 0

    async def run(self, signals: AsyncIterator[int]) -> None:
        """Obey until cancelled."""
        async with trio.open_nursery() as nursery:
            async for _ in signals:
                self.count += 1
                match self.count:
                    case 1:
                        self._stop(self.grace)
                        nursery.start_soon(self._insist, self.grace + _CLEANUP)
                    case 2:
                        self._stop(0.0)
                        nursery.start_soon(self._insist, _CLEANUP)
                    case _:
                        os._exit(1)

    def _stop(self, grace: float) -> None:
        if self.worker is None:
            self.starting.cancel()
        else:
            self.worker.begin_stop(grace=grace)

    async def _insist(self, seconds: float) -> None:
        """Exit, if there are attempts that do not end: Trio cannot end a task, but a process can end."""
        await trio.sleep(seconds)
        click.echo(f"jobrt: {seconds:g} s after the signal the worker is not down; exiting", err=True)
        if self.worker is not None:
            with trio.move_on_after(1.0):
                for name in await self.worker.abandon():
                    click.echo(f"jobrt: {name} did not stop; given back", err=True)
        os._exit(1)


COMMANDS = (worker,)
