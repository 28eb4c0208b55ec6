"""Run several worker processes under one parent: restart the dead, hand back their jobs, pass signals on.

Two ends of a process are told apart, because another try means something else after each:

* one that was *up* and died: a crash, or a ``kill -9``. It is started again, however often that happens, sooner or
  later; a job that kills its process is discarded when its attempts are used up, and must not end the others before.
* one that never came up: something is wrong with the application, its configuration or its rights. After a few tries
  in a row the parent gives up, since whoever looks after it sees a process that has ended, not one that keeps trying.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

import attrs
import click
import trio

from jobrt._supervision.child import log_event
from jobrt._supervision.records import ChildRestarting, ChildSetAside, ChildStuck, SupervisionEvent
from jobrt._supervision.supervisor import Supervisor
from jobrt.cli.patience import wait_for_database
from jobrt.cli.reports import Report, start_reporting
from jobrt.errors import JobrtError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from jobrt.app import App

__all__ = ["serve_processes"]

_LIMIT: Final = 6.0
"""Seconds that a process has beyond the grace: its own limit for exiting is five."""
_HAND_BACK: Final = 10.0
_LAST_WORDS: Final = 1.0
"""Seconds to read what a dead process said: it is there, unless another process still holds its pipe."""
_STARTS: Final = 5
"""Starts in a row of one process that may fail: as many restarts as a supervisor allows by default. They take three
seconds, with its backoff, after a process that was up has died."""
_PAUSE: Final = 10.0
"""Seconds between restarts of a process that was up and died more often than that: the longest backoff."""

_logger = logging.getLogger("jobrt.processes")


class ProcessDied(JobrtError):
    """Say that a worker process ended although nobody had asked it to."""


class DidNotStart(ProcessDied):
    """Say that a worker process ended before it was up."""


@attrs.define(eq=False)
class WorkerProcess:
    """One worker process, started again by the supervisor when it dies."""

    app: App
    command: Sequence[str]
    give_up: Callable[[DidNotStart], None]
    process: trio.Process | None = None
    stopping: bool = False
    failures: int = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the process to its end; when it is cut short, wait for what it does about that."""
        self.process, report = await start_reporting(self.command)
        task_status.started()  # it can be asked to stop from now on, long before it is up
        await self._attend(self.process, report)
        if self.process.returncode != 0 and not report.error:  # one that says why it is not up has no jobs
            await self._hand_back(self.process.pid)
        if not self.stopping:
            raise self._end(self.process, report)

    async def _attend(self, process: trio.Process, report: Report) -> None:
        """Hear what the process says until it ends."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, process, report)
                await process.wait()
                nursery.cancel_scope.deadline = trio.current_time() + _LAST_WORDS
        finally:
            if process.returncode is None:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()  # killed: this is short

    async def _listen(self, process: trio.Process, report: Report) -> None:
        await report.listen()
        if report.up:
            self.failures = 0
            _logger.info("worker process %d is up", process.pid)

    def _end(self, process: trio.Process, report: Report) -> ProcessDied:
        """Return what its end is to the supervisor; give up if it has failed to start too often."""
        said = _said(process.returncode)
        if report.up:
            return ProcessDied(f"worker process {process.pid} ended with {said}")
        self.failures += 1
        why = report.error or f"it ended with {said}"
        error = DidNotStart(f"worker process {process.pid} did not start: {why}")
        if self.failures >= _STARTS:
            self.give_up(error)
        return error

    def send(self, number: int) -> None:
        """Pass a signal on."""
        self.stopping = True
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    async def _hand_back(self, pid: int) -> None:
        """Make the dead process's jobs due at once: nobody knows of its death better than its parent."""
        with trio.move_on_after(_HAND_BACK, shield=True):
            try:
                async with self.app.open_storage() as storage:
                    for row in await storage.workers.all():
                        if row.info.get("pid") == pid and row.info.get("host") == socket.gethostname():
                            await storage.workers.unregister(row.id)
                    await storage.workers.rescue()
            except JobrtError as error:  # the heartbeat does it a little later
                click.echo(f"jobrt: jobs of process {pid} wait for their lease to end: {error}", err=True)


def _said(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        return f"signal {signal.Signals(-returncode).name}"
    return f"status {returncode}"


@attrs.define(eq=False)
class Processes:
    """All worker processes under their supervisor."""

    supervisor: Supervisor
    workers: list[WorkerProcess] = attrs.Factory(list)
    failure: DidNotStart | None = None

    @classmethod
    def of(cls, app: App, command: Sequence[str], *, count: int, limit: float) -> Processes:
        """Return `count` processes to run, each with `limit` seconds to end after it is told to."""
        supervisor = Supervisor(
            "processes", escalation="retry", retry_interval=_PAUSE, in_turn=False, on_event=_log
        )
        processes = cls(supervisor)
        for number in range(count):
            one = WorkerProcess(app, command, processes.give_up)
            processes.workers.append(one)
            stop = functools.partial(one.send, signal.SIGTERM)
            supervisor.add(one.run, name=f"process {number}", shutdown=limit, stop=stop)
        return processes

    def give_up(self, error: DidNotStart) -> None:
        """Stop all processes because one cannot be started."""
        if self.failure is None:
            self.failure = error
            _logger.critical("%s; stopping all", error)
            self.supervisor.stop()

    async def run(self) -> None:
        """Run the processes until they are stopped.

        Raises:
            JobrtError: one of them does not come up, again and again; all are stopped.

        """
        await self.supervisor.run()
        if self.failure is not None:
            msg = f"gave up after {_STARTS} tries: {self.failure}; mend that and start again"
            raise JobrtError(msg) from self.failure

    def send(self, number: int) -> None:
        """Pass a signal on to all."""
        for one in self.workers:
            one.send(number)


def _log(event: SupervisionEvent) -> None:
    """Log what becomes of the processes: a death in one line, for there is no traceback that would tell more."""
    match event:
        case ChildRestarting():
            _logger.warning("%s; another starts in %.1f s", event.error, event.delay)
        case ChildSetAside():
            _logger.error("%s; that is too often: another starts in %.0f s", event.error, event.delay)
        case ChildStuck():
            log_event(event)
        case _:
            pass  # that it is up it says by itself, and when it stops it does what it was told to


async def serve_processes(
    app: App, count: int, *, arguments: Sequence[str], grace: float, wait: float
) -> None:
    """Run `count` workers, each in a process of its own, until told to stop by a signal.

    They are started when the database is there; if it is not after `wait` seconds, that is an error.

    The first signal is passed on (graceful), so is the second (no grace); the third kills the processes.

    Raises:
        JobrtError: a process does not come up, again and again; all are stopped.

    """
    command = [sys.executable, "-m", "jobrt", *arguments]
    processes = Processes.of(app, command, count=count, limit=grace + _LIMIT)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            starting = trio.CancelScope()
            nursery.start_soon(_obey, signals, starting, processes)
            with starting:
                await wait_for_database(app, seconds=wait)
            if not starting.cancel_called:
                await processes.run()
            nursery.cancel_scope.cancel()


async def _obey(signals: AsyncIterator[int], starting: trio.CancelScope, processes: Processes) -> None:
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
