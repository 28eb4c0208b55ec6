"""Whatever a job raises, wherever it runs, its attempt fails; the jobs beside it and the worker notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable
from typing import Any

import pytest
import trio
from tests.runtime.test_fencing import scene
from trio.testing import MockClock

import jobrt
from jobrt import End, State
from jobrt.events import ActorRestarted, JobEnded


class Unheard(BaseException):
    """An error of an application's own."""


class Mute(Exception):
    """An error that cannot be put into words."""

    def __str__(self) -> str:
        raise self


class Rude(Exception):
    """An error that raises worse when it is put into words."""

    def __str__(self) -> str:
        raise KeyboardInterrupt


def _cancelled() -> BaseException:
    return trio.Cancelled._create(source="unknown", reason=None, source_task=None)


KINDS: dict[str, Callable[[], BaseException]] = {
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": SystemExit,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "BaseException": BaseException,
    "Unheard": Unheard,
    "Mute": Mute,
    "Rude": Rude,
    "Cancelled": _cancelled,
    "BaseExceptionGroup": lambda: BaseExceptionGroup("two", [KeyboardInterrupt(), ValueError()]),
    "RecursionError": RecursionError,
}


def _made(what: str) -> BaseException:
    return KINDS[what]()


class InTrio(jobrt.Job):
    """Raise in Trio, in the task or in a child of it."""

    MAX_ATTEMPTS = 2
    BACKOFF = lambda record: 0.01  # noqa: E731
    what: str
    in_a_child: bool = False

    async def run(self, ctx: jobrt.Context) -> None:
        if not self.in_a_child:
            raise _made(self.what)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.child)
            await trio.sleep_forever()

    async def child(self) -> None:
        """Raise it."""
        raise _made(self.what)


class InThread(jobrt.Job):
    """Raise in a thread."""

    MAX_ATTEMPTS = 2
    BACKOFF = lambda record: 0.01  # noqa: E731
    what: str

    def run(self, ctx: jobrt.Context) -> None:
        raise _made(self.what)


class Beside(jobrt.Job):
    """Run beside the others."""

    async def run(self, ctx: jobrt.Context) -> str:
        await ctx.state.wait()
        return "undisturbed"


async def _end_of_all(jobs: list[Any]) -> list[jobrt.JobRecord]:
    """Run the jobs beside a neighbour in one worker, and return their records; nothing else may happen."""
    over = trio.Event()
    with trio.fail_after(60):
        async with (
            scene(lambda _: None, [type(jobs[0]), Beside], state=over) as here,
            trio.open_nursery() as nursery,
        ):
            worker = await nursery.start(here.app.run_worker)
            beside = await here.client.enqueue(Beside())
            records = [await one.wait() for one in await here.client.enqueue_many(jobs)]
            over.set()
            assert await beside.result() == "undisturbed"
            assert (await here.client.get(beside.id)).attempt == 1
            await worker.stop()
        assert [one for one in here.events if isinstance(one, ActorRestarted)] == []
        assert all(one.message for one in here.events if isinstance(one, JobEnded) and one.error_type)
    return records


# Of a child's `Cancelled` Trio's nursery thinks that it is its own.
@pytest.mark.parametrize(
    ("what", "in_a_child"),
    [(what, False) for what in KINDS] + [(what, True) for what in KINDS if what != "Cancelled"],
)
async def test_it_fails_the_attempt_in_trio(what: str, in_a_child: bool, autojump_clock: MockClock) -> None:
    """The attempt counts, is recorded under its type, and the last one discards the job."""
    (record,) = await _end_of_all([InTrio(what, in_a_child)])
    assert (record.state, record.attempt) == (State.DISCARDED, 2)
    assert [one.end for one in record.attempts] == [End.FAILED] * 2
    assert {one.error_type for one in record.attempts} == {what}


async def test_it_fails_the_attempt_in_a_thread() -> None:
    """As in Trio."""
    for record in await _end_of_all([InThread(what) for what in KINDS]):
        assert (record.state, record.attempt) == (State.DISCARDED, 2)
        assert {(one.end, one.error_type) for one in record.attempts} == {(End.FAILED, record.args["what"])}


class Strategic(jobrt.Job):
    """Fail, and have strategies that raise what no strategy should."""

    MAX_ATTEMPTS = 1
    strategy: str

    TIMEOUT = lambda record: _raise(record, "TIMEOUT")  # noqa: E731
    BACKOFF = lambda record: _raise(record, "BACKOFF")  # noqa: E731
    RETRY = lambda state: _raise(None, "RETRY")  # noqa: E731

    async def run(self, ctx: jobrt.Context) -> None:
        raise ValueError("the job's own")


def _raise(record: jobrt.JobRecord | None, which: str) -> Any:
    if record is None or record.args["strategy"] == which:
        raise KeyboardInterrupt(which)


@pytest.mark.parametrize("strategy", ["TIMEOUT", "BACKOFF", "RETRY"])
async def test_what_a_strategy_raises_is_in_the_record(strategy: str, autojump_clock: MockClock) -> None:
    """TIMEOUT decides before the attempt, and its error is the attempt's; RETRY and BACKOFF add a warning."""
    (record,) = await _end_of_all([Strategic(strategy)])
    (attempt,) = record.attempts
    assert attempt.end is End.FAILED
    assert attempt.error_type == ("KeyboardInterrupt" if strategy == "TIMEOUT" else "ValueError")
    assert strategy in attempt.message


class Shouting(jobrt.Job):
    """Raise something else when told to stop."""

    TIMEOUT = 1
    MAX_ATTEMPTS = 1
    what: str

    async def run(self, ctx: jobrt.Context) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise _made(self.what)


@pytest.mark.parametrize("what", KINDS)
async def test_what_it_raises_at_its_time_limit_hides_nothing(what: str, autojump_clock: MockClock) -> None:
    """It has timed out; of a `Cancelled` there is nothing more to tell."""
    (record,) = await _end_of_all([Shouting(what)])
    (attempt,) = record.attempts
    assert attempt.end is End.TIMED_OUT
    assert attempt.message.startswith("timed out after 1 s")
    assert attempt.error_type == (None if what == "Cancelled" else what)


@pytest.mark.parametrize("what", KINDS)
async def test_what_it_raises_when_the_worker_is_cancelled_stays_inside(
    what: str, autojump_clock: MockClock
) -> None:
    """A cancellation from above ends the worker as ever, and the job is given back with no attempt used."""
    async with scene(lambda _: None, [Shouting]) as here:
        handle = await here.client.enqueue(Shouting(what))
        with trio.move_on_after(0.5) as scope:
            await here.app.run_worker()
        assert scope.cancelled_caught
        record = await here.client.get(handle.id)
    assert (record.state, record.attempt) == (State.AVAILABLE, 0)


async def test_a_crash_of_trio_itself_gives_the_jobs_back() -> None:
    """It ends the program, in order; that is the application's affair, whose job started such a task."""

    class Parked(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            ctx.state.append("began")
            await trio.sleep_forever()

    began: list[str] = []

    def crash() -> None:
        async def main() -> None:
            async with scene(lambda _: None, [Parked], state=began) as here:
                await here.client.enqueue(Parked())
                async with trio.open_nursery() as nursery:
                    await nursery.start(here.app.run_worker)
                    while not began:
                        await trio.sleep(0.001)
                    trio.lowlevel.spawn_system_task(_crash)
                    await trio.sleep_forever()

        with pytest.raises(trio.TrioInternalError):
            trio.run(main)
        gc.collect()

    with trio.fail_after(30):
        await trio.to_thread.run_sync(crash)
    assert began == ["began"]


async def _crash() -> None:
    raise ZeroDivisionError


# ------------------------------------------------------------------ asyncio


class InAsyncio(jobrt.Job):
    """Raise under asyncio: in the task, in one that it awaits, in one that it leaves, in a callback."""

    RUN_IN = "asyncio"
    MAX_ATTEMPTS = 2
    BACKOFF = lambda record: 0.01  # noqa: E731
    what: str
    where: str = "run"

    async def run(self, ctx: jobrt.Context) -> str:
        await asyncio.sleep(0)
        if self.where == "run":
            raise _made(self.what)
        if self.where == "gather":
            await asyncio.gather(self.other())
        elif self.where == "callback":
            asyncio.get_running_loop().call_soon(self.plain)
        else:
            task = asyncio.ensure_future(self.other())
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # or asyncio logs that nobody asked
        await asyncio.sleep(0.01)
        return "left it behind"

    async def other(self) -> None:
        """Raise it in another task."""
        raise _made(self.what)

    def plain(self) -> None:
        """Raise it in a callback."""
        raise _made(self.what)


class AsyncBeside(jobrt.Job):
    """Run under asyncio while the others do."""

    RUN_IN = "asyncio"

    async def run(self, ctx: jobrt.Context) -> str:
        while not ctx.state.is_set():
            await asyncio.sleep(0.001)
        return "undisturbed"


@pytest.mark.parametrize("where", ["run", "gather", "left", "callback"])
async def test_it_fails_the_attempt_under_asyncio(where: str) -> None:
    """The loop goes on, with the jobs beside it; what nobody awaits harms nobody."""
    over = trio.Event()
    jobs = [InAsyncio(what, where) for what in KINDS]
    with trio.fail_after(60):
        async with (
            scene(lambda _: None, [InAsyncio, AsyncBeside], queues={"default": 20}, state=over) as here,
            trio.open_nursery() as nursery,
        ):
            worker = await nursery.start(here.app.run_worker)
            beside = await here.client.enqueue(AsyncBeside())
            records = [await one.wait() for one in await here.client.enqueue_many(jobs)]
            over.set()
            assert await beside.result() == "undisturbed"
            assert (await here.client.get(beside.id)).attempt == 1
            await worker.stop()
    for record in records:
        if where in {"left", "callback"}:
            assert record.result == "left it behind"
            continue
        assert (record.state, record.attempt) == (State.DISCARDED, 2)
        assert {(one.end, one.error_type) for one in record.attempts} == {(End.FAILED, record.args["what"])}


class Meddling(jobrt.Job):
    """Do to the loop what only its owner may."""

    RUN_IN = "asyncio"
    MAX_ATTEMPTS = 1
    what: str

    async def run(self, ctx: jobrt.Context) -> None:
        loop = asyncio.get_running_loop()
        match self.what:
            case "stop":
                loop.stop()
            case "close":
                loop.close()
            case "handler":
                loop.default_exception_handler({"message": "said by a job"})
            case "fail":  # a bug in the loop itself
                loop._nursery.start_soon(_crash)  # type: ignore[attr-defined]
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        ("stop", "RuntimeError", "loop.stop(): this asyncio loop is the worker's"),
        ("close", "RuntimeError", "loop.close(): this asyncio loop is the worker's"),
        ("handler", None, ""),
        ("fail", "LoopClosed", "the asyncio loop of the worker ended before this job"),
    ],
)
async def test_the_loop_is_not_a_jobs_to_end(what: str, error: str | None, words: str) -> None:
    """It refuses; and if it fails after all, its attempts say so, the next one gets another, and the worker stops."""
    with trio.fail_after(30):
        async with scene(lambda _: None, [Meddling, InAsyncio]) as here, trio.open_nursery() as nursery:
            worker = await nursery.start(here.app.run_worker)
            record = await (await here.client.enqueue(Meddling(what))).wait()
            (attempt,) = record.attempts
            assert attempt.error_type == error
            assert words in (attempt.message or "")
            after = await (await here.client.enqueue(InAsyncio("SystemExit", "left"))).result()
            assert after == "left it behind"
            await worker.stop()
        assert [one for one in here.events if isinstance(one, ActorRestarted)] == []


class Leaving(jobrt.Job):
    """Leave a task that does not listen."""

    RUN_IN = "asyncio"

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.state.append(asyncio.ensure_future(self.stubborn()))
        await asyncio.sleep(0)

    async def stubborn(self) -> None:
        """Go on whatever anybody says."""
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)


async def test_a_task_left_under_asyncio_does_not_hold_up_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cancelled, given its time, and left alone."""
    from jobrt._runtime import asyncio_loop

    monkeypatch.setattr(asyncio_loop, "_LEAVE", 0.05)
    left: list[asyncio.Task[None]] = []
    with trio.fail_after(30):
        async with scene(lambda _: None, [Leaving], state=left) as here, trio.open_nursery() as nursery:
            worker = await nursery.start(here.app.run_worker)
            await (await here.client.enqueue(Leaving())).wait()
            await worker.stop()
    left[0]._log_destroy_pending = False  # type: ignore[attr-defined]
    assert not left[0].done()


class Deaf(jobrt.Job):
    """Wait in an asyncio job that is over at its time limit alone."""

    RUN_IN = "asyncio"
    TIMEOUT = 0.05
    MAX_ATTEMPTS = 1

    async def run(self, ctx: jobrt.Context) -> None:
        await asyncio.gather(asyncio.sleep(3600), self.exits(), return_exceptions=True)
        await asyncio.sleep(3600)

    async def exits(self) -> None:
        """Exit, as a library may."""
        raise SystemExit(4)


async def test_a_time_limit_holds_under_asyncio_after_an_exit() -> None:
    """The loop still runs what cancels the job."""
    with trio.fail_after(30):
        async with scene(lambda _: None, [Deaf]) as here, trio.open_nursery() as nursery:
            worker = await nursery.start(here.app.run_worker)
            record = await (await here.client.enqueue(Deaf())).wait()
            await worker.stop()
    assert [one.end for one in record.attempts] == [End.TIMED_OUT]
