"""Two versions of an application that work on one database at the same time."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

import jobrt
from jobrt import End, State, events
from jobrt._registry import Registry, new_job
from jobrt._views.payloads import examine_crons, examine_payloads
from jobrt.testing import drain, open_app

if TYPE_CHECKING:
    from trio.testing import MockClock

PATIENCE = 60
RUNS: list[tuple[str, Any]] = []
"""What ran: the version of the code, and the job."""


class Before(jobrt.Job):
    """The application before the change."""

    NAME = "mail"
    MAX_CONCURRENCY = 3
    to: str
    cc: str = ""

    async def run(self, ctx: jobrt.Context) -> str:
        return "before"


class After(jobrt.Job):
    """The same job later: another name, a list of recipients, a field less and one more."""

    NAME = "letter"
    ALIASES = ("mail",)
    MAX_CONCURRENCY = 3
    VERSION = 2
    REMOVED = ("cc",)
    to: list[str]
    urgent: bool = False

    @classmethod
    def upgrade(cls, args: dict[str, Any], version: int) -> dict[str, Any]:
        """Make a list of the recipient."""
        assert version == 1
        return args | {"to": [args["to"]]}

    async def run(self, ctx: jobrt.Context) -> list[str]:
        return [*self.to, str(self.urgent)]


class Wider(Before):
    """The first version with a field more, and no other number."""

    NAME = "mail"
    bcc: str = ""


def app_of(url: str, job: type[jobrt.Job]) -> jobrt.App:
    """Return the application whose only job is this."""
    return jobrt.App(url, jobs=[job], queues={"default": 4}, migrate=True)


async def test_a_rolling_deployment_loses_nothing(database_url: str) -> None:
    """Workers and clients of both versions: each job runs once, by code that can read it, without a failed attempt."""
    before, after = app_of(database_url, Before), app_of(database_url, After)
    with trio.fail_after(PATIENCE):
        async with AsyncExitStack() as stack:
            old = await stack.enter_async_context(before.open_client())
            new = await stack.enter_async_context(after.open_client())
            nursery = await stack.enter_async_context(trio.open_nursery())
            await nursery.start(before.run_worker)
            first = [await old.enqueue(Before(f"a{n}", cc="x")) for n in range(20)]
            second = [await new.enqueue(After([f"b{n}"], urgent=True)) for n in range(20)]
            assert {await handle.result() for handle in first} == {"before"}
            assert await new.count(jobrt.where.name("letter") & jobrt.where.state("available")) == 20
            await nursery.start(after.run_worker)
            assert [await handle.result() for handle in second] == [[f"b{n}", "True"] for n in range(20)]
            nursery.cancel_scope.cancel()
        async with after.open_client() as new:
            assert await new.count(jobrt.where.state("completed")) == 40
            assert {len(record.attempts) for record in await new.query()} == {1}


async def test_new_code_runs_what_old_code_left(database_url: str) -> None:
    """Jobs under an older name and version are upgraded; their records keep what is stored."""
    before, after = app_of(database_url, Before), app_of(database_url, After)
    with trio.fail_after(PATIENCE):
        async with before.open_client() as old, after.open_client() as new:
            handle = await old.enqueue(Before("a", cc="b"))
            await after.drain()
            record = await new.get(handle.id)
            assert (record.state, record.result) == (State.COMPLETED, ["a", "False"])
            assert (record.name, record.version, record.args) == ("mail", 1, {"to": "a", "cc": "b"})


async def test_an_unknown_field_waits_for_a_worker_that_knows_it(database_url: str) -> None:
    """It is tried once, uses no attempt, and costs the old worker nothing more. The new worker runs it at once."""
    narrow, wide = app_of(database_url, Before), app_of(database_url, Wider)
    with trio.fail_after(PATIENCE):
        async with narrow.open_client() as old, wide.open_client() as new:
            handles = [await new.enqueue(Wider("a", bcc="b")) for _ in range(30)]
            fine = await old.enqueue(Before("a"))
            for _ in range(3):
                await narrow.drain()
            for handle in handles:
                record = await old.get(handle.id)
                assert (record.state, record.attempt) == (State.AVAILABLE, 0)
                assert [attempt.end for attempt in record.attempts] == [End.UNDECODABLE]
            assert (await old.get(fine.id)).state is State.COMPLETED
            async with narrow.open_storage() as storage:
                (finding,) = await examine_payloads(storage.jobs, narrow.registry)
            assert "30 jobs of mail cannot be decoded" in finding.text
            assert "they wait for a worker of newer code: start one" in finding.text
            assert "or add fields that were removed to REMOVED" in finding.text
            await wide.drain()
            assert await new.count(jobrt.where.state("completed")) == 31
            assert {(await new.get(handle.id)).attempt for handle in handles} == {1}


async def test_a_newer_version_is_a_finding(autojump_clock: MockClock) -> None:
    """`doctor` names jobs that no worker of this code will run, and both remedies."""
    async with open_app(jobs=[After]) as (app, jobs), app.open_storage() as storage:
        await jobs.enqueue(After(["a"]))
        older = app_of(app.url, Before)
        older.registry.by_name["letter"] = older.registry.get("mail")
        (finding,) = await examine_payloads(storage.jobs, older.registry)
        assert "1 job of letter cannot be decoded" in finding.text
        assert "the payload has version 2, and the class has VERSION 1" in finding.text
        assert await examine_payloads(storage.jobs, app.registry) == []


class Renamed(jobrt.Job):
    """The first version with another name."""

    NAME = "letter"
    ALIASES = ("mail",)
    to: str
    cc: str = ""

    async def run(self, ctx: jobrt.Context) -> str:
        return "renamed"


class Newer(After):
    """The second version with the name of the first."""

    NAME = "mail"


def with_code(app: jobrt.App, job: type[jobrt.Job]) -> jobrt.App:
    """Return an application with another job on the same database, in memory."""
    other = app.at(app.url)
    other.registry, other.crons, other._database = Registry(), {}, app._database
    other.registry.add(job)
    return other


async def test_a_renamed_job_of_a_cron_entry_ticks_once(autojump_clock: MockClock) -> None:
    """Workers of both versions have the same entry, although its name was made of the name of the job."""
    async with open_app(jobs=[Before]) as (before, jobs), trio.open_nursery() as nursery:
        after = with_code(before, Renamed)
        assert before.every(60, Before("a")) == after.every(60, Renamed("a"))
        await nursery.start(before.run_worker)
        await trio.sleep(130)
        await nursery.start(after.run_worker)
        await trio.sleep(190)
        records = await jobs.query()
        nursery.cancel_scope.cancel()
    assert len({record.context for record in records}) == len(records) == 6
    assert {record.result for record in records} == {"before", "renamed"}


async def test_a_newer_version_of_a_cron_entry_is_left_alone(autojump_clock: MockClock) -> None:
    """Older workers neither fire it nor report an error; `doctor` tells. The first newer worker fires it."""
    told: list[events.Event] = []
    async with open_app(jobs=[Before]) as (before, jobs), trio.open_nursery() as nursery:
        after = with_code(before, Newer)
        before.every(60, Before("a"), name="often")
        after.every(60, Newer(["a"]), name="often")
        with before.events.subscribed(told.append, routine=False):
            await nursery.start(before.run_worker)
            await trio.sleep(1)
            await after.declare_crons()
            await trio.sleep(200)
        assert await jobs.count() == 1
        async with before.open_storage() as storage:
            (row,) = await storage.crons.all()
        (finding,) = examine_crons([row], before.registry, declared=before.crons)
        assert "cron entry often does not tick (Before: the payload has version 2" in finding.text
        assert finding.text.endswith("start a worker of newer code")
        assert list(examine_crons([row], after.registry, declared=after.crons)) == []
        await nursery.start(after.run_worker)
        await trio.sleep(60)
        assert {record.result == ["a", "False"] for record in await jobs.query(limit=1)} == {True}
        nursery.cancel_scope.cancel()
    assert [event for event in told if isinstance(event, events.CronFailed)] == []


class _Counting(jobrt.Job):
    """A job with an older name that counts how many run at once."""

    NAME = "new"
    ALIASES = ("old", "older")
    MAX_CONCURRENCY = 2
    running = 0
    most = 0

    async def run(self, ctx: jobrt.Context) -> None:
        cls = _Counting
        cls.running += 1
        cls.most = max(cls.most, cls.running)
        await trio.sleep(1)
        cls.running -= 1


class _Old(_Counting):
    NAME = "old"


class _Older(_Counting):
    NAME = "older"


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from([_Counting, _Old, _Older]), min_size=1, max_size=12), st.booleans())
def test_names_of_a_job_share_its_limit(jobs: list[type[_Counting]], cluster: bool) -> None:
    """`MAX_CONCURRENCY` holds over all names together, and no slot stays empty while a job of any name is due."""

    async def run() -> float:
        queue = jobrt.Queue(9, cluster_limit=9 if cluster else None)
        _Counting.most = _Counting.running = 0
        async with open_app(jobs=[_Counting], queues={"default": queue}) as (app, client):
            async with app.open_storage() as storage:
                await storage.jobs.insert([new_job(Registry(), job()) for job in jobs])
            started = trio.current_time()
            assert await drain(app) == {"completed": len(jobs)}
            assert await client.count() == len(jobs)
            return trio.current_time() - started

    seconds = trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    assert _Counting.most == min(2, len(jobs))
    assert seconds < (len(jobs) + 1) // 2 + 1
