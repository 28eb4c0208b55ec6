"""`AttemptStore.save` and `save_step`: what running jobs store, alone and many at the same moment."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from jobrt._core import where
from jobrt._core.job import Claimed, JobRef
from jobrt._core.states import Transition
from jobrt._storage.contract import Storage
from jobrt.errors import StorageError
from tests.conformance.build import add, claim, end, job, look, ref, start
from tests.conformance.harness import PATIENCE, Engine


async def both(storage: Storage, one: JobRef, answers: dict[JobRef, list[bool]]) -> None:
    """Save a checkpoint, progress and two steps of an attempt at the same moment."""

    async def note(call: Callable[[], object]) -> None:
        answers.setdefault(one, []).append(await call())  # type: ignore[misc]

    attempts, text = storage.attempts, str(one.id)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(note, lambda: attempts.save(one, saved=text))
        nursery.start_soon(
            note, lambda: attempts.save(one, progress=f'{{"done": {text}, "total": 9, "note": ""}}')
        )
        nursery.start_soon(note, lambda: attempts.save_step(one, "first", text))
        nursery.start_soon(note, lambda: attempts.save_step(one, "second", text))


async def saved_by_all(storage: Storage, refs: list[JobRef]) -> dict[JobRef, list[bool]]:
    """Save for several attempts at the same moment, and return the answers."""
    answers: dict[JobRef, list[bool]] = {}
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for one in refs:
                nursery.start_soon(both, storage, one, answers)
    return answers


async def test_many_jobs_save_at_once(storage: Storage) -> None:
    """Each has its own checkpoint, progress and steps afterwards, also if one job saves several at once."""
    await add(storage, *(job() for _ in range(12)))
    jobs = await claim(storage)
    answers = await saved_by_all(storage, [ref(one) for one in jobs])
    assert set(map(tuple, answers.values())) == {(True,) * 4}
    for one in jobs:
        record = await look(storage, one.id)
        assert (record.saved, record.progress and record.progress.done) == (one.id, one.id)
        assert await storage.attempts.steps(ref(one)) == {"first": str(one.id), "second": str(one.id)}


async def test_a_lost_lease_among_many(storage: Storage) -> None:
    """An attempt that lost its job stores nothing, and those that save at the same moment store everything."""
    await add(storage, *(job() for _ in range(4)))
    lost, gone, *others = await claim(storage)
    await storage.attempts.finish([end(lost, Transition.RETRY, delay=60.0)])
    await storage.jobs.delete(where.id_in([gone.id]))
    answers = await saved_by_all(storage, [ref(one) for one in (lost, gone, *others)])
    assert answers[ref(lost)] == answers[ref(gone)] == [False] * 4
    assert all(answers[ref(one)] == [True] * 4 for one in others)
    assert (await look(storage, lost.id)).saved is None
    assert await storage.attempts.steps(ref(lost)) == {}


async def test_the_first_value_of_a_step_is_kept(storage: Storage) -> None:
    """A step that is stored twice, one after the other or at the same moment, has its first value."""
    claimed = ref(await start(storage))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.attempts.save_step, claimed, "one", "1")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(storage.attempts.save_step, claimed, "one", "2")
    assert await storage.attempts.save_step(claimed, "one", "3") is True
    assert await storage.attempts.steps(claimed) == {"one": "1"}


@pytest.fixture
async def refused(engine: Engine) -> str:
    """A text that the database refuses as the value of a step."""
    (table,) = [name for name in await engine.tables() if name.endswith("step")]
    if engine.name == "postgres":
        await engine.execute(f"alter table {table} add check (value <> '\"refused\"')")
    else:
        await engine.execute(
            f"create trigger refuse_step before insert on {table} when new.value = '\"refused\"'"
            " begin select raise(abort, 'refused by the test'); end"
        )
    return '"refused"'


async def test_one_that_the_database_refuses_harms_no_other(storage: Storage, refused: str) -> None:
    """The call of that job raises. What others save at the same moment is stored."""
    await add(storage, *(job() for _ in range(5)))
    bad, *others = await claim(storage)
    answers: dict[JobRef, list[bool]] = {}

    async def refuse() -> None:
        with pytest.raises(StorageError):
            await storage.attempts.save_step(ref(bad), "one", refused)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refuse)
            for one in others:
                nursery.start_soon(both, storage, ref(one), answers)
    assert set(map(tuple, answers.values())) == {(True,) * 4}
    assert await storage.attempts.steps(ref(bad)) == {}


@pytest.mark.parametrize("what", ["step", "checkpoint", "failure", "nothing"])
async def test_who_claims_a_job_knows_whether_steps_may_be_stored(storage: Storage, what: str) -> None:
    """A job that nothing has been stored for says so, which saves its attempts a query."""
    claimed = await start(storage)
    assert not claimed.kept
    if what == "step":
        await storage.attempts.save_step(ref(claimed), "one", "1")
    elif what == "checkpoint":
        await storage.attempts.save(ref(claimed), saved="1")
    unstarted = end(claimed, Transition.GIVE_BACK, end=None)
    failed = end(claimed, Transition.RETRY)
    await storage.attempts.finish([failed if what == "failure" else unstarted])
    (again,) = await claim(storage)
    assert again.kept is (what != "nothing")


async def test_steps_that_a_clean_attempt_stored_are_known(storage: Storage) -> None:
    """A completed job that runs again finds its steps."""
    claimed = await start(storage)
    await storage.attempts.save_step(ref(claimed), "one", "1")
    await storage.attempts.finish([end(claimed)])
    await storage.jobs.rerun(where.id_in([claimed.id]))
    again: Claimed
    (again,) = await claim(storage)
    assert again.kept
    assert await storage.attempts.steps(ref(again)) == {"one": "1"}
