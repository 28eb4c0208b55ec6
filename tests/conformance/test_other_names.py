"""Queues in which many jobs wait that this worker does not serve: claims are bounded, and find all others."""

from __future__ import annotations

import pytest
import trio

from jobrt._core import where
from jobrt._core.job import JobRef, NewJob
from jobrt._core.states import Transition
from jobrt._storage.contract import Exchange
from tests.conformance.build import add, ask, end, job
from tests.conformance.harness import PATIENCE, Engine, Postgres


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims look at ten jobs of other names."""
    monkeypatch.setattr("jobrt._storage.sqlite.scan.LOOK", 10)
    monkeypatch.setattr("jobrt._storage.postgres.parts.LOOK", 10)
    monkeypatch.setattr("jobrt._core.sweeps.SELDOM", 0.3)


async def pause(engine: Engine, seconds: float) -> None:
    """Let time pass for the client. On PostgreSQL that is real time, and the rows must not be moved."""
    await (trio.sleep if isinstance(engine, Postgres) else engine.advance)(seconds)


async def others_wait(engine: Engine, *jobs: NewJob) -> list[int]:
    """Enqueue jobs a second ago, which is not new."""
    ids = await add(engine.storage, *jobs)
    await engine.advance(1)
    return ids


async def claim_until_found(engine: Engine) -> list[Exchange]:
    """Claim when the last claim said so, as a worker does, until there is a job; return the replies."""
    found: list[Exchange] = []
    with trio.fail_after(PATIENCE):
        while True:
            found.append(await engine.storage.attempts.exchange((), ask("send")))
            if found[-1].jobs:
                return found
            assert found[-1].next_due is not None
            await pause(engine, found[-1].next_due)


async def test_jobs_behind_many_of_other_names_are_found(engine: Engine) -> None:
    """Each claim goes on where the last one ended. A drain must not end before all were looked at."""
    *_, own = await others_wait(engine, *[job("other")] * 35, job("send"))
    found = await claim_until_found(engine)
    assert [claimed.id for claimed in found[-1].jobs] == [own]
    assert 2 <= len(found) <= 5
    assert all(one.held_back for one in found[:-1])


async def test_new_jobs_do_not_wait_for_a_look_at_old_ones(engine: Engine) -> None:
    """They are claimed at once, whatever their priority."""
    await others_wait(engine, *[job("other")] * 35)
    assert not (await engine.storage.attempts.exchange((), ask("send"))).jobs
    for priority in (0, 5, -5, 0):
        (own,) = await add(engine.storage, job("send", priority=priority))
        (claimed,) = (await engine.storage.attempts.exchange((), ask("send"))).jobs
        assert claimed.id == own


async def test_old_and_new_jobs_take_turns(engine: Engine) -> None:
    """However many new ones there are, those behind the others are found, and the other way round."""
    old = (await others_wait(engine, *[job("other")] * 25, *[job("send")] * 5))[25:]
    assert not (await engine.storage.attempts.exchange((), ask("send"))).jobs
    new, got = [], []
    with trio.fail_after(PATIENCE):
        while not set(old) <= set(got):
            new += await add(engine.storage, job("send"), job("send"))
            exchange = await engine.storage.attempts.exchange((), ask("send", limit=1))
            got += [claimed.id for claimed in exchange.jobs]
            await pause(engine, 0.06)
    assert set(got) & set(new)


async def test_a_job_that_went_back_is_found_again(engine: Engine) -> None:
    """Its place is behind the others, where the looks have been."""
    *_, own = await others_wait(engine, *[job("other")] * 25, job("send"))
    *_, last = await claim_until_found(engine)
    back = end(last.jobs[0], Transition.GIVE_BACK)
    await engine.storage.attempts.finish([back])
    *_, last = await claim_until_found(engine)
    assert [claimed.id for claimed in last.jobs] == [own]


async def test_outcomes_are_written_with_any_claim(engine: Engine) -> None:
    """Whether it begins with new jobs or with older ones. Those of unknown claims are refused."""
    await others_wait(engine, *[job("other")] * 25)
    assert not (await engine.storage.attempts.exchange((), ask("send"))).jobs
    for _ in range(4):
        (own,) = await add(engine.storage, job("send"))
        (claimed,) = (await engine.storage.attempts.exchange((), ask("send"))).jobs
        assert claimed.id == own
        assert (await engine.storage.attempts.exchange([end(claimed)], ask("send"))).refused == ()
        (row,) = await engine.storage.jobs.query(where.id(own))
        assert row.state == "completed"
        unknown = JobRef(own, claimed.lease + 1)
        assert (await engine.storage.attempts.exchange([end(unknown)], ask("send"))).refused == (unknown,)


async def test_names_that_are_at_their_number_are_not_passed_by(engine: Engine) -> None:
    """Jobs of a name with a limit are claimed later, wherever a look has ended."""
    await others_wait(engine, *[job("other")] * 15, *[job("rare")] * 15, *[job("send")] * 3)
    got: list[str] = []
    with trio.fail_after(PATIENCE):
        while len(got) < 18:
            exchange = await engine.storage.attempts.exchange((), ask("send", capped=(("rare", 2),)))
            names = [claimed.name for claimed in exchange.jobs]
            assert names.count("rare") <= 2
            got += names
            await pause(engine, 0.05)
    assert sorted(got) == ["rare"] * 15 + ["send"] * 3


async def test_a_claim_that_was_too_slow_is_made_in_parts(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others may come while a client claims. SQLite has the bound in each claim, PostgreSQL then."""
    monkeypatch.setattr("jobrt._storage.postgres.parts.SLOW", -1.0)
    assert (await engine.storage.attempts.exchange((), ask("send"))).jobs == ()
    *_, own = await others_wait(engine, *[job("other")] * 35, job("send"))
    found = await claim_until_found(engine)
    assert [claimed.id for claimed in found[-1].jobs] == [own]
    assert len(found) <= 5


async def test_claims_are_as_before_when_the_others_are_gone(engine: Engine) -> None:
    """Then one claim looks at everything again, and the worker waits for a wake-up."""
    await others_wait(engine, *[job("other")] * 35)
    assert (await engine.storage.attempts.exchange((), ask("send"))).held_back
    while (await engine.storage.attempts.exchange((), ask("other"))).jobs:
        pass
    exchange = None
    with trio.fail_after(PATIENCE):
        while exchange is None or exchange.next_due is not None:
            if exchange is not None:
                await pause(engine, exchange.next_due)
            exchange = await engine.storage.attempts.exchange((), ask("send"))
    assert not exchange.held_back
