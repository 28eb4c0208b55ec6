"""Simulate a small cluster from a seed: everything that chance decides, the order of Trio's tasks included.

Three workers share one in-memory database. Calls to it fail, lose replies, are slow or cancelled; notifications are
dropped; its clock steps; workers stop, crash, and are cut off; operators cancel, rerun and pause. Then the storage
behaves, a healthy worker cleans up, and `World` says what must be true.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest import mock

import attrs
import trio
import trio._core._run as scheduler
from trio.testing import MockClock

from jobrt import State, where
from jobrt._runtime import watchdog, worker
from jobrt._storage.sqlite import open_sqlite
from tests.simulation.faulty import AppOn, Chance, FaultyStorage
from tests.simulation.jobs import JOBS
from tests.simulation.world import LEASE, QUEUES, Place, World

if TYPE_CHECKING:
    from jobrt._storage.contract import Storage

__all__ = ["Summary", "simulate"]

SECONDS = 60.0
"""How long the trouble lasts."""
LONGEST = 4000.0
"""Virtual seconds after which a run is held to hang: it ends with an internal error of Trio's."""


@attrs.frozen
class Summary:
    """What a run did; equal for equal seeds."""

    seed: int
    calls: int
    jobs: int
    runs: int
    crashes: int
    ends: tuple[tuple[str, int], ...]
    digest: str


@attrs.define(eq=False)
class Cluster:
    """Start, stop, crash workers on one database, and do what operators do."""

    world: World
    real: Storage
    faults: Chance
    nursery: trio.Nursery
    client: Any
    steps: bool
    """Whether the database's clock steps in this run."""
    count: int = 0
    over: bool = False
    apps: list[AppOn] = attrs.Factory(list)

    def app(self) -> AppOn:
        """Make the app of the next worker, with a connection of its own."""
        self.count += 1
        world = self.world
        storage = FaultyStorage(
            self.real,
            self.faults,
            lose_wake=lambda: self.faults.on and world.chance.random() < 0.3,
            watch=world.called,
        )
        state = Place(world, f"worker {self.count}")
        app = AppOn(storage, jobs=JOBS, queues=QUEUES, lease=LEASE, grace=10.0, state=state, name=state.name)
        self.apps.append(app)
        return app

    async def keep_a_worker(self) -> None:
        """Have a worker until it is over: each stops or crashes after a while, and the next one starts."""
        while not self.over:
            app = self.app()
            chance = self.world.chance
            async with trio.open_nursery() as nursery:
                with trio.CancelScope() as starting:
                    nursery.start_soon(self._end_later, nursery, app, starting)
                    await nursery.start(app.run_worker)
            await trio.sleep(chance.choice([0, 0.5, 3]))

    async def _end_later(self, nursery: trio.Nursery, app: AppOn, starting: trio.CancelScope) -> None:
        """End a worker in one of the ways in which workers end; each is bounded."""
        chance = self.world.chance
        with trio.move_on_after(chance.choice([0.01, 2, 10, 30])):
            while not self.over:
                await trio.sleep(0.5)
        way = chance.choice(["stop", "cancel", "crash", "cut off"])
        self.world.note(f"{app.name}: {way}")
        if way in {"crash", "cut off"}:
            self.world.crashes += 1
            app._storage.cut = True
        if way == "cut off":  # it lives on for a while, alone
            await trio.sleep(chance.choice([1, 10, 20]))
        began = trio.current_time()
        nursery.start_soon(_bounded, nursery, app, began)
        if way == "stop" and app.worker is not None:
            await app.worker.stop(grace=chance.choice([0, 1, 10]))
        else:
            nursery.cancel_scope.cancel()

    async def watch(self) -> None:
        """Object to a job that is claimed for a worker which lives and does not know of it: nobody would run it."""
        before: set[tuple[int, int]] = set()
        while True:
            await trio.sleep(1)
            unknown = {
                (job_id, one[0]) for job_id, one in self.world.claims.items() if self._lost(job_id, *one)
            }
            for job_id, lease in unknown & before:
                self.world.wrong(f"job {job_id} is claimed under {lease} for a worker that does not know it")
            before = unknown

    def _lost(self, job_id: int, lease: int, who: str, queue_name: str) -> bool:
        for app in self.apps:
            if app.worker is not None and app.worker.id == who and not app.worker.shutting_down.is_set():
                ledger = app.worker.queues[queue_name].fetcher.ledger
                return (job_id, lease) not in ledger.known() and not ledger.claiming and not ledger.unresolved
        return False

    async def operate(self) -> None:
        """Cancel, rerun, pause and resume until it is over."""
        chance, client = self.world.chance, self.client
        while not self.over:
            await trio.sleep(chance.expovariate(0.5))
            job_id = chance.randint(1, max(self.world.expected, default=1))
            match chance.choice(["enqueue", "enqueue", "cancel", "rerun", "pause", "resume", "step"]):
                case "enqueue":
                    await self.enqueue(chance.randint(1, 5))
                case "cancel":
                    await client.cancel(where.id_in([job_id]), "no more of this")
                case "rerun":
                    await client.rerun(where.id_in([job_id]) & where.state("cancelled"))
                case "step" if self.steps:
                    self.world.step(chance.choice([-40, -3, -0.5, 0.5, 3, 40]))
                case "pause":
                    await client.pause(chance.choice(list(QUEUES)))
                case _:
                    await client.resume(chance.choice(list(QUEUES)))

    async def enqueue(self, count: int) -> None:
        """Enqueue so many jobs of any kind."""
        chance = self.world.chance
        for _ in range(count):
            job = chance.choice(JOBS)
            handle = await self.client.enqueue(
                job(chance.choice("ab")),
                queue=chance.choice(list(QUEUES)),
                priority=chance.choice([0, 0, 1]),
                schedule_in=timedelta(seconds=chance.choice([0, 0, 2])),
            )
            self.world.expected.add(handle.id)

    async def settle(self) -> None:
        """Let a healthy worker end everything, and look at what is there."""
        self.faults.on = False
        for name in QUEUES:
            await self.client.resume(name)
        app = self.app()
        await self.nursery.start(app.run_worker)
        with trio.move_on_after(2000):
            while (
                await self.client.count(where.state("completed", "cancelled")) < await self.client.count()
                or len(await self.client.workers())
                > 1  # a clock that was put back keeps the dead for a while
            ):
                await trio.sleep(1)
        await app.worker.stop()
        await self._check()
        self.nursery.cancel_scope.cancel()

    async def _check(self) -> None:
        records = {one.id: one for one in await self.client.query(limit=None)}
        lost = self.world.expected - set(records)
        assert not lost, f"enqueued and gone: {lost}"
        written = Counter(
            row[0] for row in self.real.jobs._database._writer.execute("select id from written")
        )
        for record in records.values():
            assert record.state in {State.COMPLETED, State.CANCELLED}, f"never ended: {record}"
            if record.state is State.COMPLETED:
                assert record.result == "ok", record
            once = int(record.name == "Exact" and record.state is State.COMPLETED)
            assert written[record.id] == once, f"written {written[record.id]} times: {record}"
        assert await self.client.workers() == []
        assert not self.world.claims
        assert not self.world.runs_under_way
        assert max(self.world.running.values(), default=0) == 0


async def _bounded(nursery: trio.Nursery, app: AppOn, began: float) -> None:
    """Object when a stop takes longer than grace (10 s at most) and five seconds."""
    with trio.CancelScope(shield=True):
        while len(nursery.child_tasks) > 1:
            await trio.sleep(0.25)
            if trio.current_time() - began > 10 + 5 + 0.5:
                app._storage.cut = False  # so that this simulation, at least, ends
                app._storage.release.set()
                app._state.world.wrong(f"{app.name}: the stop took too long")
                return


async def _simulate(seed: int) -> Summary:
    world = World(random.Random(seed))
    began = trio.current_time()
    trio.lowlevel.spawn_system_task(_end_a_hang)

    def clock() -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(
            seconds=trio.current_time() - began + world.offset
        )

    ends: Counter[str] = Counter()
    async with open_sqlite(":memory:", clock=clock) as real:
        real.jobs._database._writer.execute("create table written (id)")
        try:
            with world.scope:
                await _trouble(world, real)
                ends.update([f"{one.name} {one.state}" for one in await real.jobs.query(where.state(*State))])
        finally:
            if world.violations:
                raise AssertionError("; ".join(world.violations[:3]))
    digest = hashlib.sha256("\n".join(world.log).encode()).hexdigest()[:16]
    return Summary(
        seed, world.calls, sum(ends.values()), world.runs, world.crashes, tuple(sorted(ends.items())), digest
    )


async def _trouble(world: World, real: Storage) -> None:
    """Have trouble for a while, then peace."""
    async with (
        AppOn(real, jobs=JOBS, queues=QUEUES).open_client() as client,
        trio.open_nursery() as nursery,
    ):
        faults = Chance(world.chance, rate=world.chance.choice([0.0, 0.05, 0.2]))
        steps = world.chance.choice([False, True])
        cluster = Cluster(world, real, faults, nursery, client, steps=steps)
        await cluster.enqueue(10)
        nursery.start_soon(cluster.watch)
        async with trio.open_nursery() as trouble:
            for _ in range(3):
                trouble.start_soon(cluster.keep_a_worker)
            trouble.start_soon(cluster.operate)
            await trio.sleep(SECONDS)
            cluster.over = True
        await cluster.settle()


async def _end_a_hang() -> None:
    """Crash the run, shields and all, when it does not end."""
    await trio.sleep(LONGEST)
    raise RuntimeError("the simulation does not end")


def simulate(seed: int) -> Summary:
    """Run one simulation; the same seed gives the same run.

    Raises:
        AssertionError: something happened that must not, in a group perhaps.

    """
    ids = iter(range(1_000_000))
    random.seed(seed)
    state = scheduler._r.getstate()
    scheduler._r.seed(seed)
    with (
        mock.patch.object(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
        mock.patch.object(worker, "_new_worker_id", lambda name: f"{name}.{next(ids)}"),
        mock.patch.object(watchdog, "_in_thread", _sleep_forever),  # a thread would bring real time in
    ):
        try:
            return trio.run(_simulate, seed, clock=MockClock(autojump_threshold=0))
        finally:
            scheduler._r.setstate(state)


async def _sleep_forever(_watch: Any) -> None:
    await trio.sleep_forever()
