"""A chaos run: faults are injected into worker processes and their database, then the jobs are checked.

The seed decides about the faults and their order, but not about their exact times. A seed that failed will probably
fail again.
"""

from __future__ import annotations

import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import psycopg
import trio

import jobrt
from jobrt._storage.sqlite.states import STATES
from tests.chaos.history import Fault, Report, Row, check, parse
from tests.chaos.jobs import LEASE, Work

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.postgres import Cluster

__all__ = ["Run", "run_chaos"]

ROOT = Path(__file__).parents[2]
SETTLE_SECONDS = 20.0
"""Seconds after the last fault without a finished job, after which the remaining jobs count as stuck."""
BACKLOG = 150
"""Number of unfinished jobs above which no more are enqueued, because killed workers can be slower."""
UNFINISHED = jobrt.where.state("scheduled", "available", "retryable", "claimed", "executing")
EXIT = 0.5 + 5.0 + 10.0
"""Seconds for a worker to exit: its grace, five more, and a margin for a busy machine."""


@attrs.frozen
class Run:
    """Result of a run: the report, the number of faults by kind, and workers that ended without or despite a stop."""

    report: Report
    injected: Counter[str]
    worker_errors: tuple[str, ...]

    @property
    def violations(self) -> tuple[str, ...]:
        """All violations."""
        return self.report.violations + self.worker_errors


@attrs.define(eq=False)
class Worker:
    """A worker process, which is replaced when it has ended."""

    monkey: Monkey
    number: int
    process: subprocess.Popen[bytes] = attrs.field(init=False)
    frozen: bool = False

    def start(self) -> None:
        """Start a process."""
        with (self.monkey.folder / f"worker{self.number}.log").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jobrt", "--app", "tests.chaos.jobs:app", "worker", "--quiet"],
                cwd=ROOT,
                env={
                    **os.environ,
                    "JOBRT_URL": self.monkey.url,
                    "JOBRT_CHAOS_LOG": str(self.monkey.log),
                    "PYTHONFAULTHANDLER": "1",
                },
                stdout=output,
                stderr=output,
            )

    def record(self, what: str) -> None:
        """Record a fault."""
        self.monkey.faults.append(Fault(what, self.process.pid, time.monotonic()))

    def kill(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.wait()
        self.record("kill")  # after the end, because lines written before it count
        self.frozen = False

    def freeze(self) -> None:
        """Freeze the process with SIGSTOP."""
        self.record("freeze")
        self.process.send_signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        """Continue the process, if it is frozen."""
        if self.frozen:
            self.process.send_signal(signal.SIGCONT)
            self.record("thaw")
            self.frozen = False

    async def exit(self) -> None:
        """Stop the process, and check that it ends in time."""
        self.monkey.log_action(f"asked {self.process.pid} to stop")
        began = trio.current_time()
        self.process.terminate()
        with trio.move_on_after(EXIT):
            await trio.to_thread.run_sync(self.process.wait, abandon_on_cancel=True)
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGABRT)  # writes the stacks to its log
            with trio.move_on_after(EXIT):
                await trio.to_thread.run_sync(self.process.wait, abandon_on_cancel=True)
        status = f"{self.process.returncode} after {trio.current_time() - began:.1f} s"
        self.monkey.log_action(f"{self.process.pid} ended with {status}")
        if self.process.returncode not in {0, -signal.SIGTERM}:  # the latter if it had just started
            error = f"worker {self.process.pid} was asked to stop, and ended with {status}"
            self.monkey.worker_errors.append(error)
            self.kill()


@attrs.define(eq=False)
class Monkey:
    """Source of random faults. ``cluster`` is the PostgreSQL server, which may be stopped; None for SQLite."""

    url: str
    folder: Path
    chance: random.Random
    cluster: Cluster | None
    workers: list[Worker] = attrs.Factory(list)
    faults: list[Fault] = attrs.Factory(list)
    injected: Counter[str] = attrs.Factory(Counter)
    worker_errors: list[str] = attrs.Factory(list)
    accepted: list[int] = attrs.Factory(list)

    @property
    def log(self) -> Path:
        """The log of the jobs."""
        return self.folder / "jobs.log"

    def log_action(self, what: str) -> None:
        """Log an action with the workers; frozen ones have a star."""
        with (self.folder / "actions.log").open("a", encoding="utf-8") as file:
            pids = " ".join(f"{worker.process.pid}{'*' * worker.frozen}" for worker in self.workers)
            file.write(f"{time.monotonic():.3f} {datetime.now(UTC):%H:%M:%S.%f} {what} {pids}\n")

    async def inject(self, client: jobrt.Client, seconds: float) -> None:
        """Inject faults one after the other, and enqueue jobs in between."""
        end = trio.current_time() + seconds
        faults: list[Callable[[], Awaitable[None]]] = [
            self.kill,
            self.kill,
            self.freeze,
            self.stop,
            self.wait,
        ]
        of_server = [self.cut_sessions, self.cut_sessions, self.restart_server]
        faults += [self.lock] if self.cluster is None else of_server
        async with trio.open_nursery() as nursery:
            while trio.current_time() < end:
                await self.enqueue(client)
                fault = self.chance.choice(faults)
                self.injected[fault.__name__] += 1
                self.log_action(fault.__name__)
                if fault == self.freeze:  # other faults may occur meanwhile
                    nursery.start_soon(fault)
                else:
                    await fault()
                self.check_workers()
                await trio.sleep(self.chance.uniform(0.0, 1.0))

    async def enqueue(self, client: jobrt.Client) -> None:
        """Enqueue jobs of different lengths, some for later; none while many are unfinished."""
        jobs: list[Any] = [
            Work(self.chance.choice([0.0, 0.0, 0.05, 0.5, 2.0]), fails=self.chance.random() < 0.05)
            for _ in range(self.chance.randint(1, 40))
        ]
        if self.chance.random() < 0.3:
            jobs = [job.with_options(schedule_in=1.0) for job in jobs]
        # A batch whose reply was lost may be in the database; then its jobs are checked like others.
        with suppress(jobrt.StorageUnavailable):
            if await client.count(UNFINISHED) > BACKLOG:
                return
            handles = await client.enqueue_many(jobs)
            self.accepted += [handle.id for handle in handles]

    def check_workers(self) -> None:
        """Record workers that ended by themselves: no outage may cause that."""
        for worker in self.workers:
            if worker.process.poll() is not None:
                self.worker_errors.append(
                    f"worker {worker.process.pid} ended by itself: {worker.process.returncode}"
                )
                worker.kill()
                worker.start()

    def _awake(self) -> Worker | None:
        awake = [worker for worker in self.workers if not worker.frozen]
        return self.chance.choice(awake) if awake else None

    async def kill(self) -> None:
        """Kill a worker, which may be frozen, and start another."""
        worker = self.chance.choice(self.workers)
        worker.kill()
        worker.start()
        await trio.lowlevel.checkpoint()

    async def freeze(self) -> None:
        """Freeze a worker for a moment, or for longer than its lease."""
        worker, seconds = self._awake(), self.chance.uniform(0.1, 2.5 * LEASE)
        if worker is None:
            return
        frozen = worker.process.pid
        worker.freeze()
        await trio.sleep(seconds)
        if worker.process.pid == frozen:
            worker.thaw()

    async def stop(self) -> None:
        """Stop a worker gracefully, and start another."""
        if (worker := self._awake()) is not None:
            await worker.exit()
            worker.start()

    async def wait(self) -> None:
        """Inject no fault for a moment, so that jobs are run in between."""
        await trio.sleep(self.chance.uniform(0.5, 2.0))

    async def cut_sessions(self) -> None:
        """Terminate some or all sessions of the server."""
        share = self.chance.choice([0.3, 1.0])
        with suppress(psycopg.OperationalError):
            await trio.to_thread.run_sync(partial(_cut_sessions, self.url, share))

    async def restart_server(self) -> None:
        """Stop or crash the server, for a moment or for longer than a lease."""
        assert self.cluster is not None
        crash, seconds = self.chance.random() < 0.5, self.chance.choice([0.0, 0.5, 1.5 * LEASE])
        await trio.to_thread.run_sync(self.cluster.kill if crash else self.cluster.stop)
        try:
            await trio.sleep(seconds)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self.cluster.start)

    async def lock(self) -> None:
        """Hold SQLite's write lock for some time."""
        seconds = self.chance.uniform(0.1, 2.0)
        with suppress(sqlite3.OperationalError):  # a frozen worker may hold the lock itself
            await trio.to_thread.run_sync(partial(_lock, _file(self.url), seconds))

    async def settle(self, client: jobrt.Client) -> None:
        """Wait until all jobs are finished, and stop the workers."""
        for worker in self.workers:
            worker.thaw()
        least = math.inf
        with trio.move_on_after(SETTLE_SECONDS) as scope:
            while least > 0:
                with suppress(jobrt.StorageUnavailable):
                    count = await client.count(UNFINISHED)
                    if count < least:
                        least, scope.deadline = count, trio.current_time() + SETTLE_SECONDS
                await trio.sleep(0.1)
        self.check_workers()
        for worker in self.workers:
            await worker.exit()

    def end(self) -> None:
        """Kill all remaining processes."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()


def _file(url: str) -> str:
    return url.removeprefix("sqlite:///")


def _lock(file: str, seconds: float) -> None:
    with closing(sqlite3.connect(file, timeout=20, isolation_level=None)) as conn:
        conn.execute("begin immediate")
        time.sleep(seconds)
        conn.rollback()


def _cut_sessions(url: str, share: float) -> None:
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as conn:
        conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
            " and pid <> pg_backend_pid() and random() < %s",
            [share],
        )


def read_rows(url: str) -> dict[int, Row]:
    """Return the row of each job in the database."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(_file(url))) as conn:
            return _rows(conn, jobs="jobrt_job", attempts="jobrt_attempt")
    with psycopg.connect(url) as conn:
        return _rows(conn, jobs="jobrt.job", attempts="jobrt.attempt")


def _rows(conn: Any, *, jobs: str, attempts: str) -> dict[int, Row]:
    ends: dict[int, dict[int, str]] = {}
    for job, lease, end in conn.execute(f'select job_id, lease, "end" from {attempts}').fetchall():
        ends.setdefault(job, {})[lease] = end
    return {
        job: Row(
            state if isinstance(state, str) else STATES[state],
            None if lease is None else abs(lease),
            ends.get(job, {}),
        )
        for job, state, lease in conn.execute(f"select id, state, lease from {jobs}").fetchall()
    }


async def run_chaos(
    url: str, folder: Path, *, seconds: float, seed: int, workers: int = 3, cluster: Cluster | None = None
) -> Run:
    """Run workers on a database, inject faults for some time, and return the result."""
    monkey = Monkey(url, folder, random.Random(seed), cluster)
    app = jobrt.App(url, jobs=[Work], migrate=True)
    monkey.log.touch()
    try:
        async with app.open_client() as client:
            monkey.workers = [Worker(monkey, number) for number in range(workers)]
            for worker in monkey.workers:
                worker.start()
            await monkey.inject(client, seconds)
            await monkey.settle(client)
    finally:
        monkey.end()
    entries = parse(monkey.log.read_text().splitlines())
    report = check(monkey.accepted, entries, rows=read_rows(url), faults=monkey.faults)
    return Run(report, monkey.injected, tuple(monkey.worker_errors))
