"""Uniqueness: one row per key under any number of enqueuers, and never none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from jobrt._core import where
from jobrt._core.job import NewJob, Wait
from jobrt._core.scopes import Child
from jobrt._core.states import ALL, FINAL, HELD, UNSTARTED, State, Transition
from jobrt._core.unique import Replace, Unique, unique_key
from jobrt._storage.contract import Inserted, Storage
from tests.conformance.build import add, claim, complete, end, job, look, ref, start, states
from tests.conformance.harness import PATIENCE, Caller, Engine

MINUTE = timedelta(minutes=1)


def unique(new: NewJob | None = None, **rule: Any) -> NewJob:
    """Make a job unique, as the client does."""
    new = new or job()
    key = unique_key(
        Unique(**rule),
        name=new.name,
        queue=new.queue,
        args=json.dumps(json.loads(new.args), sort_keys=True, separators=(",", ":")),
        metadata=json.loads(new.metadata),
    )
    return new._replace(unique=key)


RULES: list[Mapping[str, Any]] = [
    {},
    {"by": "name"},
    {"by": ("queue", "name")},
    {"by": "args.user"},
    {"by": ("name", "metadata.tenant")},
    {"key": "mine"},
    {"key": {"a": [1, None]}},
    {"within": 60},
    {"states": "unstarted"},
    {"states": "all"},
    {"states": ("available", "completed"), "within": MINUTE, "by": "args"},
    {"key": 7, "within": 60, "states": "all"},
    {"on_conflict": Replace("priority")},
]
FULL = job(args={"user": 1, "n": 2}, metadata={"tenant": "t"})


@pytest.fixture(
    params=RULES,
    ids=lambda rule: ", ".join(f"{key}={value}" for key, value in rule.items())[:50] or "default",
)
def new(request: pytest.FixtureRequest) -> NewJob:
    """A unique job, for every kind of rule."""
    return unique(FULL, **request.param)


async def test_the_second_is_the_first(storage: Storage, new: NewJob) -> None:
    """An equal job that waits is found: its id comes back, marked as a duplicate, and no row is made."""
    (first,) = await storage.jobs.insert([new])
    (second,) = await storage.jobs.insert([new])
    assert (first, second) == (Inserted(first.id), Inserted(first.id, duplicate=True))
    assert await storage.jobs.count(where.everything()) == 1


async def test_duplicates_within_a_batch(storage: Storage, new: NewJob) -> None:
    """Of equal jobs in one batch the first is stored; results stay in input order."""
    other = unique(job("other", args={"user": 9}, metadata={"tenant": "u"}), key="other")
    results = await storage.jobs.insert([job(), new, other, new, job(), other, new])
    ids = [one.id for one in results]
    assert [one.duplicate for one in results] == [False, False, False, True, False, True, True]
    assert (ids[3], ids[6], ids[5]) == (ids[1], ids[1], ids[2])
    assert len(set(ids)) == 4
    assert await storage.jobs.count(where.everything()) == 4


async def test_concurrent_enqueuers_make_one_row(engine: Engine, new: NewJob) -> None:
    """For every rule, many tasks of two processes at once: one row, one id for all, and one of them created it."""
    results: list[Inserted] = []

    async def enqueue(storage: Storage) -> None:
        results.extend(await storage.jobs.insert([new]))

    async with engine.open() as other:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for n in range(12):
                    nursery.start_soon(enqueue, other if n % 2 else engine.storage)
    assert len({one.id for one in results}) == 1
    assert sorted(one.duplicate for one in results) == [False] + [True] * 11
    assert await engine.storage.jobs.count(where.everything()) == 1


async def test_concurrent_batches_do_not_deadlock(engine: Engine) -> None:
    """Batches with the same keys in opposite order do not deadlock, and create each job once."""
    jobs = [unique(job(args={"n": n})) for n in range(30)]
    results: list[Inserted] = []

    async def enqueue(storage: Storage, batch: list[NewJob]) -> None:
        results.extend(await storage.jobs.insert(batch))

    async with engine.open() as other:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for n in range(8):
                    batch = jobs if n % 2 else jobs[::-1]
                    nursery.start_soon(enqueue, other if n % 4 < 2 else engine.storage, batch)
    assert await engine.storage.jobs.count(where.everything()) == 30
    assert sum(not one.duplicate for one in results) == 30


async def test_different_values_are_different_jobs(storage: Storage) -> None:
    """Jobs that differ in what the rule compares are not duplicates; jobs that differ elsewhere are."""
    a = unique(job(args={"user": 1, "n": 1}), by="args.user")
    b = unique(job(args={"user": 2, "n": 1}), by="args.user")
    c = unique(job(args={"user": 1, "n": 2}), by="args.user")
    assert [one.duplicate for one in await storage.jobs.insert([a, b, c])] == [False, False, True]


async def test_jobs_without_uniqueness_are_not_in_the_way(storage: Storage) -> None:
    """A plain job with equal values neither blocks a unique one nor is blocked by it."""
    results = await storage.jobs.insert([job(), unique(), job()])
    assert [one.duplicate for one in results] == [False, False, False]


async def _at(storage: Storage, new: NewJob, state: State) -> int:
    """Store a job and bring it into a state."""
    if state is State.SCHEDULED:
        return (await add(storage, new._replace(delay=MINUTE)))[0]
    if state is State.AVAILABLE:
        return (await add(storage, new))[0]
    claimed = await start(storage, new, ahead=state is State.CLAIMED)
    if state is State.SUSPENDED:
        await storage.scopes.sleep(ref(claimed), "night", seconds=3600)
        await storage.attempts.finish([end(claimed, Transition.SUSPEND, wait=Wait("sleep", "night"))])
        return claimed.id
    if state is State.CLOSING:
        await storage.scopes.open(ref(claimed), "n", on_failure="cancel", seconds=None)
        await storage.scopes.enqueue(ref(claimed), "n", [Child("a", job("child"))])
        await complete(storage, claimed)
        return claimed.id
    events = {
        State.RETRYABLE: Transition.RETRY,
        State.COMPLETED: Transition.COMPLETE,
        State.CANCELLED: Transition.CANCEL,
        State.DISCARDED: Transition.DISCARD,
    }
    if state not in HELD:
        await storage.attempts.finish([end(claimed, events[state], delay=60.0 * (state is State.RETRYABLE))])
    return claimed.id


@pytest.mark.parametrize("state", sorted(ALL), ids=lambda state: state.value)
@pytest.mark.parametrize(
    "rule", ["unstarted", "incomplete", "all", ("executing",), ("discarded", "scheduled")]
)
async def test_states_say_who_is_in_the_way(storage: Storage, state: State, rule: Any) -> None:
    """A stored job blocks when its state is among the states, and only then."""
    id = await _at(storage, unique(), state)
    assert (await look(storage, id)).state is state
    (found,) = await storage.jobs.insert([unique(states=rule)])
    assert found.duplicate == (state in Unique(states=rule).states)
    assert (found.id == id) == found.duplicate


async def test_a_due_scheduled_job_counts_as_available(engine: Engine) -> None:
    """Once it is due, a rule for scheduled jobs does not match it and one for available jobs does."""
    storage = engine.storage
    id = await _at(storage, unique(), State.SCHEDULED)
    await engine.advance(61)
    assert await storage.jobs.insert([unique(states=("available",))]) == (Inserted(id, duplicate=True),)
    assert not (await storage.jobs.insert([unique(states=("scheduled",))]))[0].duplicate


async def test_the_new_jobs_rule_decides(storage: Storage) -> None:
    """What the stored job's rule was does not matter."""
    await _at(storage, unique(states=("scheduled",)), State.AVAILABLE)
    assert (await storage.jobs.insert([unique(states=("available",))]))[0].duplicate


async def test_of_several_one_is_found(storage: Storage) -> None:
    """A rule for few states allows equal jobs; the one found later is in one of those states."""
    done = await _at(storage, unique(), State.COMPLETED)
    running = await _at(storage, unique(states=("available",)), State.EXECUTING)
    assert await storage.jobs.insert([unique(states=("executing",))]) == (Inserted(running, duplicate=True),)
    assert await storage.jobs.insert([unique(states=("completed",))]) == (Inserted(done, duplicate=True),)


async def test_a_window_slides(engine: Engine) -> None:
    """Within the window an equal job is a duplicate; once it is older it is not."""
    storage = engine.storage
    (first,) = await add(storage, unique())
    await engine.advance(58)
    assert await storage.jobs.insert([unique(within=60)]) == (Inserted(first, duplicate=True),)
    await engine.advance(3)
    (again,) = await storage.jobs.insert([unique(within=60)])
    assert not again.duplicate
    assert await storage.jobs.insert([unique(within=60)]) == (Inserted(again.id, duplicate=True),)


@pytest.mark.parametrize("state", [State.EXECUTING, *sorted(FINAL)], ids=lambda state: state.value)
async def test_a_window_holds_after_the_job_has_started(engine: Engine, state: State) -> None:
    """With ``states="all"`` the window is about creation alone: started or finished does not matter."""
    storage = engine.storage
    id = await _at(storage, unique(), state)
    rule = {"within": 60, "states": "all"}
    assert await storage.jobs.insert([unique(**rule)]) == (Inserted(id, duplicate=True),)
    await engine.advance(61)
    assert not (await storage.jobs.insert([unique(**rule)]))[0].duplicate


async def test_no_window_means_for_ever(engine: Engine) -> None:
    """Without a window an equal job is a duplicate, however old it is."""
    await add(engine.storage, unique())
    await engine.advance(10 * 365 * 86_400)
    assert (await engine.storage.jobs.insert([unique()]))[0].duplicate


async def test_a_deleted_job_is_in_nobodys_way(storage: Storage) -> None:
    """A deleted job does not block."""
    await add(storage, unique(states="all"))
    await storage.jobs.delete(where.everything())
    assert not (await storage.jobs.insert([unique(states="all")]))[0].duplicate


@pytest.mark.parametrize(
    "event", [Transition.RETRY, Transition.SNOOZE, Transition.GIVE_BACK], ids=lambda one: one.value
)
async def test_a_job_is_never_in_its_own_way(storage: Storage, event: Transition) -> None:
    """Retry, snooze and give-back of a unique job are always accepted, and its key still blocks."""
    claimed = await start(storage, unique(states="unstarted"))
    assert await storage.attempts.finish([end(claimed, event)]) == ()
    assert (await claim(storage))[0].id == claimed.id


async def test_a_rescued_job_is_not_in_its_own_way(storage: Storage) -> None:
    """Even if an equal one was enqueued while it ran, both continue."""
    claimed = await start(storage, unique(states="unstarted"))
    (second,) = await storage.jobs.insert([unique(states="unstarted")])
    assert not second.duplicate
    assert [one.state for one in await storage.workers.rescue()] == ["retryable"]
    assert {one.id for one in await claim(storage)} == {claimed.id, second.id}


async def test_a_frozen_executing_row_blocks_until_it_is_rescued(storage: Storage) -> None:
    """A dead worker's job blocks new equal ones no longer than until its rescue has ended it."""
    claimed = await start(storage, unique(job(max_attempts=1)))
    assert (await storage.jobs.insert([unique()]))[0] == Inserted(claimed.id, duplicate=True)
    await storage.workers.rescue()
    assert not (await storage.jobs.insert([unique()]))[0].duplicate


async def test_a_rerun_is_an_operators_wish(storage: Storage) -> None:
    """Rerunning a job while an equal one waits is allowed: uniqueness is about enqueuing."""
    first = await start(storage, unique())
    await complete(storage, first)
    (second,) = await add(storage, unique())
    assert await storage.jobs.rerun(where.id(first.id)) == 1
    assert await states(storage, [first.id, second]) == ["available", "available"]


# ------------------------------------------------------------------ callers' transactions


async def test_an_insert_waits_for_an_uncommitted_equal_one(engine: Engine, shareable: None) -> None:
    """When the holder commits, the second is its duplicate."""
    async with engine.caller() as caller:
        (first,) = await engine.storage.jobs.insert([unique()], conn=caller.conn)
        second = await _while_held(engine, caller, caller.commit)
    assert second == Inserted(first.id, duplicate=True)


async def test_an_insert_after_a_holder_that_rolls_back(engine: Engine, shareable: None) -> None:
    """When the holder rolls back, the second must insert: a job that was asked for is never lost."""
    async with engine.caller() as caller:
        await engine.storage.jobs.insert([unique()], conn=caller.conn)
        second = await _while_held(engine, caller, caller.rollback)
    assert not second.duplicate
    assert await states(engine.storage) == ["available"]


async def _while_held(engine: Engine, caller: Caller, release: Any) -> Inserted:
    """Insert from another process while the caller holds an equal job uncommitted; release it meanwhile."""
    results: list[Inserted] = []
    async with engine.open() as other:

        async def second() -> None:
            results.extend(await other.jobs.insert([unique()]))

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(second)
                for _ in range(100):
                    await trio.lowlevel.checkpoint()
                assert results == [], "an insert did not wait for an uncommitted equal one"
                await release()
    (result,) = results
    return result


async def test_two_callers_with_the_same_job(engine: Engine, shareable: None) -> None:
    """The second caller waits inside its transaction, and ends with one row between them."""
    if engine.name == "sqlite":
        pytest.skip("a second sqlite3 connection of the same thread cannot wait for the first")
    results: list[Inserted] = []
    async with engine.caller() as first, engine.caller() as second:

        async def enqueue(caller: Caller) -> None:
            results.extend(await engine.storage.jobs.insert([unique()], conn=caller.conn))
            await caller.commit()

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(enqueue, first)
                nursery.start_soon(enqueue, second)
    assert sorted(one.duplicate for one in results) == [False, True]
    assert await engine.storage.jobs.count(where.everything()) == 1


async def test_a_duplicate_inside_a_transaction_hides_nothing(engine: Engine, shareable: None) -> None:
    """While a caller's transaction holds a duplicate, workers can still claim the job that waits."""
    (id,) = await add(engine.storage, unique())
    async with engine.caller() as caller, engine.open() as other:
        found = await engine.storage.jobs.insert([unique()], conn=caller.conn)
        assert found == (Inserted(id, duplicate=True),)
        if engine.name == "sqlite":
            await caller.commit()  # one writer at a time: there is no claim beside an open write transaction
        with trio.fail_after(PATIENCE):
            assert [one.id for one in await claim(other)] == [id]
    assert await states(engine.storage) == ["executing"]


async def test_a_duplicate_inside_a_transaction_lets_none_in(engine: Engine, shareable: None) -> None:
    """While a caller's transaction holds a duplicate, others find duplicates too."""
    (id,) = await add(engine.storage, unique())
    async with engine.caller() as caller, engine.open() as other:
        await engine.storage.jobs.insert([unique()], conn=caller.conn)
        results: list[Inserted] = []

        async def second() -> None:
            results.extend(await other.jobs.insert([unique()]))

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(second)
                for _ in range(100):
                    await trio.lowlevel.checkpoint()
                await caller.commit()
    assert results == [Inserted(id, duplicate=True)]
    assert await engine.storage.jobs.count(where.everything()) == 1


async def test_twice_in_one_transaction(engine: Engine, shareable: None) -> None:
    """A caller finds its own uncommitted job, and does not wait for itself."""
    async with engine.caller() as caller:
        with trio.fail_after(PATIENCE):
            (first,) = await engine.storage.jobs.insert([unique()], conn=caller.conn)
            (second,) = await engine.storage.jobs.insert([unique()], conn=caller.conn)
        await caller.commit()
    assert second == Inserted(first.id, duplicate=True)


# ------------------------------------------------------------------ Replace

OLD = job(args={"k": 1, "v": 1}, metadata={"m": 1}, priority=1, max_attempts=5, delay=MINUTE)
NEW = job(args={"k": 1, "v": 2}, metadata={"m": 2}, priority=9, max_attempts=7, delay=2 * MINUTE)


async def _replaced(storage: Storage, *fields: str, **options: Any) -> dict[str, tuple[Any, Any]]:
    """Enqueue the old and then the new job; return what has changed."""
    (id,) = await add(storage, unique(OLD, by="args.k"))
    before = attrs.asdict(await look(storage, id))
    rule = partial(unique, by="args.k", on_conflict=Replace(*fields, **options))
    assert await storage.jobs.insert([rule(NEW)]) == (Inserted(id, duplicate=True),)
    after = attrs.asdict(await look(storage, id))
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("priority", (1, 9)),
        ("args", ({"k": 1, "v": 1}, {"k": 1, "v": 2})),
        ("metadata", ({"m": 1}, {"m": 2})),
        ("max_attempts", (5, 7)),
    ],
)
async def test_replace_changes_one_field(storage: Storage, field: str, change: tuple[Any, Any]) -> None:
    """The field named takes the new job's value; nothing else changes."""
    assert await _replaced(storage, field) == {field: change}


async def test_replace_schedule_at(storage: Storage) -> None:
    """The job found becomes due when the new one would have been."""
    changed = await _replaced(storage, "schedule_at")
    assert list(changed) == ["schedule_at"]
    before, after = changed["schedule_at"]
    assert MINUTE <= after - before < 2 * MINUTE


async def test_replace_several_fields(storage: Storage) -> None:
    """All the fields named change at once."""
    changed = await _replaced(storage, "priority", "args", "metadata", "schedule_at", "max_attempts")
    assert sorted(changed) == ["args", "max_attempts", "metadata", "priority", "schedule_at"]


async def test_replace_may_make_a_job_due_now(storage: Storage) -> None:
    """A new job that is due now makes the scheduled one due now, in its new place in the order."""
    (id,) = await add(storage, unique(job(delay=MINUTE)))
    await storage.jobs.insert([unique(on_conflict=Replace("schedule_at"))])
    assert (await look(storage, id)).state is State.AVAILABLE
    assert [one.id for one in await claim(storage)] == [id]


@pytest.mark.parametrize(
    ("state", "then"),
    [(State.AVAILABLE, State.SCHEDULED), (State.RETRYABLE, State.RETRYABLE)],
    ids=lambda state: state.value,
)
async def test_replace_may_put_a_job_off(storage: Storage, state: State, then: State) -> None:
    """An available job becomes scheduled, one that waits for its retry stays retryable; neither is claimed."""
    id = await _at(storage, unique(), state)
    await storage.jobs.insert([unique(job(delay=5 * MINUTE), on_conflict=Replace("schedule_at"))])
    record = await look(storage, id)
    assert record.state is then
    assert record.schedule_at - await storage.schema.now() > 4 * MINUTE
    assert await claim(storage) == ()


@pytest.mark.parametrize("state", sorted(ALL), ids=lambda state: state.value)
@pytest.mark.parametrize("when", ["unstarted", ("scheduled",), ("retryable", "available")])
async def test_replace_only_when_the_state_allows(storage: Storage, state: State, when: Any) -> None:
    """In other states the job found stays as it is, running and final ones always."""
    id = await _at(storage, unique(), state)
    rule = Replace("priority", when=when)
    found = await storage.jobs.insert([unique(job(priority=9), states="all", on_conflict=rule)])
    assert found == (Inserted(id, duplicate=True),)
    assert (await look(storage, id)).priority == (9 if state in rule.when & UNSTARTED else 0)


async def test_replace_within_a_batch(storage: Storage) -> None:
    """The values of the last of several equal jobs in a batch are kept."""
    rule = partial(unique, by="name", on_conflict=Replace("priority", "args"))
    results = await storage.jobs.insert([rule(job(args={"n": n}, priority=n)) for n in range(4)])
    assert [one.duplicate for one in results] == [False, True, True, True]
    record = await look(storage, results[0].id)
    assert (record.priority, record.args) == (3, {"n": 3})


async def test_replacements_in_a_batch_are_judged_one_after_the_other(storage: Storage) -> None:
    """A job that the first of two has postponed is scheduled for the second."""
    (id,) = await add(storage, unique())
    put_off = unique(job(delay=MINUTE), on_conflict=Replace("schedule_at"))
    raised = unique(job(priority=9), on_conflict=Replace("priority", when=("scheduled",)))
    assert {one.id for one in await storage.jobs.insert([put_off, raised])} == {id}
    record = await look(storage, id)
    assert (record.state, record.priority) == (State.SCHEDULED, 9)


async def test_of_several_the_newest_counts(storage: Storage) -> None:
    """Once it is put off, the next job of the batch finds the older one."""
    oldest, older, newest = await add(storage, *[unique(states=("scheduled",))] * 3)
    plain = unique(states=("available",))
    put_off = unique(job(delay=MINUTE), states=("available",), on_conflict=Replace("schedule_at"))
    found = await storage.jobs.insert([plain, put_off, plain, put_off, plain, put_off, plain])
    assert [one.id for one in found[:-1]] == [newest, newest, older, older, oldest, oldest]
    assert not found[-1].duplicate


async def test_a_batch_gives_the_same_as_one_after_the_other(storage: Storage) -> None:
    """Jobs that are stored, new, equal to each other and not unique, all in one batch: ids are in its order."""
    stored = await add(storage, *(unique(job(args={"n": n})) for n in range(0, 900, 3)))
    given = [job(args={"n": n}) if n % 5 == 0 else unique(job(args={"n": n // 2 * 2})) for n in range(900)]
    found = await storage.jobs.insert(given)
    first: dict[int, int] = {number * 3: id for number, id in enumerate(stored)}
    new = []
    for n, (one, asked) in enumerate(zip(found, given, strict=True)):
        if asked.unique is None:
            assert not one.duplicate
            new.append(one.id)
        else:
            assert one.duplicate == (n // 2 * 2 in first)
            if not one.duplicate:
                new.append(one.id)
            assert first.setdefault(n // 2 * 2, one.id) == one.id
    assert new == sorted(new)
    assert min(new) > max(stored)


async def test_replaced_with_the_callers_transaction(engine: Engine, shareable: None) -> None:
    """A caller that rolls back replaced nothing."""
    (id,) = await add(engine.storage, unique())
    async with engine.caller() as caller:
        replacing = unique(job(priority=9), on_conflict=Replace("priority"))
        await engine.storage.jobs.insert([replacing], conn=caller.conn)
        await caller.rollback()
    assert (await look(engine.storage, id)).priority == 0


async def test_replace_keeps_the_key(storage: Storage) -> None:
    """The job found is still found by its key after its args were replaced."""
    rule = partial(unique, by="args.k", on_conflict=Replace("args"))
    results = await storage.jobs.insert([rule(job(args={"k": 1, "v": v})) for v in range(3)])
    assert len({one.id for one in results}) == 1
    assert (await storage.jobs.insert([rule(job(args={"k": 1, "v": 9}))]))[0].duplicate
