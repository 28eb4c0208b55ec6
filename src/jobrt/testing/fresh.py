"""Open a fresh app in memory, run what is due, run one job."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import trio

from jobrt._core.states import State
from jobrt._registry import definition_of
from jobrt._runtime.perform import perform as perform_job
from jobrt.app import App
from jobrt.events import Event, JobEnded

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from jobrt._client import Client
    from jobrt._registry import FunctionJob, Job

__all__ = ["drain", "open_app", "perform", "set_clock"]

START = datetime(2030, 1, 1, tzinfo=UTC)
"""When a test's database begins, unless told otherwise: a fixed time, so that tests do not depend on today."""


def set_clock(app: App, *, start: datetime = START) -> None:
    """Let an app's SQLite clock follow Trio's, beginning at `start`; call it in Trio, before the app is opened."""
    began = trio.current_time()
    app.use_clock(lambda: start + timedelta(seconds=trio.current_time() - began))


@asynccontextmanager
async def open_app(
    jobs: App | Iterable[type[Job] | FunctionJob[Any, Any]] = (),
    *,
    start: datetime = START,
    **settings: Any,
) -> AsyncGenerator[tuple[App, Client]]:
    """Open a fresh in-memory app and a client of it.

    ``async with open_app(jobs=[SendEmail]) as (app, jobs):``

    Args:
        jobs: job classes and function jobs; or the app of a program, of which this will be a copy on a database
            of its own (``async with open_app(shop.app) as (app, jobs):``).
        start: the database's time at the beginning.
        settings: anything else that `App` takes; for a copy, nothing.

    Raises:
        TypeError: an app and settings were given.

    """
    if isinstance(jobs, App):
        if settings:
            msg = f"open_app(app) copies the app's settings: leave out {', '.join(settings)}"
            raise TypeError(msg)
        app = jobs.at("sqlite:///:memory:")
    else:
        app = App("sqlite:///:memory:", jobs=jobs, **settings)
    set_clock(app, start=start)
    async with app.open_client() as client:
        yield app, client


async def drain(app: App, queue: str | None = None) -> Counter[str]:
    """Run everything that is due in the app's queues (or one of them), and what that enqueues for now.

    Returns how many attempts led to which state: ``Counter({"completed": 3, "retryable": 1})``.
    """
    counts: Counter[str] = Counter()

    def count(event: Event) -> None:
        if isinstance(event, JobEnded):
            counts[State(event.state).value] += 1

    with app.events.subscribed(count):
        await app.drain(queue)
    return counts


async def perform(job: Job, *, state: Any = None) -> Any:
    """Run one job value with a real ``ctx`` and return what its `run` returned (a `Snooze` as it is).

    What it enqueues goes into a database of the call's own.

    Args:
        job: the value to run.
        state: what ``ctx.state`` is.

    Raises:
        Exception: what `run` raised, as it is.
        trio.TooSlowError: the job's TIMEOUT passed.

    """
    async with open_app(jobs=[type(job)]) as (app, client):
        definition = definition_of(type(job))
        async with app.open_storage() as storage:
            return await perform_job(
                definition,
                definition.encode(job),
                scratch=storage,
                state=state,
                client=client,
            )
