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
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from jobrt._storage.contract import Storage
from jobrt._supervision.child import log_event
from jobrt._supervision.decisions import ServiceState
from jobrt._supervision.records import (
    ChildRestarting,
    ChildSetAside,
    ChildStatistics,
    ChildStuck,
    SupervisionEvent,
)
from jobrt._supervision.supervisor import Supervisor
from jobrt.app import App
from jobrt.cli.guard import EXIT_SECONDS
from jobrt.cli.output import warn
from jobrt.cli.probing import Viewers, members_of, show_processes
from jobrt.cli.signals import StopSignals
from jobrt.cli.startup import ChildLink, start_process, wait_for_database
from jobrt.cli.systemd import ServiceManager
from jobrt.errors import JobrtError
from jobrt.probes.members import Member, MemberState

_EXIT_SECONDS: Final = EXIT_SECONDS + 0.15
"""Seconds that a process may take to exit after the grace period, before it is killed: more than its own limit."""
_PARENT_SECONDS: Final = EXIT_SECONDS + 0.5
"""Seconds that the parent may take to exit after the grace period: less than five. The last are for releases."""
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


_INTERRUPTED: Final = 130
"""Exit status of a process that Ctrl-C ended before it was a worker."""


@attrs.define(eq=False)
class Storages:
    """The storage in which jobs of dead processes are released."""

    app: App
    _held: Storage | None = None

    @asynccontextmanager
    async def use(self) -> AsyncGenerator[Storage]:
        """Yield the storage that is held open, or open one for the block."""
        if self._held is not None:
            yield self._held
            return
        async with self.app.open_storage() as storage:
            yield storage

    async def hold(self) -> None:
        """Hold a storage open until cancelled. After a stop, a process that is killed leaves a third of a second."""
        try:
            async with self.app.open_storage() as storage:
                self._held = storage
                try:
                    await trio.sleep_forever()
                finally:
                    self._held = None
        except JobrtError as error:  # a release opens one itself, and reports what is wrong
            _logger.debug("no storage is open during the stop: %s", error)


@attrs.define(eq=False)
class WorkerProcess:
    """One worker process, which the supervisor restarts when it dies."""

    storages: Storages
    command: Sequence[str]
    give_up: Callable[[ProcessFailedToStart], None]
    member: Member | None = None
    process: trio.Process | None = None
    link: ChildLink | None = None
    stopping: bool = False
    left_jobs: bool = False
    """It was asked to stop, and had to be killed or to leave jobs."""
    failures: int = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the process until it ends, then release its jobs if it failed.

        Raises:
            ProcessDied: the process ended although it was not asked to stop.

        """
        inherited = [] if self.member is None else [self.member.listener.fileno()]
        options = [f"--probes={number}" for number in inherited]
        process, link = await start_process([*self.command, *options], inherited=inherited)
        self.process, self.link = process, link
        task_status.started()  # from now on it can be stopped, long before it is up
        try:
            await self._wait(process, link)
        finally:
            self.link = None
            link.close()
            if process.returncode != 0 and not link.error:  # a process that reports an error has no jobs
                self.left_jobs = self.stopping and process.returncode != _INTERRUPTED
                await self._release_jobs(process.pid)
        if not self.stopping:
            raise self._failure(process, link)

    async def _wait(self, process: trio.Process, report: ChildLink) -> None:
        """Receive the startup report and wait until the process ends; kill it if cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._receive, process, report)
                await process.wait()
                nursery.cancel_scope.deadline = trio.current_time() + _REPORT_SECONDS
        finally:
            if process.returncode is None:
                self.kill_late()
                with trio.CancelScope(shield=True):
                    await process.wait()  # short, since it was killed

    async def _receive(self, process: trio.Process, report: ChildLink) -> None:
        await report.receive()
        if report.up:
            self.failures = 0
            _logger.info("worker process %d is up", process.pid)

    def _failure(self, process: trio.Process, report: ChildLink) -> ProcessDied:
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

    def state(self, name: str, child: ChildStatistics) -> MemberState:
        """Return the state of the process, which is that `child` of the supervisor."""
        if child.state in {ServiceState.WAITING, ServiceState.FAILED}:
            return MemberState(name, "down", child.last_error or "it ended", child.restarts)
        up = self.link is not None and self.link.up
        state = "stopping" if self.stopping else "up" if up else "starting"
        return MemberState(name, state, restarts=child.restarts)

    def request_stop(self, count: int) -> None:
        """Tell the process that there were so many requests to stop."""
        self.stopping = True
        if self.link is not None:
            self.link.request_stop(count)

    def kill(self) -> None:
        """Kill the process, from any thread."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()

    def kill_late(self) -> None:
        """Kill the process if it has not ended in time."""
        if self.process is not None and self.process.returncode is None:
            _logger.error("worker process %d did not end in time and is killed", self.process.pid)
            self.process.kill()

    async def _release_jobs(self, pid: int) -> None:
        """Make a dead process's jobs due immediately. Its parent is the first to know that it died."""
        with trio.move_on_after(_RELEASE_SECONDS, shield=True):
            try:
                async with self.storages.use() as storage:
                    for row in await storage.workers.all():
                        if row.info.pid == pid and row.info.host == socket.gethostname():
                            await storage.workers.unregister(row.id)
                    await storage.workers.rescue()
            except JobrtError as error:  # another worker rescues them when the lease expires
                warn(f"jobs of process {pid} run again when its lease expires: {error}")


def _describe_end(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"exited with status {returncode}"


@attrs.define(eq=False)
class Processes:
    """All worker processes and their supervisor."""

    supervisor: Supervisor
    storages: Storages
    workers: list[WorkerProcess] = attrs.Factory(list)
    failure: ProcessFailedToStart | None = None

    @classmethod
    def create(
        cls, app: App, command: Sequence[str], *, members: Sequence[Member | None], shutdown: float
    ) -> Processes:
        """Return a process to run for each of the `members`, with `shutdown` seconds to end when it is stopped."""
        supervisor = Supervisor(
            "processes", escalation="retry", retry_interval=_RESTART_PAUSE, in_turn=False, on_event=_log
        )
        processes = cls(supervisor, Storages(app))
        for number, member in enumerate(members):
            worker = WorkerProcess(processes.storages, command, processes.give_up, member)
            processes.workers.append(worker)
            stop = functools.partial(worker.request_stop, 1)
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

    def states(self) -> list[MemberState]:
        """Return the states of the processes, by number."""
        children = self.supervisor.statistics().children
        return [
            worker.state(str(number), child)
            for number, (worker, child) in enumerate(zip(self.workers, children, strict=True))
        ]

    async def end_grace(self) -> None:
        """End the grace period of all processes, and kill those that do not exit then."""
        for worker in self.workers:
            worker.request_stop(2)
        await trio.sleep(_EXIT_SECONDS)
        for worker in self.workers:
            worker.kill_late()

    def kill(self) -> None:
        """Kill all processes, from any thread."""
        for worker in self.workers:
            worker.kill()


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
    app: App, count: int, *, arguments: Sequence[str], grace: float, wait: float, viewers: Viewers
) -> int:
    """Run `count` workers, each in its own process, until a signal stops them; return the exit status.

    The first signal stops the processes gracefully. The second ends the grace period. The third kills the processes.
    The status is 1 if a process did not end in time.

    Raises:
        StorageUnavailable: the database is still unavailable after `wait` seconds, so no process was started.
        JobrtError: a process failed to start several times in a row, so all were stopped.

    """
    command = [sys.executable, "-m", "jobrt", *arguments]
    with members_of(viewers, count) as members:
        processes = Processes.create(app, command, members=members, shutdown=grace + _EXIT_SECONDS)
        signals = StopSignals(grace=grace, seconds=_PARENT_SECONDS, at_exit=processes.kill)
        with signals.listening(guarded=False):  # only the code of jobs can need a guard
            async with trio.open_nursery() as nursery:
                starting = trio.CancelScope()
                nursery.start_soon(_handle_signals, signals, starting, processes, viewers.manager)
                nursery.start_soon(show_processes, viewers, members, processes.states)
                with starting:
                    await wait_for_database(app, seconds=wait)
                if not starting.cancel_called:
                    await processes.run()
                nursery.cancel_scope.cancel()
    return int(any(worker.left_jobs for worker in processes.workers))


async def _handle_signals(
    signals: StopSignals, starting: trio.CancelScope, processes: Processes, manager: ServiceManager | None
) -> None:
    async with trio.open_nursery() as nursery:
        while True:
            if await signals.wait() == 1:
                starting.cancel()
                if manager is not None:
                    manager.send("STOPPING=1")
                nursery.start_soon(processes.storages.hold)
                processes.supervisor.stop()
            else:  # the second; at the third, the thread of `signals` kills the processes and exits
                nursery.start_soon(processes.end_grace)
