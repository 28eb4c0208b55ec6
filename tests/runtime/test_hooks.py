"""Hooks around attempts: around every kind of job, and either the job began or nothing was used."""

from __future__ import annotations

import contextvars
import os
import re
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.test_worker import working
from trio.testing import MockClock

import jobrt
from jobrt import End, State, events
from jobrt._runtime.hooks import hooked
from jobrt._views.findings import examine, take_snapshot
from jobrt.testing import drain, open_app, perform

Run = Callable[[], Awaitable[Any]]
SEEN: contextvars.ContextVar[str] = contextvars.ContextVar("SEEN", default="")


class InTrio(jobrt.Job):
    """Job that returns the context variable, in Trio."""

    async def run(self, ctx: jobrt.Context) -> Any:
        return SEEN.get()


class InThread(jobrt.Job):
    """Job that returns the context variable, in a thread."""

    def run(self, ctx: jobrt.Context) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        return SEEN.get()


class InAsyncio(jobrt.Job):
    """Job that returns the context variable, under asyncio."""

    RUN_IN = "asyncio"

    async def run(self, ctx: jobrt.Context) -> Any:
        return SEEN.get()


class InProcess(jobrt.Job):
    """Job that returns its process, or raises there."""

    RUN_IN = "process"
    MAX_ATTEMPTS = 1
    fail: bool = False

    def run(self, ctx: Any) -> Any:
        if self.fail:
            raise LookupError("over there")
        return os.getpid()


class Fail(jobrt.Job):
    """Job that raises, and has one attempt."""

    MAX_ATTEMPTS = 1

    async def run(self, ctx: jobrt.Context) -> None:
        raise LookupError("of the job")


class Forever(jobrt.Job):
    """Job that waits until cancelled."""

    async def run(self, ctx: jobrt.Context) -> None:
        await trio.sleep_forever()


def noting(log: list[Any], name: str) -> Callable[..., Awaitable[Any]]:
    """Return a hook that notes what it sees, and passes it on."""

    async def hook(ctx: jobrt.Context, run: Run) -> Any:
        SEEN.set(SEEN.get() + name)
        log.append((name, ctx.job.name, "begins"))
        try:
            returned = await run()
        except BaseException as error:
            log.append((name, ctx.job.name, type(error).__name__))
            raise
        log.append((name, ctx.job.name, "returned"))
        return returned

    return hook


@pytest.mark.parametrize("job", [InTrio, InThread, InAsyncio])
async def test_hooks_are_around_jobs_of_every_kind(job: type[jobrt.Job], autojump_clock: MockClock) -> None:
    """The first is the outermost, the job sees their context variables, and the next attempt does not."""
    log: list[Any] = []
    async with open_app([job], around_attempt=[noting(log, "a")]) as (app, jobs):
        app.around_attempt(noting(log, "b"))
        handles = await jobs.enqueue_many([job(), job()])
        await drain(app)
        assert [await handle.result() for handle in handles] == ["ab", "ab"]
    once = [("a", "begins"), ("b", "begins"), ("b", "returned"), ("a", "returned")]
    assert sorted((name, what) for name, _, what in log) == sorted(once * 2)
    assert [(name, what) for name, _, what in log][:2] == once[:2]


@pytest.mark.process
@pytest.mark.slow
async def test_hooks_are_around_jobs_in_processes() -> None:
    """They run on the worker's side, see what the job raised there, and its traceback is recorded."""
    log: list[Any] = []
    async with open_app([InProcess], around_attempt=[noting(log, "a")]) as (app, jobs):
        with trio.fail_after(50):
            good, bad = await jobs.enqueue(InProcess()), await jobs.enqueue(InProcess(fail=True))
            await app.drain()
        assert (await jobs.get(good.id)).result != os.getpid()
        (attempt,) = (await jobs.get(bad.id)).attempts
    assert (attempt.error_type, attempt.message) == ("LookupError", "over there")
    assert 'raise LookupError("over there")' in (attempt.traceback or "")
    assert {what for _, _, what in log} == {"begins", "returned", "LookupError"}


async def test_what_a_hook_returns_or_raises_goes_on(autojump_clock: MockClock) -> None:
    """It can change the result, and turn a failure into another end."""

    async def softer(ctx: jobrt.Context, run: Run) -> Any:
        try:
            return [await run()]
        except LookupError as error:
            return jobrt.Cancel(f"softer: {error}")

    async with open_app([InTrio, Fail], around_attempt=[softer]) as (app, jobs):
        good, bad = await jobs.enqueue(InTrio()), await jobs.enqueue(Fail())
        await drain(app)
        assert await good.result() == [""]
        record = await jobs.get(bad.id)
        assert (record.state, record.cancel_reason) == (State.CANCELLED, "softer: of the job")


async def test_hooks_see_cancellations(autojump_clock: MockClock) -> None:
    """Of an operator, of a time limit, and of a stop; they are in the scope of the attempt."""
    log: list[Any] = []
    async with open_app([Forever], around_attempt=[noting(log, "a")]) as (app, jobs), working(app) as worker:
        handle, late = await jobs.enqueue(Forever()), await jobs.enqueue(Forever(), timeout=5)
        await jobs.enqueue(Forever())
        while len(log) < 3:
            await trio.sleep(0.01)
        await jobs.cancel(handle.id, "enough")
        record = await handle.wait()
        assert record.attempts[-1].end is End.CANCELLED
        while not (await jobs.get(late.id)).attempts:
            await trio.sleep(0.1)
        await worker.stop(grace=0)
    assert [what for _, _, what in log[3:]] == ["Cancelled"] * 3


async def broken(ctx: jobrt.Context, run: Run) -> Any:
    """Fail before the job."""
    raise ValueError("no tenant")


async def silent(ctx: jobrt.Context, run: Run) -> Any:
    """Return without running the job."""


async def hasty(ctx: jobrt.Context, run: Run) -> Any:
    """Give up the inner hooks before they have run the job."""
    with trio.move_on_after(0):
        return await run()


async def slow(ctx: jobrt.Context, run: Run) -> Any:
    """Take a second before running the job."""
    await trio.sleep(1)
    return await run()


async def forgiving(ctx: jobrt.Context, run: Run) -> Any:
    """Hide what is raised inside."""
    try:
        return await run()
    except Exception:  # noqa: BLE001 - the hook under test
        return "hidden"


async def raising_exit(ctx: jobrt.Context, run: Run) -> Any:
    """End the process, or so it thinks."""
    raise SystemExit(3)


FAULTY = {
    "broken": ([broken], "broken failed before the job began: ValueError: no tenant"),
    "silent": ([silent], "silent returned without calling run"),
    "hidden": ([forgiving, broken], "broken failed before the job began: ValueError: no tenant"),
    "hasty": ([hasty, slow], "slow was cancelled before the job began, by a hook around it"),
    "exit": ([raising_exit], "raising_exit failed before the job began: SystemExit: 3"),
}


@pytest.mark.parametrize("name", FAULTY)
async def test_a_job_that_did_not_begin_is_given_back(name: str, autojump_clock: MockClock) -> None:
    """It waits, has used no attempt, and is told of by one event and a finding of `doctor`."""
    hooks, problem = FAULTY[name]
    told: list[events.JobNotBegun] = []
    async with open_app([InTrio], around_attempt=hooks) as (app, jobs):
        handles = await jobs.enqueue_many([InTrio(), InTrio()])
        with app.events.subscribed(lambda e: told.append(e) if isinstance(e, events.JobNotBegun) else None):
            async with working(app):
                while not all([(await jobs.get(handle.id)).attempts for handle in handles]):
                    await trio.sleep(0.01)
                await trio.sleep(20)
                found = [
                    f.text for f in examine(await take_snapshot(jobs), names=["InTrio"]) if "hook" in f.text
                ]
        record = await jobs.get(handles[0].id)
    assert (record.state, record.attempt, record.result) == (State.SCHEDULED, 0, None)
    assert [(a.end, a.error_type) for a in record.attempts] == [(End.INTERRUPTED, "HookFailed")]
    assert problem in f"{record.attempts[0].message}".replace(f"{__name__}.", "")
    assert len(told) == 1
    assert len(found) == 1
    assert f"hook {told[0].hook} {told[0].problem}; its jobs wait" in found[0]


async def test_a_job_that_was_given_back_is_stored(database_url: str) -> None:
    """Both engines have the record, and the job runs when the hook is right again."""
    app = jobrt.App(database_url, jobs=[InTrio], around_attempt=[broken], migrate=True)
    async with app.open_client() as jobs:
        with trio.fail_after(50):
            handle = await jobs.enqueue(InTrio())
            await app.drain()
            record = await jobs.get(handle.id)
            assert (record.state, record.attempt, len(record.attempts)) == (State.SCHEDULED, 0, 1)
            await jobs.update(handle.id, schedule_in=0)
            right = jobrt.App(database_url, jobs=[InTrio])
            await right.drain()
            record = await handle.wait()
    assert (record.state, record.attempt) == (State.COMPLETED, 1)


async def test_the_report_is_made_again_after_a_minute(autojump_clock: MockClock) -> None:
    """The hook may fail for days; who looks later is told too."""
    told: list[events.Event] = []
    async with open_app([InTrio], around_attempt=[broken]) as (app, jobs):
        await jobs.enqueue(InTrio())
        with app.events.subscribed(told.append, routine=False):
            async with working(app):
                await trio.sleep(200)
    assert 3 <= len([event for event in told if isinstance(event, events.JobNotBegun)]) <= 4


@pytest.mark.parametrize("fails", [True, False])
async def test_a_cancellation_goes_before_a_failing_hook(fails: bool, autojump_clock: MockClock) -> None:
    """A hook that swallows the cancellation of an operator changes nothing about the end of the job."""

    async def deaf(ctx: jobrt.Context, run: Run) -> Any:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:  # not raised again: the fault of the hook under test
            if fails:
                raise ValueError("in the clean-up") from None

    async with open_app([InTrio], around_attempt=[deaf]) as (app, jobs), working(app):
        handle = await jobs.enqueue(InTrio())
        while (await jobs.get(handle.id)).state is not State.EXECUTING:
            await trio.sleep(0.01)
        await jobs.cancel(handle.id, "enough")
        record = await handle.wait()
    assert (record.state, record.attempts[-1].end) == (State.CANCELLED, End.CANCELLED)


async def test_a_verdict_stands_for_the_job(autojump_clock: MockClock) -> None:
    """A hook may decide that a job does not run now, or not at all."""

    async def maintenance(ctx: jobrt.Context, run: Run) -> Any:
        return jobrt.Snooze(60) if ctx.job.name == "InTrio" else jobrt.Discard("not any more")

    async with open_app([InTrio, Fail], around_attempt=[maintenance]) as (app, jobs):
        later, never = await jobs.enqueue(InTrio()), await jobs.enqueue(Fail())
        await drain(app)
        assert (await jobs.get(later.id)).state is State.SCHEDULED
        record = await jobs.get(never.id)
    assert (record.state, record.attempts[-1].message) == (State.DISCARDED, "not any more")


@pytest.mark.parametrize("verdict", [jobrt.Snooze(60), jobrt.Throttle(60), jobrt.After([])], ids=repr)
async def test_every_verdict_that_delays_uses_no_attempt(verdict: Any, autojump_clock: MockClock) -> None:
    """Whatever a job may return to run later, a hook may return for it."""

    async def later(ctx: jobrt.Context, run: Run) -> Any:
        return await run() if ctx.job.attempts else verdict

    async with open_app([InTrio], around_attempt=[later]) as (app, jobs), working(app):
        record = await (await jobs.enqueue(InTrio(), max_attempts=1)).wait()
    assert [attempt.end for attempt in record.attempts] == [End.SNOOZED, End.FINISHED]


async def test_a_job_runs_once(autojump_clock: MockClock) -> None:
    """A second call of `run` is a failure of the attempt, which names the hook."""

    async def twice(ctx: jobrt.Context, run: Run) -> Any:
        await run()
        return await run()

    async with open_app([InTrio], around_attempt=[twice]) as (app, jobs):
        handle = await jobs.enqueue(InTrio(), max_attempts=1)
        await drain(app)
        (attempt,) = (await jobs.get(handle.id)).attempts
    assert attempt.end is End.FAILED
    assert "twice called run twice: a job runs once in an attempt" in (attempt.message or "")


class Nested(jobrt.Job):
    """Job that performs another whose hook fails."""

    MAX_ATTEMPTS = 1

    async def run(self, ctx: jobrt.Context) -> Any:
        return await ctx.state.perform("InTrio", {})


async def test_a_failure_inside_the_job_is_a_failure_of_the_job(autojump_clock: MockClock) -> None:
    """What was raised by the hook of another job, which this one performs, is an error as any other."""
    other = jobrt.App("sqlite:///:memory:", jobs=[InTrio], around_attempt=[broken])
    async with open_app([Nested], state=other, around_attempt=[noting([], "a")]) as (app, jobs):
        handle = await jobs.enqueue(Nested())
        await drain(app)
        (attempt,) = (await jobs.get(handle.id)).attempts
    assert (attempt.end, attempt.error_type) == (End.FAILED, "NotBegun")


async def test_perform_runs_the_hooks_of_an_app(autojump_clock: MockClock) -> None:
    """A test sees what they do; one that fails raises its error."""
    app = jobrt.App("sqlite:///:memory:", jobs=[InTrio], around_attempt=[noting([], "a")])
    assert await perform(InTrio()) == ""
    assert await perform(InTrio(), app=app) == "a"
    app.around_attempt(broken)
    with pytest.raises(jobrt.HookFailed, match="broken failed before the job began") as caught:
        await perform(InTrio(), app=app)
    assert isinstance(caught.value.__cause__, ValueError)


async def test_a_traceback_is_that_of_the_program(autojump_clock: MockClock) -> None:
    """What is stored has the frames of the hooks and of the job, and none of jobrt between them."""
    async with open_app([Fail], around_attempt=[noting([], "a"), noting([], "b")]) as (app, jobs):
        handle = await jobs.enqueue(Fail())
        await drain(app)
        (attempt,) = (await jobs.get(handle.id)).attempts
    assert re.findall(r'File ".*?(\w+)\.py", line \d+, in (\w+)', attempt.traceback or "") == [
        ("test_hooks", "hook"),
        ("test_hooks", "hook"),
        ("test_hooks", "run"),
    ]


@pytest.mark.parametrize("wrong", [lambda ctx, run: None, 7])
def test_what_is_no_hook_is_refused(wrong: Any) -> None:
    """By the decorator and by the argument, in one line."""
    with pytest.raises(jobrt.InvalidSetting, match=r"^around_attempt: .* use async def hook\(ctx, run\)"):
        jobrt.App("sqlite:///:memory:", around_attempt=[wrong])
    with pytest.raises(jobrt.InvalidSetting, match=r"^around_attempt: "):
        jobrt.App("sqlite:///:memory:").around_attempt(wrong)


def test_without_hooks_there_is_nothing_to_pay() -> None:
    """The runner of the jobs is what runs."""

    async def runner(definition: Any, job: Any, ctx: Any) -> None: ...

    assert hooked(runner, []) is runner


DEEDS = st.sampled_from(["on", "before", "after", "swallow", "silent", "verdict", "twice", "hasty"])


def hook_of(deed: str) -> Any:
    """Return a hook that does a deed."""

    async def hook(ctx: jobrt.Context, run: Run) -> Any:
        await trio.lowlevel.checkpoint()
        match deed:
            case "before":
                raise ValueError(deed)
            case "silent":
                return None
            case "verdict":
                return jobrt.Snooze(3600)
            case "swallow":
                return await forgiving(ctx, run)
            case "hasty":
                return await hasty(ctx, run)
            case "twice":
                await run()
        returned = await run()
        if deed == "after":
            raise ValueError(deed)
        return returned

    return hook


class Count(jobrt.Job):
    """Job that counts its runs."""

    async def run(self, ctx: jobrt.Context) -> str:
        ctx.state.append(ctx.job.attempt)
        return "ran"


@settings(max_examples=60, deadline=None)
@given(st.lists(DEEDS, min_size=1, max_size=4))
def test_any_hooks_either_run_the_job_or_use_nothing(deeds: list[str]) -> None:
    """Whatever hooks do: an attempt runs its job at most once, and one that has not run it has used nothing."""
    runs: list[int] = []

    async def once() -> None:
        hooks = [hook_of(deed) for deed in deeds]
        async with open_app([Count], state=runs, around_attempt=hooks) as (app, jobs):
            handle = await jobs.enqueue(Count())
            await app.drain()
            record = await jobs.get(handle.id)
            assert len(runs) <= 1
            assert record.attempt == len(runs)
            if record.state is State.COMPLETED:
                assert runs
            if not runs:
                assert record.state is State.SCHEDULED

    trio.run(once, clock=MockClock(autojump_threshold=0))


async def test_the_event_of_an_end_has_the_exception(autojump_clock: MockClock) -> None:
    """It is the object that the job raised; it is no part of the record or the log."""
    ended: list[events.JobEnded] = []
    async with open_app([Fail, InTrio]) as (app, jobs):
        await jobs.enqueue(Fail())
        await jobs.enqueue(InTrio())
        with app.events.subscribed(lambda e: ended.append(e) if isinstance(e, events.JobEnded) else None):
            await app.drain()
    assert [type(event.exception) for event in sorted(ended, key=lambda event: event.id)] == [
        LookupError,
        type(None),
    ]
