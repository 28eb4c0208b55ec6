"""An outcome that the storage refuses delays no other, and its job does not stay claimed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from tests.runtime.test_fencing import scene
from tests.support.roles import Replaced
from trio.testing import MockClock

import jobrt
from jobrt import End, State, where
from jobrt.errors import StorageError
from jobrt.events import ActorRestarted, OutcomeLost

if TYPE_CHECKING:
    from jobrt._runtime.worker import Worker


class Work(jobrt.Job):
    """Job that returns the value asked for."""

    MAX_ATTEMPTS = 2

    what: str = "fine"

    async def run(self, ctx: jobrt.Context) -> Any:
        await trio.sleep(1)
        if self.what == "cancel":
            return jobrt.Cancel("poison")
        return self.what


@attrs.define(eq=False)
class Picky:
    """Attempt store that refuses each batch with an outcome for which `refuses` returns true."""

    real: Any
    refuses: Any
    error: Exception = attrs.Factory(lambda: StorageError("no room for \x00 and \ud800"))
    calls: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    async def exchange(self, outcomes: Any, demand: Any) -> Any:
        self._look(outcomes)
        return await self.real.exchange(outcomes, demand)

    async def finish(self, outcomes: Any) -> Any:
        await trio.lowlevel.checkpoint()  # like a real database: other tasks run meanwhile
        self._look(outcomes)
        return await self.real.finish(outcomes)

    def _look(self, outcomes: Any) -> None:
        self.calls += 1
        if any(self.refuses(one) for one in outcomes):
            raise self.error


def _picky(storage: Any, refuses: Any, **more: Any) -> Any:
    return Replaced(storage, attempts=Picky(storage.attempts, refuses, **more))


def _poisonous(outcome: Any) -> bool:
    return "poison" in (outcome.result or "") or outcome.message == "poison"


@pytest.mark.parametrize(
    "error",
    [
        StorageError("no room for \x00 and \ud800"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
        TypeError("a driver's own"),
        RecursionError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_it_ends_as_a_failed_attempt_that_says_so(error: Exception, autojump_clock: MockClock) -> None:
    """The others of its batch are written as they are, whatever the storage raises; no actor is restarted."""
    async with scene(lambda _: None, [Work], queues={"default": 20}) as here, trio.open_nursery() as nursery:
        here.app._storage = _picky(here.app._storage, _poisonous, error=error)
        handles = await here.client.enqueue_many([Work("poison"), *[Work() for _ in range(10)]])
        worker = await nursery.start(here.app.run_worker)
        with trio.fail_after(30):
            bad, *good = [await one.wait() for one in handles]
        with trio.fail_after(5):
            await worker.stop()
    assert {(one.state, one.attempt) for one in good} == {(State.COMPLETED, 1)}
    assert bad.state is State.DISCARDED
    assert [one.end for one in bad.attempts] == [End.FAILED, End.FAILED]
    assert bad.attempts[0].error_type == type(error).__name__
    said = f"its outcome (finished) could not be written: {ascii(str(error))[1:-1] or type(error).__name__}"
    assert bad.attempts[0].message == said
    assert [one for one in here.events if isinstance(one, ActorRestarted)] == []


async def test_a_job_that_cancelled_itself_stays_cancelled(autojump_clock: MockClock) -> None:
    """Only its text is lost."""
    async with scene(lambda _: None, [Work]) as here, trio.open_nursery() as nursery:
        here.app._storage = _picky(here.app._storage, _poisonous)
        handle = await here.client.enqueue(Work("cancel"))
        worker = await nursery.start(here.app.run_worker)
        with trio.fail_after(30):
            record = await handle.wait()
        await worker.stop()
    assert record.state is State.CANCELLED
    assert "could not be written" in record.cancel_reason


@pytest.mark.parametrize("others", [True, False])
async def test_what_cannot_be_written_at_all_is_let_go(others: bool, autojump_clock: MockClock) -> None:
    """If later outcomes are written, it is reported, and its job is claimed again.

    In any case the worker stops in time.
    """
    async with scene(lambda _: None, [Work], queues={"default": 20}) as here, trio.open_nursery() as nursery:
        bad = await here.client.enqueue(Work("poison"))
        here.app._storage = _picky(here.app._storage, lambda outcome: outcome.id == bad.id)
        worker = await nursery.start(here.app.run_worker)
        await trio.sleep(5)
        assert [one for one in here.events if isinstance(one, OutcomeLost)] == [], "storage may be the cause"
        good = [await here.client.enqueue(Work()) for _ in range(3 * others)]
        await trio.sleep(15)
        for one in good:
            assert (await here.client.get(one.id)).state is State.COMPLETED
        assert here.app._storage.attempts.calls < 200, "a busy loop"
        assert [one for one in here.events if isinstance(one, ActorRestarted)] == [], (
            "it would wait for its turn"
        )
        with trio.fail_after(5):
            await worker.stop(grace=0)
        lost = [one for one in here.events if isinstance(one, OutcomeLost)]
        assert bool(lost) is others
        assert {one.id for one in lost} <= {bad.id}
        if others:
            assert await here.client.count(where.state("executing")) == 0


async def test_a_storage_that_takes_nothing_loses_nothing(autojump_clock: MockClock) -> None:
    """A permission is revoked for a minute. Outcomes of that minute are written later, and each job ran once."""
    ill = True
    async with scene(lambda _: None, [Work], queues={"default": 20}) as here, trio.open_nursery() as nursery:
        here.app._storage = _picky(here.app._storage, lambda _: ill)
        handles = await here.client.enqueue_many([Work() for _ in range(5)])
        worker = await nursery.start(here.app.run_worker)
        await trio.sleep(20)
        ill = False
        with trio.fail_after(60):
            records = [await one.wait() for one in handles]
        await worker.stop()
    assert {(one.state, one.attempt, one.result) for one in records} == {(State.COMPLETED, 1, "fine")}


@pytest.mark.parametrize("error", [StorageError("no room"), TypeError("no room")], ids=["its own", "a bug"])
async def test_several_write_one_by_one_at_once(error: Exception, autojump_clock: MockClock) -> None:
    """The worker and each waiting caller get the storage's error, whichever of them took the last outcome."""
    ill, said = True, []

    async def wait_idle(worker: Worker) -> None:
        with pytest.raises(StorageError, match="no room") as caught:
            await worker.wait_idle()
        said.append(caught.value)

    async with scene(lambda _: None, [Work], queues={"default": 20}) as here, trio.open_nursery() as nursery:
        here.app._storage = _picky(here.app._storage, lambda _: ill, error=error)
        handles = await here.client.enqueue_many([Work() for _ in range(3)])
        worker = await nursery.start(here.app.run_worker)
        await trio.sleep(20)
        with trio.fail_after(20):
            async with trio.open_nursery() as waiting:
                for _ in range(2):
                    waiting.start_soon(wait_idle, worker)
        ill = False
        with trio.fail_after(60):
            records = [await one.wait() for one in handles]
        await worker.stop()
    assert len(said) == 2
    assert {(one.state, one.attempt) for one in records} == {(State.COMPLETED, 1)}
    assert [one for one in here.events if isinstance(one, ActorRestarted)] == []
