"""The `worker` command."""

import logging
import os
import sys
from collections.abc import Sequence
from functools import partial

import attrs
import click
import trio

from jobrt._core import where
from jobrt._core.escape import printable
from jobrt._runtime.plan import choose_queues
from jobrt._runtime.worker import Worker
from jobrt.app import App
from jobrt.cli.ending import exit_now
from jobrt.cli.log import set_up_logging
from jobrt.cli.probing import HTTP_OPTION, LISTENER_OPTION, Address, Viewers, show_worker
from jobrt.cli.processes import serve_processes
from jobrt.cli.selection import Seconds
from jobrt.cli.setting import Setting, in_trio
from jobrt.cli.signals import StopSignals
from jobrt.cli.startup import CHILD_OPTION, StartupReporter, report_startup, wait_for_database

_CLEANUP_SECONDS = 3.6
"""Seconds after the grace period until attempts that do not end are reported and the process exits.

An orderly stop takes at most 3.5 (`jobrt._runtime.worker`). The process is gone after `jobrt.cli.guard.EXIT_SECONDS`.
"""
_COUNTED = 10_000
"""Due jobs that are left after a drain, up to which they are counted."""
_logger = logging.getLogger("jobrt")
_ON_POSIX = os.name == "posix"
_ABANDON_SECONDS = 0.7
"""Seconds for giving back the jobs of attempts that do not end."""


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
@HTTP_OPTION
@CHILD_OPTION
@LISTENER_OPTION
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
    http: Address | None,
    child: bool,
    probes_listener: int | None,
) -> int:
    """Run jobs until stopped by a signal.

    If the database becomes unavailable later, the worker waits until it is available again.

    SIGTERM or SIGINT stops the worker gracefully: running jobs have the grace period to finish. A second signal
    ends the grace period. A third signal exits immediately. Whatever jobs do, the process is gone five seconds after
    the grace period.

    The exit status is 0 after a stop, 1 if something had to be left or failed, and 137 if the process was killed
    because no Python code could run in it.

    With --http, the worker answers probes: /livez is 200 while the event loop runs, /readyz while it also works, and
    /metrics is for Prometheus. Under systemd it says when it is ready, and feeds the watchdog.

    With --processes, a worker process that dies is restarted. If a process fails to start five times in a row, all
    processes stop. Not on Windows.
    """
    with report_startup(child=child) as reporter:
        app = setting.app_with_jobs()
        prepare_process(verbose=verbose, quiet=quiet, log_format=log_format)
        choose_queues(app.queues, queues or None)  # report a wrong name before waiting for anything
        grace = app.grace if grace is None else grace
        if processes == 1:
            viewers = Viewers.of_child(probes_listener) if child else Viewers.of_process(http)
            served = queues or None
            await serve(
                app, queues=served, grace=grace, wait=wait, drain=drain, reporter=reporter, viewers=viewers
            )
            return 0
        _check_processes(processes, drain=drain)
        arguments = _arguments(queues, grace=grace, log_format=log_format, verbose=verbose, quiet=quiet)
        viewers = Viewers.of_process(http)
        with setting.handed_over() as given:
            return await serve_processes(
                app, processes, arguments=[*given, *arguments], grace=grace, wait=wait, viewers=viewers
            )


def _arguments(
    queues: Sequence[str], *, grace: float, log_format: str | None, verbose: bool, quiet: bool
) -> list[str]:
    """Return the command line of one of several processes.

    Their parent has waited for the database. A process that is restarted later waits without a limit.
    """
    arguments = ["worker", f"--grace={grace}", *(f"--queue={name}" for name in queues), "--wait=inf"]
    arguments += [] if log_format is None else [f"--log-format={log_format}"]
    return arguments + ["--verbose"] * verbose + ["--quiet"] * quiet


def _check_processes(processes: int, *, drain: bool) -> None:
    """Refuse several processes where they cannot be."""
    if drain:
        raise click.UsageError("--drain cannot be combined with --processes")
    if not _ON_POSIX:
        raise click.UsageError(
            f"--processes {processes} needs POSIX: on Windows, start the worker command several times"
        )


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
    viewers: Viewers,
) -> None:
    """Run a worker until a signal stops it; raise if the database is still unavailable after `wait` seconds."""
    stop = Stop(grace)
    signals = StopSignals(grace=grace, left=stop.jobs_left, parent=reporter.parent)
    with signals.listening(guarded=reporter.parent is None):  # a parent kills its processes itself
        async with trio.open_nursery() as hearing:
            hearing.start_soon(stop.run, signals)
            hearing.start_soon(show_worker, app, viewers)
            async with trio.open_nursery() as nursery:  # ends when the app's state is closed, too
                with stop.starting:
                    await wait_for_database(app, seconds=wait)
                    stop.worker = await nursery.start(partial(app.run_worker, queues=queues))
                if stop.worker is not None:
                    reporter.up()
                    if stop.count:  # a signal came during startup
                        stop.worker.begin_stop(grace=grace)
                    if drain:
                        nursery.start_soon(_stop_when_idle, stop.worker, app, queues, grace)
            hearing.cancel_scope.cancel()


async def _stop_when_idle(worker: Worker, app: App, queues: tuple[str, ...] | None, grace: float) -> None:
    await worker.wait_idle()
    async with app.open_client() as jobs:
        for queue in choose_queues(app.queues, queues):
            due = where.queue(queue) & where.state("available")
            if left := await jobs.count(due, limit=_COUNTED):
                _logger.warning(
                    "queue %s: due jobs that this worker cannot run now: %d%s; `python -m jobrt doctor` says why",
                    printable(queue),
                    left,
                    " or more" if left == _COUNTED else "",
                )
    await worker.stop(grace=grace)


@attrs.define(eq=False)
class Stop:
    """Reaction to requests to stop: the first stops the worker, the second ends the grace period."""

    grace: float
    starting: trio.CancelScope = attrs.Factory(trio.CancelScope)
    worker: Worker | None = None
    count: int = 0

    async def run(self, signals: StopSignals) -> None:
        """Handle requests until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self.count = await signals.wait()
                grace = self.grace if self.count == 1 else 0.0
                self._stop(grace)
                nursery.start_soon(self._exit_after, grace + _CLEANUP_SECONDS)

    def _stop(self, grace: float) -> None:
        if self.worker is None:
            self.starting.cancel()
        else:
            self.worker.begin_stop(grace=grace)

    def jobs_left(self) -> tuple[str, ...]:
        """Return the names and IDs of the running jobs, from any thread."""
        if self.worker is None:
            return ()
        try:
            return self.worker.unfinished()
        except RuntimeError:  # the loop changed the attempts meanwhile
            return ("some",)

    async def _exit_after(self, seconds: float) -> None:
        """Exit if attempts still run after some seconds: Trio cannot end their tasks, but the process can exit."""
        await trio.sleep(seconds)
        jobs: Sequence[str] = ()
        if self.worker is not None:
            jobs = self.worker.unfinished()
            with trio.move_on_after(_ABANDON_SECONDS):
                await self.worker.abandon()
        exit_now(1, f"exiting, because the worker did not stop within {seconds:g} s of the signal", jobs=jobs)


COMMANDS = (worker,)
