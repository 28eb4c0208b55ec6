"""A worker beside rows that cannot be read, or whose payloads do not decode."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import trio
from tenacity import retry_if_exception_type
from tests.conformance.harness import connection_of

import jobrt
from jobrt import End, State
from jobrt._core.job import NewJob
from jobrt._views.payloads import examine_payloads
from jobrt.testing import drain, open_app

if TYPE_CHECKING:
    from trio.testing import MockClock

    from jobrt._storage.contract import Storage

PATIENCE = 50


class Good(jobrt.Job):
    """A job that reads its own record."""

    async def run(self, ctx: jobrt.Context) -> int:
        return ctx.job.id


class Odd(jobrt.Job):
    """A job of which rows are made up."""

    BACKOFF = staticmethod(lambda record: len(record.args))
    RETRY = retry_if_exception_type(Exception)
    v: Any = None

    async def run(self, ctx: jobrt.Context) -> int:
        return ctx.job.id


class _Narrow(jobrt.Job):
    NAME = "Narrow"
    number: int

    async def run(self, ctx: jobrt.Context) -> None:
        pass


def store(url: str, **columns: object) -> None:
    """Store a due row of `Odd` behind jobrt's back; bytes are taken as text, whatever they are."""
    row: dict[str, object] = {"queue": "default", "name": "Odd", "priority": 0, "args": "{}"}
    if url.startswith("sqlite"):
        row |= {"state": 1, "schedule_at": 1, "created_at": 1, **columns}
        marks = ["CAST(? AS TEXT)" if isinstance(value, bytes) else "?" for value in row.values()]
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as conn:
            conn.execute(
                f"INSERT INTO jobrt_job ({', '.join(row)}) VALUES ({', '.join(marks)})", tuple(row.values())
            )
        return
    row |= columns
    marks = ["%s"] * len(row)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(
            f"INSERT INTO jobrt.job ({', '.join(row)}) VALUES ({', '.join(marks)})",  # type: ignore[arg-type]
            tuple(row.values()),
        )


def bad_rows(*, sqlite: bool) -> list[dict[str, object]]:
    """Return columns of rows that jobrt would not write: first those that end as undecodable."""
    unreadable: list[dict[str, object]] = [
        {"args": "nope"},
        {"args": '{"v": ' + "[" * 100_000 + "]" * 100_000 + "}"},
        {"args": '{"v": ' + "9" * 10_000 + "}"},
        {"args": "[1]"},
        {"metadata": "nope"},
        {"tags": "nope" if sqlite else [None]},
    ]
    if sqlite:
        return [
            *unreadable,
            {"args": b'{"v": "\xff\xfe"}'},
            {"attempt": 2**63 - 1},
            {"created_at": 2**63 - 1},
            {"schedule_at": -(2**63)},
            {"timeout": float("inf")},
        ]
    return [
        *unreadable,
        {"attempt": 2**31 - 1},
        {"created_at": "infinity"},
        {"schedule_at": "-infinity"},
        {"timeout": float("inf")},
    ]


async def test_bad_rows_are_ended_and_the_others_run(database_url: str) -> None:
    """Rows of every kind beside good jobs: what can run runs, the rest is discarded as undecodable, all can be seen."""
    app = jobrt.App(database_url, jobs=[Good, Odd], queues={"default": 4}, migrate=True)
    rows = bad_rows(sqlite=database_url.startswith("sqlite"))
    with trio.fail_after(PATIENCE):
        async with app.open_client() as jobs:
            await jobs.enqueue_many([Good() for _ in range(5)])
            for row in rows:
                store(database_url, **row)
            await jobs.enqueue_many([Good() for _ in range(5)])
            await app.drain()
            records = await jobs.query(order_by="id")
            assert {record.state for record in records if record.name == "Good"} == {State.COMPLETED}
            odd = [record for record in records if record.name == "Odd"]
            ends = Counter(
                End.FINISHED if record.state is State.COMPLETED else record.attempts[-1].end for record in odd
            )
            undecodable = 7 if database_url.startswith("sqlite") else 6
            assert ends == {End.UNDECODABLE: undecodable, End.FINISHED: len(rows) - undecodable}
            assert [await jobs.get(record.id) for record in odd] == odd
            assert await jobs.delete(jobrt.where.name("Odd")) == len(rows)


async def test_a_payload_that_does_not_match_is_tried_for_a_day(autojump_clock: MockClock) -> None:
    """A worker tries it again and again, uses no attempt, leaves one record, and discards the job after a day."""
    async with open_app(jobs=[_Narrow]) as (app, jobs), app.open_storage() as storage:
        (found,) = await storage.jobs.insert([NewJob(name="Narrow", args='{"number":"three"}')])
        async with trio.open_nursery() as nursery:
            await nursery.start(app.run_worker)
            await trio.sleep(10)
            record = await jobs.get(found.id)
            assert (record.state, record.attempt) == (State.SCHEDULED, 0)
            assert [one.end for one in record.attempts] == [End.UNDECODABLE]
            make_older(storage, days=1)
            await jobs.handle(found.id).wait()
            nursery.cancel_scope.cancel()
        record = await jobs.get(found.id)
    assert (record.state, record.attempt) == (State.DISCARDED, 1)
    assert [one.end for one in record.attempts] == [End.UNDECODABLE] * 2
    assert "number" in (record.attempts[0].message or "")


def make_older(storage: Storage, *, days: int) -> None:
    """Set the times of all records of attempts back, as if the first tries had been so many days ago."""
    back = days * 86_400_000_000
    connection_of(storage).execute(
        f"UPDATE jobrt_attempt SET started_at = started_at - {back}, finished_at = finished_at - {back}"
    )


async def test_unknown_fields_wait_for_a_worker_that_knows_them(autojump_clock: MockClock) -> None:
    """An old worker leaves the job alone for days and `doctor` names it. A worker that can read it runs it."""
    async with open_app(jobs=[_Narrow]) as (app, jobs), app.open_storage() as storage:
        (found,) = await storage.jobs.insert([NewJob(name="Narrow", args='{"number":3,"cc":"x"}')])
        async with trio.open_nursery() as nursery:
            await nursery.start(app.run_worker)
            await trio.sleep(10)
            make_older(storage, days=10)
            await trio.sleep(100)
            record = await jobs.get(found.id)
            assert (record.state, record.attempt, len(record.attempts)) == (State.AVAILABLE, 0, 1)
            nursery.cancel_scope.cancel()
        (finding,) = await examine_payloads(storage.jobs, app.registry)
        assert finding.wrong
        assert "1 job of Narrow cannot be decoded" in finding.text
        assert "cc: is not a field of the class" in finding.text
        assert "start one, or add fields that were removed to REMOVED" in finding.text
        await jobs.update(found.id, args={"number": 3}, schedule_in=0)
        assert await drain(app) == Counter(completed=1)


async def test_a_large_payload_is_cut_in_listings(database_url: str) -> None:
    """A listing without details has the beginning of a large payload, `get` has all of it."""
    app = jobrt.App(database_url, jobs=[Odd], migrate=True)
    with trio.fail_after(PATIENCE):
        async with app.open_client() as jobs:
            small = await jobs.enqueue(Odd("x"))
            large = await jobs.enqueue(Odd("x" * 100_000), metadata={"m": "y" * 100_000})
            found = {record.id: record for record in await jobs.query(details=False)}
            assert found[small.id].args == {"v": "x"}
            assert found[large.id].args == {"truncated": '{"v":"' + "x" * 994 + "…"}
            assert found[large.id].metadata == {"truncated": '{"m":"' + "y" * 994 + "…"}
            assert (await jobs.get(large.id)).args == {"v": "x" * 100_000}
            assert (await jobs.query())[0].args == {"v": "x" * 100_000}


async def test_a_payload_above_the_limit_is_refused(autojump_clock: MockClock) -> None:
    """Nothing of it is stored; the limit is that of the application."""
    async with open_app(jobs=[Odd]) as (_, jobs):
        with pytest.raises(
            jobrt.InvalidJob, match=r"Odd: the payload has 1,048,\d+ bytes .* at most 1,048,576"
        ):
            await jobs.enqueue(Odd("x" * (1 << 20)))
        with pytest.raises(jobrt.InvalidJob, match="the payload has"):
            await jobs.enqueue(Odd(), metadata={"m": "x" * (1 << 20)})
        handle = await jobs.enqueue(Odd())
        with pytest.raises(jobrt.InvalidJob, match="the payload has"):
            await jobs.update(handle.id, args=Odd("x" * (1 << 20)))
        assert await jobs.count() == 1
    roomy = jobrt.App("sqlite:///:memory:", jobs=[Odd], payload_limit=2 << 20)
    async with roomy.open_client() as jobs:
        await jobs.enqueue(Odd("x" * (1 << 20)))


async def test_a_bad_cron_row_stops_no_other_entry(autojump_clock: MockClock) -> None:
    """An entry whose definition is not JSON is shown as invalid; the others tick."""
    async with open_app(jobs=[Good]) as (app, jobs):
        app.every(60, Good(), name="good")
        async with app.open_storage() as storage:
            connection_of(storage).execute(
                "INSERT INTO jobrt_cron (name, spec, created_at) VALUES ('odd', 'nope', 0)"
            )
        async with trio.open_nursery() as nursery:
            await nursery.start(app.run_worker)
            await trio.sleep(200)
            nursery.cancel_scope.cancel()
        assert await jobs.count(jobrt.where.name("Good")) >= 3
        assert {row.name for row in await jobs.crons()} == {"good", "odd"}
