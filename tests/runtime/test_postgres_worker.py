"""A worker on a real PostgreSQL server: it is woken immediately, and survives every failure of the database.

No test waits for time to pass. Workers that must not rely on polling poll once a minute, and the test fails long before
that.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import psycopg
import pytest
import trio
from tests.support.tcp_proxy import open_proxy

import jobrt
from jobrt import End, Queue, State
from jobrt._runtime import wiring
from jobrt._storage.contract import Wake
from jobrt._storage.postgres import migration_sql
from jobrt.events import (
    Event,
    JobEnded,
    NotifierDisconnected,
    StorageDown,
    StorageUp,
    WorkerFenced,
    WorkerStarted,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.postgres import Cluster

E = TypeVar("E", bound=Event)

SELDOM = Queue(4, poll_interval=60)
"""Queue that during the test is claimed from only after a notification."""

OTHERS = (
    "select pg_terminate_backend(pid) from pg_stat_activity"
    " where datname = current_database() and pid <> pg_backend_pid()"
)
KILLS = 100 if "JOBRT_CHAOS" in os.environ else 15
LISTENERS = f"{OTHERS} and query ilike '%listen%'"


@attrs.define(eq=False)
class Heard:
    """Events of an app, some of which a test waits for."""

    events: list[Event] = attrs.Factory(list)
    _more: trio.Event = attrs.Factory(trio.Event)

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._more.set()
        self._more = trio.Event()

    def of(self, kind: type[E]) -> list[E]:
        return [one for one in self.events if isinstance(one, kind)]

    async def until(self, kind: type[E], count: int = 1) -> E:
        """Wait for the n-th event of a kind since the start."""
        while len(self.of(kind)) < count:
            await self._more.wait()
        return self.of(kind)[count - 1]


@attrs.define(eq=False)
class Site:
    """A worker, its events, and a client that shares only the database with it."""

    app: jobrt.App
    worker: jobrt.Worker
    jobs: jobrt.Client
    heard: Heard


async def run_sql(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement on a separate connection."""

    def run() -> list[tuple[Any, ...]]:
        with psycopg.connect(url, autocommit=True, connect_timeout=20) as conn:
            cursor = conn.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    return await trio.to_thread.run_sync(run)


def make_app(url: str, *jobs: type[jobrt.Job], lease: float = 60, **queues: Queue) -> jobrt.App:
    """Return an app whose queues are seldom polled."""
    return jobrt.App(url, jobs=jobs, queues=queues or {"default": SELDOM}, lease=lease, grace=0, migrate=True)


@asynccontextmanager
async def site(app: jobrt.App, *, around: str | None = None) -> AsyncIterator[Site]:
    """Run a worker, and a client at the URL `around` if a proxy is between the worker and the database."""
    jobs = [one.job_class for one in app.registry]
    other = jobrt.App(around or app.url, jobs=jobs, queues=app.queues, migrate=True)
    heard = Heard()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(other.open_client())
        stack.enter_context(app.events.subscribed(heard))
        nursery = await stack.enter_async_context(trio.open_nursery())
        worker = await nursery.start(app.run_worker)
        yield Site(app, worker, client, heard)
        await worker.stop()


def restarts(statistics: jobrt.SupervisorStatistics | None) -> int:
    """Return the total number of restarts in a tree."""
    children = statistics.children if statistics else ()
    return sum(child.restarts + restarts(child.nested) for child in children)


class Echo(jobrt.Job):
    """Job that returns its argument."""

    value: int = 0

    async def run(self, ctx: jobrt.Context) -> int:
        return self.value


gates: dict[str, trio.Event] = {}
begun: dict[str, trio.Event] = {}
cancelled: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Remove the gates of the last test."""
    yield
    for one in (gates, begun, cancelled):
        one.clear()


class Gate(jobrt.Job):
    """Job that reports its begin and waits at a gate. When it runs again, it only returns."""

    name: str = "gate"

    async def run(self, ctx: jobrt.Context) -> str:
        if self.name in cancelled:
            return "again"
        begun.setdefault(self.name, trio.Event()).set()
        try:
            await gates.setdefault(self.name, trio.Event()).wait()
        except trio.Cancelled:
            cancelled[self.name] = ctx.cancelled
            raise
        return "through"


async def until_begun(name: str = "gate") -> None:
    """Wait until a job has reached the gate."""
    await begun.setdefault(name, trio.Event()).wait()


def let_through(name: str = "gate") -> None:
    """Open the gate."""
    gates.setdefault(name, trio.Event()).set()


# ---------------------------------------------------------------------- wake-ups


async def test_a_job_enqueued_elsewhere_runs_at_once(postgres_url: str) -> None:
    """LISTEN wakes the worker. It also wakes a client that waits for the end of a job."""
    with trio.fail_after(40):
        async with site(make_app(postgres_url, Echo)) as here:
            for number in range(10):
                assert await (await here.jobs.enqueue(Echo(number))).result() == number
            assert restarts(here.worker.statistics()) == 0


async def test_a_delayed_job_runs_when_it_is_due(postgres_url: str) -> None:
    """The worker is notified when it is enqueued, and sleeps until it is due. No poll is needed."""
    with trio.fail_after(40):
        async with site(make_app(postgres_url, Echo)) as here:
            record = await (await here.jobs.enqueue(Echo(1), schedule_in=0.2)).wait()
            assert record.started_at is not None
            assert record.started_at >= record.schedule_at


async def test_a_cancel_request_from_elsewhere_reaches_the_running_job_at_once(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NOTIFY carries it: during the test there is no poll for requests and no heartbeat."""
    monkeypatch.setattr(wiring, "_CONTROL_INTERVAL", 600.0)
    first, second = (make_app(postgres_url, Gate, lease=600) for _ in range(2))
    with trio.fail_after(40):
        async with site(first) as here, site(second):
            one, other = await here.jobs.enqueue_many([Gate("one"), Gate("other")])
            await until_begun("one")
            await until_begun("other")
            for handle in (one, other):
                assert await here.jobs.cancel(handle.id, "not wanted") == 1
                record = await handle.wait()
                assert (record.state, record.cancel_reason) == (State.CANCELLED, "not wanted")
                assert [attempt.end for attempt in record.attempts] == [End.CANCELLED]
            assert {stop for stop, _ in cancelled.values()} == {jobrt.Stop.OPERATOR}


async def test_whoever_waits_for_a_job_wakes_its_queue(postgres_url: str) -> None:
    """A query for a job's end locks its row for a moment. A claim that skipped the row must be repeated."""
    app = make_app(postgres_url, Echo)
    heard = trio.Event()

    def deliver(wake: Wake) -> None:
        if wake == Wake("jobs", "default"):
            heard.set()

    with trio.fail_after(40):
        async with app.open_client() as jobs, app.open_storage() as storage, trio.open_nursery() as nursery:
            handle = await jobs.enqueue(Echo())
            await nursery.start(storage.wakes.listen, deliver)
            assert dict(await storage.jobs.await_final([handle.id])) == {handle.id: "available"}
            await heard.wait()
            nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_job_enqueued_after_the_listening_backend_was_killed_starts_within_seconds(
    postgres_url: str,
) -> None:
    """However often it is killed, the worker listens again, and claims once when it does."""
    with trio.fail_after(50):
        async with site(make_app(postgres_url, Echo)) as here:
            for number in range(KILLS):
                while not any(killed for (killed,) in await run_sql(postgres_url, LISTENERS)):
                    await trio.lowlevel.checkpoint()
                assert await (await here.jobs.enqueue(Echo(number))).result() == number
            assert here.heard.of(NotifierDisconnected)
            assert restarts(here.worker.statistics()) == 0


# ---------------------------------------------------------------------- outages


@pytest.mark.slow
async def test_a_worker_waits_for_its_server_at_the_start(private_postgres: Cluster) -> None:
    """It waits for any time, and reports it.

    A database that is not migrated is an error, because waiting would not help.
    """
    server = private_postgres.server
    url, empty = server.create_database("jobs"), server.create_database("empty")
    await jobrt.App(url).migrate()
    app = jobrt.App(url, jobs=[Echo])
    heard = Heard()
    with trio.fail_after(50), app.events.subscribed(heard):
        await trio.to_thread.run_sync(private_postgres.stop)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(app.run_worker)
            await heard.until(StorageDown)
            await trio.to_thread.run_sync(private_postgres.start)
            await heard.until(StorageUp)
            await heard.until(WorkerStarted)
            async with app.open_client() as jobs:
                assert await (await jobs.enqueue(Echo(1))).result() == 1
            nursery.cancel_scope.cancel()
        assert len(heard.of(StorageDown)) == 1
        with pytest.raises(jobrt.SchemaError, match="lacks migration"):
            await jobrt.App(empty).run_worker()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_worker_outlives_its_server(private_postgres: Cluster, how: str) -> None:
    """Outcomes of jobs that ended meanwhile are written once when it is back, and jobs continue.

    No actor is restarted.
    """
    url = private_postgres.server.create_database("jobs")
    with trio.fail_after(55):
        async with site(make_app(url, Gate, Echo)) as here:
            gate = await here.jobs.enqueue(Gate())
            await until_begun()
            await trio.to_thread.run_sync(getattr(private_postgres, how))
            await here.heard.until(StorageDown)
            let_through()
            while not here.worker.info().pending_outcomes:
                await trio.lowlevel.checkpoint()
            assert not here.heard.of(JobEnded)
            await trio.to_thread.run_sync(private_postgres.start)
            await here.heard.until(StorageUp)
            await here.heard.until(JobEnded)
            record = await gate.wait()
            assert (record.result, [one.end for one in record.attempts]) == ("through", [End.FINISHED])
            assert await (await here.jobs.enqueue(Echo(2))).result() == 2
            while len(here.heard.of(JobEnded)) < 2:  # the client may see the end before its event
                await trio.lowlevel.checkpoint()
            assert here.worker.info().refused == 0
            assert restarts(here.worker.statistics()) == 0


@pytest.mark.slow
async def test_every_job_runs_once_in_a_storm_of_terminated_backends(postgres_url: str) -> None:
    """All connections are terminated repeatedly, during claims and outcomes. No job is lost or doubled."""
    runs: Counter[int] = Counter()

    class Stormy(jobrt.Job):
        number: int

        async def run(self, ctx: jobrt.Context) -> None:
            runs[self.number] += 1
            if self.number % 25 == 0:
                with suppress(psycopg.OperationalError):  # two of them may terminate each other
                    await run_sql(postgres_url, OTHERS)

    with trio.fail_after(55):
        async with site(make_app(postgres_url, Stormy, default=Queue(5, poll_interval=0.2))) as here:
            await here.jobs.pause("default")
            await here.jobs.enqueue_many([Stormy(number) for number in range(500)])
            await here.jobs.resume("default")
            await here.heard.until(JobEnded, 500)
            records = await look_at_all(postgres_url)
            assert records == {("completed", 1): 500}
            assert set(runs.values()) == {1}
            assert len(here.heard.of(JobEnded)) == 500
            assert restarts(here.worker.statistics()) == 0


async def look_at_all(url: str) -> dict[tuple[str, int], int]:
    """Return the number of jobs by state and attempt."""
    rows = await run_sql(url, "select state::text, attempt, count(*) from jobrt.job group by 1, 2")
    return {(state, attempt): count for state, attempt, count in rows}


@pytest.mark.slow
@pytest.mark.parametrize("then", ["speaks", "hangs up"])
async def test_a_worker_behind_a_silent_network_fences_itself_and_recovers(
    postgres_url: str, then: str
) -> None:
    """Packets are lost without an error, so the heartbeat's time limit detects it.

    The job runs again under a new lease.
    """
    host, port = psycopg.conninfo.conninfo_to_dict(postgres_url)["host"], 0
    port = int(psycopg.conninfo.conninfo_to_dict(postgres_url)["port"])
    with trio.fail_after(55):
        async with open_proxy(str(host), port) as proxy:
            through = postgres_url.replace(f":{port}/", f":{proxy.port}/")
            assert through != postgres_url
            app = make_app(through, Gate, Echo, lease=1.5, default=Queue(4, poll_interval=0.5))
            async with site(app, around=postgres_url) as here:
                gate = await here.jobs.enqueue(Gate())
                await until_begun()
                first = here.worker.id
                proxy.silence()
                await here.heard.until(WorkerFenced)
                if then == "hangs up":
                    proxy.reset()
                proxy.speak()
                record = await gate.wait()
                assert record.result == "again"
                lost, finished = [one.end for one in record.attempts]
                assert lost in {
                    End.LEASE_LOST,
                    End.CRASHED,
                }  # reported by the worker itself, or by the one that rescued the job
                assert finished is End.FINISHED
                assert cancelled["gate"][0] is jobrt.Stop.LEASE_LOST
                assert [one.worker == first for one in record.attempts] == [True, False]
                assert await (await here.jobs.enqueue(Echo(3))).result() == 3
                assert restarts(here.worker.statistics()) == 0


async def until_refused(jobs: jobrt.Client) -> None:
    """Enqueue until there are too many connections. A connection that dies meanwhile raises another error."""
    said = ""
    while "too many connections" not in said:
        with pytest.raises(jobrt.StorageUnavailable) as caught:
            await jobs.enqueue(Echo(2))
        said = str(caught.value)


@pytest.mark.slow
async def test_a_worker_waits_while_the_server_takes_no_more_connections(private_postgres: Cluster) -> None:
    """Too many connections are an outage like any other. When there is room, the worker continues."""
    server = private_postgres.server
    server.execute("create role few login")
    owned = server.create_database("jobs")
    server.execute("alter database jobs owner to few")
    url = owned.replace("postgres@", "few@")
    with trio.fail_after(50):
        async with site(make_app(url, Echo)) as here:
            assert await (await here.jobs.enqueue(Echo(1))).result() == 1
            await run_sql(owned, "alter role few connection limit 0")
            await run_sql(owned, OTHERS)
            await here.heard.until(StorageDown)
            await until_refused(here.jobs)
            await run_sql(owned, "alter role few connection limit -1")
            await here.heard.until(StorageUp)
            assert await (await here.jobs.enqueue(Echo(3))).result() == 3
            assert restarts(here.worker.statistics()) == 0


async def test_a_worker_waits_while_its_database_is_read_only(postgres_url: str) -> None:
    """A standby accepts no writes, which is an outage like any other.

    Outcomes are written when it is a primary again.
    """
    (name,) = (await run_sql(postgres_url, "select current_database()"))[0]
    read_only = f"alter database {name} set default_transaction_read_only"
    with trio.fail_after(50):
        async with site(make_app(postgres_url, Gate, Echo)) as here:
            gate = await here.jobs.enqueue(Gate())
            await until_begun()
            await run_sql(postgres_url, f"{read_only} = on")
            await run_sql(postgres_url, OTHERS)
            let_through()
            await here.heard.until(StorageDown)
            while not here.worker.info().pending_outcomes:
                await trio.lowlevel.checkpoint()
            await run_sql(postgres_url, f"begin read write; {read_only} = off; commit")
            await here.heard.until(JobEnded)
            record = await gate.wait()
            assert (record.result, [one.end for one in record.attempts]) == ("through", [End.FINISHED])
            assert await (await here.jobs.enqueue(Echo(2))).result() == 2
            assert here.worker.info().refused == 0
            assert restarts(here.worker.statistics()) == 0


# ---------------------------------------------------------------------- several workers


async def test_a_cluster_limit_of_one_holds_over_two_workers(postgres_url: str) -> None:
    """Each job queries the database while it runs, and never finds another one running."""
    inside = 0
    most = 0

    class Alone(jobrt.Job):
        number: int

        async def run(self, ctx: jobrt.Context) -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await ctx.checkpoint(self.number)
            inside -= 1

    limited = Queue(4, cluster_limit=1, poll_interval=0.05)
    first, second = (make_app(postgres_url, Alone, default=limited) for _ in range(2))
    with trio.fail_after(50):
        async with site(first) as one, site(second) as two:
            handles = await one.jobs.enqueue_many([Alone(number) for number in range(40)])
            for handle in handles:
                await handle.wait()
            assert most == 1
            landed = one.worker.info().landed + two.worker.info().landed
            assert landed >= 40  # more, if some went back unstarted
    assert await look_at_all(postgres_url) == {("completed", 1): 40}


async def test_a_worker_goes_on_after_its_schema_was_made_again(postgres_url: str) -> None:
    """A restore drops the schema and makes it again: the worker registers again, and runs what is enqueued then."""
    app = make_app(postgres_url, Echo, Gate, lease=3, default=Queue(4, poll_interval=0.2))
    with trio.fail_after(50):
        async with site(app) as here:
            for value in range(8):
                assert await (await here.jobs.enqueue(Echo(value))).result() == value
            first = here.worker.id
            await here.jobs.enqueue(Gate())
            await until_begun()
            await run_sql(postgres_url, "drop schema jobrt cascade")
            await here.heard.until(WorkerFenced)
            await run_sql(postgres_url, migration_sql())
            for value in range(8):
                assert await (await here.jobs.enqueue(Echo(value))).result() == value
            assert here.worker.id != first
            assert cancelled["gate"] is not None
            assert cancelled["gate"][0] is jobrt.Stop.LEASE_LOST
