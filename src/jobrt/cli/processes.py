"""Several worker processes under one parent, which restarts them, releases their jobs and passes on signals.

The parent reacts to the end of a process in one of two ways:

* A process that was *up* has crashed or was killed. The parent always restarts it, sooner or later. A job that kills
  its process is discarded when its attempts are used up. Until then it must not stop the other processes.
* A process that never came up cannot work: the application, its configuration or its permissions are wrong. The
  parent gives up after a few tries in a row. A service manager notices an exit, but not endless retries.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import attrs
import click
import trio

from jobrt._supervision.child import log_event
from jobrt._supervision.records import ChildRestarting, ChildSetAside, ChildStuck, SupervisionEvent
from jobrt._supervision.supervisor import Supervisor
from jobrt.app import App
from jobrt.cli.startup import StartupReport, start_process, wait_for_database
from jobrt.errors import JobrtError

_EXIT_SECONDS: Final = 6.0
"""Seconds that a process may take to exit after the grace period. Its own limit is five."""
_RELEASE_SECONDS: Final = 10.0
"""Time limit for releasing the jobs of a dead process."""
_REPORT_SECONDS: Final = 1.0
"""Seconds to read the report of a dead process. It is already there, unless another process still holds the pipe."""
_START_LIMIT: Final = 5
"""Failed starts of a process in a row after which the parent gives up, as many as a supervisor's default intensity.
With the supervisor's backoff they take three seconds after a process that was up has died."""
_RESTART_PAUSE: Final = 10.0
"""Seconds between restarts of a process that was up and dies more often than that: the longest backoff."""

_logger = logging.getLogger("jobrt.processes")


class ProcessDied(JobrtError):
    """A worker process ended unexpectedly."""


class ProcessFailedToStart(ProcessDied):
    """A worker process ended before it was up."""


@attrs.define(eq=False)
class WorkerProcess:
    """One worker process, which the supervisor restarts when it dies."""

    app: App
    command: Sequence[str]
    give_up: Callable[[ProcessFailedToStart], None]
    process: trio.Process | None = None
    stopping: bool = False
    failures: int = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the process until it ends, then release its jobs if it failed.

        Raises:
            ProcessDied: the process ended although it was not asked to stop.

        """
        self.process, report = await start_process(self.command)
        task_status.started()  # from now on it can be stopped, long before it is up
        await self._wait(self.process, report)
        if self.process.returncode != 0 and not report.error:  # a process that reports an error has no jobs
            await self._release_jobs(self.process.pid)
        if not self.stopping:
            raise self._failure(self.process, report)

    async def _wait(self, process: trio.Process, report: StartupReport) -> None:
        """Receive the startup report and wait until the process ends; kill it if cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._receive, process, report)
                await process.wait()
                nursery.cancel_scope.deadline = trio.current_time() + _REPORT_SECONDS
        finally:
            if process.returncode is None:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()  # short, since it was killed

    async def _receive(self, process: trio.Process, report: StartupReport) -> None:
        await report.receive()
        if report.up:
            self.failures = 0
            _logger.info("worker process %d is up", process.pid)

    def _failure(self, process: trio.Process, report: StartupReport) -> ProcessDied:
        """Return the error for a process that ended; give up if it failed to start too often."""
        end = _describe_end(process.returncode)
        if report.up:
            return ProcessDied(f"worker process {process.pid} {end}")
        self.failures += 1
        reason = report.error or f"it {end}"
        error = ProcessFailedToStart(f"worker process {process.pid} failed to start: {reason}")
        if self.failures >= _START_LIMIT:
            self.give_up(error)
        return error

    def send(self, number: int) -> None:
        """Send a signal to the process."""
        self.stopping = True
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    async def _release_jobs(self, pid: int) -> None:
        """Make a dead process's jobs due immediately. Its parent is the first to know that it died."""
        with trio.move_on_after(_RELEASE_SECONDS, shield=True):
            try:
                async with self.app.open_storage() as storage:
                    for row in await storage.workers.all():
                        if row.info.pid == pid and row.info.host == socket.gethostname():
                            await storage.workers.unregister(row.id)
                    await storage.workers.rescue()
            except JobrtError as error:  # another worker rescues them when the lease expires
                message = f"jobrt: jobs of process {pid} run again when its lease expires: {error}"
                click.echo(message, err=True)


def _describe_end(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"exited with status {returncode}"


@attrs.define(eq=False)
class Processes:
    """All worker processes and their supervisor."""

    supervisor: Supervisor
    workers: list[WorkerProcess] = attrs.Factory(list)
    failure: ProcessFailedToStart | None = None

    @classmethod
    def create(cls, app: App, command: Sequence[str], *, count: int, shutdown: float) -> Processes:
        """Return `count` processes to run, each with `shutdown` seconds to end when it is stopped."""
        supervisor = Supervisor(
            "processes", escalation="retry", retry_interval=_RESTART_PAUSE, in_turn=False, on_event=_log
        )
        processes = cls(supervisor)
        for number in range(count):
            worker = WorkerProcess(app, command, processes.give_up)
            processes.workers.append(worker)
            stop = functools.partial(worker.send, signal.SIGTERM)
            supervisor.add(worker.run, name=f"process {number}", shutdown=shutdown, stop=stop)
        return processes

    def give_up(self, error: ProcessFailedToStart) -> None:
        """Stop all processes because one of them cannot start."""
        if self.failure is None:
            self.failure = error
            _logger.critical("%s; stopping all processes", error)
            self.supervisor.stop()

    async def run(self) -> None:
        """Run the processes until they are stopped.

        Raises:
            JobrtError: a process failed to start several times in a row, so all were stopped.

        """
        await self.supervisor.run()
        if self.failure is not None:
            msg = f"gave up after {_START_LIMIT} tries: {self.failure}; fix the cause and restart"
            raise JobrtError(msg) from self.failure

    def send(self, number: int) -> None:
        """Send a signal to all processes."""
        for worker in self.workers:
            worker.send(number)


def _log(event: SupervisionEvent) -> None:
    """Log an event of the supervisor in one line. A traceback would not show the cause in the process."""
    match event:
        case ChildRestarting():
            _logger.warning("%s; restarting in %.1f s", event.error, event.delay)
        case ChildSetAside():
            _logger.error("%s; restarted too often, next restart in %.0f s", event.error, event.delay)
        case ChildStuck():
            log_event(event)
        case _:
            pass  # `_receive` logs that a process is up; a requested stop needs no message


async def serve_processes(
    app: App, count: int, *, arguments: Sequence[str], grace: float, wait: float
) -> None:
    """Run `count` workers, each in its own process, until a signal stops them.

    The first signal stops the processes gracefully. The second ends the grace period. The third kills the processes.

    Raises:
        StorageUnavailable: the database is still unavailable after `wait` seconds, so no process was started.
        JobrtError: a process failed to start several times in a row, so all were stopped.

    """
    command = [sys.executable, "-m", "jobrt", *arguments]
    processes = Processes.create(app, command, count=count, shutdown=grace + _EXIT_SECONDS)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            starting = trio.CancelScope()
            nursery.start_soon(_handle_signals, signals, starting, processes)
            with starting:
                await wait_for_database(app, seconds=wait)
            if not starting.cancel_called:
                await processes.run()
            nursery.cancel_scope.cancel()


async def _handle_signals(
    signals: AsyncIterator[int], starting: trio.CancelScope, processes: Processes
) -> None:
    count = 0
    async for _ in signals:
        count += 1
        match count:
            case 1:
                starting.cancel()
                processes.supervisor.stop()
            case 2:
                processes.send(signal.SIGTERM)
            case _:
                processes.send(signal.SIGKILL)
                os._exit(1)
