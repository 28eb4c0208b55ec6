"""`ctx.log` and `ctx.emit`: what jobs say, wherever they run, and what becomes of it."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tenacity
import trio
from tests.simulation.faulty import AppOn, Fault, FaultyStorage, Nth
from trio.testing import MockClock

import jobrt
from jobrt import Emitted, Gap, LogLine, State
from jobrt._core.stream import ENTRIES_KEPT
from jobrt._storage.sqlite import open_sqlite
from jobrt.testing import drain, open_app, perform


class Speak(jobrt.Job):
    """Job that logs and emits."""

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.log.info("one of %d", 2)
        await ctx.emit({"a": [1]}, key="a")
        ctx.log.warning("last")


class InThread(jobrt.Job):
    """The same in a thread, with another thread of its own."""

    def run(self, ctx: jobrt.Context) -> None:
        ctx.log.info("one of %d", 2)
        ctx.emit({"a": [1]}, key="a")
        other = threading.Thread(target=ctx.log.warning, args=["last"])
        other.start()
        other.join()


class InAsyncio(jobrt.Job):
    """The same under asyncio."""

    RUN_IN = "asyncio"

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.log.info("one of %d", 2)
        await ctx.emit({"a": [1]}, key="a")
        ctx.log.warning("last")


class InProcess(jobrt.Job):
    """The same in another process."""

    RUN_IN = "process"

    def run(self, ctx: Any) -> None:
        ctx.log.debug("not stored")
        ctx.log.info("one of %d", 2)
        ctx.emit({"a": [1]}, key="a")
        ctx.log.warning("last")


async def said(jobs: jobrt.Client, job_id: int, after: int = 0) -> list[object]:
    """Return what a job has said: texts of lines, and values."""
    with trio.fail_after(30):
        return [
            update.message if isinstance(update, LogLine) else update.value
            async for update in jobs.follow(job_id, after=after)
            if isinstance(update, LogLine | Emitted)
        ]


@pytest.mark.parametrize("kind", [Speak, InThread, InAsyncio, InProcess])
async def test_jobs_say_things_wherever_they_run(
    database_url: str, kind: type[jobrt.Job], caplog: pytest.LogCaptureFixture
) -> None:
    """Log lines and values stand in one stream, in order. The lines reach the handlers of the program, too."""
    app = jobrt.App(database_url, jobs=[kind], migrate=True)
    with trio.fail_after(50):
        async with app.open_client() as jobs:
            trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            handle = await jobs.enqueue(kind(), metadata={"traceparent": trace})
            await app.drain()
            heard = [update async for update in handle.follow()]
    first, value, last = heard[:3]
    assert isinstance(first, LogLine)
    assert (first.cursor, first.level, first.message, first.attempt) == (1, "info", "one of 2", 1)
    assert isinstance(value, Emitted)
    assert (value.cursor, value.value, value.key) == (2, {"a": [1]}, "a")
    assert isinstance(last, LogLine)
    assert (last.cursor, last.level, last.message) == (3, "warning", "last")
    assert abs(last.at - first.at) < timedelta(seconds=10)
    (record,) = [one for one in caplog.records if one.name.startswith("jobrt.job.")]
    assert (record.name, record.getMessage()) == (f"jobrt.job.{kind.__name__}", "last")
    fields = {"job": handle.id, "name_of_job": kind.__name__, "queue": "default", "attempt": 1}
    assert record.__dict__.items() >= {**fields, "trace": "0af7651916cd43dd8448eb211c80319c"}.items()


class Levels(jobrt.Job):
    """Job that logs at each level, and an exception."""

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.log.debug("debug")
        ctx.log.info("info")
        ctx.log.error("failed", exc_info=OSError("broken"))
        ctx.log.propagate = False  # pytest's own handler raises such errors
        ctx.log.info("%d", "no number")


async def test_which_lines_are_stored(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """From INFO on; lower ones if the program wants them. A traceback is part of the line."""
    async with open_app(jobs=[Levels]) as (app, jobs):
        handle = await jobs.enqueue(Levels())
        await drain(app)
        with caplog.at_level(logging.DEBUG, logger="jobrt.job"):
            verbose = await jobs.enqueue(Levels())
            await drain(app)
        lines = [update async for update in handle.follow() if isinstance(update, LogLine)]
        assert await said(jobs, verbose.id) == ["debug", "info", "failed"]
    assert [line.message for line in lines] == ["info", "failed"]
    assert lines[1].traceback == "OSError: broken"
    assert "TypeError" in capsys.readouterr().err  # as logging does for a message with other arguments


class Refused(jobrt.Job):
    """Job that emits what cannot be stored."""

    async def run(self, ctx: jobrt.Context) -> list[str]:
        problems: list[str] = []
        for value, key in ((object(), None), (float("nan"), None), ("x" * 65536, None), (1, ""), (1, "\0")):
            try:
                await ctx.emit(value, key=key)
            except jobrt.InvalidJob as error:
                problems.append(str(error))
        return problems


async def test_what_cannot_be_emitted(autojump_clock: MockClock) -> None:
    """Each has an error of one line that names the job; the job goes on."""
    problems = await perform(Refused())
    assert [problem.partition(": ")[0] for problem in problems] == ["Refused"] * 5
    assert "\n" not in "".join(problems)
    assert [word in problem for word, problem in zip(
        ("object is not JSON", "JSON compliant", "at most 65536", "1 to 200", "NUL"), problems, strict=True
    )] == [True] * 5  # fmt: skip


class Many(jobrt.Job):
    """Job that logs more lines than are kept, without a checkpoint."""

    count: int

    async def run(self, ctx: jobrt.Context) -> None:
        for number in range(1, self.count + 1):
            ctx.log.info("%d", number)
        await ctx.emit("end")


async def test_a_job_that_says_too_much(autojump_clock: MockClock) -> None:
    """Only the newest lines wait in memory. The numbers of the others are missing, and no others."""
    async with open_app(jobs=[Many]) as (app, jobs):
        handle = await jobs.enqueue(Many(count=5000))
        await drain(app)
        gap, *lines, value, _ = [update async for update in handle.follow()]
    assert gap == Gap(5001 - ENTRIES_KEPT, 5001 - ENTRIES_KEPT)
    assert [line.message for line in lines if isinstance(line, LogLine)] == [
        str(number) for number in range(5002 - ENTRIES_KEPT, 5001)
    ]
    assert isinstance(value, Emitted)
    assert value.cursor == 5001


class Batches(jobrt.Job):
    """Job that logs one line each millisecond."""

    async def run(self, ctx: jobrt.Context) -> None:
        for number in range(1000):
            ctx.log.info("%d", number)
            await trio.sleep(0.001)


async def test_lines_are_written_in_batches(autojump_clock: MockClock) -> None:
    """At most fifty writes a second, however many lines there are; nothing is lost."""
    calls: list[int] = []

    def watch(name: str, args: tuple[Any, ...], _result: Any) -> None:
        if name == "append":
            calls.append(len(args[0].entries))

    async with open_sqlite(":memory:") as real:
        app = AppOn(FaultyStorage(real, lambda _: None, watch=watch), jobs=[Batches])
        async with app.open_client() as jobs, trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            handle = await jobs.enqueue(Batches())
            await handle.wait()
            assert await said(jobs, handle.id) == [str(number) for number in range(1000)]
            await worker.stop()
    assert sum(calls) == 1000
    assert len(calls) <= 53


class Ends(jobrt.Job):
    """Job that says something in its clean-up."""

    TIMEOUT = 1
    MAX_ATTEMPTS = 1
    how: str

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.log.info("begin")
        try:
            if self.how == "raises":
                raise OSError("broken")
            if self.how == "group":
                raise BaseExceptionGroup("two", [OSError("broken"), KeyboardInterrupt()])
            await trio.sleep_forever()
        finally:
            ctx.log.info("clean-up")
            with trio.CancelScope(shield=True):
                await trio.sleep(0.001)  # so that the next line is not written at once
            ctx.log.info("last")


@pytest.mark.parametrize("how", ["raises", "times out", "is cancelled", "is stopped"])
async def test_the_last_lines_are_kept(how: str, autojump_clock: MockClock) -> None:
    """However the attempt ends: they are written before its outcome."""
    async with open_app(jobs=[Ends]) as (app, jobs), trio.open_nursery() as nursery:
        handle = await jobs.enqueue(Ends(how=how))
        worker = await nursery.start(app.run_worker)
        await trio.sleep(0.5)
        if how == "is cancelled":
            await jobs.cancel(handle.id, "enough")
        if how == "is stopped":
            await worker.stop(grace=0)
            assert (await jobs.get(handle.id)).state is State.AVAILABLE
            await jobs.cancel(handle.id)
        assert await said(jobs, handle.id) == ["begin", "clean-up", "last"]
        nursery.cancel_scope.cancel()


class Exact(jobrt.Job):
    """Job that logs in its own transaction."""

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.log.info("before")
        async with ctx.transaction():
            ctx.log.info("inside")
        ctx.log.info("behind")


async def test_lines_of_a_transaction(database_url: str) -> None:
    """They are stored behind it, and so are those after it, although the job is completed then."""
    app = jobrt.App(database_url, jobs=[Exact], migrate=True)
    with trio.fail_after(50):
        async with app.open_client() as jobs:
            handle = await jobs.enqueue(Exact())
            await app.drain()
            assert await said(jobs, handle.id) == ["before", "inside", "behind"]


class Stray(jobrt.Job):
    """Job whose thread goes on logging when the job is over."""

    async def run(self, ctx: jobrt.Context) -> None:
        STRAY.append(ctx.log)
        ctx.log.info("in time")


STRAY: list[logging.Logger] = []


async def test_lines_after_the_end(autojump_clock: MockClock) -> None:
    """They are not stored, and harm nobody."""
    async with open_app(jobs=[Stray]) as (app, jobs):
        handle = await jobs.enqueue(Stray())
        await drain(app)
        STRAY.pop().error("too late")
        assert await said(jobs, handle.id) == ["in time"]


class LeaseGone(jobrt.Job):
    """Job that is deleted while it runs."""

    async def run(self, ctx: jobrt.Context) -> None:
        await ctx.client.delete(ctx.job.id)
        ctx.log.info("lost")
        await trio.sleep(1)
        with pytest.raises(jobrt.LeaseLost):
            await ctx.emit(1)
        DONE.append(ctx.cancelled)


DONE: list[Any] = []


async def test_a_lost_lease(autojump_clock: MockClock) -> None:
    """A value raises `LeaseLost` and cancels the attempt, as a checkpoint does; a line is dropped."""
    DONE.clear()
    async with open_app(jobs=[LeaseGone]) as (app, jobs):
        await jobs.enqueue(LeaseGone())
        await drain(app)
    assert DONE == [(jobrt.Stop.LEASE_LOST, "another worker owns the job")]


# ---------------------------------------------------------------------- faults


class Careful(jobrt.Job):
    """Job that says three things, and fails once."""

    BACKOFF = tenacity.wait_fixed(1)
    MAX_ATTEMPTS = 9

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.log.info("begin")
        for number in range(3):
            await ctx.emit(number, key=str(number))
            await trio.sleep(0.1)
        ctx.log.info("end")


async def _with_fault(decide: Nth) -> tuple[jobrt.JobRecord, list[jobrt.Update]]:
    """Run the job with a fault in one call about its stream; a follower has the same fault."""
    began = trio.current_time()

    def clock() -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=trio.current_time() - began)

    async with open_sqlite(":memory:", clock=clock) as real:
        app = AppOn(FaultyStorage(real, decide), jobs=[Careful])
        async with AppOn(real, jobs=[Careful]).open_client() as jobs, trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            handle = await jobs.enqueue(Careful())
            with trio.fail_after(600):
                record = await handle.wait()
            heard = [update async for update in handle.follow()]
            await worker.stop()
    return record, heard


@pytest.mark.parametrize("fault", list(Fault))
async def test_any_fault_in_any_call(fault: Fault, autojump_clock: MockClock) -> None:
    """A call that fails, is cancelled, or loses its reply: no value is there twice, none is missing, no hole."""
    hits = 0
    for number in range(1, 100):
        spare = Nth(0, fault)
        decide = Nth(number, fault)
        decide_append = lambda name, decide=decide: decide(name) if name == "append" else None  # noqa: E731
        record, heard = await _with_fault(decide_append)  # type: ignore[arg-type]
        entries = [update for update in heard if isinstance(update, LogLine | Emitted)]
        assert [update.cursor for update in entries] == list(range(1, len(entries) + 1))
        assert [update.value for update in entries if isinstance(update, Emitted)] == [0, 1, 2]
        assert record.state is State.COMPLETED, (fault, number)
        assert spare.hit is None
        if decide.hit is None:
            break
        hits += 1
    assert hits >= 4


async def test_lines_outlast_an_outage(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Lines wait until the database is back. If the job ends before, they are lost, and counted in the log."""
    away = True

    def decide(name: str) -> tuple[Fault, float] | None:
        return (Fault.REFUSED, 0.0) if away and name == "append" else None

    async with open_sqlite(":memory:") as real:
        app = AppOn(FaultyStorage(real, decide), jobs=[Batches, Ends])
        async with app.open_client() as jobs, trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            lost = await jobs.enqueue(Ends(how="raises"))
            await lost.wait()
            handle = await jobs.enqueue(Batches())
            await trio.sleep(0.5)
            away = False
            assert await said(jobs, handle.id) == [str(number) for number in range(1000)]
            assert await said(jobs, lost.id) == []
            await worker.stop()
    assert (
        f"job {lost.id}: 3 of its last log lines are lost: StorageUnavailable: append is refused"
        in caplog.text
    )


PROGRAM = """
import os, signal, sys, trio, jobrt
app = jobrt.App(sys.argv[1], migrate=True)

@app.job(max_attempts=1, name="dies")
async def dies(ctx):
    ctx.log.info("a line")
    await trio.sleep(0.5)
    await ctx.emit("a value")
    os.kill(os.getpid(), signal.SIGKILL)

trio.run(app.drain)
"""


@pytest.mark.process
async def test_a_killed_job_keeps_what_it_said(database_url: str, tmp_path: Path) -> None:
    """Values that `emit` returned for, and lines that are older than a moment."""
    program = tmp_path / "dies.py"
    program.write_text(PROGRAM)
    app = jobrt.App(database_url, migrate=True)

    @app.job(max_attempts=1, name="dies")
    async def dies(ctx: jobrt.Context) -> None:
        raise AssertionError

    with trio.fail_after(50):
        async with app.open_client() as jobs:
            handle = await jobs.enqueue(dies.new())
            run = [sys.executable, str(program), database_url]
            ended = await trio.run_process(run, check=False, capture_stderr=True)
            assert ended.returncode == -signal.SIGKILL, ended.stderr
            page = await jobs._storage.streams.read(handle.id, 0)
            assert page is not None
            assert [(one.number, one.kind) for one in page.entries] == [(1, "log"), (2, "emit")]
