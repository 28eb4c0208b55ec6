"""`JobStore.insert`: what is stored, in what order, and that it is all or nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
import trio

from jobrt._core import where
from jobrt._core.job import NewJob
from jobrt._core.states import State
from jobrt._storage.contract import Inserted, Storage
from jobrt.errors import StorageError
from tests.conformance.build import add, claim, job, look, start
from tests.conformance.harness import Engine


async def test_inserting_nothing_returns_nothing(storage: Storage) -> None:
    """An empty batch is allowed and does nothing."""
    assert await storage.jobs.insert([]) == ()
    assert await storage.jobs.count(where.everything()) == 0


@pytest.mark.parametrize("number", [1, 2, 7, 1500])
async def test_results_are_in_input_order(storage: Storage, number: int) -> None:
    """The n-th result is the n-th job's id, and ids grow, for one job and for very many."""
    inserted = await storage.jobs.insert([job(args={"n": n}) for n in range(number)])
    ids = [one.id for one in inserted]
    assert inserted == tuple(Inserted(id) for id in ids)
    assert ids == sorted(set(ids))
    records = await storage.jobs.query(where.everything(), order_by="id")
    assert [(one.id, one.args) for one in records] == [(id, {"n": n}) for n, id in enumerate(ids)]


async def test_a_job_of_a_large_batch_is_what_it_is_alone(storage: Storage) -> None:
    """However they are stored, jobs have the same fields: names and texts as given, due at once, not yet begun."""
    jobs = [
        job(
            f"n\t{n % 3}",
            queue=f"q\\{n % 2}",
            priority=n % 5 - 2,
            max_attempts=None if n % 7 == 0 else n,
            args={"text": 'tab\t, line\n, \\N, "quoted", é', "n": n},
        )
        for n in range(1000)
    ]
    many = [one.id for one in await storage.jobs.insert(jobs)]
    alone = [(await storage.jobs.insert([one]))[0].id for one in jobs[:40]]
    records = {one.id: one for one in await storage.jobs.query(where.everything())}
    for id, copy, given in zip(many, alone, jobs, strict=False):
        record = records[id]
        own = {"id": 0, "created_at": record.created_at, "schedule_at": record.schedule_at}
        assert attrs.evolve(record, **own) == attrs.evolve(records[copy], **own)
        assert (record.name, record.queue, record.max_attempts) == (
            given.name,
            given.queue,
            given.max_attempts,
        )
        assert record.schedule_at == record.created_at
        assert record.state is State.AVAILABLE
    assert len({records[id].schedule_at for id in many}) == 1


async def test_jobs_of_all_kinds_go_into_one_batch(storage: Storage) -> None:
    """Queues, names and options may differ within a batch; each job gets its own."""
    jobs = [job(f"n{n % 3}", queue=f"q{n % 2}", priority=n, tags=("t",) * (n % 2)) for n in range(10)]
    ids = await add(storage, *jobs)
    for id, new in zip(ids, jobs, strict=True):
        record = await look(storage, id)
        assert (record.name, record.queue, record.priority, record.tags) == (
            new.name,
            new.queue,
            new.priority,
            new.tags,
        )


async def test_a_job_comes_back_as_it_was_given(engine: Engine) -> None:
    """Every field of a new job is in its record, and what has not happened yet is None."""
    storage = engine.storage
    now = await storage.schema.now()
    (id,) = await add(
        storage,
        job(
            "mail.send",
            {"to": "a@b.c", "n": [1, 2.5, None, True, {"x": {}}]},
            queue="mail",
            priority=-7,
            max_attempts=3,
            delay=timedelta(hours=2),
            tags=("z", "a", "with space", 'quote"', "comma,", "{brace}"),
            metadata={"trace": "0af7"},
            context="asked for by ops",
        ),
    )
    record = await look(storage, id)
    assert (record.id, record.name, record.queue, record.state) == (id, "mail.send", "mail", State.SCHEDULED)
    assert (record.priority, record.attempt, record.max_attempts) == (-7, 0, 3)
    assert record.args == {"to": "a@b.c", "n": [1, 2.5, None, True, {"x": {}}]}
    assert record.metadata == {"trace": "0af7"}
    assert record.tags == ("z", "a", "with space", 'quote"', "comma,", "{brace}")
    assert record.context == "asked for by ops"
    assert record.schedule_at - record.created_at == timedelta(hours=2)
    assert timedelta(0) <= record.created_at - now < timedelta(seconds=50)
    nothing = (
        record.started_at,
        record.finished_at,
        record.worker,
        record.result,
        record.progress,
        record.saved,
        record.cancel_reason,
    )
    assert nothing == (None,) * 7
    assert record.attempts == ()


async def test_defaults(storage: Storage) -> None:
    """A job given only a name and a payload gets the defaults of `NewJob`."""
    (id,) = await add(storage, NewJob(name="send", args="{}"))
    record = await look(storage, id)
    assert (record.queue, record.priority, record.max_attempts) == ("default", 0, 5)
    assert (record.tags, record.metadata, record.context) == ((), {}, None)


@pytest.mark.parametrize("max_attempts", [1, 20, None])
async def test_the_number_of_attempts_may_be_unlimited(storage: Storage, max_attempts: int | None) -> None:
    """None, no limit, differs from every number."""
    (id,) = await add(storage, job(max_attempts=max_attempts))
    assert (await look(storage, id)).max_attempts == max_attempts


@pytest.mark.parametrize(
    "value",
    [
        {"text": "naïve ☃ 🐍 ' \" \\ \n \t ; -- $1 %s ? :x"},
        {"key with 'quotes\"": {"": 0}},
        {"large": 2**70, "small": -(2**63), "exact": 9007199254740993},
        {"floats": [0.1, 1e300, -1e-300, 1.0, 1]},
        {"deep": [[[[[[{"a": [[]]}]]]]]]},
        {"long": "x" * 100_000},
        {"nul": "a\x00b"},
        {"lone": "\ud800"},
    ],
    ids=lambda value: next(iter(value)),
)
async def test_any_json_survives(storage: Storage, value: dict[str, Any]) -> None:
    """Payloads and metadata are whatever JSON can carry, in the store and at the claim."""
    (id,) = await add(storage, job(args=value, metadata=value))
    record = await look(storage, id)
    assert (record.args, record.metadata) == (value, value)
    (claimed,) = await claim(storage)
    assert (json.loads(claimed.args), json.loads(claimed.metadata)) == (value, value)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, State.AVAILABLE),
        ({"delay": timedelta(0)}, State.AVAILABLE),
        ({"delay": timedelta(seconds=60)}, State.SCHEDULED),
        ({"delay": timedelta(days=36_500)}, State.SCHEDULED),
    ],
    ids=["nothing", "zero", "minute", "century"],
)
async def test_a_delay_is_from_the_databases_now(
    storage: Storage, fields: dict[str, Any], state: State
) -> None:
    """A job due now is available, a later one scheduled."""
    (id,) = await add(storage, job(**fields))
    record = await look(storage, id)
    assert record.state is state
    assert record.schedule_at - record.created_at == fields.get("delay", timedelta(0))


async def test_a_negative_delay_is_due_at_once(storage: Storage) -> None:
    """A due time in the past is allowed: the caller computed it a little late."""
    (id,) = await add(storage, job(delay=timedelta(seconds=-5)))
    assert [one.id for one in await claim(storage)] == [id]


@pytest.mark.parametrize(("seconds", "state"), [(-3600, State.AVAILABLE), (3600, State.SCHEDULED)])
async def test_a_time_is_kept_to_the_microsecond_whatever_its_zone(
    storage: Storage, seconds: int, state: State
) -> None:
    """``schedule_at`` is an instant: its zone does not matter, and it comes back in UTC."""
    moment = (await storage.schema.now() + timedelta(seconds=seconds)).replace(microsecond=123_457)
    (id,) = await add(storage, job(schedule_at=moment.astimezone(timezone(timedelta(hours=-9, minutes=-30)))))
    record = await look(storage, id)
    assert (record.schedule_at, record.state) == (moment, state)
    assert record.schedule_at.utcoffset() == record.created_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("year", [1, 1969, 9999])
async def test_any_year_can_be_a_due_time(storage: Storage, year: int) -> None:
    """Times before 1970 and far in the future work like others."""
    moment = datetime(year, 6, 30, 23, 59, 59, 999_999, tzinfo=UTC)
    (id,) = await add(storage, job(schedule_at=moment))
    assert (await look(storage, id)).schedule_at == moment


async def test_scheduled_becomes_available_when_its_time_comes(engine: Engine) -> None:
    """Without any write, a due job reads, filters and counts as available."""
    storage = engine.storage
    (id,) = await add(storage, job(delay=timedelta(seconds=60)))
    await engine.advance(59)
    assert (await look(storage, id)).state is State.SCHEDULED
    assert await storage.jobs.count(where.state("available")) == 0
    await engine.advance(2)
    assert (await look(storage, id)).state is State.AVAILABLE
    assert await storage.jobs.count(where.state("available")) == 1
    assert await storage.jobs.count(where.state("scheduled")) == 0
    assert await storage.jobs.count(~where.state("available")) == 0


async def test_now_is_the_storages_clock(engine: Engine) -> None:
    """`SchemaStore.now` is aware, in UTC, and the creation time of new jobs."""
    storage = engine.storage
    before = await storage.schema.now()
    (id,) = await add(storage, job())
    after = await storage.schema.now()
    assert before.utcoffset() == timedelta(0)
    assert before <= (await look(storage, id)).created_at <= after


async def test_a_refused_batch_leaves_nothing(engine: Engine) -> None:
    """When the database refuses one job none is stored, and the error is a `StorageError` with its cause."""
    await engine.refuse("insert", "new.name = 'poison'")
    with pytest.raises(StorageError) as caught:
        await engine.storage.jobs.insert([job(), job("poison"), job()])
    assert caught.value.__cause__ is not None
    assert await engine.storage.jobs.count(where.everything()) == 0
    assert len(await add(engine.storage, job(), job())) == 2


async def test_a_cancelled_insert_did_nothing(storage: Storage) -> None:
    """Cancelled before it could begin, nothing is stored."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await storage.jobs.insert([job()])
    assert scope.cancelled_caught
    assert await storage.jobs.count(where.everything()) == 0


async def test_ids_are_not_given_out_again(storage: Storage) -> None:
    """A deleted job's id never means another job, not even after the newest was deleted."""
    ids = await add(storage, job(), job())
    await storage.jobs.delete(where.everything())
    assert min(await add(storage, job())) > max(ids)


async def test_get_of_an_unknown_id(storage: Storage) -> None:
    """There is no such job: None, for ids below, above and out of range."""
    for id in (0, -1, 1, 2**62, 2**63 - 1):
        assert await storage.jobs.get(id) is None


async def test_records_are_equal_from_every_process(engine: Engine) -> None:
    """What one process stored another reads, equal in every field."""
    claimed = await start(engine.storage, job(tags=("a",), metadata={"b": 1}))
    async with engine.open() as other:
        assert await other.jobs.get(claimed.id) == await look(engine.storage, claimed.id)


async def test_the_timeout_of_one_job_reaches_its_worker(storage: Storage) -> None:
    """``timeout`` is for the worker alone: a number of seconds, or None."""
    await add(storage, job(timeout=2.5), job())
    assert [one.timeout for one in await claim(storage)] == [2.5, None]


async def test_inserting_does_not_change_what_it_was_given(storage: Storage) -> None:
    """The same `NewJob` can be inserted again, as another job."""
    new = job(tags=("a",))
    copy = new._replace()
    first, second = [*(await add(storage, new)), *(await add(storage, new))]
    assert first != second
    assert new == copy


async def test_a_callers_transaction_decides(engine: Engine, shareable: None) -> None:
    """With ``conn`` the jobs are there once the caller commits, and not before."""
    async with engine.caller() as caller:
        (inserted,) = await engine.storage.jobs.insert([job()], conn=caller.conn)
        async with engine.open() as other:
            assert await other.jobs.get(inserted.id) is None
        await caller.commit()
    record = await look(engine.storage, inserted.id)
    assert (record.id, record.state) == (inserted.id, State.AVAILABLE)


async def test_rolled_back_with_the_caller_nothing_was_enqueued(engine: Engine, shareable: None) -> None:
    """A caller that rolls back has enqueued nothing, and nothing else is affected."""
    kept = await add(engine.storage, job())
    async with engine.caller() as caller:
        await engine.storage.jobs.insert([job(args={"n": n}) for n in range(3)], conn=caller.conn)
        await caller.rollback()
    assert [one.id for one in await engine.storage.jobs.query(where.everything())] == kept


async def test_the_callers_own_writes_and_the_jobs_go_together(engine: Engine, shareable: None) -> None:
    """`insert` neither commits nor rolls back nor hides what else the caller does in that transaction."""
    await engine.execute("create table orders (n integer)")
    async with engine.caller() as caller:
        await caller.execute("insert into orders values (1)")
        await engine.storage.jobs.insert([job()], conn=caller.conn)
        await caller.execute("insert into orders values (2)")
        assert await engine.execute("select n from orders") == []
        await caller.commit()
    assert await engine.execute("select n from orders order by n") == [(1,), (2,)]
    assert await engine.storage.jobs.count(where.everything()) == 1


async def test_a_refused_insert_does_not_end_the_callers_transaction(engine: Engine, shareable: None) -> None:
    """After a refused insert the caller can still roll back, and nothing of the transaction stays."""
    await engine.execute("create table orders (n integer)")
    await engine.refuse("insert", "new.name = 'poison'")
    async with engine.caller() as caller:
        await caller.execute("insert into orders values (1)")
        with pytest.raises(StorageError):
            await engine.storage.jobs.insert([job(), job("poison")], conn=caller.conn)
        await caller.rollback()
    assert await engine.execute("select n from orders") == []
    assert await engine.storage.jobs.count(where.everything()) == 0
