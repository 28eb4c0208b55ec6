"""Run several worker processes under one parent: restart the dead, hand back their jobs, pass signals on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import attrs
import click
import trio

from jobrt._runtime.supervisor import Supervisor
from jobrt.cli.patience import wait_for_database
from jobrt.errors import JobrtError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from jobrt.app import App

__all__ = ["serve_processes"]

_LIMIT = 6.0
"""Seconds that a process has beyond the grace: its own limit for exiting is five."""
_HAND_BACK = 10.0


class ProcessDied(JobrtError):
    """Say that a worker process ended although nobody had asked it to."""


@attrs.define(eq=False)
class WorkerProcess:
    """One worker process, started again by the supervisor when it dies."""

    app: App
    command: Sequence[str]
    process: trio.Process | None = None
    stopping: bool = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the process to its end; when it is cut short, wait for what it does about that."""
        process = await trio.lowlevel.open_process(list(self.command), stdin=subprocess.DEVNULL)
        self.process = process
        task_status.started()
        try:
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()  # killed: this is short
        if process.returncode != 0:
            await self._hand_back(process.pid)
        if not self.stopping:
            msg = f"worker process {process.pid} ended with {_said(process.returncode)}"
            raise ProcessDied(msg)

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
                    for row in await storage.workers():
                        if row.info.get("pid") == pid and row.info.get("host") == socket.gethostname():
                            await storage.unregister(row.id)
                    await storage.rescue()
            except JobrtError as error:  # the heartbeat does it a little later
                click.echo(f"jobrt: jobs of process {pid} wait for their lease to end: {error}", err=True)


def _said(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        return f"signal {signal.Signals(-returncode).name}"
    return f"status {returncode}"


async def serve_processes(
    app: App, count: int, *, arguments: Sequence[str], grace: float, wait: float
) -> None:
    """Run `count` workers, each in a process of its own, until told to stop by a signal.

    They are started when the database is there; if it is not after `wait` seconds, that is an error.

    The first signal is passed on (graceful), so is the second (no grace); the third kills the processes.
    """
    supervisor = Supervisor("processes", escalation="retry", in_turn=False)
    command = [sys.executable, "-m", "jobrt", *arguments]
    workers = [WorkerProcess(app, command) for _ in range(count)]
    for number, one in enumerate(workers):
        supervisor.add(
            one.run,
            name=f"process {number}",
            shutdown=grace + _LIMIT,
            stop=lambda one=one: one.send(signal.SIGTERM),  # type: ignore[misc]
        )
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            starting = trio.CancelScope()
            nursery.start_soon(_obey, signals, starting, supervisor, workers)
            with starting:
                await wait_for_database(app, seconds=wait)
            if not starting.cancel_called:
                await supervisor.run()
            nursery.cancel_scope.cancel()


async def _obey(
    signals: AsyncIterator[int],
    starting: trio.CancelScope,
    supervisor: Supervisor,
    workers: Sequence[WorkerProcess],
) -> None:
    count = 0
    async for _ in signals:
        count += 1
        match count:
            case 1:
                starting.cancel()
                supervisor.stop()
            case 2:
                for one in workers:
                    one.send(signal.SIGTERM)
            case _:
                for one in workers:
                    one.send(signal.SIGKILL)
                os._exit(1)
