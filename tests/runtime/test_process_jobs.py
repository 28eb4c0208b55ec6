"""Jobs in other processes: what their `ctx` has, how they hear of their end, and how their errors come back."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
import tenacity
import trio
from tests.runtime.test_what_jobs_raise import KINDS, Beside, Unheard, _made
from tests.runtime.test_worker import working

import jobrt
from jobrt import End, State
from jobrt.testing import open_app, perform

pytest.importorskip("trio_parallel")
pytestmark = [pytest.mark.process, pytest.mark.slow]


class Counting(jobrt.Job):
    """Count, tell of it, and keep what was counted; fail once."""

    RUN_IN = "process"
    MAX_ATTEMPTS = 2
    BACKOFF = lambda record: 0.0  # noqa: E731

    def run(self, ctx: Any) -> Any:
        begun = ctx.saved or 0
        for number in range(begun, begun + 5):
            ctx.progress(number + 1, 10, "half\0way \udce9")
            ctx.checkpoint(number + 1)
        if ctx.job.attempt == 1:
            raise OSError("again")
        return [ctx.saved, ctx.cancelled]


class Asking(jobrt.Job):
    """Ask for what no process has."""

    RUN_IN = "process"
    MAX_ATTEMPTS = 1
    what: str

    def run(self, ctx: Any) -> Any:
        if self.what == "progress":
            return ctx.progress("much")
        if self.what == "checkpoint":
            return ctx.checkpoint(object())
        return getattr(ctx, self.what)


class Busy(jobrt.Job):
    """Work until told to stop, by one of the ways in which `ctx` tells it."""

    RUN_IN = "process"
    MAX_ATTEMPTS = 1
    way: str

    def run(self, ctx: Any) -> str:
        ctx.progress(0)
        while True:
            time.sleep(0.005)
            match self.way:
                case "progress":
                    ctx.progress(1)
                case "checkpoint":
                    ctx.checkpoint(1)
                case "cancelled" if ctx.cancelled:
                    stop, reason = ctx.cancelled
                    return f"{stop}: {reason}"


class Unpicklable(Exception):
    """An error that cannot leave its process."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")
        self.lock = (lambda: one, two)


class Unreadable(Exception):
    """An error that can leave its process and enter no other."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("only one text")


class Raising(jobrt.Job):
    """Raise in a process."""

    RUN_IN = "process"
    MAX_ATTEMPTS = 2
    BACKOFF = lambda record: 0.0  # noqa: E731
    what: str

    def run(self, ctx: Any) -> Any:
        match self.what:
            case "Unpicklable":
                raise Unpicklable(1, 2)
            case "Unreadable":
                raise Unreadable(1, 2)
            case "died":
                os._exit(3)
            case "result":
                return lambda: "no JSON"
            case "discard":
                return jobrt.Discard("of no use")
            case _:
                raise _made(self.what)


class Choosy(Raising):
    """Be retried for one error alone."""

    RETRY = tenacity.retry_if_exception_type(Unheard)


async def test_progress_and_checkpoints_travel_from_a_process() -> None:
    """They are plain calls; what was kept is there in the next attempt, in whatever process that is."""
    with trio.fail_after(60):
        async with open_app(jobs=[Counting]) as (app, jobs), working(app):
            handle = await jobs.enqueue(Counting())
            assert await handle.result() == [10, None]
            record = await jobs.get(handle.id)
    assert [one.end for one in record.attempts] == [End.FAILED, End.FINISHED]
    assert record.progress == jobrt.Progress(10, 10, "half\\x00way \\udce9")
    assert record.saved == 10


@pytest.mark.parametrize("what", ["state", "transaction", "client", "misspelt"])
async def test_what_a_process_does_not_have_is_said_in_one_sentence(what: str) -> None:
    """It names what there is."""
    with trio.fail_after(60):
        with pytest.raises(
            jobrt.InvalidJob, match=rf'ctx\.{what}: a job with RUN_IN = "process" has ctx\.job, '
        ):
            await perform(Asking(what))


@pytest.mark.parametrize("what", ["progress", "checkpoint"])
async def test_wrong_values_are_refused_in_the_process(what: str) -> None:
    """As they are in Trio."""
    with trio.fail_after(60), pytest.raises(jobrt.InvalidJob, match=rf"Asking: ctx\.{what}"):
        await perform(Asking(what))


@pytest.mark.parametrize("way", ["progress", "checkpoint", "cancelled"])
async def test_a_process_hears_that_it_is_cancelled_before_it_is_killed(way: str) -> None:
    """Calls of `ctx` raise what ends it; one that looks for itself may still return."""
    with trio.fail_after(60):
        async with open_app(jobs=[Busy]) as (app, jobs), working(app):
            handle = await jobs.enqueue(Busy(way))
            while (await jobs.get(handle.id)).progress is None:
                await trio.sleep(0.005)
            await jobs.cancel(handle.id, "enough")
            record = await handle.wait()
    if way == "cancelled":
        assert record.result == "operator: enough"
    else:
        assert [(one.end, one.message) for one in record.attempts] == [(End.CANCELLED, "enough")]


async def test_a_process_hears_of_its_time_limit() -> None:
    """The attempt has timed out, and its process serves the next job: it was not killed."""
    with trio.fail_after(60):
        async with open_app(jobs=[Busy]) as (app, jobs), working(app):
            record = await (await jobs.enqueue(Busy("progress"), timeout=1)).wait()
    assert [(one.end, one.message) for one in record.attempts] == [(End.TIMED_OUT, "timed out after 1 s")]


async def test_what_a_process_raises_is_recorded_as_itself() -> None:
    """Type, text and the traceback of the process; whether it can be pickled is nobody's business."""
    kinds = [*KINDS, "Unpicklable", "Unreadable"]
    with trio.fail_after(120):
        async with open_app(jobs=[Raising], queues={"default": 20}) as (app, jobs), working(app):
            handles = await jobs.enqueue_many([Raising(what) for what in kinds])
            records = [await one.wait() for one in handles]
    for what, record in zip(kinds, records, strict=True):
        assert (record.state, record.attempt) == (State.DISCARDED, 2)
        assert {(one.end, one.error_type) for one in record.attempts} == {(End.FAILED, what)}
        assert "test_process_jobs.py" in (record.attempts[0].traceback or "")


async def test_what_else_a_process_may_do_is_told_apart() -> None:
    """It dies, returns what is no JSON, or a verdict; RETRY sees the exception itself, if it could be brought over."""
    with trio.fail_after(120):
        async with open_app(jobs=[Raising, Choosy, Beside]) as (app, jobs), working(app):
            died = await (await jobs.enqueue(Raising("died"), max_attempts=1)).wait()
            odd = await (await jobs.enqueue(Raising("result"), max_attempts=1)).wait()
            discarded = await (await jobs.enqueue(Raising("discard"))).wait()
            again = await (await jobs.enqueue(Choosy("Unheard"))).wait()
            never = await (await jobs.enqueue(Choosy("SystemExit"))).wait()
        with pytest.raises(Unheard):
            await perform(Raising("Unheard"))
    assert [one.end for one in died.attempts] == [End.FAILED]
    assert odd.attempts[0].error_type == "InvalidResult"
    assert (discarded.state, discarded.attempts[0].message) == (State.DISCARDED, "of no use")
    assert (again.attempt, never.attempt) == (2, 1)
