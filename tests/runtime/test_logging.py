"""A worker in a program of its own logs what happens, by the standard logging of that program."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import trio

import jobrt
from jobrt._runtime.threads import threads_left
from jobrt.events import Event, WorkerStopped
from jobrt.logs import log_event
from jobrt.testing import drain, open_app

if TYPE_CHECKING:
    from trio.testing import MockClock


class Lost(jobrt.Job):
    """Fail for good."""

    MAX_ATTEMPTS = 1

    async def run(self, ctx: jobrt.Context) -> None:
        raise ValueError("no such address")


def said(caplog: pytest.LogCaptureFixture, text: str) -> list[logging.LogRecord]:
    """Return the records whose message contains a text."""
    return [record for record in caplog.records if text in record.getMessage()]


async def test_a_discarded_job_is_logged_with_its_traceback(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A program that sets up logging as usual, or not at all, learns what went wrong."""
    async with open_app(jobs=[Lost]) as (app, jobs):
        await jobs.enqueue(Lost())
        await drain(app)
    (record,) = said(caplog, "discarded")
    assert (record.name, record.levelno) == ("jobrt", logging.ERROR)
    assert record.getMessage().endswith("discarded: ValueError: no such address")
    assert "in run" in (record.exc_text or "")


async def test_every_event_is_logged_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A second worker of the app, and a program that subscribes the log itself, change nothing."""
    async with open_app(jobs=[Lost]) as (app, jobs), trio.open_nursery() as nursery:
        first = await nursery.start(app.run_worker)
        with app.events.subscribed(log_event):
            second = await nursery.start(app.run_worker)
            await (await jobs.enqueue(Lost())).wait()
            await second.stop()
        await (await jobs.enqueue(Lost())).wait()
        await first.stop()
    assert len(said(caplog, "Lost 1: ")) == 1
    assert len(said(caplog, "Lost 2: ")) == 1


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
async def test_routine_events_are_logged_for_those_who_ask(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, level: int
) -> None:
    """At DEBUG, each claim and start is logged. At other levels, workers do not even make these events."""
    caplog.set_level(level, "jobrt")
    async with open_app(jobs=[Lost]) as (app, jobs):
        await jobs.enqueue(Lost())
        await drain(app)
    assert bool(said(caplog, "attempt 1 started")) is (level == logging.DEBUG)


async def test_threads_that_a_job_left_are_named(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """They would keep the program from ending. Threads that end with it, or were there before, are not named."""
    over = threading.Event()
    pool = ThreadPoolExecutor(1, thread_name_prefix="pool")
    events: list[Event] = []

    class Leaves(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            threading.Thread(target=over.wait, name="exporter").start()
            threading.Thread(target=over.wait, name="daemon", daemon=True).start()
            pool.submit(str).result()
            with trio.fail_after(60):  # virtual seconds, until the pool's thread waits for work
                while any(name.startswith("pool") for name in threads_left()):
                    await trio.sleep(0.001)

    before = threading.Thread(target=over.wait, name="before")
    before.start()
    try:
        async with open_app(jobs=[Leaves]) as (app, jobs):
            await jobs.enqueue(Leaves())
            with app.events.subscribed(events.append):
                await drain(app)
    finally:
        over.set()
        pool.shutdown()
    (stopped,) = [event for event in events if isinstance(event, WorkerStopped)]
    assert stopped.threads == ("exporter",)
    (record,) = said(caplog, "has stopped")
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith("are still running: exporter")
