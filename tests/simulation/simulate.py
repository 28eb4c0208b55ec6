"""A simulated cluster. All random decisions follow from a seed, and so does the order of Trio's tasks.

Three workers share an in-memory database. Calls to it fail, lose replies, are slow or cancelled. Notifications are
lost, and the clock of the database steps. Workers stop, crash and are cut off; operators cancel, rerun and pause.
Then the faults end, a healthy worker finishes the jobs, and `World` checks the guarantees.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest import mock

import attrs
import trio
import trio._core._run as scheduler
from trio.testing import MockClock

import jobrt
from jobrt import State, where
from jobrt._core.states import FINAL
from jobrt._runtime import watchdog, worker
from jobrt._runtime.ledger import Ledger
from jobrt._storage.sqlite import open_sqlite
from tests.simulation.families import FAMILIES, ROOTS, BriefTree, SuspendedTree, Tree
from tests.simulation.family_rules import FamilyRules
from tests.simulation.faulty import AppOn, Chance, FaultyStorage
from tests.simulation.jobs import JOBS, Simulated
from tests.simulation.world import LEASE, QUEUES, Place, World

if TYPE_CHECKING:
    from jobrt._storage.contract import Storage

__all__ = ["Summary", "simulate"]

SECONDS = 60.0
"""Virtual seconds with faults."""
MAX_SECONDS = 4000.0
"""Virtual seconds after which a run counts as hanging; it then ends with TrioInternalError."""


@attrs.frozen
class Summary:
    """Summary of a run, equal for equal seeds."""

    seed: int
    calls: int
    jobs: int
    runs: int
    crashes: int
    ends: tuple[tuple[str, int], ...]
    digest: str


@attrs.define(eq=False)
class Cluster:
    """Workers and operators on one database."""

    world: World
    real: Storage
    faults: Chance
    nursery: trio.Nursery
    client: Any
    steps: bool
    """Whether the database's clock steps in this run."""
    roots: list[type[Simulated]]
    """Classes of the jobs that clients enqueue."""
    count: int = 0
    sent: int = 0
    over: bool = False
    apps: list[AppOn] = attrs.Factory(list)

    @property
    def ends(self) -> frozenset[State]:
        """The states in which all jobs must end."""
        return FINAL if self.world.families is not None else FINAL - {State.DISCARDED}

    def app(self) -> AppOn:
        """Return the app of the next worker, with a storage of its own."""
        self.count += 1
        world = self.world
        storage = FaultyStorage(
            self.real,
            self.faults,
            lose_wake=lambda: self.faults.on and world.chance.random() < 0.3,
            watch=world.called,
        )
        state = Place(world, f"worker {self.count}")
        app = AppOn(
            storage,
            jobs=[*JOBS, *FAMILIES],
            queues=QUEUES,
            lease=LEASE,
            grace=10.0,
            state=state,
            name=state.name,
        )
        self.apps.append(app)
        return app

    async def keep_a_worker(self) -> None:
        """Run one worker after the other; each stops or crashes after some time."""
        while not self.over:
            app = self.app()
            chance = self.world.chance
            async with trio.open_nursery() as nursery:
                with trio.CancelScope() as starting:
                    nursery.start_soon(self._end_later, nursery, app, starting)
                    await nursery.start(app.run_worker)
            await trio.sleep(chance.choice([0, 0.5, 3]))

    async def _end_later(self, nursery: trio.Nursery, app: AppOn, starting: trio.CancelScope) -> None:
        """End a worker in a random way, with a time limit."""
        chance = self.world.chance
        with trio.move_on_after(chance.choice([0.01, 2, 10, 30])):
            while not self.over:
                await trio.sleep(0.5)
        way = chance.choice(["stop", "cancel", "crash", "cut off"])
        self.world.note(f"{app.name}: {way}")
        if way in {"crash", "cut off"}:
            self.world.crashes += 1
            app._storage.cut = True
        if way == "cut off":  # it continues for some time without the database
            await trio.sleep(chance.choice([1, 10, 20]))
        began = trio.current_time()
        nursery.start_soon(_bounded, nursery, app, began)
        if way == "stop" and app.worker is not None:
            await app.worker.stop(grace=chance.choice([0, 1, 10]))
        else:
            nursery.cancel_scope.cancel()

    async def watch(self) -> None:
        """Report a job that is claimed for a living worker that does not know it: the job would never run."""
        before: set[tuple[int, int]] = set()
        while True:
            await trio.sleep(1)
            unknown = {
                (job_id, claim[0])
                for job_id, claim in self.world.claims.items()
                if self._lost(job_id, *claim)
            }
            for job_id, lease in unknown & before:
                self.world.violation(
                    f"job {job_id} is claimed under {lease} for a worker that does not know it"
                )
            before = unknown

    def _lost(self, job_id: int, lease: int, who: str, queue_name: str) -> bool:
        for app in self.apps:
            if app.worker is not None and app.worker.id == who and not app.worker.shutting_down.is_set():
                ledger = app.worker.queues[queue_name].fetcher.ledger
                return (job_id, lease) not in ledger.known() and not ledger.claiming and not ledger.unresolved
        return False

    async def operate(self) -> None:
        """Enqueue, cancel, rerun, pause and resume, as operators do."""
        chance, client = self.world.chance, self.client
        while not self.over:
            await trio.sleep(chance.expovariate(0.5))
            job_id = chance.randint(1, max(self.world.expected, default=1))
            actions = ["enqueue", "enqueue", "cancel", "rerun", "pause", "resume", "step"]
            if self.world.families is not None:
                actions += ["send", "send", "send"]
            match chance.choice(actions):
                case "enqueue":
                    await self.enqueue(chance.randint(1, 5))
                case "cancel":
                    await client.cancel(where.id_in([job_id]), "no longer needed")
                case "rerun":
                    await client.rerun(where.id_in([job_id]) & where.state("cancelled", "discarded"))
                case "send":
                    await self.send(job_id)
                case "step" if self.steps:
                    self.world.step(chance.choice([-40, -3, -0.5, 0.5, 3, 40]))
                case "pause":
                    await client.pause(chance.choice(list(QUEUES)))
                case _:
                    await client.resume(chance.choice(list(QUEUES)))

    async def enqueue(self, count: int) -> None:
        """Enqueue random jobs, or several of one class, so that its limit matters."""
        chance = self.world.chance
        classes = chance.choice([self.roots, [chance.choice(self.roots)]])
        for _ in range(count):
            job = chance.choice(classes)
            handle = await self.client.enqueue(
                self.luck(job(chance.choice("ab"))),
                queue=chance.choice(list(QUEUES)),
                priority=chance.choice([0, 0, 1]),
                schedule_in=timedelta(seconds=chance.choice([0, 0, 2])),
            )
            self.world.expected.add(handle.id)

    def luck(self, job: Simulated) -> Any:
        """Draw the plan of a tree, and perhaps a deadline."""
        chance = self.world.chance
        if isinstance(job, Tree):
            job = attrs.evolve(job, depth=chance.choice([0, 1, 1, 2]), plan=chance.randrange(1000))
        if self.world.families is not None and chance.random() < 0.15:
            return job.with_options(**{chance.choice(["deadline_in", "expires_in"]): chance.choice([3, 15])})
        return job

    async def send(self, job_id: int) -> None:
        """Send a message to some job, perhaps twice with a key."""
        self.sent += 1
        key = self.world.chance.choice([None, f"sent {self.sent}"])
        for _ in range(1 if key is None else 2):
            with suppress(jobrt.JobNotFound, jobrt.JobStateError):
                if await self.client.send(job_id, "news", -self.sent, key=key):
                    self.world.families.sent[job_id, f"{-self.sent}"] += 1

    async def end_subtrees(self) -> None:
        """Cancel trees on a healthy worker; a second later nobody in them is alive."""
        chance = self.world.chance
        roots = [await self.enqueue_tree() for _ in range(3)]
        for root in roots:
            await trio.sleep(chance.choice([0, 0.1, 2, 7]))
            await self.client.cancel(where.id_in([root]), "no longer needed")
            await trio.sleep(1)
            alive = [job for job in await self.client.tree(root) if job.state not in FINAL]
            if alive:
                self.world.violation(f"a second after the cancellation of {root} there are {alive}")

    async def enqueue_tree(self) -> int:
        """Enqueue a tree, and return its id."""
        chance = self.world.chance
        tree = chance.choice([Tree, SuspendedTree, BriefTree])("a", depth=2, plan=chance.randrange(1000))
        handle = await self.client.enqueue(tree, queue=chance.choice(["default", "other", "narrow"]))
        self.world.expected.add(handle.id)
        return int(handle.id)

    async def settle(self) -> None:
        """Let a healthy worker finish all jobs, and check the database."""
        self.faults.on = False
        for name in QUEUES:
            await self.client.resume(name)
        app = self.app()
        await self.nursery.start(app.run_worker)
        with trio.move_on_after(2000):
            while (
                await self.client.count(where.state(*self.ends)) < await self.client.count()
                or len(await self.client.workers())
                > 1  # after the clock stepped back, dead workers stay for some time
            ):
                await trio.sleep(1)
        if self.world.families is not None:
            await self.end_subtrees()
        await app.worker.stop()
        await self._check()
        self.nursery.cancel_scope.cancel()

    async def _check(self) -> None:
        records = {record.id: record for record in await self.client.query(limit=None)}
        lost = self.world.expected - set(records)
        assert not lost, f"enqueued, but not in the database: {lost}"
        written = Counter(
            row[0] for row in self.real.jobs._database._writer.execute("select id from written")
        )
        for record in records.values():
            assert record.state in self.ends, (
                f"not finished: {attrs.evolve(record, attempts=record.attempts[-3:])}"
            )
            if record.state is State.COMPLETED:
                assert record.result == "ok", record
            once = int(record.name == "Exact" and record.state is State.COMPLETED)
            assert written[record.id] == once, f"written {written[record.id]} times: {record}"
        if self.world.families is not None:
            self.world.families.check_messages()
        assert await self.client.workers() == []
        assert not self.world.claims
        assert not self.world.runs_under_way
        assert max(self.world.running.values(), default=0) == 0


async def _bounded(nursery: trio.Nursery, app: AppOn, began: float) -> None:
    """Report a stop that takes longer than the grace (at most 10 s) and five seconds."""
    with trio.CancelScope(shield=True):
        while len(nursery.child_tasks) > 1:
            await trio.sleep(0.25)
            if trio.current_time() - began > 10 + 5 + 0.5:
                app._storage.cut = False  # so that the simulation ends
                app._storage.release.set()
                app._state.world.violation(f"{app.name}: the stop took too long")
                return


async def _simulate(seed: int, families: bool) -> Summary:
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
        with ExitStack() as stack:
            stack.callback(_raise_violations, world)
            if families:
                world.families = FamilyRules(world, real.jobs._database._writer)
                stack.enter_context(world.families.watching())
            with world.scope:
                await _run_cluster(world, real)
                ends.update([f"{job.name} {job.state}" for job in await real.jobs.query(where.state(*State))])
    digest = hashlib.sha256("\n".join(world.log).encode()).hexdigest()[:16]
    return Summary(
        seed, world.calls, sum(ends.values()), world.runs, world.crashes, tuple(sorted(ends.items())), digest
    )


def _raise_violations(world: World) -> None:
    if world.violations:
        raise AssertionError("; ".join(world.violations[:3]))


async def _run_cluster(world: World, real: Storage) -> None:
    """Run the cluster with faults, then without."""
    async with (
        AppOn(real, jobs=[*JOBS, *FAMILIES], queues=QUEUES).open_client() as client,
        trio.open_nursery() as nursery,
    ):
        faults = Chance(world.chance, rate=world.chance.choice([0.0, 0.05, 0.2]))
        steps = world.chance.choice([False, True])
        roots = JOBS if world.families is None else [*ROOTS, *ROOTS, *JOBS]
        cluster = Cluster(world, real, faults, nursery, client, steps=steps, roots=roots)
        await cluster.enqueue(10)
        nursery.start_soon(cluster.watch)
        async with trio.open_nursery() as disturbed:
            for _ in range(3):
                disturbed.start_soon(cluster.keep_a_worker)
            disturbed.start_soon(cluster.operate)
            await trio.sleep(SECONDS)
            cluster.over = True
        await cluster.settle()


async def _end_a_hang() -> None:
    """Crash the run, even within shields, if it does not end."""
    await trio.sleep(MAX_SECONDS)
    raise RuntimeError("the simulation did not end")


def simulate(seed: int, *, families: bool = False) -> Summary:
    """Run a simulation; the same seed gives the same run.

    With ``families``, most jobs have children, or wait for messages or times.

    Raises:
        AssertionError: a guarantee was violated; it may be in a group.

    """
    ids = iter(range(1_000_000))
    random.seed(seed)
    state = scheduler._r.getstate()
    scheduler._r.seed(seed)
    with (
        mock.patch.object(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
        mock.patch.object(worker, "_new_worker_id", lambda name: f"{name}.{next(ids)}"),
        mock.patch.object(watchdog, "_in_thread", _sleep_forever),  # the thread uses real time
        mock.patch.object(Ledger, "room_ahead", _room_ahead if seed % 2 else Ledger.room_ahead),
    ):
        try:
            return trio.run(_simulate, seed, families, clock=MockClock(autojump_threshold=0))
        finally:
            scheduler._r.setstate(state)


def _room_ahead(ledger: Ledger, _now: float) -> int:
    """Claim ahead for the slots of limits, however slow the jobs are."""
    return 0 if ledger.chains is None else max(4 - ledger.chains.waiting, 0)


async def _sleep_forever(_watch: Any) -> None:
    await trio.sleep_forever()
