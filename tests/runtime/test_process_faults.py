"""Faults of jobs in processes: each fails its own attempt with a clear error, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio
from tests.runtime.test_fencing import Trouble, scene
from tests.runtime.test_worker import working
from tests.simulation.faulty import Fault

import jobrt
from jobrt import End, State, where
from jobrt.testing import open_app

pytest.importorskip("trio_parallel")
pytestmark = [pytest.mark.process, pytest.mark.slow]

NOW = lambda record: 0.0  # noqa: E731


class Other(jobrt.Job):
    """Job that others enqueue."""

    value: Any = None

    async def run(self, ctx: jobrt.Context) -> None: ...


class Harmed(jobrt.Job):
    """Come to harm in the first attempt, and return in the second what the first had stored."""

    RUN_IN = "process"
    MAX_ATTEMPTS = 2
    BACKOFF = NOW
    how: str

    def run(self, ctx: Any) -> Any:
        if ctx.job.attempt == 2:
            return ctx.saved
        ctx.checkpoint("stored")
        connection: socket.socket = ctx._link._socket
        match self.how:
            case "killed in a call":
                ctx._link.say({"checkpoint": ['"stored"', False], "number": 9})
                os.kill(os.getpid(), signal.SIGKILL)
            case "exited":
                os._exit(3)
            case "cut":
                with ctx.step("half"):
                    connection.shutdown(socket.SHUT_RDWR)
                    ctx.progress(1)
            case "closed":
                connection.close()
                ctx.enqueue(Other())
            case "no JSON":
                connection.sendall(b"{\n")
                ctx.enqueue(Other())
            case "no message":
                connection.sendall(b'{"delete": "everything"}\n')
                ctx.step("never").__enter__()
            case "too long":
                ctx._link.say({"step_failed": "x" * (65 * 1024 * 1024)})
                ctx.checkpoint("never")
        raise AssertionError(self.how)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("killed in a call", "was killed by SIGKILL"),
        ("exited", "exited with status 3"),
        ("cut", "lost the connection to the worker"),
        ("closed", "lost the connection to the worker"),
        ("no JSON", "lost the connection to the worker"),
        ("no message", "lost the connection to the worker"),
        ("too long", "lost the connection to the worker"),
    ],
)
async def test_a_process_that_comes_to_harm_fails_its_attempt_alone(how: str, message: str) -> None:
    """The error says what happened to the process. The next attempt goes on at the checkpoint, beside other jobs."""
    with trio.fail_after(60):
        async with open_app(jobs=[Harmed, Other]) as (app, jobs), working(app):
            handle = await jobs.enqueue(Harmed(how))
            assert await handle.result() == "stored"
            record = await jobs.get(handle.id)
            assert await jobs.count(where.name("Other")) == 0
    assert [one.end for one in record.attempts] == [End.FAILED, End.FINISHED]
    assert (record.attempts[0].error_type, record.attempts[0].message) == (
        "ProcessDied",
        f"Harmed: its process {message}",
    )


class Writer(jobrt.Job):
    """Make one call after another of one kind, and tell of the error."""

    RUN_IN = "process"
    MAX_ATTEMPTS = 1
    way: str
    file: str

    def run(self, ctx: Any) -> Any:
        ctx.progress(1)
        number = 0
        try:
            while True:
                number += 1
                match self.way:
                    case "checkpoint":
                        ctx.checkpoint(number)
                    case "step":
                        with ctx.step(str(number)) as step:
                            step.value = number
                    case "enqueue":
                        ctx.enqueue(Other(number))
        except Exception as error:
            Path(self.file).write_text(type(error).__name__, encoding="utf-8")
            raise


@pytest.mark.parametrize("way", ["checkpoint", "step"])
async def test_a_write_after_the_lease_is_lost_raises(way: str, tmp_path: Path) -> None:
    """As in Trio: nothing is stored, the job gets `LeaseLost`, and the attempt's outcome is refused."""
    with trio.fail_after(60):
        async with open_app(jobs=[Writer, Other]) as (app, jobs), working(app) as worker:
            handle = await jobs.enqueue(Writer(way, str(tmp_path / "error")))
            while (await jobs.get(handle.id)).progress is None:
                await trio.sleep(0.005)
            await jobs.delete(handle.id)
            while worker.queues["default"].fetcher.ledger.held:
                await trio.sleep(0.005)
    assert (tmp_path / "error").read_text() == "LeaseLost"


@pytest.mark.parametrize(
    ("way", "call"), [("checkpoint", "save"), ("step", "save_step"), ("enqueue", "insert")]
)
async def test_a_storage_that_is_away_raises_in_the_process(way: str, call: str, tmp_path: Path) -> None:
    """The job gets `StorageUnavailable`, as it would in Trio, and may catch it."""
    trouble = Trouble(frozenset({call}), Fault.REFUSED)
    with trio.fail_after(60):
        async with scene(trouble, [Writer, Other]) as here, trio.open_nursery() as nursery:
            worker = await nursery.start(here.app.run_worker)
            handle = await here.client.enqueue(Writer(way, str(tmp_path / "error")))
            while (await here.client.get(handle.id)).progress is None:
                await trio.sleep(0.005)
            trouble.on = True
            record = await handle.wait()
            trouble.on = False
            await worker.stop()
    assert record.attempts[0].error_type == "StorageUnavailable"
    assert (tmp_path / "error").read_text() == "StorageUnavailable"


class Stuck(jobrt.Job):
    """Make a call that gets no answer, and clean up when told to stop."""

    RUN_IN = "process"
    MAX_ATTEMPTS = 1
    file: str

    def run(self, ctx: Any) -> Any:
        ctx.progress(1)
        try:
            while True:
                ctx.enqueue(Other())
        finally:
            Path(self.file).write_text("cleaned up", encoding="utf-8")


async def test_a_job_that_waits_for_an_answer_is_stopped_softly(tmp_path: Path) -> None:
    """The storage does not answer. The job leaves its call when it is told to stop, and is not killed."""
    trouble = Trouble(frozenset({"insert"}), Fault.SLOW, 3600.0)
    with trio.fail_after(60):
        async with scene(trouble, [Stuck, Other], grace=3600) as here, trio.open_nursery() as nursery:
            worker = await nursery.start(here.app.run_worker)
            handle = await here.client.enqueue(Stuck(str(tmp_path / "file")))
            while (await here.client.get(handle.id)).progress is None:
                await trio.sleep(0.005)
            trouble.on = True
            await here.client.cancel(handle.id, "enough")
            record = await handle.wait()
            await worker.stop()
    assert [(one.end, one.message) for one in record.attempts] == [(End.CANCELLED, "enough")]
    assert (tmp_path / "file").read_text() == "cleaned up"


# ------------------------------------------------------------------ soft stop and kill


class Deaf(jobrt.Job):
    """Use `ctx` once, and then never again."""

    RUN_IN = "process"
    MAX_ATTEMPTS = 1
    file: str

    def run(self, ctx: Any) -> None:
        Path(self.file).write_text(str(os.getpid()), encoding="utf-8")
        ctx.progress(1)
        time.sleep(3600)


async def test_a_job_that_does_not_listen_is_killed_after_the_grace(tmp_path: Path) -> None:
    """Its attempt ends as cancelled, for the operator's reason, and the process is gone."""
    file = tmp_path / "pid"
    with trio.fail_after(60):
        async with open_app(jobs=[Deaf], grace=0.5) as (app, jobs), working(app):
            handle = await jobs.enqueue(Deaf(str(file)))
            while (await jobs.get(handle.id)).progress is None:
                await trio.sleep(0.005)
            await jobs.cancel(handle.id, "enough")
            record = await handle.wait()
    assert [(one.end, one.message) for one in record.attempts] == [(End.CANCELLED, "enough")]
    assert not psutil.pid_exists(int(file.read_text()))


async def test_a_stop_of_the_worker_shortens_the_grace_of_a_cancelled_job(tmp_path: Path) -> None:
    """The job has an hour since its cancellation, and ignores it. The worker stops all the same."""
    file = tmp_path / "pid"
    with trio.fail_after(60):
        async with open_app(jobs=[Deaf], grace=3600) as (app, jobs):
            async with working(app):
                handle = await jobs.enqueue(Deaf(str(file)))
                while (await jobs.get(handle.id)).progress is None:
                    await trio.sleep(0.005)
                with app.events.subscribed(partial(_release, heard := trio.Event())):
                    await jobs.cancel(handle.id, "enough")
                    await heard.wait()
            record = await jobs.get(handle.id)
    assert (record.state, record.cancel_reason) == (State.CANCELLED, "enough")
    assert not psutil.pid_exists(int(file.read_text()))


def _release(heard: trio.Event, event: jobrt.events.Event) -> None:
    if isinstance(event, jobrt.events.JobCancelPhase):
        heard.set()


class Patient(jobrt.Job):
    """When told to stop, wait for a file and return all the same."""

    RUN_IN = "process"
    MAX_ATTEMPTS = 1
    folder: str

    def run(self, ctx: Any) -> Any:
        ctx.progress(1)
        while not ctx.cancelled:
            time.sleep(0.001)
        (Path(self.folder) / "told").touch()
        while not (Path(self.folder) / "go on").exists():
            time.sleep(0.001)
        return list(ctx.cancelled)


async def test_a_job_that_is_told_to_stop_has_its_grace(tmp_path: Path) -> None:
    """It does its last work in peace, and what it returns counts."""
    with trio.fail_after(60):
        async with open_app(jobs=[Patient], grace=3600) as (app, jobs), working(app):
            handle = await jobs.enqueue(Patient(str(tmp_path)))
            while (await jobs.get(handle.id)).progress is None:
                await trio.sleep(0.005)
            await jobs.cancel(handle.id, "enough")
            while not (tmp_path / "told").exists():
                await trio.sleep(0.005)
            (tmp_path / "go on").touch()
            assert await handle.result() == ["operator", "enough"]


PROGRAM = """
import time
from pathlib import Path
import os, sys, trio, jobrt

class Long(jobrt.Job):
    RUN_IN = "process"

    def run(self, ctx):
        Path("pid").with_suffix(".part").write_text(str(os.getpid()))
        Path("pid.part").rename("pid")
        time.sleep(3600)

app = jobrt.App("sqlite:///jobs.db", jobs=[Long])

async def main():
    async with app.open_client() as jobs:
        await jobs.enqueue(Long())
    await app.run_worker()

if __name__ == "__main__":
    trio.run(main)
"""


async def test_a_process_ends_with_its_worker(tmp_path: Path) -> None:
    """After ``kill -9`` of the worker no process of it runs on: the job will run again elsewhere."""
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    with trio.fail_after(60):
        worker = await trio.lowlevel.open_process([sys.executable, "program.py"], cwd=tmp_path)
        try:
            while not (tmp_path / "pid").exists():
                await trio.sleep(0.01)
            process = psutil.Process(int((tmp_path / "pid").read_text()))
        finally:
            worker.kill()
            with trio.CancelScope(shield=True):
                await worker.wait()
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            await trio.sleep(0.01)


# ------------------------------------------------------------------ what cannot be sent


class Hidden(jobrt.Job):
    """Job whose class is in its module under another name."""

    RUN_IN = "process"
    MAX_ATTEMPTS = 1

    def run(self, ctx: Any) -> None: ...


HIDDEN = Hidden
del Hidden


class Odd(jobrt.Job):
    """Send what cannot be sent, and return the errors."""

    RUN_IN = "process"
    MAX_ATTEMPTS = 1

    def run(self, ctx: Any) -> list[str]:
        told: list[str] = []
        for call in (
            lambda: ctx.enqueue(HIDDEN()),
            lambda: ctx.enqueue(Other(object())),
            lambda: ctx.enqueue(Other(), priorty=1),
            lambda: ctx.enqueue(Unknown()),
            lambda: ctx.checkpoint(object()),
            lambda: _step(ctx, "odd", object()),
            lambda: _step(ctx, "\0", 1),
            lambda: ctx.progress("much"),
        ):
            try:
                call()
            except (jobrt.InvalidJob, jobrt.UnknownJob) as error:
                told.append(f"{type(error).__name__}: {error}")
        _step(ctx, "odd", "as it should be")
        return told


def _step(ctx: Any, name: str, value: Any) -> None:
    with ctx.step(name) as step:
        step.value = value


class Unknown(jobrt.Job):
    """Job that the app does not have."""

    async def run(self, ctx: jobrt.Context) -> None: ...


async def test_what_cannot_be_sent_is_one_clear_error_at_the_call() -> None:
    """Nothing is stored, and the job goes on if it catches the error."""
    with trio.fail_after(60):
        async with open_app(jobs=[Odd, Other]) as (app, jobs), working(app):
            told = await (await jobs.enqueue(Odd())).result()
            assert await jobs.count(where.name("Other")) == 0
    expected = [
        "InvalidJob: Odd: ctx.enqueue: Hidden cannot be sent to the worker: ",
        "InvalidJob: Other.value: expected plain JSON",
        "InvalidJob: Other: option priorty is unknown: did you mean priority?",
        "UnknownJob: 'Unknown' is not a job of this app",
        "InvalidJob: Odd: ctx.checkpoint: ",
        "InvalidJob: Odd: step 'odd': ",
        "InvalidJob: Odd: step '\\x00': the name",
        "InvalidJob: Odd: ctx.progress: done is ",
    ]
    assert [text[: len(begin)] for text, begin in zip(told, expected, strict=True)] == expected


async def test_a_class_that_cannot_be_imported_is_one_clear_error() -> None:
    """The attempt fails and says where the class must be."""
    with trio.fail_after(60):
        async with open_app(jobs=[HIDDEN]) as (app, jobs), working(app):
            (attempt,) = (await (await jobs.enqueue(HIDDEN())).wait()).attempts
    assert attempt.error_type == "InvalidJob"
    assert attempt.message.startswith("Hidden: it could not be sent to a process: ")
    assert attempt.message.endswith("; its class must be at the top of a module that can be imported")
