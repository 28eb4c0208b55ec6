"""Faults of a chaos run, chosen by a seed: of worker processes, of their connections, and of the database."""

from __future__ import annotations

import random
import sqlite3
import time
from collections import Counter
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import psycopg
import trio

from tests.chaos.history import Fault, Restore
from tests.chaos.jobs import LEASE
from tests.chaos.restore import RESTORE_ERRORS, all_have_beaten, next_lease, save, set_back
from tests.chaos.standby import promote
from tests.chaos.workers import Journal, Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.chaos.disk import Disk
    from tests.chaos.load import Load
    from tests.support.postgres import Cluster
    from tests.support.tcp_proxy import TcpProxy

__all__ = ["Monkey"]

RIPE = 2.5
"""Seconds after which a new worker may be killed or frozen."""
RESTORE_EVERY = 20.0
DDL = (
    "alter table jobrt.job add column chaos integer",
    "alter table jobrt.job drop column if exists chaos",
    "alter table jobrt.job alter column context type varchar",
    "alter table jobrt.job alter column context type text",
    "reindex table jobrt.job",
    "reindex table concurrently jobrt.job",
    "vacuum full jobrt.job",
    "analyze jobrt.job",
)
"""What an administrator does while workers run."""


@attrs.define(eq=False)
class Monkey:
    """Source of random faults.

    ``cluster`` is the PostgreSQL server, None for SQLite. ``proxies`` are the networks of the workers; the last one is
    that of this process. ``standby`` takes over once. ``disk`` has the database, if it can be filled.
    """

    url: str
    chance: random.Random
    journal: Journal
    load: Load
    workers: list[Worker]
    cluster: Cluster | None
    proxies: list[TcpProxy] = attrs.Factory(list)
    standby: Cluster | None = None
    disk: Disk | None = None
    restored: list[Restore] = attrs.Factory(list)
    restore_at: float = attrs.Factory(time.monotonic)
    """When the next restore may begin: after one, less can be checked for some time."""
    injected: Counter[str] = attrs.Factory(Counter)

    def faults(self) -> list[Callable[[], Awaitable[None]]]:
        """Return the faults of this engine; those that are there twice are twice as likely."""
        found = [self.kill, self.freeze, self.freeze, self.freeze, self.stop, self.wait]
        if self.cluster is None:
            found += [self.lock]
        else:
            found += [self.cut_sessions, self.restart_server, self.cut_network, self.cut_network, self.ddl]
            found += [self.lose_replies]
        if time.monotonic() > self.restore_at:
            found += [self.restore, self.restore]
        if self.disk is not None:
            found += [self.fill_disk]
        if self.standby is not None:
            found += [self.fail_over, self.fail_over]
        return found

    async def inject(self, nursery: trio.Nursery) -> None:
        """Inject one fault; others may follow during a freeze or a cut."""
        fault = self.chance.choice(self.faults())
        name = getattr(fault, "__name__", "fault")
        self.injected[name] += 1
        self.journal.note(name)
        if name in {"freeze", "cut_network", "restore"}:
            nursery.start_soon(fault)
        else:
            await fault()
        for worker in self.workers:
            worker.check()
        await trio.sleep(self.chance.uniform(0.0, 1.0))

    @contextmanager
    def _of_database(self, what: str) -> Iterator[None]:
        """Record a fault of the database with its end."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.journal.faults.append(Fault(what, 0, began, time.monotonic()))

    def _ripe(self, *, frozen: bool = False) -> Worker | None:
        """Return a worker that has had time to start and to claim jobs; with `frozen`, also one that is frozen."""
        ripe = [worker for worker in self.workers if worker.age > RIPE and (frozen or not worker.frozen)]
        return self.chance.choice(ripe) if ripe else None

    # ------------------------------------------------------------------ processes

    async def kill(self) -> None:
        """Kill a worker, which may be frozen, and start another."""
        if (worker := self._ripe(frozen=True)) is not None:
            worker.kill()
            worker.start()
        await trio.lowlevel.checkpoint()

    async def freeze(self) -> None:
        """Freeze a worker for a moment, or for longer than its lease."""
        worker, seconds = self._ripe(), self.chance.choice([0.5, 1.5 * LEASE, 2.0 * LEASE])
        if worker is None:
            return
        frozen = worker.process.pid
        worker.freeze()
        await trio.sleep(seconds)
        if worker.process.pid == frozen:
            worker.thaw()

    async def stop(self) -> None:
        """Stop a worker gracefully, and start another."""
        if (worker := self._ripe()) is not None:
            await worker.exit()
            worker.start()

    async def wait(self) -> None:
        """Inject no fault for a moment, so that jobs are run in between."""
        await trio.sleep(self.chance.uniform(0.5, 2.0))

    # ------------------------------------------------------------------ PostgreSQL

    async def cut_sessions(self) -> None:
        """Terminate some or all sessions of the server."""
        share = self.chance.choice([0.3, 1.0])
        with self._of_database("cut_sessions"), suppress(psycopg.OperationalError):
            await trio.to_thread.run_sync(partial(_cut_sessions, self.url, share))

    async def restart_server(self) -> None:
        """Stop or crash the server, for a moment or for longer than a lease."""
        assert self.cluster is not None
        crash, seconds = self.chance.random() < 0.5, self.chance.choice([0.0, 0.5, 1.5 * LEASE])
        with self._of_database("restart_server"):
            await trio.to_thread.run_sync(self.cluster.kill if crash else self.cluster.stop)
            try:
                await trio.sleep(seconds)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self.cluster.start)

    async def fail_over(self) -> None:
        """Kill the server, and let its standby take over."""
        assert self.cluster is not None
        assert self.standby is not None
        with self._of_database("fail_over"), trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self.cluster.kill)
            await trio.to_thread.run_sync(partial(promote, self.standby))
            self.cluster, self.standby = self.standby, None
            for proxy in self.proxies:
                proxy.target = proxy.target[0], self.cluster.port

    async def cut_network(self) -> None:
        """Lose what one worker and the server send to each other, for longer than a lease; then reset or go on."""
        number, seconds = (
            self.chance.randrange(len(self.workers)),
            self.chance.choice([0.5, 1.5 * LEASE, 2.2 * LEASE]),
        )
        worker, proxy, reset = self.workers[number], self.proxies[number], self.chance.random() < 0.5
        if worker.cut_off:
            return
        worker.cut_off = True
        proxy.silence()
        try:
            await trio.sleep(seconds)
        finally:
            if reset:
                proxy.reset()
            proxy.speak()
            worker.cut_off = False

    async def lose_replies(self) -> None:
        """Lose the reply to the next call of each worker, which the server carries out."""
        for proxy in self.proxies[:-1]:
            proxy.lose_reply_to(b"\0")  # in each message
        await trio.lowlevel.checkpoint()

    async def ddl(self) -> None:
        """Change the table of jobs as an administrator may."""
        statement = self.chance.choice(DDL)
        self.journal.note(statement)
        with self._of_database("ddl"), suppress(psycopg.Error):
            await trio.to_thread.run_sync(partial(_run, self.url, statement))

    # ------------------------------------------------------------------ files

    async def restore(self) -> None:
        """Save the database, and set it back to that state under the workers, when these can notice it."""
        self.restore_at = time.monotonic() + RESTORE_EVERY
        copy = self.journal.folder / f"saved{self.injected['restore']}"
        try:
            async with self.load.calm:
                await trio.to_thread.run_sync(partial(save, self.url, copy, self.cluster))
                accepted = tuple(self.load.accepted)
            saved_at = time.time()
            await trio.sleep(self.chance.uniform(1.0, 4.0))
            while not await trio.to_thread.run_sync(all_have_beaten, self.url, saved_at):
                await trio.sleep(0.05)
            async with self.load.calm:
                with self._of_database("restore"):
                    await trio.to_thread.run_sync(partial(set_back, self.url, copy, self.cluster))
                self.load.accepted[:] = accepted
                self.restored.append(Restore(time.monotonic(), next_lease(self.cluster)))
                self.journal.note("restored")
        except RESTORE_ERRORS as error:  # another fault was quicker: nothing was changed
            self.journal.note(f"not restored: {error}")

    async def fill_disk(self) -> None:
        """Leave no room on the disk, for a moment or for longer than a lease."""
        assert self.disk is not None
        with self._of_database("fill_disk"):
            try:
                await trio.to_thread.run_sync(self.disk.fill)
                await trio.sleep(self.chance.choice([0.5, 1.5 * LEASE]))
            finally:
                self.disk.empty()
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._start_again)

    def _start_again(self) -> None:
        """Start the servers that could not recover without room."""
        for cluster in (self.cluster, self.standby):
            if cluster is not None and not cluster.running:
                cluster.start()

    async def lock(self) -> None:
        """Hold SQLite's write lock for some time."""
        seconds = self.chance.uniform(0.1, 2.0)
        with (
            self._of_database("lock"),
            suppress(sqlite3.OperationalError),
        ):  # a frozen worker may hold it itself
            await trio.to_thread.run_sync(partial(_lock, self.url.removeprefix("sqlite:///"), seconds))


def _run(url: str, statement: str) -> Any:
    with psycopg.connect(url, autocommit=True, connect_timeout=5, options="-c lock_timeout=2s") as conn:
        conn.execute(statement.encode())


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
