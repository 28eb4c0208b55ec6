"""The `worker` command."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack
from functools import partial

import attrs
import click
import trio

from jobrt._runtime.plan import choose_queues
from jobrt._runtime.worker import Worker
from jobrt.app import App
from jobrt.cli.log import set_up_logging
from jobrt.cli.processes import serve_processes
from jobrt.cli.selection import Seconds
from jobrt.cli.setting import Setting, in_trio
from jobrt.cli.startup import REPORT_OPTION, StartupReporter, report_startup, wait_for_database

_CLEANUP_SECONDS = 4.0
"""Seconds after the grace period until attempts that do not end are reported and the process exits."""


@click.command()
@click.option("--queue", "queues", multiple=True, help="Serve only this queue. Repeatable.")
@click.option(
    "--grace",
    type=Seconds(0),
    metavar="SECONDS",
    show_default="the application's grace",
    help="How long running jobs may take to finish when the worker stops.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Number of worker processes.",
)
@click.option(
    "--wait",
    type=Seconds(0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to retry if the database is unavailable at startup; 0 disables retries.",
)
@click.option("--drain", is_flag=True, help="Run all due jobs, then stop.")
@click.option("--verbose", is_flag=True, help="Log every attempt.")
@click.option("--quiet", is_flag=True, help="Log only warnings and errors.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    show_default="text",
    help="Format of log lines, unless the application sets up logging.",
)
@REPORT_OPTION
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
    log_format: str | None,
    report: int | None,
) -> None:
    """Run jobs until stopped by a signal.

    If the database becomes unavailable later, the worker waits until it is available again.

    SIGTERM or SIGINT stops the worker gracefully: running jobs have the grace period to finish. A second signal
    ends the grace period. A third signal exits immediately.

    With --processes, a worker process that dies is restarted. If a process fails to start five times in a row, all
    processes stop.
    """
    with report_startup(report) as reporter:
        app = setting.app_with_jobs(create=True)
        prepare_process(verbose=verbose, quiet=quiet, log_format=log_format)
        choose_queues(app.queues, queues or None)  # report a wrong name before waiting for anything
        grace = app.grace if grace is None else grace
        if processes == 1:
            await serve(app, queues=queues or None, grace=grace, wait=wait, drain=drain, reporter=reporter)
            return
        if drain:
            msg = "--drain cannot be combined with --processes"
            raise click.UsageError(msg)
        arguments = ["worker", f"--grace={grace}"]
        arguments += [] if log_format is None else [f"--log-format={log_format}"]
        # The parent has waited for the database. A process that is restarted later waits without a limit.
        arguments.append("--wait=inf")
        arguments += [f"--queue={name}" for name in queues] + ["--verbose"] * verbose + ["--quiet"] * quiet
        with setting.handed_over() as given:
            arguments = [*given, *arguments]
            await serve_processes(app, processes, arguments=arguments, grace=grace, wait=wait)


def prepare_process(*, verbose: bool, quiet: bool, log_format: str | None) -> None:
    """Set up logging and switch threads often, as suits a process that only runs jobs."""
    set_up_logging(verbose=verbose, quiet=quiet, log_format=log_format)
    # By default, Python lets a busy thread run for 5 ms. With a few jobs in threads, the event loop would wait
    # that long each time it becomes ready to run.
    sys.setswitchinterval(0.0005)


async def serve(
    app: App,
    *,
    queues: tuple[str, ...] | None,
    grace: float,
    wait: float,
    drain: bool,
    reporter: StartupReporter,
) -> None:
    """Run a worker until a signal stops it; raise if the database is still unavailable after `wait` seconds."""
    with ExitStack() as stack:
        signals = stack.enter_context(trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT))
        async with trio.open_nursery() as nursery:
            starting = trio.CancelScope()
            handler = SignalHandler(grace, starting)
            nursery.start_soon(handler.run, signals)
            with starting:
                await wait_for_database(app, seconds=wait)
                handler.worker = await nursery.start(partial(app.run_worker, queues=queues))
            if handler.worker is not None:
                reporter.up()
                if handler.count:  # a signal came during startup
                    handler.worker.begin_stop(grace=grace)
                if drain:
                    nursery.start_soon(_stop_when_idle, handler.worker, grace)
                await handler.worker.stopped.wait()
            nursery.cancel_scope.cancel()


async def _stop_when_idle(worker: Worker, grace: float) -> None:
    await worker.wait_idle()
    await worker.stop(grace=grace)


@attrs.define(eq=False)
class SignalHandler:
    """Reaction to signals: the first stops the worker, the second ends the grace period, the third exits."""

    grace: float
    starting: trio.CancelScope
    worker: Worker | None = None
    count: int = 0

    async def run(self, signals: AsyncIterator[int]) -> None:
        """Handle signals until cancelled."""
        async with trio.open_nursery() as nursery:
            async for _ in signals:
                self.count += 1
                match self.count:
                    case 1:
                        self._stop(self.grace)
                        nursery.start_soon(self._exit_after, self.grace + _CLEANUP_SECONDS)
                    case 2:
                        self._stop(0.0)
                        nursery.start_soon(self._exit_after, _CLEANUP_SECONDS)
                    case _:
                        os._exit(1)

    def _stop(self, grace: float) -> None:
        if self.worker is None:
            self.starting.cancel()
        else:
            self.worker.begin_stop(grace=grace)

    async def _exit_after(self, seconds: float) -> None:
        """Exit if attempts still run after some seconds: Trio cannot end their tasks, but the process can exit."""
        await trio.sleep(seconds)
        click.echo(f"jobrt: the worker did not stop within {seconds:g} s of the signal; exiting", err=True)
        if self.worker is not None:
            with trio.move_on_after(1.0):
                for name in await self.worker.abandon():
                    click.echo(f"jobrt: {name} did not stop; it is available to other workers", err=True)
        os._exit(1)


COMMANDS = (worker,)
