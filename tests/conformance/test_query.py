"""`JobStore.query` and `count`: the engines' SQL agrees with `where.matches`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobrt._core import where
from jobrt._core.states import State
from jobrt._core.where import Where, matches
from jobrt._storage.contract import Storage
from tests.conformance.build import add, claim, complete, end, job, look, ref, start
from tests.conformance.drive import drive, wait
from tests.conformance.filters import filters, populate

if TYPE_CHECKING:
    from jobrt._core.job import JobRecord
    from tests.conformance.harness import Engine

EXAMPLES = {"memory": 300, "sqlite": 60, "postgres": 80}


async def _found(storage: Storage, filter: Where) -> list[int]:
    records = await storage.jobs.query(filter, order_by="id")
    assert await storage.jobs.count(filter) == len(records)
    return [one.id for one in records]


@pytest.mark.slow
@pytest.mark.parametrize("batch", [5, 20_000])
async def test_any_filter_finds_what_matches_says(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """For filters drawn at random over a varied population, SQL and Python agree on every job, also in batches."""
    for name in ("sqlite", "postgres"):
        monkeypatch.setattr(f"jobrt._storage.{name}.query.BATCH", batch)
    storage = engine.storage
    await populate(engine)
    population = await storage.jobs.query(where.everything(), order_by="id")
    now = await storage.schema.now()
    assert {one.state for one in population} == set(State) - {State.UNKNOWN}

    @settings(max_examples=EXAMPLES[engine.name] // 2, suppress_health_check=list(HealthCheck))
    @given(filters(population))
    def check(filter: Where) -> None:
        wanted = [one.id for one in population if matches(filter, one, now=now)]
        assert wait(_found, storage, filter) == wanted

    await drive(check)


# ------------------------------------------------------------------ what the filters mean, one by one


async def test_everything_and_nothing(storage: Storage) -> None:
    """Empty combinations have the meaning that logic gives them."""
    ids = await add(storage, job(), job())
    assert await _found(storage, where.everything()) == ids
    assert await _found(storage, ~where.everything()) == []
    assert await _found(storage, where.And(())) == ids
    assert await _found(storage, where.Or(())) == []


async def test_and_or_not_stand_in_parentheses(storage: Storage) -> None:
    """`a & (b | c)` returns no other jobs, `~(a | b)` negates both, `~(a & b)` neither alone."""
    a, b, both, none = await add(
        storage, job("x", tags=("a",)), job("x", tags=("b",)), job("y", tags=("a", "b")), job("y")
    )
    tag_a, tag_b, x = where.tagged_any(["a"]), where.tagged_any(["b"]), where.name("x")
    assert await _found(storage, x & (tag_a | tag_b)) == [a, b]
    assert await _found(storage, (tag_a | tag_b) & x) == [a, b]
    assert await _found(storage, x & tag_a | tag_b) == [a, b, both]
    assert await _found(storage, ~(tag_a | tag_b)) == [none]
    assert await _found(storage, ~(tag_a & tag_b)) == [a, b, none]
    assert await _found(storage, ~tag_a | ~tag_b) == [a, b, none]
    assert await _found(storage, ~~x) == [a, b]
    assert await _found(storage, ~(x & ~tag_a)) == [a, both, none]


async def test_a_deep_filter(storage: Storage) -> None:
    """Filters that programs build, of a thousand parts or forty levels, work."""
    ids = await add(storage, *(job(f"n{n}") for n in range(5)))
    assert await _found(storage, where.Or(tuple(where.name(f"n{n}") for n in range(1000)))) == ids
    deep: Where = where.name("n0")
    for n in range(40):
        deep = (deep | where.name("n1")) & ~where.name(f"n{n + 2}")
    assert await _found(storage, deep) == ids[:2]


@pytest.mark.parametrize("chosen", [[], [0], [1, 3], [3, 1, 1, 0, 2]], ids=["none", "one", "two", "all"])
async def test_id_in(storage: Storage, chosen: list[int]) -> None:
    """None of them, one, several, some twice."""
    ids = await add(storage, *(job() for _ in range(4)))
    wanted = sorted({ids[n] for n in chosen})
    assert await _found(storage, where.id_in(ids[n] for n in chosen)) == wanted
    assert await _found(storage, ~where.id_in(ids[n] for n in chosen)) == sorted(set(ids) - set(wanted))


async def test_id_in_of_very_many(storage: Storage) -> None:
    """More values than a statement may have parameters."""
    ids = await add(storage, job(), job())
    assert await _found(storage, where.id_in([*range(ids[1] + 1, 70_000), ids[0]])) == [ids[0]]


async def test_tags(storage: Storage) -> None:
    """Any of the tags, all of the tags; of an empty list none match any and all match all."""
    ids = await add(storage, job(), job(tags=("a",)), job(tags=("b", "a")), job(tags=("ab",)))
    none, one, two, other = ids
    assert await _found(storage, where.tagged_any(["a", "x"])) == [one, two]
    assert await _found(storage, where.tagged_any(["b", "ab"])) == [two, other]
    assert await _found(storage, where.tagged_all(["a", "b"])) == [two]
    assert await _found(storage, where.tagged_all(["a", "a"])) == [one, two]
    assert await _found(storage, where.tagged_any([])) == []
    assert await _found(storage, ~where.tagged_any([])) == ids
    assert await _found(storage, where.tagged_all([])) == ids
    assert await _found(storage, ~where.tagged_any(["a"])) == [none, other]


SAME: list[tuple[Any, Any]] = [(1, 1.0), (100, 1e2), ({"a": 1, "b": 2}, {"b": 2, "a": 1.0}), ([1.0], [1])]
OTHER: list[tuple[Any, Any]] = [
    (1, True),
    (0, False),
    (1, "1"),
    (True, "true"),
    (None, "null"),
    (None, 0),
    (None, False),
    ("", None),
    ([], {}),
    ([1, 2], [2, 1]),
    ({"a": 1}, {"a": 1, "b": 2}),
    ([1], 1),
    ("a", "A"),
    ("a", "a "),
    (2**53, 2**53 + 1),
]


@pytest.mark.parametrize(("stored", "wanted"), [*SAME, *((b, a) for a, b in SAME)], ids=repr)
async def test_equal_json_is_found(storage: Storage, stored: Any, wanted: Any) -> None:
    """Numbers are equal by value, and objects in any order of keys, at any depth."""
    (id,) = await add(storage, job(args={"v": stored}, metadata={"x": {"y": stored}}))
    assert await _found(storage, where.args("v", wanted)) == [id]
    assert await _found(storage, where.args({"v": wanted})) == [id]
    assert await _found(storage, where.metadata("x.y", wanted)) == [id]
    assert await _found(storage, where.metadata({"x": {"y": wanted}})) == [id]


@pytest.mark.parametrize(("stored", "wanted"), [*OTHER, *((b, a) for a, b in OTHER)], ids=repr)
async def test_different_json_is_not_found(storage: Storage, stored: Any, wanted: Any) -> None:
    """Numbers, booleans, texts and null are never equal to one another."""
    (id,) = await add(storage, job(args={"v": stored}, metadata={"x": {"y": stored}}))
    for filter in (
        where.args("v", wanted),
        where.args({"v": wanted}),
        where.metadata("x.y", wanted),
        where.metadata({"x": {"y": wanted}}),
    ):
        assert await _found(storage, filter) == []
        assert await _found(storage, ~filter) == [id]


async def test_null_is_not_missing(storage: Storage) -> None:
    """A field that is not there equals nothing, not even None."""
    null, missing, scalar = await add(
        storage, job(args={"v": None}), job(args={}), job(args={"v": {"w": None}, "list": [None]})
    )
    assert await _found(storage, where.args("v", None)) == [null]
    assert await _found(storage, ~where.args("v", None)) == [missing, scalar]
    assert await _found(storage, where.args("v.w", None)) == [scalar]
    assert await _found(storage, where.args("v.w.x", None)) == []
    assert await _found(storage, where.args("list.0", None)) == []


EVIL = [
    "x' or '1'='1",
    '"; drop table job; --',
    "%",
    "_",
    "\\",
    "$1",
    "?",
    "{}",
    ":a",
    "%s",
    "%(a)s",
    "\x01",
    "☃",
]


@pytest.mark.parametrize("evil", EVIL)
async def test_values_are_only_values(storage: Storage, evil: str) -> None:
    """Whatever a name, a tag or a payload contains, a filter finds the jobs that have it, and no others."""
    await add(storage, job(), job(tags=("t",), args={"v": "w"}))
    (id,) = await add(
        storage, job(evil, args={"v": evil, "f" + evil: 1}, queue=evil, tags=(evil,), metadata={"v": [evil]})
    )
    for filter in (
        where.name(evil),
        where.queue(evil),
        where.tagged_any([evil]),
        where.tagged_all([evil]),
        where.args("v", evil),
        where.args("f" + evil, 1),
        where.metadata({"v": [evil]}),
    ):
        assert await _found(storage, filter) == [id]
        assert id not in await _found(storage, ~filter)
    assert await storage.jobs.cancel(where.name(evil), evil) == (1, 0)
    assert (await look(storage, id)).cancel_reason == evil


async def test_by_worker(storage: Storage) -> None:
    """The worker that runs a job, or ran it last."""
    done, running = await start(storage, worker="w1"), await start(storage, worker="w2")
    await complete(storage, done)
    waiting = await add(storage, job())
    assert await _found(storage, where.worker("w1")) == [done.id]
    assert await _found(storage, where.worker("w2")) == [running.id]
    assert await _found(storage, ~where.worker("w1") & ~where.worker("w2")) == waiting


async def test_times_that_are_not_there_never_match(storage: Storage) -> None:
    """A job that has not finished finished neither before nor after anything."""
    done = await start(storage)
    await complete(storage, done)
    (waiting,) = await add(storage, job())
    later = await storage.schema.now() + timedelta(days=1)
    assert await _found(storage, where.finished_before(later)) == [done.id]
    assert await _found(storage, where.finished_after(later)) == []
    assert await _found(storage, ~where.finished_before(later)) == [waiting]
    assert await _found(storage, where.finished_within(timedelta(hours=1))) == [done.id]


async def test_relative_times_go_by_the_storages_clock(engine: Engine) -> None:
    """A timedelta means that long ago, judged when the filter is used."""
    storage = engine.storage
    (old,) = await add(storage, job())
    await engine.advance(7200)
    (new,) = await add(storage, job(delay=timedelta(seconds=600)))
    hour = timedelta(hours=1)
    assert await _found(storage, where.created_before(hour)) == [old]
    assert await _found(storage, where.created_after(hour)) == [new]
    assert await _found(storage, where.created_within(hour)) == [new]
    assert await _found(storage, where.scheduled_within(3 * hour)) == [old]
    assert await _found(storage, where.scheduled_before(-hour)) == [old, new]
    assert await _found(storage, where.scheduled_after(-hour)) == []


async def test_equal_times_are_neither_before_nor_after(storage: Storage) -> None:
    """The comparisons are strict, to the microsecond."""
    moment = (await storage.schema.now() + timedelta(hours=1)).replace(microsecond=500_001)
    (id,) = await add(storage, job(schedule_at=moment))
    micro = timedelta(microseconds=1)
    assert await _found(storage, where.scheduled_at(moment)) == [id]
    assert await _found(storage, where.scheduled_before(moment)) == []
    assert await _found(storage, where.scheduled_after(moment)) == []
    assert await _found(storage, where.scheduled_before(moment + micro)) == [id]
    assert await _found(storage, where.scheduled_after(moment - micro)) == [id]
    assert await _found(storage, where.scheduled_at(moment + micro)) == []


# ------------------------------------------------------------------ order, pages, details


def _by(records: tuple[JobRecord, ...], order_by: str) -> list[int]:
    """Sort as `JobStore.query` says: by the column, ids break ties the same way, rows without it last."""
    column, down = order_by.removeprefix("-"), order_by.startswith("-")
    there = [one for one in records if getattr(one, column) is not None]
    rest = [one for one in records if getattr(one, column) is None]
    there.sort(key=lambda one: (getattr(one, column), one.id), reverse=down)
    rest.sort(key=lambda one: one.id, reverse=down)
    return [one.id for one in there + rest]


ORDERS = [
    sign + one for one in ("id", "schedule_at", "created_at", "finished_at", "priority") for sign in ("", "-")
]


@pytest.mark.parametrize("order_by", ORDERS)
async def test_order_and_pages(engine: Engine, order_by: str) -> None:
    """Each order, whole and page by page: the pages put together are the whole, whatever their size."""
    storage = engine.storage
    await populate(engine)
    records = await storage.jobs.query(where.everything(), order_by=order_by)
    wanted = _by(records, order_by)
    assert [one.id for one in records] == wanted
    for size in (1, 7, len(wanted)):
        pages: list[int] = []
        after = None
        while page := await storage.jobs.query(
            where.everything(), order_by=order_by, limit=size, after=after, details=False
        ):
            assert len(page) <= size
            pages += [one.id for one in page]
            after = pages[-1]
        assert pages == wanted


async def test_several_counts_at_once(engine: Engine) -> None:
    """Each is what `count` gives."""
    jobs = engine.storage.jobs
    await populate(engine)
    filters = [where.everything(), where.queue("default"), where.name("Send") | where.tagged_any(["a"])]
    for limit in (2, 1000):
        alone = [await jobs.count(filter, limit=limit) for filter in filters]
        assert await jobs.count_each(filters, limit=limit) == tuple(alone)
    assert await jobs.count_each([], limit=5) == ()


async def test_the_newest_come_first(storage: Storage) -> None:
    """Without an order it is the newest first."""
    ids = await add(storage, *(job() for _ in range(3)))
    assert [one.id for one in await storage.jobs.query(where.everything())] == ids[::-1]


async def test_pages_of_a_filter(storage: Storage) -> None:
    """`after` and `limit` apply to the jobs that match the filter."""
    ids = await add(storage, *(job("send" if n % 2 else "other") for n in range(10)))
    page = await storage.jobs.query(where.name("send"), order_by="id", limit=2, after=ids[3])
    assert [one.id for one in page] == [ids[5], ids[7]]


@pytest.mark.parametrize("order", ["id", "-id"])
@pytest.mark.parametrize("limit", [0, 1, 3, 4, None])
async def test_a_query_in_batches(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, order: str, limit: int | None
) -> None:
    """If no index knows the filter, a few jobs are looked at at a time. The answer is complete."""
    for engine in ("sqlite", "postgres"):
        monkeypatch.setattr(f"jobrt._storage.{engine}.query.BATCH", 3)
    ids = await add(storage, *(job("send" if n % 4 == 0 else "other") for n in range(13)))
    for filter in (where.name("send"), where.name("send") & where.state("available")):
        for skip in (0, 1):
            wanted = [
                job_id for job_id in ids[::4] if not skip or job_id != (ids[0] if order == "id" else ids[-1])
            ]
            wanted = wanted if order == "id" else wanted[::-1]
            after = None if not skip else ids[0] if order == "id" else ids[-1]
            found = await storage.jobs.query(filter, order_by=order, limit=limit, after=after, details=False)
            assert [one.id for one in found] == wanted[:limit]


async def test_an_order_that_is_none_is_refused(storage: Storage) -> None:
    """Only the orders that the protocol names."""
    for wrong in ("name", "id; drop table job", "", "--id", "ID"):
        with pytest.raises(ValueError, match="order"):
            await storage.jobs.query(where.everything(), order_by=wrong)


async def test_a_count_that_need_not_be_exact(storage: Storage) -> None:
    """The count stops at `limit`: a check for more than a hundred need not count a million."""
    await add(storage, *(job() for _ in range(5)))
    assert await storage.jobs.count(where.everything(), limit=3) == 3
    assert await storage.jobs.count(where.everything(), limit=5) == 5
    assert await storage.jobs.count(where.everything(), limit=9) == 5
    assert await storage.jobs.count(where.name("x"), limit=9) == 0


async def test_details_can_be_left_out(storage: Storage) -> None:
    """Lists need no attempts, results, progress and checkpoints; all else is there."""
    claimed = await start(storage, job(args={"a": 1}, tags=("t",), metadata={"m": 1}))
    await storage.attempts.save(ref(claimed), progress='{"done": 1, "total": null, "note": ""}', saved="1")
    await complete(storage, claimed, result="2")
    (full,) = await storage.jobs.query(where.everything())
    (bare,) = await storage.jobs.query(where.everything(), details=False)
    assert full == await look(storage, claimed.id)
    assert (full.result, full.saved, len(full.attempts)) == (2, 1, 1)
    assert (bare.result, bare.saved, bare.progress, bare.attempts) == (None, None, None, ())
    assert (bare.args, bare.tags, bare.metadata, bare.state) == ({"a": 1}, ("t",), {"m": 1}, full.state)
    assert (bare.created_at, bare.finished_at, bare.worker) == (
        full.created_at,
        full.finished_at,
        full.worker,
    )


async def test_details_go_to_the_right_job(storage: Storage) -> None:
    """In a list each job has its own attempts and results."""
    await add(storage, *(job(args={"n": n}) for n in range(8)))
    for one in await claim(storage):
        await storage.attempts.save(ref(one), saved=one.args)
        await storage.attempts.finish([end(one, result=one.args)])
    for record in await storage.jobs.query(where.everything()):
        assert record.result == record.saved == record.args
        assert record == await look(storage, record.id)


async def test_a_drawn_name_is_found_again(storage: Storage) -> None:
    """Names, tags and texts of any characters are stored and found exactly."""

    async def check(text: str) -> list[int]:
        (id,) = await add(storage, job("drawn", args={"t": text}, tags=(text,), context=text))
        record = await look(storage, id)
        assert (record.args["t"], record.tags, record.context) == (text, (text,), text)
        return [id - one for one in await _found(storage, where.args("t", text) & where.tagged_all([text]))]

    @settings(max_examples=40, suppress_health_check=list(HealthCheck))
    @given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")))
    def run(text: str) -> None:
        assert 0 in wait(check, text)

    await drive(run)
