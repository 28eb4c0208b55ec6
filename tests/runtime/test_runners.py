"""Jobs in threads, in processes and under asyncio; each kind is stopped in its own way."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio
from tests.runtime.test_worker import working
from trio.testing import MockClock

import jobrt
from jobrt import End, State
from jobrt.testing import open_app


class InThread(jobrt.Job):
    """Job that waits in a thread until cancelled."""

    RUN_IN = "thread"

    def run(self, ctx: jobrt.Context) -> None:
        ctx.progress(1, 3, "in a thread")
        trio.from_thread.run(trio.sleep, 0)
        ctx.state.append(threading.get_ident())  # from here on the test may cancel it
        try:
            while True:
                trio.from_thread.check_cancelled()
                time.sleep(0.001)
        finally:
            ctx.state.append(ctx.cancelled)


class Answer(jobrt.Job):
    """Job that returns whether it ran outside the main thread."""

    RUN_IN = "thread"

    def run(self, ctx: jobrt.Context) -> bool:
        return threading.current_thread() is not threading.main_thread()


class Killed(jobrt.Job):
    """Job that waits in a process for longer than any test."""

    RUN_IN = "process"
    TIMEOUT = 1.5
    MAX_ATTEMPTS = 1

    def run(self, ctx: Any) -> None:
        time.sleep(3600)


class Marked(jobrt.Job):
    """Job that writes its process id, and waits."""

    RUN_IN = "process"
    file: str

    def run(self, ctx: Any) -> None:
        Path(self.file).write_text(str(os.getpid()), encoding="utf-8")
        time.sleep(3600)


class Elsewhere(jobrt.Job):
    """Job that returns its process id and what it found in its context."""

    RUN_IN = "process"

    def run(self, ctx: Any) -> Any:
        return [os.getpid(), ctx.job.attempt, ctx.saved]


class Environment(jobrt.Job):
    """Job that returns the variables of its process, and those of a program that it starts."""

    RUN_IN = "process"

    def run(self, ctx: Any) -> Any:
        program = [sys.executable, "-c", "import os; print(*os.environ)"]
        started = subprocess.run(program, check=True, capture_output=True, text=True)
        return [list(os.environ), started.stdout.split()]


class InAsyncio(jobrt.Job):
    """Job that waits under asyncio until cancelled."""

    RUN_IN = "asyncio"

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.state.append("began")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ctx.state.append(ctx.cancelled)
            raise


class Gathering(jobrt.Job):
    """Job that uses asyncio's own functions."""

    RUN_IN = "asyncio"

    async def run(self, ctx: jobrt.Context) -> list[int]:
        async def double(number: int) -> int:
            await asyncio.sleep(0.001 * number)
            return 2 * number

        return list(await asyncio.gather(*(double(number) for number in range(3))))


class Raising(jobrt.Job):
    """Job that raises the cancellation of a nested task, under asyncio or in Trio."""

    RUN_IN = "asyncio"
    MAX_ATTEMPTS = 1

    async def run(self, ctx: jobrt.Context) -> None:
        task = asyncio.ensure_future(asyncio.sleep(3600))
        await asyncio.sleep(0)
        task.cancel()
        await task


class Exiting(jobrt.Job):
    """Job that raises an exception that no job should raise."""

    MAX_ATTEMPTS = 1
    what: str

    async def run(self, ctx: jobrt.Context) -> None:
        kinds: dict[str, type[BaseException]] = {
            "SystemExit": SystemExit,
            "CancelledError": asyncio.CancelledError,
            "BaseException": BaseException,
        }
        raise kinds[self.what]("from a job")


async def test_a_job_in_a_thread_stops_where_it_asks() -> None:
    """`check_cancelled` raises in the thread. The attempt has the reason, and the reported progress is kept."""
    state: list[Any] = []
    with trio.fail_after(50):
        async with open_app(jobs=[InThread], state=state) as (app, jobs), working(app):
            handle = await jobs.enqueue(InThread())
            while len(state) < 1:
                await trio.sleep(0.005)
            assert state[0] != threading.get_ident()
            await jobs.cancel(handle.id, "enough")
            record = await handle.wait()
    assert state[1] == (jobrt.Stop.OPERATOR, "enough")
    assert record.state is State.CANCELLED
    assert record.progress == jobrt.Progress(1, 3, "in a thread")


async def test_a_thread_returns_a_result() -> None:
    """The job ran in another thread."""
    with trio.fail_after(50):
        async with open_app(jobs=[Answer]) as (app, jobs), working(app):
            assert await (await jobs.enqueue(Answer())).result() is True


async def test_as_many_threads_run_as_the_queues_have_slots() -> None:
    """No job waits for a thread: sixty jobs in sixty slots meet at a barrier. Trio's default limit is forty."""
    barrier = threading.Barrier(60, timeout=50)

    class Meet(jobrt.Job):
        RUN_IN = "thread"

        def run(self, ctx: jobrt.Context) -> None:
            barrier.wait()

    with trio.fail_after(60):
        async with open_app(jobs=[Meet], queues={"default": 60}) as (app, jobs), working(app):
            handles = await jobs.enqueue_many([Meet() for _ in range(60)])
            assert {(await one.wait()).state for one in handles} == {State.COMPLETED}


@pytest.mark.process
@pytest.mark.slow
async def test_a_process_is_killed_at_its_time_limit_and_the_next_one_serves() -> None:
    """The attempt times out although the code never checks for it. The next job runs in another process."""
    pytest.importorskip("trio_parallel")
    with trio.fail_after(45):
        async with open_app(jobs=[Killed, Elsewhere]) as (app, jobs), working(app):
            record = await (await jobs.enqueue(Killed())).wait()
            assert [one.end for one in record.attempts] == [End.TIMED_OUT]
            pid, attempt, saved = await (await jobs.enqueue(Elsewhere())).result()
    assert pid != os.getpid()
    assert (attempt, saved) == (1, None)


@pytest.mark.process
@pytest.mark.slow
async def test_a_process_is_killed_when_an_operator_cancels_its_job(tmp_path: Path) -> None:
    """The reason is in the record, and the process is gone."""
    pytest.importorskip("trio_parallel")
    file = trio.Path(tmp_path, "pid")
    with trio.fail_after(45):
        async with open_app(jobs=[Marked]) as (app, jobs), working(app):
            handle = await jobs.enqueue(Marked(str(file)))
            while not (await file.exists() and await file.read_text()):
                await trio.sleep(0.005)
            await jobs.cancel(handle.id, "enough")
            record = await handle.wait()
    assert [(one.end, one.message) for one in record.attempts] == [(End.CANCELLED, "enough")]
    assert not psutil.pid_exists(int(await file.read_text()))


@pytest.mark.process
@pytest.mark.slow
async def test_a_process_has_the_environment_without_the_databases_url(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A program that a job starts does not inherit the password of the jobs' database."""
    pytest.importorskip("trio_parallel")
    monkeypatch.setenv("JOBRT_URL", "postgresql://jobs:s3cret@localhost/jobs")
    with trio.fail_after(45):
        async with open_app(jobs=[Killed, Environment]) as (app, jobs), working(app):
            await (await jobs.enqueue(Killed())).wait()  # its successor is a new process
            for found in await (await jobs.enqueue(Environment())).result():
                assert "PATH" in found
                assert "JOBRT_URL" not in found


async def test_an_asyncio_job_gets_its_cancelled_error() -> None:
    """`ctx` has the reason."""
    state: list[Any] = []
    with trio.fail_after(50):
        async with open_app(jobs=[InAsyncio], state=state) as (app, jobs), working(app):
            handle = await jobs.enqueue(InAsyncio())
            while not state:
                await trio.sleep(0.005)
            await jobs.cancel(handle.id, "enough")
            record = await handle.wait()
    assert state == ["began", (jobrt.Stop.OPERATOR, "enough")]
    assert record.state is State.CANCELLED


async def test_asyncio_jobs_share_a_loop_and_return_results() -> None:
    """Several run concurrently, and `gather` works."""
    with trio.fail_after(50):
        async with open_app(jobs=[Gathering]) as (app, jobs), working(app):
            handles = await jobs.enqueue_many([Gathering() for _ in range(5)])
            assert [await one.result() for one in handles] == [[0, 2, 4]] * 5


async def test_a_cancelled_error_of_the_jobs_own_is_a_failure() -> None:
    """It is not a cancellation of the attempt, and the worker continues."""
    with trio.fail_after(50):
        async with open_app(jobs=[Raising, Gathering]) as (app, jobs), working(app):
            record = await (await jobs.enqueue(Raising())).wait()
            assert [one.end for one in record.attempts] == [End.FAILED]
            assert await (await jobs.enqueue(Gathering())).result() == [0, 2, 4]


@pytest.mark.parametrize("what", ["SystemExit", "CancelledError", "BaseException"])
async def test_a_job_cannot_end_the_worker_by_what_it_raises(what: str, autojump_clock: MockClock) -> None:
    """It fails as with any other error, and the other jobs continue."""
    restarted: list[Any] = []
    async with open_app(jobs=[Exiting]) as (app, jobs):
        with app.events.subscribed(
            lambda one: restarted.append(one) if "Actor" in type(one).__name__ else None
        ):
            async with working(app):
                record = await (await jobs.enqueue(Exiting(what))).wait()
    assert (record.state, [one.end for one in record.attempts]) == (State.DISCARDED, [End.FAILED])
    assert record.attempts[0].error_type == what
    assert restarted == []


class Calling(jobrt.Job):
    """Call `ctx` in a thread until that stops it."""

    MAX_ATTEMPTS = 1
    way: str

    def run(self, ctx: jobrt.Context) -> None:
        while True:
            time.sleep(0.001)
            if self.way == "progress":
                ctx.progress(1)
            elif self.way == "checkpoint":
                ctx.checkpoint({"at": 1})
            else:
                trio.from_thread.run(ctx.checkpoint, {"at": 1})


@pytest.mark.parametrize("way", ["progress", "checkpoint", "from_thread"])
@pytest.mark.parametrize("stop", ["timeout", "operator"])
async def test_a_thread_stops_where_it_calls_ctx(way: str, stop: str) -> None:
    """At its time limit and when it is cancelled; a checkpoint is a plain call there."""
    with trio.fail_after(50):
        async with open_app(jobs=[Calling]) as (app, jobs), working(app):
            handle = await jobs.enqueue(Calling(way), timeout=0.2 if stop == "timeout" else None)
            if stop == "operator":
                while (record := await jobs.get(handle.id)).progress is None and record.saved is None:
                    await trio.sleep(0.005)
                await jobs.cancel(handle.id, "enough")
            record = await handle.wait()
    (attempt,) = record.attempts
    assert attempt.end is (End.TIMED_OUT if stop == "timeout" else End.CANCELLED)
    assert record.saved == (None if way == "progress" else {"at": 1})


class Saying(jobrt.Job):
    """Say something of the progress that is no progress."""

    MAX_ATTEMPTS = 1
    what: str

    async def run(self, ctx: jobrt.Context) -> None:
        wrong: dict[str, Any] = {
            "nan": float("nan"),
            "text": "much",
            "huge": 10**400,
            "none": None,
            "object": object(),
        }
        ctx.progress(wrong[self.what], 10)


@pytest.mark.parametrize("what", ["nan", "text", "huge", "none", "object"])
async def test_a_progress_that_is_no_number_fails_its_job_alone(what: str, autojump_clock: MockClock) -> None:
    """It is refused where it is said, by name, and not when it is written: that would harm others."""
    async with open_app(jobs=[Saying, Exiting]) as (app, jobs), working(app):
        record = await (await jobs.enqueue(Saying(what))).wait()
    (attempt,) = record.attempts
    assert (attempt.end, attempt.error_type) == (End.FAILED, "InvalidJob")
    assert attempt.message.startswith("Saying: ctx.progress: done is ")
