"""Simulate a small cluster from a seed: everything that chance decides, the order of Trio's tasks included.

Three workers share one in-memory database. Calls to it fail, lose replies, are slow or cancelled; notifications are
dropped; workers stop, crash, and are cut off; operators cancel, rerun and pause. Then the storage behaves, a healthy
worker cleans up, and `World` says what must be true.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest import mock

import attrs
import tenacity
import trio
import trio._core._run as scheduler
from trio.testing import MockClock

import jobrt
from jobrt import Queue, State, where
from jobrt._runtime import watchdog, worker
from jobrt._storage.sqlite import open_sqlite
from tests.simulation.faulty import AppOn, Chance, FaultyStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobrt._storage.base import Storage

__all__ = ["Summary", "simulate"]

LEASE = 6.0
CONCURRENCY = 3
CLUSTER_LIMIT = 2
NAME_LIMIT = 2
SECONDS = 60.0
"""How long the trouble lasts."""


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
class World:
    """Know what happens in a run, and object at once when it must not."""

    chance: random.Random
    alive: dict[int, set[str]] = attrs.Factory(dict)
    """Job ids and where their `run` is under way."""
    leases: dict[int, int] = attrs.Factory(dict)
    landed: dict[tuple[int, int], str] = attrs.Factory(dict)
    expected: dict[int, str] = attrs.Factory(dict)
    running: Counter[tuple[str, str]] = attrs.Factory(Counter)
    log: list[str] = attrs.Factory(list)
    calls: int = 0
    runs: int = 0
    crashes: int = 0

    def note(self, text: str) -> None:
        """Add a line to the run's history."""
        self.log.append(f"{trio.current_time():.6f} {text}")

    def called(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        """Check what a call to the real storage did."""
        self.calls += 1
        self.note(f"{name} {args!r} {result!r}" if name in {"exchange", "finish", "rescue"} else name)
        if name in {"exchange", "finish"}:
            refused = set(result.refused if name == "exchange" else result)
            for outcome in args[0]:
                if (outcome.id, outcome.lease) not in refused:
                    self._outcome_landed(outcome)
        if name == "exchange":
            for job in result.jobs:
                assert job.lease > self.leases.get(job.id, 0), f"a lease of {job} was given out twice"
                self.leases[job.id] = job.lease

    def _outcome_landed(self, outcome: Any) -> None:
        ref = outcome.id, outcome.lease
        if ref not in self.landed:
            last = self.leases.get(outcome.id)
            assert outcome.lease == last, f"{outcome} landed though the lease is {last}"
        self.landed[ref] = outcome.event

    @contextmanager
    def running_in(self, ctx: jobrt.Context, who: str) -> Iterator[None]:
        """Check, while `run` is under way, that no other copy is, and that limits are kept."""
        job = ctx.job
        self.runs += 1
        self.note(f"run {job.id} {job.name} in {who}")
        others = self.alive.setdefault(job.id, set())
        assert not others, f"{job.name} {job.id} runs in {who} while it runs in {others}"
        others.add(who)
        keys = [(who, job.queue), (who, job.name), ("all", job.queue)]
        self.running.update(keys)
        assert self.running[keys[0]] <= CONCURRENCY, f"{who} runs too many of {job.queue}"
        assert job.name != "Limited" or self.running[keys[1]] <= NAME_LIMIT, f"{who} runs too many Limited"
        assert job.queue != "narrow" or self.running[keys[2]] <= CLUSTER_LIMIT, "too many in the cluster"
        try:
            yield
        finally:
            self.running.subtract(keys)
            others.remove(who)


@attrs.define
class Place:
    """What jobs find as ``ctx.state``."""

    world: World
    name: str


class Simulated(jobrt.Job):
    """Take a while, drawn from the seed."""

    MAX_ATTEMPTS = None
    BACKOFF = tenacity.wait_fixed(1)

    async def run(self, ctx: jobrt.Context) -> Any:
        with ctx.state.world.running_in(ctx, ctx.state.name):
            await trio.sleep(ctx.state.world.chance.choice([0, 0, 0.1, 1, 5, 20]))
            return await self.work(ctx)

    async def work(self, ctx: jobrt.Context) -> Any:
        """Return the result."""
        return "ok"


class Plain(Simulated):
    """Succeed."""


class Limited(Simulated):
    """Run few at once."""

    MAX_CONCURRENCY = NAME_LIMIT


class Flaky(Simulated):
    """Fail half of the time."""

    async def work(self, ctx: jobrt.Context) -> Any:
        if ctx.state.world.chance.random() < 0.5:
            raise OSError("half of the time")
        return "ok"


class Hasty(Simulated):
    """Have a time limit that some runs miss."""

    TIMEOUT = 4


class Sleepy(Simulated):
    """Snooze now and then."""

    async def work(self, ctx: jobrt.Context) -> Any:
        if ctx.state.world.chance.random() < 0.5:
            return jobrt.Snooze(timedelta(seconds=ctx.state.world.chance.choice([0, 1, 7])))
        return "ok"


class Careful(Simulated):
    """Save what it has, and a step."""

    async def work(self, ctx: jobrt.Context) -> Any:
        ctx.progress(1, 2)
        async with ctx.step("one") as step:
            if step.todo:
                await trio.sleep(1)
                step.value = "ok"
        for number in range(ctx.saved or 0, 3):
            await ctx.checkpoint(number + 1)
            await trio.sleep(1)
            ctx.progress(number, 3)
        return step.value


class Exact(Simulated):
    """Write a row and complete, in one transaction."""

    async def work(self, ctx: jobrt.Context) -> Any:
        async with ctx.transaction(result="ok") as conn:
            conn.execute("insert into written values (?)", (ctx.job.id,))
        if ctx.state.world.chance.random() < 0.3:
            raise OSError("after the end")
        return None


class Parent(Simulated):
    """Enqueue two children and wait for them; a lost reply may make it enqueue more than two."""

    async def work(self, ctx: jobrt.Context) -> Any:
        if ctx.saved is None:
            children = [await ctx.enqueue(Plain()) for _ in range(2)]
            await ctx.checkpoint([one.id for one in children])
            return jobrt.After(children)
        records = [await ctx.client.get(one) for one in ctx.saved]
        open_ones = [one for one in records if one.state not in {State.COMPLETED, State.CANCELLED}]
        if open_ones:
            assert any(one.name != "Plain" or one.attempts for one in open_ones)
            return jobrt.After(ctx.saved)
        return "ok"


JOBS: list[type[Simulated]] = [Plain, Limited, Flaky, Hasty, Sleepy, Careful, Exact, Parent]
QUEUES = {
    "default": CONCURRENCY,
    "other": Queue(concurrency=CONCURRENCY, poll_interval=1.0),
    "narrow": Queue(concurrency=CONCURRENCY, cluster_limit=CLUSTER_LIMIT),
}


@attrs.define(eq=False)
class Cluster:
    """Start, stop, crash workers on one database, and do what operators do."""

    world: World
    real: Storage
    faults: Chance
    nursery: trio.Nursery
    client: Any
    count: int = 0
    over: bool = False

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
        return AppOn(storage, jobs=JOBS, queues=QUEUES, lease=LEASE, grace=10.0, state=state, name=state.name)

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

    async def operate(self) -> None:
        """Cancel, rerun, pause and resume until it is over."""
        chance, client = self.world.chance, self.client
        while not self.over:
            await trio.sleep(chance.expovariate(0.5))
            job_id = chance.randint(1, max(self.world.expected, default=1))
            match chance.choice(["enqueue", "enqueue", "cancel", "rerun", "pause", "resume"]):
                case "enqueue":
                    await self.enqueue(chance.randint(1, 5))
                case "cancel":
                    await client.cancel(where.id_in([job_id]), "no more of this")
                case "rerun":
                    await client.rerun(where.id_in([job_id]) & where.state("cancelled"))
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
                job(),
                queue=chance.choice(list(QUEUES)),
                priority=chance.choice([0, 0, 1]),
                schedule_in=timedelta(seconds=chance.choice([0, 0, 2])),
            )
            self.world.expected[handle.id] = job.__name__

    async def settle(self) -> None:
        """Let a healthy worker end everything, and look at what is there."""
        self.faults.on = False
        for name in QUEUES:
            await self.client.resume(name)
        app = self.app()
        await self.nursery.start(app.run_worker)
        with trio.move_on_after(2000):
            while await self.client.count(where.state("completed", "cancelled")) < await self.client.count():
                await trio.sleep(1)
        await app.worker.stop()
        await self._check()

    async def _check(self) -> None:
        records = {one.id: one for one in await self.client.query()}
        lost = set(self.world.expected) - set(records)
        assert not lost, f"enqueued and gone: {lost}"
        written = Counter(row[0] for row in self.real._database._writer.execute("select id from written"))
        for record in records.values():
            assert record.state in {State.COMPLETED, State.CANCELLED}, f"never ended: {record}"
            if record.state is State.COMPLETED:
                assert record.result == "ok", record
            once = int(record.name == "Exact" and record.state is State.COMPLETED)
            assert written[record.id] == once, f"written {written[record.id]} times: {record}"
        assert await self.client.workers() == []
        assert not any(self.world.alive.values())
        assert max(self.world.running.values(), default=0) == 0


async def _bounded(nursery: trio.Nursery, app: AppOn, began: float) -> None:
    """Object when a stop takes longer than grace (10 s at most) and five seconds."""
    with trio.CancelScope(shield=True):
        while len(nursery.child_tasks) > 1:
            await trio.sleep(0.25)
            if trio.current_time() - began > 10 + 5 + 0.5:
                app._storage.cut = False  # so that this simulation, at least, ends
                app._storage.release.set()
                raise AssertionError(f"{app.name}: the stop took too long")


async def _simulate(seed: int) -> Summary:
    world = World(random.Random(seed))
    began = trio.current_time()

    def clock() -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=trio.current_time() - began)

    async with open_sqlite(":memory:", clock=clock) as real:
        real._database._writer.execute("create table written (id)")
        async with (
            AppOn(real, jobs=JOBS, queues=QUEUES).open_client() as client,
            trio.open_nursery() as nursery,
        ):
            faults = Chance(world.chance, rate=world.chance.choice([0.0, 0.05, 0.2]))
            cluster = Cluster(world, real, faults, nursery, client)
            await cluster.enqueue(10)
            async with trio.open_nursery() as trouble:
                for _ in range(3):
                    trouble.start_soon(cluster.keep_a_worker)
                trouble.start_soon(cluster.operate)
                await trio.sleep(SECONDS)
                cluster.over = True
            await cluster.settle()
        ends = Counter(f"{one.name} {one.state}" for one in await real.query(where.state(*State)))
    digest = hashlib.sha256("\n".join(world.log).encode()).hexdigest()[:16]
    return Summary(
        seed, world.calls, sum(ends.values()), world.runs, world.crashes, tuple(sorted(ends.items())), digest
    )


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
