"""`StreamStore`: entries of running jobs, their numbers, what is kept of them, and who is woken."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import trio

from jobrt._core import where
from jobrt._core.job import JobRef
from jobrt._core.keep import PruneRule
from jobrt._core.states import State, Transition
from jobrt._core.stream import BYTES_KEPT, ENTRIES_KEPT, Append, Entry, StreamPage
from jobrt._storage.contract import Storage
from tests.conformance.build import add, claim, end, job, ref, start
from tests.conformance.harness import PATIENCE, Engine
from tests.conformance.test_listen import Ear


def emitted(*values: object, key: str | None = None) -> tuple[Entry, ...]:
    """Return entries with these values."""
    return tuple(Entry("emit", str(value), key) for value in values)


def batch(attempt: JobRef, number: int, *entries: Entry, dropped: int = 0) -> Append:
    """Return a batch of an attempt."""
    return Append(attempt.id, attempt.lease, number, entries, dropped)


async def read(storage: Storage, job_id: int, after: int = 0) -> StreamPage:
    """Return what is stored of a job's stream behind a number."""
    page = await storage.streams.read(job_id, after)
    assert page is not None
    return page


async def numbered(storage: Storage, job_id: int, after: int = 0) -> list[tuple[int, str]]:
    """Return numbers and values of the entries behind a number."""
    page = await read(storage, job_id, after)
    assert page.last == (page.entries[-1].number if page.entries else page.last)
    return [(entry.number, entry.value) for entry in page.entries]


async def test_entries_are_numbered_without_holes(storage: Storage) -> None:
    """Over batches and attempts; a reader gets those behind its cursor, in order."""
    first = ref(await start(storage))
    assert await storage.streams.append(batch(first, 1, *emitted(1, 2)))
    assert await storage.streams.append(batch(first, 2, *emitted(3)))
    await storage.attempts.finish([end(first, Transition.RETRY)])
    (again,) = await claim(storage)
    assert await storage.streams.append(batch(ref(again), 1, *emitted(4, 5)))
    assert await numbered(storage, first.id) == [(n, str(n)) for n in range(1, 6)]
    assert await numbered(storage, first.id, after=3) == [(4, "4"), (5, "5")]
    assert await numbered(storage, first.id, after=2**70) == []
    page = await read(storage, first.id)
    assert (page.state, page.attempt, page.last) == ("executing", 2, 5)
    assert [entry.attempt for entry in page.entries] == [1, 1, 1, 2, 2]


async def test_an_entry_has_what_was_given(storage: Storage) -> None:
    """Its kind, its key and its text; its time is the storage's, less its age."""
    attempt = ref(await start(storage))
    text = '{"message":"caf\\u00e9 \\u0000 \\ud800 \\"quoted\\" {1,null}"}'
    now = await storage.schema.now()
    await storage.streams.append(
        batch(attempt, 1, Entry("log", text, age=60.0), Entry("emit", '""', 'a "key", {é\\}'))
    )
    line, value = (await read(storage, attempt.id)).entries
    assert (line.kind, line.key, line.value) == ("log", None, text)
    assert (value.kind, value.key, value.value) == ("emit", 'a "key", {é\\}', '""')
    assert timedelta(seconds=59) <= value.at - line.at <= timedelta(seconds=61)
    assert abs(value.at - now) < timedelta(seconds=30)


async def test_a_lost_lease_stores_nothing(storage: Storage) -> None:
    """Neither of an attempt whose job is claimed again, nor of a job that is gone."""
    lost = ref(await start(storage))
    await storage.attempts.finish([end(lost, Transition.RETRY)])
    (again,) = await claim(storage)
    assert await storage.streams.append(batch(lost, 1, *emitted(1))) is False
    assert await storage.streams.append(batch(ref(again), 1, *emitted(2)))
    assert await numbered(storage, lost.id) == [(1, "2")]
    await storage.jobs.delete(where.id(lost.id))
    assert await storage.streams.append(batch(ref(again), 2, *emitted(3))) is False
    assert await storage.streams.read(lost.id, 0) is None


async def test_an_attempt_that_has_just_ended_may_append(storage: Storage) -> None:
    """What a job wrote in the transaction that completed it comes after the outcome."""
    done = ref(await start(storage))
    await storage.attempts.finish([end(done)])
    assert await storage.streams.append(batch(done, 1, *emitted(1)))
    assert await numbered(storage, done.id) == [(1, "1")]


async def test_a_batch_is_stored_once(storage: Storage) -> None:
    """A caller that lost the reply sends it again, with its keys."""
    attempt = ref(await start(storage))
    first = batch(attempt, 1, *emitted(1), *emitted(2, key="two"), *emitted(3))
    for _ in range(3):
        assert await storage.streams.append(first)
    assert await storage.streams.append(batch(attempt, 2, *emitted(4)))
    assert await storage.streams.append(first)
    assert await numbered(storage, attempt.id) == [(n, str(n)) for n in range(1, 5)]


async def test_a_batch_that_is_sent_twice_at_once(storage: Storage) -> None:
    """The second call waits for the first one, and sees what that has stored."""
    attempt = ref(await start(storage))
    first = batch(attempt, 1, *emitted(1), *emitted(2, key="two"))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(storage.streams.append, first)
    assert await numbered(storage, attempt.id) == [(1, "1"), (2, "2")]


async def test_a_key_counts_once(storage: Storage) -> None:
    """In a batch, over attempts, and after its entry was trimmed; other jobs have their own keys."""
    first = ref(await start(storage))
    await storage.streams.append(
        batch(first, 1, *emitted(1), *emitted(2, "twice", key="k"), *emitted(3, key="l"))
    )
    assert await numbered(storage, first.id) == [(1, "1"), (2, "2"), (3, "3")]
    await storage.streams.append(batch(first, 2, *emitted(*range(4, ENTRIES_KEPT + 4))))
    await storage.attempts.finish([end(first, Transition.RETRY)])
    (again,) = await claim(storage)
    await storage.streams.append(batch(ref(again), 1, *emitted("again", key="k"), *emitted(5)))
    assert (await numbered(storage, first.id))[-1] == (ENTRIES_KEPT + 4, "5")
    other = ref(await start(storage))
    await storage.streams.append(batch(other, 1, *emitted(1, key="k")))
    assert await numbered(storage, other.id) == [(1, "1")]


async def test_the_newest_entries_are_kept(storage: Storage) -> None:
    """As many as there may be, whatever the sizes of the batches."""
    attempt = ref(await start(storage))
    await storage.streams.append(batch(attempt, 1, *emitted(*range(1, 8))))
    await storage.streams.append(batch(attempt, 2, *emitted(*range(8, ENTRIES_KEPT + 1))))
    assert len(await numbered(storage, attempt.id)) == ENTRIES_KEPT
    await storage.streams.append(batch(attempt, 3, *emitted(ENTRIES_KEPT + 1, ENTRIES_KEPT + 2)))
    found = await numbered(storage, attempt.id)
    assert found == [(n, str(n)) for n in range(3, ENTRIES_KEPT + 3)]


async def test_the_newest_bytes_are_kept(storage: Storage) -> None:
    """Entries with more than that together are deleted, the oldest first; the newest one stays."""
    attempt, half = ref(await start(storage)), "1" * (BYTES_KEPT // 2)
    for number in range(1, 4):
        await storage.streams.append(batch(attempt, number, *emitted(half)))
    assert [number for number, _ in await numbered(storage, attempt.id)] == [2, 3]
    await storage.streams.append(batch(attempt, 4, *emitted(1)))
    assert [number for number, _ in await numbered(storage, attempt.id)] == [3, 4]
    await storage.streams.append(batch(attempt, 5, *emitted("2" * (BYTES_KEPT + 1))))
    assert [number for number, _ in await numbered(storage, attempt.id)] == [5]


async def test_dropped_entries_use_up_numbers(storage: Storage) -> None:
    """A reader can tell that they are missing."""
    attempt = ref(await start(storage))
    await storage.streams.append(batch(attempt, 1, *emitted(5), dropped=4))
    await storage.streams.append(batch(attempt, 2, *emitted(8), dropped=2))
    assert await numbered(storage, attempt.id) == [(5, "5"), (8, "8")]


async def test_many_jobs_append_at_once(storage: Storage) -> None:
    """Each gets its own entries; one that lost its lease harms no other."""
    await add(storage, *(job() for _ in range(12)))
    lost, *others = map(ref, await claim(storage))
    await storage.jobs.delete(where.id(lost.id))
    answers: dict[int, bool] = {}

    async def append(attempt: JobRef) -> None:
        texts = [attempt.id, f'"{attempt.id}"']
        answers[attempt.id] = await storage.streams.append(batch(attempt, 1, *emitted(*texts, key=None)))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for attempt in (lost, *others):
                nursery.start_soon(append, attempt)
    assert answers == {lost.id: False} | {attempt.id: True for attempt in others}
    for attempt in others:
        assert await numbered(storage, attempt.id) == [(1, str(attempt.id)), (2, f'"{attempt.id}"')]


async def test_actions_of_operators_need_no_lease(storage: Storage) -> None:
    """They stand between what attempts say, in jobs that never ran too; the batches of an attempt go on."""
    running, (waiting,) = ref(await start(storage)), await add(storage, job())
    assert await storage.streams.append(batch(running, 1, *emitted(1)))
    await storage.streams.note([waiting, running.id, running.id, 999], "{}")
    assert not (await read(storage, waiting)).last > 1
    assert await storage.streams.append(batch(running, 1, *emitted(1)))  # its reply was lost
    assert await storage.streams.append(batch(running, 2, *emitted(2)))
    page = await read(storage, running.id)
    assert [(entry.number, entry.attempt, entry.kind, entry.value) for entry in page.entries] == [
        (1, 1, "emit", "1"),
        (2, 1, "action", "{}"),
        (3, 1, "emit", "2"),
    ]
    (noted,) = (await read(storage, waiting)).entries
    assert (noted.number, noted.attempt, noted.kind) == (1, 0, "action")
    (claimed,) = await claim(storage)
    assert claimed.id == waiting
    assert await storage.streams.append(batch(ref(claimed), 1, *emitted(3)))
    assert [number for number, _ in await numbered(storage, waiting)] == [1, 2]


async def test_actions_are_trimmed_with_the_others(storage: Storage) -> None:
    """The newest entries stay, whatever they are."""
    attempt = ref(await start(storage))
    await storage.streams.note([attempt.id], '"' + "x" * 100 + '"')
    assert await storage.streams.append(batch(attempt, 1, *emitted(*range(ENTRIES_KEPT))))
    await storage.streams.note([attempt.id], "{}")
    found = await numbered(storage, attempt.id)
    assert (len(found), found[0][0], found[-1]) == (ENTRIES_KEPT, 3, (ENTRIES_KEPT + 2, "{}"))
    await storage.streams.note([attempt.id], "x" * (BYTES_KEPT - 1))
    assert len(await numbered(storage, attempt.id)) == 1


async def test_a_page_has_the_job(storage: Storage) -> None:
    """Its state as it is shown, its attempts and its progress."""
    (waiting,) = await add(storage, job())
    assert await read(storage, waiting) == StreamPage("available", 0, None, 0)
    (claimed,) = await claim(storage)
    await storage.attempts.save(ref(claimed), progress='{"done":1}')
    assert await read(storage, waiting) == StreamPage("executing", 1, '{"done":1}', 0)
    await storage.attempts.finish([end(claimed)])
    assert (await read(storage, waiting)).state == "completed"
    assert await storage.streams.read(waiting + 1, 0) is None


@pytest.mark.parametrize("how", ["delete", "prune"])
async def test_entries_go_with_their_job(engine: Engine, how: str) -> None:
    """Nothing of a stream is left in any table."""
    storage = engine.storage
    gone, kept = ref(await start(storage)), ref(await start(storage))
    tables = [
        await engine.table("job_id", "batch", "last"),
        await engine.table("job_id", "number", "start"),
        next(name for name, has in (await engine.tables()).items() if has == {"job_id", "key"}),
    ]
    for attempt in (gone, kept):
        await storage.streams.append(batch(attempt, 1, *emitted(1, key="k")))
    await storage.attempts.finish([end(gone)])
    if how == "delete":
        await storage.jobs.delete(where.id(gone.id))
    else:
        await engine.advance(60.0)
        rule = PruneRule(state=State.COMPLETED, age=timedelta(seconds=30))
        assert await storage.jobs.prune([rule]) == 1
    rows = await engine.everything()
    assert [[row[0] for row in rows[table]] for table in tables] == [[kept.id]] * 3


# ---------------------------------------------------------------------- wakes


@asynccontextmanager
async def following(storage: Storage, *ids: int) -> AsyncGenerator[Ear]:
    """Listen for news of jobs for as long as the block runs."""
    ear = Ear()

    async def listen(task_status: trio.TaskStatus[None]) -> None:
        await storage.wakes.listen(ear.deliver, news=True, task_status=task_status)

    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            await nursery.start(listen)
        for job_id in ids:
            await storage.streams.read(job_id, 0, wake=True)
        yield ear
        nursery.cancel_scope.cancel()


async def told(ear: Ear, job_id: int) -> None:
    """Wait for a hint about a job; forget all that came before."""
    with trio.fail_after(PATIENCE):
        while not any(
            wake.kind == "stream" and (wake.jobs is None or job_id in wake.jobs) for wake in ear.heard
        ):
            await ear.rang.wait()
            ear.rang = trio.Event()
    ear.heard.clear()


async def test_followers_are_woken(engine: Engine) -> None:
    """In another process, too: when the job starts, says something, reports progress, fails, ends."""
    storage = engine.storage
    (waiting,) = await add(storage, job())
    async with engine.open() as other, following(other, waiting) as ear:
        (first,) = await claim(storage)
        await told(ear, first.id)
        await storage.streams.append(batch(ref(first), 1, *emitted(1)))
        await told(ear, first.id)
        await storage.attempts.save(ref(first), progress='{"done":1}')
        await told(ear, first.id)
        await storage.attempts.finish([end(first, Transition.RETRY)])
        await told(ear, first.id)
        (again,) = await claim(storage)
        await told(ear, first.id)
        await storage.attempts.finish([end(again)])
        await told(ear, first.id)


async def test_followers_are_woken_by_an_action(engine: Engine) -> None:
    """In another process, too."""
    (waiting,) = await add(engine.storage, job())
    async with engine.open() as other, following(other, waiting) as ear:
        await engine.storage.streams.note([waiting], "{}")
        await told(ear, waiting)


async def test_followers_are_woken_when_a_job_goes(engine: Engine) -> None:
    """They learn that it was deleted, or cancelled before it ran."""
    storage = engine.storage
    gone, cancelled = await add(storage, job(), job())
    async with engine.open() as other, following(other, gone, cancelled) as ear:
        await storage.jobs.delete(where.id(gone))
        await told(ear, gone)
        await storage.jobs.cancel(where.id(cancelled), "no")
        await told(ear, cancelled)


async def test_only_followers_are_woken(engine: Engine) -> None:
    """A listener that has not asked for news gets none."""
    storage = engine.storage
    attempt = ref(await start(storage))
    async with engine.open() as other, following(other, attempt.id) as ear:
        heard = Ear()
        async with trio.open_nursery() as nursery:
            with trio.fail_after(PATIENCE):
                await nursery.start(storage.wakes.listen, heard.deliver)
            await storage.streams.append(batch(attempt, 1, *emitted(1)))
            await told(ear, attempt.id)
            await heard.all_until("marker", storage)
            nursery.cancel_scope.cancel()
        assert not [wake for wake in heard.heard if wake.kind == "stream"]


async def test_a_job_without_followers_tells_nobody(engine: Engine) -> None:
    """On PostgreSQL, where a notification takes a lock of the whole database. Elsewhere any news may be told."""
    if engine.name != "postgres":
        pytest.skip("only PostgreSQL asks for wakes")
    storage = engine.storage
    attempt, other = ref(await start(storage)), ref(await start(storage))
    async with following(storage, other.id) as ear:
        await storage.streams.append(batch(attempt, 1, *emitted(1)))
        await storage.streams.append(batch(other, 1, *emitted(1)))
        await told(ear, other.id)
        heard = await ear.all_until("marker", storage)
    assert not [wake for wake in heard if wake.kind == "stream" and attempt.id in (wake.jobs or ())]
