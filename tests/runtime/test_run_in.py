"""The contract of `ctx` wherever a job runs: in Trio, under asyncio, in a thread, in a process."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import trio
from tests.runtime.test_worker import working

import jobrt
from jobrt import End, State, Stop, where
from jobrt._runtime.process_jobs import time_to_stop
from jobrt.testing import open_app

PLACES = ["trio", "asyncio", "thread", pytest.param("process", marks=[pytest.mark.process, pytest.mark.slow])]
OUTSIDE = [place for place in PLACES if place != "trio"]


class Child(jobrt.Job):
    """Job that others enqueue."""

    number: int

    async def run(self, ctx: jobrt.Context) -> None: ...


class Again(jobrt.Job, abstract=True):
    """Job that fails once; its second attempt returns what it has found."""

    MAX_ATTEMPTS = 2
    TIMEOUT = 300
    BACKOFF = lambda record: 0.0  # noqa: E731


def seen(ctx: Any, steps: list[Any], child: Any, *, now: float) -> dict[str, Any]:
    """Return what an attempt has seen, once it has all."""
    if ctx.job.attempt == 1:
        raise OSError("once")
    return {
        "saved": ctx.saved,
        "steps": steps,
        "child": [child.id, child.duplicate],
        "in time": now < ctx.deadline < now + 301,
        "stops": [ctx.shutting_down.is_set(), ctx.cancelled],
    }


class AgainInTrio(Again):
    """In Trio."""

    async def run(self, ctx: jobrt.Context) -> Any:
        async with ctx.step("look") as step:
            if step.todo:
                step.value = {"at": ctx.job.attempt}
        await ctx.checkpoint([ctx.job.attempt])
        child = await ctx.enqueue(Child(ctx.job.attempt), tags=["from a job"])
        ctx.progress(1, 2, "half")
        return seen(ctx, [step.todo, step.value], child, now=trio.current_time())


class AgainInAsyncio(Again):
    """Under asyncio."""

    RUN_IN = "asyncio"

    async def run(self, ctx: jobrt.AsyncioContext) -> Any:
        async with ctx.step("look") as step:
            if step.todo:
                step.value = {"at": ctx.job.attempt}
        await ctx.checkpoint([ctx.job.attempt])
        child = await ctx.enqueue(Child(ctx.job.attempt), tags=["from a job"])
        ctx.progress(1, 2, "half")
        return seen(ctx, [step.todo, step.value], child, now=asyncio.get_running_loop().time())


class AgainInThread(Again):
    """In a thread."""

    RUN_IN = "thread"

    def run(self, ctx: Any) -> Any:
        with ctx.step("look") as step:
            if step.todo:
                step.value = {"at": ctx.job.attempt}
        ctx.checkpoint([ctx.job.attempt])
        child = ctx.enqueue(Child(ctx.job.attempt), tags=["from a job"])
        ctx.progress(1, 2, "half")
        return seen(ctx, [step.todo, step.value], child, now=time.monotonic())


class AgainInProcess(AgainInThread):
    """In a process."""

    RUN_IN = "process"


AGAIN: dict[str, type[Again]] = {
    "trio": AgainInTrio,
    "asyncio": AgainInAsyncio,
    "thread": AgainInThread,
    "process": AgainInProcess,
}


class Halves(jobrt.Job):
    """Job that ends a moment after its progress."""

    RUN_IN = "asyncio"

    turns: int

    async def run(self, ctx: jobrt.AsyncioContext) -> None:
        ctx.progress(1, 2)
        for _ in range(self.turns):
            await asyncio.sleep(0)


async def test_progress_is_written_before_the_outcome() -> None:
    """Also if the attempt ends while its progress is being written."""
    with trio.fail_after(60):
        async with open_app(jobs=[Halves]) as (app, jobs), working(app):
            for turns in range(40):
                handle = await jobs.enqueue(Halves(turns % 8))
                await handle.wait()
                assert (await jobs.get(handle.id)).progress == jobrt.Progress(1, 2), turns


@pytest.mark.parametrize("place", PLACES)
async def test_the_calls_are_the_same_everywhere(place: str) -> None:
    """A second attempt finds step and checkpoint of the first; each has enqueued a child, and has told its progress."""
    with trio.fail_after(60):
        async with open_app(jobs=[AGAIN[place], Child]) as (app, jobs), working(app):
            handle = await jobs.enqueue(AGAIN[place]())
            found = await handle.result()
            record = await jobs.get(handle.id)
            children = await jobs.query(where.tagged_any(["from a job"]), order_by="id")
    assert found == {
        "saved": [2],
        "steps": [False, {"at": 1}],
        "child": [children[1].id, False],
        "in time": True,
        "stops": [False, None],
    }
    assert [one.end for one in record.attempts] == [End.FAILED, End.FINISHED]
    assert record.progress == jobrt.Progress(1, 2, "half")
    assert [(one.args, one.parent) for one in children] == [
        ({"number": 1}, record.id),
        ({"number": 2}, record.id),
    ]


@pytest.mark.parametrize("place", PLACES)
async def test_a_hook_may_enter_a_scope_around_steps_everywhere(place: str) -> None:
    """It is entered for the step that is done, and not for one that an earlier attempt has done."""
    entered: list[str] = []

    @contextmanager
    def scope(name: str) -> Generator[None]:
        entered.append(f"{name} begins")
        yield
        entered.append(f"{name} ends")

    async def tracer(ctx: jobrt.Context, run: Any) -> Any:
        ctx.around_steps(scope)
        return await run()

    with trio.fail_after(60):
        async with open_app(jobs=[AGAIN[place], Child], around_attempt=[tracer]) as (app, jobs), working(app):
            await (await jobs.enqueue(AGAIN[place]())).result()
    assert entered == ["look begins", "look ends"]


# ------------------------------------------------------------------ what they cannot do


def refusals(ctx: Any) -> list[str]:
    """Return what is said to each call that only a job in Trio may make, with the argument that it has there."""
    told: list[str] = []
    for name, args in {"open_nursery": (), "receive": ("x",), "sleep": (1,), "sleep_until": (None,)}.items():
        try:
            getattr(ctx, name)(*args)
        except RuntimeError as error:
            told.append(str(error))
    return told


class WaitingInThread(jobrt.Job):
    """Try to wait."""

    RUN_IN = "thread"

    def run(self, ctx: Any) -> Any:
        return refusals(ctx)


class WaitingInProcess(WaitingInThread):
    """In a process."""

    RUN_IN = "process"


class WaitingInAsyncio(jobrt.Job):
    """Under asyncio."""

    RUN_IN = "asyncio"

    async def run(self, ctx: jobrt.AsyncioContext) -> Any:
        return refusals(ctx)


WAITING: dict[str, type[jobrt.Job]] = {
    "asyncio": WaitingInAsyncio,
    "thread": WaitingInThread,
    "process": WaitingInProcess,
}


@pytest.mark.parametrize("place", OUTSIDE)
async def test_a_nursery_or_a_durable_wait_outside_trio_is_one_clear_error(place: str) -> None:
    """The call itself raises, so that a forgotten ``await`` hides nothing. It names job, call and remedy."""
    with trio.fail_after(60):
        async with open_app(jobs=[WAITING[place]]) as (app, jobs), working(app):
            told = await (await jobs.enqueue(WAITING[place]())).result()
    assert told == [
        f'{WAITING[place].__name__}: ctx.{name}(): a job with RUN_IN = "{place}" cannot wait durably: use RUN_IN = '
        f'"trio", and trio.to_thread.run_sync or a child job for its slow part'
        for name in ("open_nursery", "receive", "sleep", "sleep_until")
    ]


class InTrioCode(jobrt.Job):
    """Call `ctx` in a function of Trio."""

    RUN_IN = "thread"
    MAX_ATTEMPTS = 1
    inside: bool

    def run(self, ctx: Any) -> Any:
        return trio.from_thread.run(in_trio, ctx) if self.inside else ctx.transaction()


class InTrioCodeUnderAsyncio(InTrioCode):
    """Under asyncio."""

    RUN_IN = "asyncio"

    async def run(self, ctx: Any) -> Any:
        import trio_asyncio

        return await trio_asyncio.trio_as_aio(in_trio)(ctx) if self.inside else ctx.transaction()


async def in_trio(ctx: Any) -> None:
    """Make each call as a job in Trio does."""
    ctx.progress(1)
    await ctx.checkpoint(ctx.cancelled or ctx.shutting_down.is_set())
    async with ctx.step("inside") as step:
        step.value = (await ctx.enqueue(Child(1))).id
    assert (await ctx.client.get(step.value)).name == "Child"
    async with ctx.transaction(result="written"):
        pass


@pytest.mark.parametrize("job", [InTrioCode, InTrioCodeUnderAsyncio])
async def test_trio_code_of_a_job_elsewhere_has_what_a_job_in_trio_has(
    job: type[InTrioCode], sqlite_url: str
) -> None:
    """A transaction needs it: the error says how to get there."""
    app = jobrt.App(sqlite_url, jobs=[job, Child])
    with trio.fail_after(60):
        async with app.open_client() as jobs, working(app):
            inside, outside = await jobs.enqueue_many([job(inside=True), job(inside=False)])
            assert await inside.result() == "written"
            (attempt,) = (await outside.wait()).attempts
    assert attempt.error_type == "RuntimeError"
    assert f"{job.__name__}: ctx.transaction() in a" in (attempt.message or "")


# ------------------------------------------------------------------ soft stops


class Stopping(jobrt.Job, abstract=True):
    """Work until told to stop; then store what was done."""

    MAX_ATTEMPTS = 1


class StoppingInTrio(Stopping):
    """In Trio."""

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.progress(1)
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await ctx.checkpoint(list(ctx.cancelled or ()))


class StoppingInAsyncio(Stopping):
    """Under asyncio."""

    RUN_IN = "asyncio"

    async def run(self, ctx: jobrt.AsyncioContext) -> None:
        ctx.progress(1)
        try:
            await asyncio.Event().wait()
        finally:
            await ctx.checkpoint(list(ctx.cancelled or ()))


class StoppingInThread(Stopping):
    """In a thread."""

    RUN_IN = "thread"

    def run(self, ctx: Any) -> None:
        with suppress(BaseException):  # the test may cancel the job before this call returns
            ctx.progress(1)
        while not ctx.cancelled:
            time.sleep(0.001)
        ctx.checkpoint(list(ctx.cancelled))
        raise AssertionError("the checkpoint ends the attempt")


class StoppingInProcess(StoppingInThread):
    """In a process."""

    RUN_IN = "process"


STOPPING: dict[str, type[Stopping]] = {
    "trio": StoppingInTrio,
    "asyncio": StoppingInAsyncio,
    "thread": StoppingInThread,
    "process": StoppingInProcess,
}


@pytest.mark.parametrize("place", PLACES)
async def test_a_cancelled_job_stores_what_it_has_done(place: str) -> None:
    """It knows why, a checkpoint is stored although it is cancelled, and the attempt ends as cancelled."""
    with trio.fail_after(60):
        async with open_app(jobs=[STOPPING[place]]) as (app, jobs), working(app):
            handle = await jobs.enqueue(STOPPING[place]())
            while (await jobs.get(handle.id)).progress is None:
                await trio.sleep(0.005)
            await jobs.cancel(handle.id, "enough")
            record = await handle.wait()
    assert (record.state, record.saved) == (State.CANCELLED, ["operator", "enough"])
    assert [(one.end, one.message) for one in record.attempts] == [(End.CANCELLED, "enough")]


class CallingInThread(jobrt.Job):
    """Make one kind of call until it ends the attempt, and tell of what it has done all the same."""

    RUN_IN = "thread"
    MAX_ATTEMPTS = 1
    way: str

    def run(self, ctx: Any) -> Any:
        if self.way != "kept":
            ctx.progress(1)
            while not ctx.cancelled:
                time.sleep(0.001)
        match self.way:
            case "enqueue":
                ctx.enqueue(Child(1))
            case "step":
                with ctx.step("never"):
                    ctx.checkpoint("begun")
            case "kept":
                with ctx.step("kept") as step:
                    if not step.todo:
                        return step.value
                    ctx.progress(1)  # the step has begun
                    while not ctx.cancelled:
                        time.sleep(0.001)
                    step.value = "done"
        return ctx.checkpoint("went on")


class CallingInProcess(CallingInThread):
    """In a process."""

    RUN_IN = "process"


CALLING: dict[str, type[CallingInThread]] = {"thread": CallingInThread, "process": CallingInProcess}


@pytest.mark.parametrize("place", OUTSIDE[1:])
@pytest.mark.parametrize(
    ("way", "stop"),
    [("enqueue", "operator"), ("step", "operator"), ("kept", "operator"), ("enqueue", "timeout")],
)
async def test_a_call_of_a_cancelled_job_begins_nothing_and_keeps_what_was_done(
    place: str, way: str, stop: str
) -> None:
    """`enqueue` and the begin of a step raise and do nothing; the end of a step stores its value, and then raises."""
    job = CALLING[place]
    with trio.fail_after(60):
        async with open_app(jobs=[job, Child], queues={"default": 1}) as (app, jobs), working(app):
            handle = await jobs.enqueue(job(way), timeout=1 if stop == "timeout" else None)
            if stop == "operator":
                while (await jobs.get(handle.id)).progress is None:
                    await trio.sleep(0.005)
                await jobs.cancel(handle.id, "enough")
            record = await handle.wait()
            assert await jobs.count(where.name("Child")) == 0
            assert (record.attempts[0].end, record.saved) == (
                End.TIMED_OUT if stop == "timeout" else End.CANCELLED,
                None,
            )
            if way == "kept":
                await jobs.rerun(handle.id)
                assert await handle.result() == "done"


class Lasting(jobrt.Job, abstract=True):
    """Work until the worker stops; then store where it was, and run again later."""


class LastingInTrio(Lasting):
    """In Trio."""

    async def run(self, ctx: jobrt.Context) -> Any:
        ctx.progress(1)
        await ctx.shutting_down.wait()
        await ctx.checkpoint("at the stop")
        return jobrt.Snooze(3600)


class LastingInAsyncio(Lasting):
    """Under asyncio."""

    RUN_IN = "asyncio"

    async def run(self, ctx: jobrt.AsyncioContext) -> Any:
        ctx.progress(1)
        await ctx.shutting_down.wait()
        await ctx.checkpoint("at the stop")
        return jobrt.Snooze(3600)


class LastingInThread(Lasting):
    """In a thread."""

    RUN_IN = "thread"

    def run(self, ctx: Any) -> Any:
        ctx.progress(1)
        while not ctx.shutting_down.is_set():
            time.sleep(0.001)
        ctx.checkpoint("at the stop")
        return jobrt.Snooze(3600)


class LastingInProcess(LastingInThread):
    """In a process."""

    RUN_IN = "process"


LASTING: dict[str, type[Lasting]] = {
    "trio": LastingInTrio,
    "asyncio": LastingInAsyncio,
    "thread": LastingInThread,
    "process": LastingInProcess,
}


@pytest.mark.parametrize("place", PLACES)
async def test_a_job_sees_that_its_worker_stops_and_has_the_grace(place: str) -> None:
    """It is not cancelled yet: it stores where it is, and returns what it likes."""
    with trio.fail_after(60):
        async with open_app(jobs=[LASTING[place]], grace=3600) as (app, jobs):
            async with working(app):
                handle = await jobs.enqueue(LASTING[place]())
                while (await jobs.get(handle.id)).progress is None:
                    await trio.sleep(0.005)
            record = await jobs.get(handle.id)
    assert (record.state, record.saved) == (State.SCHEDULED, "at the stop")
    assert [one.end for one in record.attempts] == [End.SNOOZED]


async def test_the_time_to_stop_is_the_grace_unless_the_worker_stops_or_the_lease_is_lost() -> None:
    """A stopping worker has given its grace before, and after a lost lease another worker may run the job."""
    found: dict[Stop | None, float] = {}

    class Asking(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            for stop in (*Stop, None):
                ctx._running.stop = stop
                found[stop] = time_to_stop(ctx)
            ctx._running.scope.deadline = -math.inf
            found[Stop.TIMEOUT] = time_to_stop(ctx)
            ctx.shutting_down.set()
            found[Stop.SHUTDOWN] = time_to_stop(ctx)

    with trio.fail_after(60):
        async with open_app(jobs=[Asking], grace=77) as (app, jobs), trio.open_nursery() as nursery:
            await jobs.enqueue(Asking())
            await nursery.start(app.run_worker)
    long = {Stop.OPERATOR, Stop.PARENT, Stop.TIMEOUT}
    assert found == {stop: 77 if stop in long else 1 for stop in (*Stop, None)}
