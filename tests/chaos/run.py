"""A chaos run: faults are injected into worker processes and their database, then the history is checked.

The seed decides about the faults and their order, but not about their exact times. A seed that failed will probably
fail again.
"""

from __future__ import annotations

import math
import random
import sqlite3
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs
import psycopg
import trio

import jobrt
from tests.chaos import audit
from tests.chaos.faults import Monkey
from tests.chaos.history import History, check_bodies, parse
from tests.chaos.jobs import CLUSTER_LIMIT, CONCURRENCY, NAME_LIMIT, make_app
from tests.chaos.load import UNFINISHED, Load
from tests.chaos.rules import Limits, check_changes
from tests.chaos.standby import standby_of
from tests.chaos.workers import Journal, Worker
from tests.support.tcp_proxy import TcpProxy, open_proxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.disk import Disk
    from tests.support.postgres import Cluster

__all__ = ["Run", "durable", "run_chaos"]

SETTLE_SECONDS = 20.0
"""Seconds after the last fault without a finished job, after which the remaining jobs count as stuck."""
LOOK_EVERY = 5.0
"""Seconds between two looks at the history of a run that ends with the first violation."""
LIMITS = Limits(
    queues=CONCURRENCY,
    cluster={"cluster": CLUSTER_LIMIT, "family": CLUSTER_LIMIT},
    keys={"keyed": "who"},
    names={"Named": NAME_LIMIT},
)


@attrs.frozen
class Run:
    """Result of a run: violations by kind, the faults, and what happened."""

    found: dict[str, list[str]]
    injected: Counter[str]
    counts: Counter[str]
    seconds: float

    @property
    def violations(self) -> tuple[str, ...]:
        """All violations, with their kinds."""
        return tuple(f"{kind}: {text}" for kind, texts in self.found.items() for text in texts)


def durable(cluster: Cluster) -> Cluster:
    """Switch on fsync, so that a crashed server recovers what it has confirmed; it restarts."""
    with (cluster.data / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write("fsync = on\nfull_page_writes = on\n")
    cluster.stop()
    cluster.start()
    return cluster


@attrs.define(eq=False)
class _Chaos:
    """One run."""

    url: str
    journal: Journal
    monkey: Monkey
    load: Load
    offset: float = attrs.Factory(lambda: time.time() - time.monotonic())

    def history(self, *, finished: bool) -> History:
        """Return the facts so far."""
        lines = parse(self.journal.log.read_text(encoding="utf-8").splitlines())
        stored = audit.read(self.url, offset=self.offset)
        return History(
            rows=stored.rows,
            lines=lines,
            changes=stored.changes,
            accepted=tuple(self.load.accepted),
            cancelled=frozenset(self.load.cancelled),
            sent=self.load.sent,
            written=stored.written,
            faults=tuple(self.journal.faults),
            restored=tuple(self.monkey.restored),
            finished=finished,
        )

    def found(self, *, finished: bool) -> tuple[dict[str, list[str]], Counter[str]]:
        """Check the history so far; return the violations by kind and some counts."""
        history = self.history(finished=finished)
        found = (
            check_bodies(history) | check_changes(history, LIMITS) | {"workers": list(self.journal.errors)}
        )
        if finished:
            text = "".join(f"{attrs.astuple(change)}\n" for change in history.changes)
            (self.journal.folder / "changes.log").write_text(text, encoding="utf-8")
        begun = sum(line.what == "begin" for line in history.lines)
        counts = Counter(
            jobs=len(history.rows),
            bodies=begun,
            again=begun - len({line.job for line in history.lines}),
            kills=self.journal.kills,
            changes=len(history.changes),
            rescued=sum(change.lease is None and change.before == "executing" for change in history.changes),
            cancelled=sum(row.state == "cancelled" for row in history.rows.values()),
            ticks=sum(row.name == "Tick" for row in history.rows.values()),
            families=sum(row.name == "Nest" for row in history.rows.values()),
        )
        return found, counts

    async def disturb(self, client: jobrt.Client, seconds: float, *, stop_early: bool) -> None:
        """Enqueue jobs and inject faults; with `stop_early`, until the first violation."""
        end, look = trio.current_time() + seconds, trio.current_time() + LOOK_EVERY
        async with trio.open_nursery() as nursery:
            while trio.current_time() < end:
                await self.load.give(client)
                await self.monkey.inject(nursery)
                if stop_early and trio.current_time() > look:
                    if await self._violated():
                        nursery.cancel_scope.cancel()
                    look = trio.current_time() + LOOK_EVERY

    async def _violated(self) -> bool:
        with suppress(psycopg.OperationalError, sqlite3.OperationalError):
            found, _ = await trio.to_thread.run_sync(partial(self.found, finished=False))
            return any(found.values())
        return False

    async def settle(self, client: jobrt.Client) -> None:
        """Wait until all jobs are finished, and stop the workers."""
        for worker in self.monkey.workers:
            worker.thaw()
        least, paused = math.inf, False
        with trio.move_on_after(SETTLE_SECONDS) as scope:
            while least > 0:
                with suppress(jobrt.StorageUnavailable):
                    if not paused:
                        await client.pause_cron("tick")
                        paused = True
                    count = await client.count(UNFINISHED)
                    if count < least:
                        least, scope.deadline = count, trio.current_time() + SETTLE_SECONDS
                await trio.sleep(0.1)
        for worker in self.monkey.workers:
            worker.check()
        for worker in self.monkey.workers:
            await worker.exit()


async def _networks(stack: AsyncExitStack, url: str, number: int) -> tuple[list[TcpProxy], list[str]]:
    """Open a proxy to the server for each process; return them, and the URLs through them."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite" or parts.hostname is None or parts.port is None:
        return [], [url] * number
    proxies = [await stack.enter_async_context(open_proxy(parts.hostname, parts.port)) for _ in range(number)]
    user = f"{parts.username}@" if parts.username else ""
    return proxies, [parts._replace(netloc=f"{user}127.0.0.1:{proxy.port}").geturl() for proxy in proxies]


async def _declared(client: jobrt.Client) -> None:
    """Wait until a worker has added the cron entry. After a restore to before that it would be missing for a while."""
    with trio.fail_after(60):
        while not await client.crons():
            await trio.sleep(0.05)


async def run_chaos(
    url: str,
    folder: Path,
    *,
    seconds: float,
    seed: int,
    workers: int = 3,
    cluster: Cluster | None = None,
    disk: Disk | None = None,
    stop_early: bool = False,
    families: bool = False,
) -> Run:
    """Run workers on a database, inject faults for some time, and return the result."""
    chance, journal = random.Random(seed), Journal(folder)
    journal.log.touch()
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        standby = None if cluster is None else stack.enter_context(standby_of(cluster))
        proxies, urls = await _networks(stack, url, workers + 1)
        own = urls.pop()
        client = await stack.enter_async_context(make_app(own, migrate=True).open_client())
        await trio.to_thread.run_sync(partial(audit.install, own))
        processes = [Worker(journal, number, through) for number, through in enumerate(urls)]
        load = Load(chance, (0.0, 0.1) if cluster is None else (0.0, 0.3, 4.0), families=families)
        monkey = Monkey(own, chance, journal, load, processes, cluster, proxies, standby, disk)
        chaos = _Chaos(own, journal, monkey, load)
        finished = False
        try:
            for worker in processes:
                worker.start()
            await _declared(client)
            await chaos.disturb(client, seconds, stop_early=stop_early)
            if not (stop_early and await chaos._violated()):
                await chaos.settle(client)
                finished = True
        finally:
            for worker in processes:
                worker.end()
        found, counts = await trio.to_thread.run_sync(partial(chaos.found, finished=finished))
    return Run(found, monkey.injected, counts, time.monotonic() - began)
