"""Nurseries, messages, sleeps and deadlines in a storage (`ScopeStore`)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from jobrt._core import where
from jobrt._core.job import Claimed, JobRef, Wait
from jobrt._core.rates import Rate
from jobrt._core.scopes import AncestorEnded, Answer, AskedToStop, Child, Member, NurseryRow, NurseryState
from jobrt._core.states import End, State, Transition
from jobrt.errors import JobNotFound, JobStateError, LeaseLost
from tests.conformance.build import add, ask, claim, complete, end, job, look, ref, start

if TYPE_CHECKING:
    from jobrt._storage.contract import Storage
    from tests.conformance.harness import Engine

EVERYTHING = where.everything()


async def _parent(storage: Storage, *, on_failure: Any = "cancel", seconds: float | None = None) -> Claimed:
    """Start a job with an open nursery."""
    parent = await start(storage, job("parent"))
    row = await storage.scopes.open(ref(parent), "n", on_failure=on_failure, seconds=seconds)
    assert row == NurseryRow(
        NurseryState.OPEN, reason="", sealed=False, retried=False, alive=False, members=False
    )
    return parent


async def _children(storage: Storage, parent: Claimed, *identities: str, **options: Any) -> list[int]:
    """Add children, and return their ids."""
    wanted = [Child(identity, job(**options)) for identity in identities]
    return [one.id for one in await storage.scopes.enqueue(ref(parent), "n", wanted)]


async def _claimed_children(storage: Storage, parent: Claimed, *identities: str) -> tuple[Claimed, ...]:
    """Add children and claim them."""
    await _children(storage, parent, *identities)
    return await claim(storage)


async def _tend(storage: Storage) -> None:
    while (await storage.scopes.tend()).more:
        pass


# ------------------------------------------------------------------ nurseries


async def test_a_child_is_added_once(storage: Storage) -> None:
    """Equal identities are one child, whatever the job."""
    parent = await _parent(storage)
    first = await _children(storage, parent, "a", "b")
    again = await storage.scopes.enqueue(ref(parent), "n", [Child("a", job("other")), Child("c", job())])
    assert again[0].id == first[0]
    members = await storage.scopes.members(ref(parent), "n")
    assert [(one.identity, one.id) for one in members] == [
        ("a", first[0]),
        ("b", first[1]),
        ("c", again[1].id),
    ]
    assert await storage.jobs.count(where.name("other")) == 0


async def test_members_are_read_in_pages(storage: Storage) -> None:
    """Each is in one page, whatever the database makes of the order of texts; their numbers tell which came first."""
    parent = await _parent(storage)
    wanted = [
        "key:b",
        "key:A",
        "key:é",
        "key:a ",
        "key:a",
        "key:B",
        "key:e",
        "key:\U0001f600",
        "key:-",
        "key:1",
        "key:\uffff",
    ]
    ids = await _children(storage, parent, *wanted)
    await _children(storage, await _parent(storage), "key:b", "key:c")
    for limit in (1, 4, 11, 12):
        pages: list[Member] = []
        while page := await storage.scopes.members(
            ref(parent), "n", after=pages[-1].identity if pages else "", limit=limit
        ):
            assert len(page) <= limit
            pages += page
        assert [(one.identity, one.id) for one in sorted(pages)] == list(zip(wanted, ids, strict=True))


async def test_fresh_children_are_not_looked_up(storage: Storage) -> None:
    """If a child that is said to be fresh is stored all the same, the call fails, and adds none."""
    parent = await _parent(storage)
    fresh = [Child("a", job()), Child("b", job(priority=2))]
    ids = [one.id for one in await storage.scopes.enqueue(ref(parent), "n", fresh, fresh=True)]
    with pytest.raises(Exception, match=r"(?i)unique"):
        await storage.scopes.enqueue(
            ref(parent), "n", [Child("c", job()), Child("b", job("other"))], fresh=True
        )
    members = await storage.scopes.members(ref(parent), "n")
    assert [(one.identity, one.id) for one in members] == [("a", ids[0]), ("b", ids[1])]
    assert await storage.jobs.count(where.name("other")) == 0
    assert {child.id for child in await claim(storage)} == set(ids)


async def test_fresh_children_that_are_alike_are_stored_as_others(storage: Storage) -> None:
    """With the same options, and in the same order; a nursery that has ended refuses both."""
    parent = await _parent(storage)
    place = parent.schedule_at - timedelta(seconds=5)
    options: list[dict[str, Any]] = [
        {},
        {"priority": 2, "max_attempts": None, "schedule_at": place, "version": 3, "context": '{"a": "\\\\"}'},
        {"schedule_at": place + timedelta(days=1), "max_attempts": 7},
    ]
    stored: list[tuple[list[Any], list[Any]]] = []
    for fresh in (False, True):
        children = [
            Child(f"{fresh} {number} {text}", job("alike", args=text, **more))
            for number, more in enumerate(options)
            for text in ('"{,}\\\t\n', "é", "null")
        ]
        calls = [children[start : start + 3] for start in (0, 3, 6)] if fresh else [children]
        inserted = [
            one for part in calls for one in await storage.scopes.enqueue(ref(parent), "n", part, fresh=fresh)
        ]
        found = await storage.jobs.records([one.id for one in inserted])
        jobs = [attrs.evolve(one, id=0, created_at=place, schedule_at=place, parent=None) for one in found]
        assert [one.parent for one in found] == [parent.id] * 9
        claims = [one.args for one in await claim(storage, "alike", fits='{"alike": [3, null]}')]
        stored.append((jobs, claims))
    assert stored[0] == stored[1]
    members = sorted(await storage.scopes.members(ref(parent), "n"))
    assert [one.identity.split()[:2] for one in members] == [
        [str(fresh), str(number)] for fresh in (False, True) for number in range(3) for _ in range(3)
    ]
    await storage.scopes.seal(ref(parent), "n", end="cancelled")
    for fresh in (False, True):
        with pytest.raises(JobStateError, match="is cancelled: it gets no more children"):
            await storage.scopes.enqueue(ref(parent), "n", [Child("late", job())], fresh=fresh)
    assert await storage.jobs.count(EVERYTHING) == 19


async def test_a_record_is_the_same_however_it_is_read(storage: Storage) -> None:
    """It is that of `get`, whether the job completed at once, has options, is large, has failed before, or runs."""
    parent = await _parent(storage, on_failure="continue")
    kinds: dict[str, dict[str, Any]] = {
        "plain": {},
        "result": {},
        "saved": {},
        "large": {"args": ["x" * 9000]},
        "options": {"tags": ("a", "b"), "metadata": {"m": 1}, "context": "c", "version": 2, "priority": -3},
        "limits": {"deadline": timedelta(hours=1), "expires": timedelta(hours=1)},
        "retried": {},
        "failed": {"max_attempts": 1},
        "running": {},
    }
    wanted = [Child(name, job(name, **more)) for name, more in kinds.items()]
    ids = [one.id for one in await storage.scopes.enqueue(ref(parent), "n", wanted)]
    claims = {one.name: one for one in await claim(storage, *kinds)}
    await storage.attempts.save(ref(claims["saved"]), progress="0.5", saved="[2]")
    retried = end(claims["retried"], Transition.RETRY, error_type="E", message="m", delay=0.0)
    failed = end(claims["failed"], Transition.DISCARD, error_type="E", message="m")
    await storage.attempts.finish([retried, failed])
    again = (await claim(storage, "retried"))[0]
    others = [
        end(one) for name, one in claims.items() if name not in {"retried", "failed", "running", "result"}
    ]
    await storage.attempts.finish([*others, end(again), end(claims["result"], result='{"r": [1]}')])
    found = await storage.jobs.records(ids)
    assert [one.name for one in found] == [*kinds]
    assert list(found) == [await storage.jobs.get(id) for id in ids]
    assert {one.parent for one in found} == {parent.id}
    assert list(await storage.jobs.records(ids, parent=parent.id)) == list(found)


async def test_records_come_in_the_order_of_the_ids(storage: Storage) -> None:
    """Records are whole, and in the order that was asked for; a job that does not exist is left out."""
    first, second = await start(storage, job("first")), await start(storage, job("second"))
    await storage.attempts.finish([end(first, result="[1]")])
    found = await storage.jobs.records([second.id, 987_654, first.id])
    assert found[0] == await storage.jobs.get(second.id)
    assert [record.name for record in found] == ["second", "first"]
    assert found[-1] is found[1]
    assert found[1].result == [1]
    assert found[:1] == (found[0],)
    assert found[1].attempts
    assert list(await storage.jobs.records([])) == []


async def test_a_suspended_parent_is_due_when_its_children_are_over(storage: Storage) -> None:
    """With the end of the last one, at its old place, with the same attempt."""
    parent = await _parent(storage)
    await _children(storage, parent, "a", "b")
    row = await storage.scopes.seal(ref(parent), "n")
    assert (row.alive, row.sealed) == (True, True)
    await storage.attempts.finish([end(parent, Transition.SUSPEND, wait=Wait("children", "n"))])
    assert (await look(storage, parent.id)).state is State.SUSPENDED
    a, b = await claim(storage)
    await complete(storage, a)
    assert (await look(storage, parent.id)).state is State.SUSPENDED
    await complete(storage, b)
    (again,) = await claim(storage, "parent")
    assert (again.id, again.attempt) == (parent.id, parent.attempt)
    row = await storage.scopes.open(ref(again), "n", on_failure="cancel", seconds=None)
    assert (row.sealed, row.alive, bool(row.members)) == (True, False, True)


async def test_children_of_many_parents_end_in_one_batch(storage: Storage) -> None:
    """Each parent learns of its own, whatever the ends of the others are, and so do their parents."""
    parents = [await _parent(storage) for _ in range(4)]
    children = [one for each in parents for one in await _claimed_children(storage, each, "a", "b")]
    await storage.scopes.open(ref(children[6]), "n", on_failure="cancel", seconds=None)
    grandchildren = await _claimed_children(storage, children[6], "a", "b")
    await complete(storage, children[6])  # it is closing
    waits = [end(one, Transition.SUSPEND, wait=Wait("children", "n")) for one in parents[:2]]
    one_child = Wait("child", str(children[4].id))
    waits += [end(parents[2], Transition.SUSPEND, wait=one_child)]
    await storage.attempts.finish([*waits, end(parents[3], Transition.SUSPEND, wait=Wait("children", "n"))])
    batch = [end(one) for one in (*children[:3], children[4], children[7], grandchildren[0])]
    failed = end(grandchildren[1], Transition.DISCARD, message="bad")
    assert await storage.attempts.finish([*batch, failed]) == ()
    assert [(await look(storage, one.id)).state for one in parents] == [
        State.AVAILABLE,
        State.SUSPENDED,  # its second child runs
        State.AVAILABLE,
        State.AVAILABLE,
    ]
    assert (await look(storage, children[6].id)).state is State.COMPLETED
    await complete(storage, children[3], children[5])
    assert {one.id for one in await claim(storage, "parent")} == {one.id for one in parents}


async def test_a_wait_that_is_over_already_ends_at_once(storage: Storage) -> None:
    """The children have ended between the look and the write: no wake-up is lost."""
    parent = await _parent(storage)
    await _children(storage, parent, "a")
    await complete(storage, *await claim(storage))
    await storage.attempts.finish([end(parent, Transition.SUSPEND, wait=Wait("children", "n"))])
    assert [one.id for one in await claim(storage, "parent")] == [parent.id]


async def test_a_failure_cancels_the_siblings(storage: Storage) -> None:
    """In the commit that records it; a failure of theirs is not another one."""
    parent = await _parent(storage)
    ids = await _children(storage, parent, "a", "b", "c")
    a, b = await claim(storage, limit=2)
    await storage.attempts.finish([end(a, Transition.DISCARD, message="bad")])
    assert await claim(storage) == ()
    await _tend(storage)
    assert (await look(storage, ids[2])).state is State.CANCELLED
    asked = (await storage.workers.changes("w1")).cancels
    assert [one.ref for one in asked] == [ref(b)]
    await storage.attempts.finish([end(b, Transition.CANCEL, message="asked")])
    row = await storage.scopes.seal(ref(parent), "n")
    assert (row.state, row.alive) == (NurseryState.FAILED, False)
    assert await storage.scopes.failures(ref(parent), "n") == (ids[0],)


async def test_failures_may_be_left_alone(storage: Storage) -> None:
    """With ``continue`` the others go on."""
    parent = await _parent(storage, on_failure="continue")
    await _children(storage, parent, "a", "b")
    (a,) = await claim(storage, limit=1)
    await storage.attempts.finish([end(a, Transition.DISCARD, message="bad")])
    await complete(storage, *await claim(storage))
    row = await storage.scopes.seal(ref(parent), "n")
    assert (row.state, row.alive) == (NurseryState.OPEN, False)


async def test_a_parent_is_closing_until_its_descendants_are_over(storage: Storage) -> None:
    """Whatever its outcome was; its children are cancelled."""
    parent = await _parent(storage)
    ids = await _children(storage, parent, "a", "b")
    (a,) = await claim(storage, limit=1)
    await complete(storage, parent, result="7")
    assert (await look(storage, parent.id)).state is State.CLOSING
    await _tend(storage)
    assert (await look(storage, ids[1])).state is State.CANCELLED
    await complete(storage, a)
    record = await look(storage, parent.id)
    assert (record.state, record.result) == (State.COMPLETED, 7)


async def test_one_cancel_reaches_the_subtree(storage: Storage) -> None:
    """After it no descendant is claimed or enqueued, before the root has ended too; the root is final when all are."""
    parent = await _parent(storage)
    await _children(storage, parent, "a", "b")
    child, _ = await claim(storage)
    await storage.scopes.open(ref(child), "m", on_failure="cancel", seconds=None)
    await storage.scopes.enqueue(ref(child), "m", [Child("x", job("grandchild"))])
    await storage.jobs.cancel(where.id(parent.id), "enough")
    assert await claim(storage, "grandchild", "send") == ()
    number = await storage.jobs.count(EVERYTHING)
    for fresh in (False, True):
        with pytest.raises(AskedToStop):
            await storage.scopes.enqueue(ref(parent), "n", [Child("c", job())], fresh=fresh)
        with pytest.raises(AncestorEnded):
            await storage.scopes.enqueue(ref(child), "m", [Child("y", job("grandchild"))], fresh=fresh)
    assert await storage.jobs.count(EVERYTHING) == number
    await _tend(storage)
    await storage.attempts.finish([end(parent, Transition.CANCEL, message="enough")])
    await _tend(storage)
    for one in [one for one in await storage.jobs.query(EVERYTHING) if one.state is State.EXECUTING]:
        assert one.cancel_reason
    running = (await storage.workers.changes("w1")).cancels
    await storage.attempts.finish([end(one.ref, Transition.CANCEL, message="asked") for one in running])
    await _tend(storage)
    states = {one.state for one in await storage.jobs.query(EVERYTHING)}
    assert states == {State.CANCELLED}


async def test_a_suspended_parent_is_cancelled_with_its_children(storage: Storage) -> None:
    """It is closing at once, whoever else is cancelled with it, and final when they are."""
    parent = await _parent(storage)
    ids = await _children(storage, parent, "a", "b")
    await storage.attempts.finish([end(parent, Transition.SUSPEND, wait=Wait("children", "n"))])
    assert await storage.jobs.cancel(where.id_in([parent.id]), "enough") == (0, 1)
    assert (await look(storage, parent.id)).state is State.CLOSING
    await _tend(storage)
    assert {(await look(storage, job_id)).state for job_id in [parent.id, *ids]} == {State.CANCELLED}


async def test_a_cancellation_changes_one_job_before_it_returns(storage: Storage) -> None:
    """However many descendants a job has: from then on none is claimed, and they end in batches."""
    parent = await _parent(storage)
    await _children(storage, parent, *map(str, range(70)))
    await storage.attempts.finish([end(parent, Transition.SUSPEND, wait=Wait("children", "n"))])
    assert await storage.jobs.cancel(where.id_in([parent.id]), "enough") == (0, 1)
    assert await storage.jobs.count(where.state("available")) == 70
    assert (await look(storage, parent.id)).state is State.CLOSING
    assert await storage.scopes.tend(limit=30) == (30, True, None)
    assert await storage.jobs.count(where.state("available")) == 40
    assert await claim(storage) == ()
    await _tend(storage)
    assert await storage.jobs.count(where.state("cancelled")) == 71


async def _runs_again(storage: Storage, parent: Claimed) -> bool:
    """Open the nursery, and return whether its only member has to run again; if so, let it, and let it fail."""
    await storage.scopes.open(ref(parent), "n", on_failure="continue", seconds=None)
    (member,) = await storage.scopes.members(ref(parent), "n")
    if not member.current:
        await storage.scopes.enqueue(ref(parent), "n", [Child(member.identity, None, member.id)])
        await _fail(storage, await claim(storage))
        (member,) = await storage.scopes.members(ref(parent), "n")
        assert member.current
        return True
    return False


async def _fail(storage: Storage, jobs: tuple[Claimed, ...]) -> None:
    await storage.attempts.finish(
        [end(failed, Transition.DISCARD, end=End.FAILED, message="no") for failed in jobs]
    )


async def test_a_crash_runs_no_child_again(storage: Storage) -> None:
    """A failed attempt of the parent, or an operator's rerun, runs a child again that failed; a crash does not."""
    parent = await start(storage, job("parent", max_attempts=4))
    await storage.scopes.open(ref(parent), "n", on_failure="continue", seconds=None)
    await _fail(storage, await _claimed_children(storage, parent, "a"))
    await storage.attempts.finish([end(parent, Transition.RETRY, end=End.FAILED, message="no", delay=0)])
    (parent,) = await claim(storage, "parent")
    assert await _runs_again(storage, parent)
    await storage.workers.rescue()  # nobody has registered the worker, so it counts as dead
    (parent,) = await claim(storage, "parent")
    assert not await _runs_again(storage, parent)
    await storage.attempts.finish([end(parent, Transition.RETRY, end=End.FAILED, message="no", delay=0)])
    (parent,) = await claim(storage, "parent")
    assert await _runs_again(storage, parent)
    await storage.workers.rescue()  # it was the last attempt
    assert (await look(storage, parent.id)).state is State.DISCARDED
    await storage.jobs.rerun(where.id_in([parent.id]))
    (parent,) = await claim(storage, "parent")
    assert await _runs_again(storage, parent)


@pytest.mark.parametrize("children", [(), ("a", "b")], ids=["alone", "with children"])
async def test_a_parent_that_a_dead_worker_has_parked_is_cancelled(
    storage: Storage, children: tuple[str, ...]
) -> None:
    """It is asked to stop while it is parked, and its worker dies. Another parked job waits on without that worker."""
    other, parent = await start(storage), await _parent(storage)
    ids = await _children(storage, parent, *children)
    for waiting in (other, parent):
        await storage.scopes.receive(ref(waiting), "x", 0, within=None)
        wait = Wait("message", "x", parked=True)
        await storage.attempts.finish([end(waiting, Transition.SUSPEND, wait=wait)])
    await storage.jobs.cancel(where.id_in([parent.id]), "enough")
    await storage.workers.rescue()  # nobody has registered the worker, so it counts as dead
    assert (await look(storage, parent.id)).state is (State.CLOSING if children else State.CANCELLED)
    await _tend(storage)
    assert {(await look(storage, job_id)).state for job_id in [parent.id, *ids]} == {State.CANCELLED}
    await storage.scopes.send(other.id, "x", "1")
    assert [one.id for one in await claim(storage, worker="w2")] == [other.id]


async def test_nothing_is_added_without_the_lease(storage: Storage) -> None:
    """Every call of an attempt that has lost its job is refused, and changes nothing."""
    parent = await _parent(storage)
    stale = JobRef(parent.id, parent.lease + 1)
    scopes = storage.scopes
    for call in (
        lambda: scopes.open(stale, "m", on_failure="cancel", seconds=None),
        lambda: scopes.enqueue(stale, "n", [Child("a", job())]),
        lambda: scopes.enqueue(stale, "n", [Child("a", job())], fresh=True),
        lambda: scopes.seal(stale, "n"),
        lambda: scopes.receive(stale, "x", 0, within=None),
        lambda: scopes.sleep(stale, "x", seconds=1),
    ):
        with pytest.raises(LeaseLost):
            await call()
    assert await storage.jobs.count(EVERYTHING) == 1


async def test_a_sealed_nursery_takes_reruns_only_when_it_is_open(storage: Storage) -> None:
    """A failed attempt opens it again; a member that did not complete runs again with a fresh count."""
    parent = await _parent(storage)
    ids = await _children(storage, parent, "a", max_attempts=1)
    (a,) = await claim(storage)
    await storage.attempts.finish([end(a, Transition.DISCARD, message="bad")])
    await storage.scopes.seal(ref(parent), "n")
    await storage.attempts.finish([end(parent, Transition.RETRY, message="bad")])
    (again,) = await claim(storage, "parent")
    row = await storage.scopes.open(ref(again), "n", on_failure="cancel", seconds=None)
    assert (row.state, row.sealed, row.retried) == (NurseryState.OPEN, False, True)
    rerun = await storage.scopes.enqueue(ref(again), "n", [Child("a", None, ids[0])])
    assert [one.id for one in rerun] == ids
    record = await look(storage, ids[0])
    assert (record.state, record.finished_at) == (State.AVAILABLE, None)


async def test_a_nursery_has_a_deadline(engine: Engine) -> None:
    """When it passes, the members are ended and the nursery is too slow."""
    storage = engine.storage
    parent = await _parent(storage, seconds=60)
    ids = await _children(storage, parent, "a")
    tended = await storage.scopes.tend()
    assert tended.next_due == pytest.approx(60, abs=30)
    await engine.advance(61)
    await _tend(storage)
    assert (await look(storage, ids[0])).state is State.CANCELLED
    assert (await storage.scopes.seal(ref(parent), "n")).state is NurseryState.TOO_SLOW


# ------------------------------------------------------------------ messages and sleeps


async def test_a_message_is_received_once(storage: Storage) -> None:
    """In the order of sending; the same number gets the same answer again."""
    waiting = await start(storage)
    assert await storage.scopes.receive(ref(waiting), "x", 0, within=None) == Answer("")
    assert await storage.scopes.send(waiting.id, "x", '"one"', key="k")
    assert not await storage.scopes.send(waiting.id, "x", '"two"', key="k")
    assert await storage.scopes.send(waiting.id, "x", '"three"')
    for number, value in ((0, '"one"'), (0, '"one"'), (1, '"three"')):
        assert await storage.scopes.receive(ref(waiting), "x", number, within=None) == Answer(
            "message", value
        )
    assert await storage.scopes.receive(ref(waiting), "x", 2, within=None) == Answer("")


async def test_a_message_wakes_who_is_suspended_for_it(storage: Storage) -> None:
    """One of another name does not."""
    waiting = await start(storage)
    await storage.scopes.receive(ref(waiting), "x", 0, within=None)
    await storage.attempts.finish([end(waiting, Transition.SUSPEND, wait=Wait("message", "x"))])
    await storage.scopes.send(waiting.id, "y", "1")
    assert (await look(storage, waiting.id)).state is State.SUSPENDED
    await storage.scopes.send(waiting.id, "x", "1")
    assert [one.id for one in await claim(storage)] == [waiting.id]


async def test_who_can_be_sent_to(storage: Storage) -> None:
    """Waiting and running jobs; not those that have ended, or do not exist."""
    (scheduled,) = await add(storage, job(delay=timedelta(minutes=1)))
    assert await storage.scopes.send(scheduled, "x", "1")
    done = await start(storage)
    await complete(storage, done)
    with pytest.raises(JobStateError, match=f"job {done.id}"):
        await storage.scopes.send(done.id, "x", "1")
    with pytest.raises(JobNotFound):
        await storage.scopes.send(10**9, "x", "1")


async def test_a_limit_of_a_wait_is_decided_once(engine: Engine) -> None:
    """Later calls do not move it, and what was too slow stays so, whatever comes later."""
    storage = engine.storage
    waiting = await start(storage)
    assert await storage.scopes.receive(ref(waiting), "x", 0, within=60) == Answer("")
    await storage.attempts.finish([end(waiting, Transition.SUSPEND, wait=Wait("message", "x"))])
    await engine.advance(61)
    await _tend(storage)
    (again,) = await claim(storage)
    assert await storage.scopes.receive(ref(again), "x", 0, within=3600) == Answer("too_slow")
    await storage.scopes.send(waiting.id, "x", "1")
    assert await storage.scopes.receive(ref(again), "x", 0, within=60) == Answer("too_slow")
    assert await storage.scopes.receive(ref(again), "x", 1, within=60) == Answer("message", "1")


async def test_a_sleep_is_decided_once(engine: Engine) -> None:
    """Its end stays; the suspended job is due then."""
    storage = engine.storage
    sleeper = await start(storage)
    assert await storage.scopes.sleep(ref(sleeper), "nap", seconds=60) == pytest.approx(60, abs=1)
    await storage.attempts.finish([end(sleeper, Transition.SUSPEND, wait=Wait("sleep", "nap"))])
    assert await claim(storage) == ()
    await engine.advance(61)
    await _tend(storage)
    (again,) = await claim(storage)
    assert await storage.scopes.sleep(ref(again), "nap", seconds=600) <= 0


async def test_a_checkpoint_may_forget_the_past(storage: Storage) -> None:
    """Answers and steps of before are dropped with it, so that counts begin anew."""
    actor = await start(storage)
    await storage.attempts.save_step(ref(actor), "step", "1")
    await storage.scopes.send(actor.id, "x", "1")
    assert await storage.scopes.receive(ref(actor), "x", 0, within=None) == Answer("message", "1")
    await storage.attempts.save(ref(actor), saved='"state"', forget=True)
    assert await storage.attempts.steps(ref(actor)) == {}
    assert await storage.scopes.receive(ref(actor), "x", 0, within=None) == Answer("")
    assert (await look(storage, actor.id)).saved == "state"


# ------------------------------------------------------------------ deadlines


@pytest.mark.parametrize("started", [False, True])
async def test_a_job_has_a_deadline(engine: Engine, started: bool) -> None:
    """It ends as discarded; a running one is told."""
    storage = engine.storage
    (id,) = await add(storage, job(deadline=timedelta(seconds=60)))
    claimed = await claim(storage) if started else ()
    await engine.advance(61)
    await _tend(storage)
    if started:
        (request,) = (await storage.workers.changes("w1")).cancels
        assert (request.ref, request.stop) == (ref(claimed[0]), "timeout")
        await storage.attempts.finish([end(claimed[0], Transition.RETRY, message="stopped")])
    record = await look(storage, id)
    assert record.state is State.DISCARDED
    assert len(record.attempts) == 1


async def _closing_for_a_retry(storage: Storage, **options: Any) -> tuple[Claimed, Claimed]:
    """Return a parent whose attempt has failed, and its child, which a worker still runs."""
    parent = await start(storage, job("parent", **options))
    await storage.scopes.open(ref(parent), "n", on_failure="cancel", seconds=None)
    (child,) = await _claimed_children(storage, parent, "a")
    await storage.attempts.finish([end(parent, Transition.RETRY, message="bad", delay=0.0)])
    assert (await look(storage, parent.id)).state is State.CLOSING
    return parent, child


async def test_a_closing_job_that_would_be_retried_can_be_cancelled(storage: Storage) -> None:
    """It is cancelled when its children are over; others that are closing stay as they were decided."""
    parent, child = await _closing_for_a_retry(storage)
    assert await storage.jobs.cancel(where.id(parent.id), "enough") == (0, 1)
    assert await storage.jobs.cancel(where.id(parent.id), "again") == (0, 0)
    record = await look(storage, parent.id)
    assert (record.state, record.cancel_reason) == (State.CLOSING, "enough")
    assert await storage.attempts.finish([end(parent, Transition.RETRY, message="bad", delay=0.0)]) == ()
    await _tend(storage)
    await storage.attempts.finish([end(child, Transition.CANCEL, message="asked")])
    record = await look(storage, parent.id)
    assert (record.state, record.cancel_reason, len(record.attempts)) == (State.CANCELLED, "enough", 1)
    assert await claim(storage, "parent") == ()


async def test_a_deadline_passes_while_a_job_is_closing(engine: Engine) -> None:
    """It is discarded when its children are over, and not retried."""
    parent, child = await _closing_for_a_retry(engine.storage, deadline=timedelta(seconds=60))
    await engine.advance(61)
    await _tend(engine.storage)
    assert (await look(engine.storage, parent.id)).state is State.CLOSING
    await engine.storage.attempts.finish([end(child, Transition.CANCEL, message="asked")])
    record = await look(engine.storage, parent.id)
    assert record.state is State.DISCARDED
    assert {one.end for one in record.attempts} == {End.FAILED, End.TIMED_OUT}


async def test_a_job_expires_only_before_its_start(engine: Engine) -> None:
    """One that has started goes on; one that has not is discarded, and is not claimed before."""
    storage = engine.storage
    ids = await add(storage, *(job(expires=timedelta(seconds=60)) for _ in range(2)))
    (running,) = await claim(storage, limit=1)
    await engine.advance(61)
    assert await claim(storage) == ()
    await _tend(storage)
    assert (await look(storage, ids[0])).state is State.EXECUTING
    record = await look(storage, ids[1])
    assert (record.state, [one.end for one in record.attempts]) == (State.DISCARDED, [End.EXPIRED])
    await storage.attempts.finish([end(running, Transition.RETRY, message="no")])
    assert [one.id for one in await claim(storage)] == [running.id]


async def test_a_parked_job_is_its_workers_own(storage: Storage) -> None:
    """It counts as running nowhere; when its wait is over, only its worker may claim it; a rescue frees it."""
    waiting = await start(storage)
    await storage.scopes.receive(ref(waiting), "x", 0, within=None)
    await storage.attempts.finish([end(waiting, Transition.SUSPEND, wait=Wait("message", "x", parked=True))])
    assert all(one.executing == 0 for one in await storage.queues.all())
    await storage.scopes.send(waiting.id, "x", "1")
    assert await claim(storage, worker="w2") == ()
    (again,) = await claim(storage)
    assert again.id == waiting.id
    await storage.attempts.finish([end(again, Transition.SUSPEND, wait=Wait("message", "y", parked=True))])
    await storage.workers.rescue()  # nobody has registered the worker, so it counts as dead
    await storage.scopes.send(waiting.id, "y", "1")
    assert [one.id for one in await claim(storage, worker="w2")] == [waiting.id]


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"cluster_limit": 9},
        {"key": "args.tenant", "per_key": 9},
        {"key": "args.tenant", "per_key": 9, "fair": True},
        {"rate": Rate(9, per=1)},
    ],
    ids=["none", "cluster", "key", "turns", "rate"],
)
@pytest.mark.parametrize("woken", ["before", "after"])
async def test_a_parked_job_that_is_asked_to_stop_is_not_claimed(
    storage: Storage, limits: dict[str, Any], woken: str
) -> None:
    """Its worker ends it under the lease that it has. Under another one, the request would not reach its attempt."""
    await claim(storage, **limits)  # stores the key's setting
    await storage.jobs.insert([job(args={"tenant": "a"})])
    (parked,) = await claim(storage, **limits)
    await storage.scopes.receive(ref(parked), "x", 0, within=None)
    await storage.attempts.finish([end(parked, Transition.SUSPEND, wait=Wait("message", "x", parked=True))])
    if woken == "before":
        await storage.scopes.send(parked.id, "x", "1")
    assert await storage.jobs.cancel(where.id_in([parked.id]), "enough") == (0, 1)
    if woken == "after":
        await storage.scopes.send(parked.id, "x", "1")
    assert await claim(storage, **limits) == ()
    assert await storage.attempts.finish([end(parked, Transition.CANCEL, message="enough")]) == ()
    record = await look(storage, parked.id)
    assert (record.state, record.cancel_reason) == (State.CANCELLED, "enough")


async def test_a_parked_job_whose_claim_got_lost_stays_with_its_worker(storage: Storage) -> None:
    """Its coroutine is in that worker, which does not know of the claim."""
    waiting = await start(storage)
    await storage.scopes.receive(ref(waiting), "x", 0, within=None)
    await storage.attempts.finish([end(waiting, Transition.SUSPEND, wait=Wait("message", "x", parked=True))])
    await storage.scopes.send(waiting.id, "x", "1")
    assert len(await claim(storage)) == 1
    assert await storage.attempts.release_unknown("w1", "default", []) == 1
    assert await claim(storage, worker="w2") == ()
    (again,) = await claim(storage)
    assert (again.id, again.attempt) == (waiting.id, waiting.attempt)


@pytest.mark.parametrize("limits", [{}, {"cluster_limit": 9}], ids=["none", "cluster"])
async def test_a_parked_job_that_goes_back_unstarted_stays_with_its_worker(
    storage: Storage, limits: dict[str, Any]
) -> None:
    """The worker has its coroutine. If it is asked to stop, it ends at once."""
    waiting = await start(storage)
    await storage.scopes.receive(ref(waiting), "x", 0, within=None)
    await storage.attempts.finish([end(waiting, Transition.SUSPEND, wait=Wait("message", "x", parked=True))])
    await storage.scopes.send(waiting.id, "x", "1")
    for _ in range(2):
        (again,) = await claim(storage, **limits)
        assert (again.id, again.attempt) == (waiting.id, waiting.attempt)
        back = end(again, Transition.GIVE_BACK, end=None)
        exchange = await storage.attempts.exchange([back], ask(limit=0, worker="w2", **limits))
        assert exchange.refused == ()
        assert await claim(storage, worker="w2", **limits) == ()
    (again,) = await claim(storage, **limits)
    await storage.jobs.cancel(where.id(again.id), "enough")
    assert await storage.attempts.finish([end(again, Transition.GIVE_BACK, end=None)]) == ()
    assert (await look(storage, again.id)).state is State.CANCELLED


@pytest.mark.parametrize(
    "event",
    [Transition.RETRY, Transition.SNOOZE, Transition.GIVE_BACK, Transition.COMPLETE, Transition.DISCARD],
)
async def test_a_lost_claim_of_a_job_that_was_parked_once_is_for_everybody(
    storage: Storage, event: Transition
) -> None:
    """Its attempt has ended since, or it was rerun: nobody has its coroutine."""
    waiting = await start(storage)
    await storage.scopes.receive(ref(waiting), "x", 0, within=None)
    await storage.attempts.finish([end(waiting, Transition.SUSPEND, wait=Wait("message", "x", parked=True))])
    await storage.scopes.send(waiting.id, "x", "1")
    (again,) = await claim(storage)
    assert await storage.attempts.finish([end(again, event)]) == ()
    await storage.jobs.rerun(where.id(again.id))
    assert len(await claim(storage)) == 1
    assert await storage.attempts.release_unknown("w1", "default", []) == 1
    assert [one.id for one in await claim(storage, worker="w2")] == [again.id]


@pytest.mark.parametrize("limits", [{}, {"cluster_limit": 9}], ids=["none", "cluster"])
@pytest.mark.parametrize("event", [Transition.COMPLETE, Transition.CANCEL])
async def test_a_child_that_has_to_close_is_not_over_whatever_is_claimed_with_its_end(
    storage: Storage, event: Transition, limits: dict[str, Any]
) -> None:
    """Its parent is closing, too, and has no other child."""
    parent = await _parent(storage)
    await storage.scopes.enqueue(ref(parent), "n", [Child("a", job("parent"))])
    (child,) = await claim(storage, "parent", **limits)
    await storage.scopes.open(ref(child), "n", on_failure="cancel", seconds=None)
    await storage.scopes.enqueue(ref(child), "n", [Child("a", job("leaf"))])
    await storage.attempts.finish([end(parent, Transition.CANCEL, message="enough")])
    await storage.jobs.insert([job("parent", queue="default")])
    exchange = await storage.attempts.exchange([end(child, event, message="x")], ask("parent", **limits))
    assert len(exchange.jobs) == 1
    assert [(await look(storage, job_id)).state for job_id in (parent.id, child.id)] == [State.CLOSING] * 2


@pytest.mark.parametrize("limits", [{}, {"cluster_limit": 9}], ids=["none", "cluster"])
async def test_who_waits_for_a_job_that_has_to_close_goes_on_when_that_is_over(
    storage: Storage, limits: dict[str, Any]
) -> None:
    """`After` waits for the children of that job too, whatever is claimed with its end."""
    parent = await _parent(storage)
    await _children(storage, parent, "a", name="leaf")
    waits = await start(storage, job("waits"))
    await storage.attempts.finish([end(waits, Transition.SNOOZE, children=(parent.id,))])
    await storage.jobs.insert([job("parent")])
    exchange = await storage.attempts.exchange([end(parent)], ask("parent", **limits))
    assert len(exchange.jobs) == 1
    assert (await look(storage, parent.id)).state is State.CLOSING
    assert await claim(storage, "waits") == ()
    await storage.scopes.tend()
    assert (await look(storage, parent.id)).state is State.COMPLETED
    assert [one.id for one in await claim(storage, "waits")] == [waits.id]


async def test_a_repeated_end_of_a_child_that_is_closing_does_not_end_it(storage: Storage) -> None:
    """The reply to the first one was lost. Its own child lives, and so its parent waits."""
    parent = await _parent(storage)
    await storage.scopes.enqueue(ref(parent), "n", [Child("a", job("parent"))])
    (child,) = await claim(storage, "parent")
    await storage.scopes.open(ref(child), "n", on_failure="cancel", seconds=None)
    await storage.scopes.enqueue(ref(child), "n", [Child("a", job("leaf"))])
    for _ in range(2):
        assert await storage.attempts.finish([end(child, result="1")]) == ()
        assert (await look(storage, child.id)).state is State.CLOSING
    await storage.attempts.finish([end(parent, Transition.SUSPEND, wait=Wait("children", "n", parked=True))])
    assert (await look(storage, parent.id)).state is State.SUSPENDED


async def test_a_late_outcome_of_a_parent_is_refused(storage: Storage) -> None:
    """A rescued parent keeps its children; the old attempt cannot add any."""
    parent = await _parent(storage)
    ids = await _children(storage, parent, "a")
    await storage.workers.rescue()
    with pytest.raises(LeaseLost):
        await storage.scopes.enqueue(ref(parent), "n", [Child("b", job())])
    (again,) = await claim(storage, "parent")
    row = await storage.scopes.open(ref(again), "n", on_failure="cancel", seconds=None)
    assert (row.state, row.alive, row.sealed) == (NurseryState.OPEN, True, False)
    assert [one.id for one in await storage.scopes.members(ref(again), "n")] == ids
