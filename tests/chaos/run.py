"""Maltreat worker processes and their database for some time, let them finish, and judge what they wrote.

The seed decides what is done to whom and in what order; when exactly it strikes is the machine's affair. A seed
that failed is likely to fail again, and not certain to.
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
from tests.chaos.history import Deed, Ledger, Report, check, parse
from tests.chaos.jobs import LEASE, Work

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.postgres import Cluster

__all__ = ["Run", "maltreat"]

ROOT = Path(__file__).parents[2]
CALM = 20.0
"""Seconds without a job more that is finished, once nothing is done to anybody any more: the rest is stuck."""
BACKLOG = 150
"""Unfinished jobs beyond which nothing is enqueued: workers that die all the time may be slower than the monkey."""
UNFINISHED = jobrt.where.state("scheduled", "available", "retryable", "executing")
EXIT = 0.5 + 5.0 + 10.0
"""Seconds for a worker to exit: its grace, five more, and as much again as a busy machine may need."""


@attrs.frozen
class Run:
    """How a run went: what is wrong, what was done how often, and processes that ended by themselves or not at all."""

    report: Report
    deeds: Counter[str]
    misbehaved: tuple[str, ...]

    @property
    def faults(self) -> tuple[str, ...]:
        """Return all that is wrong."""
        return self.report.faults + self.misbehaved


@attrs.define(eq=False)
class Worker:
    """A worker process, replaced when it is ended."""

    monkey: Monkey
    number: int
    process: subprocess.Popen[bytes] = attrs.field(init=False)
    frozen: bool = False

    def start(self) -> None:
        """Start it, or the next one."""
        with (self.monkey.folder / f"worker{self.number}.log").open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jobrt", "--app", "tests.chaos.jobs:app", "worker", "--quiet"],
                cwd=ROOT,
                env={
                    **os.environ,
                    "JOBRT_URL": self.monkey.url,
                    "JOBRT_CHAOS_LOG": str(self.monkey.log),
                    "PYTHONFAULTHANDLER": "1",
                },
                stdout=said,
                stderr=said,
            )

    def note(self, what: str) -> None:
        """Write down what is done to it."""
        self.monkey.deeds.append(Deed(what, self.process.pid, time.monotonic()))

    def kill(self) -> None:
        """Kill it at once."""
        self.process.kill()
        self.process.wait()
        self.note("kill")  # after it: what it wrote before its death counts
        self.frozen = False

    def freeze(self) -> None:
        """Stop it in the middle of whatever it does."""
        self.note("freeze")
        self.process.send_signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        """Let it go on, if it is stopped."""
        if self.frozen:
            self.process.send_signal(signal.SIGCONT)
            self.note("thaw")
            self.frozen = False

    async def exit(self) -> None:
        """Ask it to stop, and see that it does."""
        self.monkey.tell(f"asked {self.process.pid} to stop")
        began = trio.current_time()
        self.process.terminate()
        with trio.move_on_after(EXIT):
            await trio.to_thread.run_sync(self.process.wait, abandon_on_cancel=True)
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGABRT)  # its log then says where it stands
            with trio.move_on_after(EXIT):
                await trio.to_thread.run_sync(self.process.wait, abandon_on_cancel=True)
        how = f"{self.process.returncode} after {trio.current_time() - began:.1f} s"
        self.monkey.tell(f"{self.process.pid} ended with {how}")
        if self.process.returncode not in {0, -signal.SIGTERM}:  # the latter if it had hardly begun
            self.monkey.misbehaved.append(f"worker {self.process.pid} was asked to stop and ended with {how}")
            self.kill()


@attrs.define(eq=False)
class Monkey:
    """Do random things. ``cluster`` is the server if there is one that may be stopped."""

    url: str
    folder: Path
    chance: random.Random
    cluster: Cluster | None
    workers: list[Worker] = attrs.Factory(list)
    deeds: list[Deed] = attrs.Factory(list)
    done: Counter[str] = attrs.Factory(Counter)
    misbehaved: list[str] = attrs.Factory(list)
    accepted: list[int] = attrs.Factory(list)

    @property
    def log(self) -> Path:
        """Where the jobs write."""
        return self.folder / "jobs.log"

    def tell(self, what: str) -> None:
        """Write down a deed, with the workers as they are (those that are stopped have a star)."""
        with (self.folder / "deeds.log").open("a", encoding="utf-8") as file:
            pids = " ".join(f"{one.process.pid}{'*' * one.frozen}" for one in self.workers)
            file.write(f"{time.monotonic():.3f} {datetime.now(UTC):%H:%M:%S.%f} {what} {pids}\n")

    async def rage(self, client: jobrt.Client, seconds: float) -> None:
        """Do one thing after another, and enqueue in between."""
        end = trio.current_time() + seconds
        deeds: list[Callable[[], Awaitable[None]]] = [
            self.kill,
            self.kill,
            self.freeze,
            self.stop,
            self.burst,
        ]
        deeds += [self.lock] if self.cluster is None else [self.cut, self.cut, self.restart_server]
        async with trio.open_nursery() as nursery:
            while trio.current_time() < end:
                await self.enqueue(client)
                deed = self.chance.choice(deeds)
                self.done[deed.__name__] += 1
                self.tell(deed.__name__)
                if deed == self.freeze:  # others go on meanwhile
                    nursery.start_soon(deed)
                else:
                    await deed()
                self.look()
                await trio.sleep(self.chance.uniform(0.0, 1.0))

    async def enqueue(self, client: jobrt.Client) -> None:
        """Enqueue some jobs of different lengths, some of them for later; none while many wait."""
        jobs: list[Any] = [
            Work(self.chance.choice([0.0, 0.0, 0.05, 0.5, 2.0]), fails=self.chance.random() < 0.05)
            for _ in range(self.chance.randint(1, 40))
        ]
        if self.chance.random() < 0.3:
            jobs = [job.with_options(schedule_in=1.0) for job in jobs]
        # Whether a batch landed whose reply was lost nobody knows; if it did, its jobs are judged like others.
        with suppress(jobrt.StorageUnavailable):
            if await client.count(UNFINISHED) > BACKLOG:
                return
            handles = await client.enqueue_many(jobs)
            self.accepted += [handle.id for handle in handles]

    def look(self) -> None:
        """Notice workers that ended by themselves: no outage may do that."""
        for worker in self.workers:
            if worker.process.poll() is not None:
                self.misbehaved.append(
                    f"worker {worker.process.pid} ended by itself: {worker.process.returncode}"
                )
                worker.kill()
                worker.start()

    def _awake(self) -> Worker | None:
        awake = [worker for worker in self.workers if not worker.frozen]
        return self.chance.choice(awake) if awake else None

    async def kill(self) -> None:
        """Kill a worker, frozen or not, and start another."""
        worker = self.chance.choice(self.workers)
        worker.kill()
        worker.start()
        await trio.lowlevel.checkpoint()

    async def freeze(self) -> None:
        """Stop a worker for a moment or for longer than its lease."""
        worker, seconds = self._awake(), self.chance.uniform(0.1, 2.5 * LEASE)
        if worker is None:
            return
        frozen = worker.process.pid
        worker.freeze()
        await trio.sleep(seconds)
        if worker.process.pid == frozen:
            worker.thaw()

    async def stop(self) -> None:
        """Stop a worker gracefully and start another."""
        if (worker := self._awake()) is not None:
            await worker.exit()
            worker.start()

    async def burst(self) -> None:
        """Do nothing but wait a moment: work must go on in between, or there is nothing to break."""
        await trio.sleep(self.chance.uniform(0.5, 2.0))

    async def cut(self) -> None:
        """Terminate some of the server's sessions, or all."""
        share = self.chance.choice([0.3, 1.0])
        with suppress(psycopg.OperationalError):
            await trio.to_thread.run_sync(partial(_cut, self.url, share))

    async def restart_server(self) -> None:
        """Take the server away, politely or not, for a moment or for longer than a lease."""
        assert self.cluster is not None
        crash, seconds = self.chance.random() < 0.5, self.chance.choice([0.0, 0.5, 1.5 * LEASE])
        await trio.to_thread.run_sync(self.cluster.kill if crash else self.cluster.stop)
        try:
            await trio.sleep(seconds)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self.cluster.start)

    async def lock(self) -> None:
        """Hold SQLite's one write lock for a while."""
        seconds = self.chance.uniform(0.1, 2.0)
        with suppress(sqlite3.OperationalError):  # a frozen worker may hold the lock itself
            await trio.to_thread.run_sync(partial(_lock, _file(self.url), seconds))

    async def calm(self, client: jobrt.Client) -> None:
        """Let everybody finish, and go."""
        for worker in self.workers:
            worker.thaw()
        least = math.inf
        with trio.move_on_after(CALM) as patience:
            while least > 0:
                with suppress(jobrt.StorageUnavailable):
                    count = await client.count(UNFINISHED)
                    if count < least:
                        least, patience.deadline = count, trio.current_time() + CALM
                await trio.sleep(0.1)
        self.look()
        for worker in self.workers:
            await worker.exit()

    def end(self) -> None:
        """Leave no process behind."""
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


def _cut(url: str, share: float) -> None:
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as conn:
        conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
            " and pid <> pg_backend_pid() and random() < %s",
            [share],
        )


def read_ledgers(url: str) -> dict[int, Ledger]:
    """Return what the database says of each job."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(_file(url))) as conn:
            return _ledgers(conn, jobs="jobrt_job", attempts="jobrt_attempt")
    with psycopg.connect(url) as conn:
        return _ledgers(conn, jobs="jobrt.job", attempts="jobrt.attempt")


def _ledgers(conn: Any, *, jobs: str, attempts: str) -> dict[int, Ledger]:
    ends: dict[int, dict[int, str]] = {}
    for job, lease, end in conn.execute(f'select job_id, lease, "end" from {attempts}').fetchall():
        ends.setdefault(job, {})[lease] = end
    return {
        job: Ledger(
            state if isinstance(state, str) else STATES[state],
            None if lease is None else abs(lease),
            ends.get(job, {}),
        )
        for job, state, lease in conn.execute(f"select id, state, lease from {jobs}").fetchall()
    }


async def maltreat(
    url: str, folder: Path, *, seconds: float, seed: int, workers: int = 3, cluster: Cluster | None = None
) -> Run:
    """Run workers on a database for so long, break what can be broken, and return how it went."""
    monkey = Monkey(url, folder, random.Random(seed), cluster)
    app = jobrt.App(url, jobs=[Work], migrate=True)
    monkey.log.touch()
    try:
        async with app.open_client() as client:
            monkey.workers = [Worker(monkey, number) for number in range(workers)]
            for worker in monkey.workers:
                worker.start()
            await monkey.rage(client, seconds)
            await monkey.calm(client)
    finally:
        monkey.end()
    entries = parse(monkey.log.read_text().splitlines())
    report = check(monkey.accepted, entries, ledgers=read_ledgers(url), deeds=monkey.deeds)
    return Run(report, monkey.done, tuple(monkey.misbehaved))
