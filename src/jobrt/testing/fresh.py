"""Apps on in-memory databases, and functions that run their jobs."""

from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import trio

from jobrt._client import Client
from jobrt._core.states import State
from jobrt._registry import FunctionJob, Job, definition_of
from jobrt._runtime.perform import perform as perform_job
from jobrt.app import App
from jobrt.events import Event, JobEnded

_LEASE = 7 * 86400.0
"""Seconds. Nobody looks at the heartbeats of `perform`, and in a week of virtual time there would be many."""

START = datetime(2030, 1, 1, tzinfo=UTC)
"""Default start time of a test's database clock. It is fixed, so that tests do not depend on the date."""


def set_clock(app: App, *, start: datetime = START) -> None:
    """Make an app's SQLite clock follow Trio's clock from `start` on. Call it in Trio, before opening the app."""
    started = trio.current_time()
    app.use_clock(lambda: start + timedelta(seconds=trio.current_time() - started))


@asynccontextmanager
async def open_app(
    jobs: App | Iterable[type[Job] | FunctionJob[Any, Any]] = (), *, start: datetime = START, **settings: Any
) -> AsyncGenerator[tuple[App, Client]]:
    """Open an app on a fresh in-memory database, and a client of it.

    ``async with open_app(jobs=[SendEmail]) as (app, jobs):``

    Its workers delete no finished jobs, so that a test can look at them after weeks of virtual time. They do with
    ``keep=`` among the settings. ``await jobs.prune()`` always deletes what the app does not keep.

    Args:
        jobs: job classes and function jobs; or an app to copy onto the in-memory database:
            ``async with open_app(shop.app) as (app, jobs):``.
        start: start time of the database's clock.
        settings: other arguments of `App`. They cannot be combined with an app to copy.

    Raises:
        TypeError: both an app and settings are given.

    """
    if isinstance(jobs, App):
        if settings:
            raise TypeError(f"open_app(app) copies the app's settings: remove {', '.join(settings)}")
        app = jobs.at("sqlite:///:memory:")
    else:
        app = App("sqlite:///:memory:", jobs=jobs, **settings)
    if "keep" not in settings:
        app.leave_finished()
    set_clock(app, start=start)
    async with app.open_client() as client:
        yield app, client


async def drain(app: App, queue: str | None = None) -> Counter[str]:
    """Run all due jobs of the app's queues, or only of `queue`, including due jobs that these jobs enqueue.

    Returns the number of attempts by resulting state: ``Counter({"completed": 3, "retryable": 1})``.
    """
    counts: Counter[str] = Counter()

    def count(event: Event) -> None:
        if isinstance(event, JobEnded):
            counts[State(event.state).value] += 1

    with app.events.subscribed(count):
        await app.drain(queue)
    return counts


async def perform(
    job: Job,
    *,
    state: Any = None,
    app: App | None = None,
    messages: Mapping[str, Sequence[Any]] | None = None,
) -> Any:
    """Run a job value with a real ``ctx``; return the return value of its `run`, which may be a `Snooze`.

    It enqueues jobs into an in-memory database of its own. While it waits, a worker runs its children and other due
    jobs of the app. Under a `trio.testing.MockClock` with ``autojump_threshold=0``, sleeps and limits take no time. The
    job is never suspended: `drain` is for tests of what it does when it runs again.

    Args:
        job: the value to run.
        state: the value of ``ctx.state``.
        app: the app whose jobs the job may enqueue, and whose hooks are around both; by default an app with this job
            alone.
        messages: what `ctx.receive` gets, by name: ``messages={"approval": [Decision(yes=True)]}``.

    Raises:
        RuntimeError: it waits for a message that is not in `messages`, without a limit.
        Exception: the exception that `run` raised.
        trio.TooSlowError: the job's TIMEOUT expired.

    """
    async with open_app([type(job)] if app is None else app) as (own, client):
        definition = definition_of(type(job))
        own.use_state(state)
        own.lease = _LEASE
        async with own.open_storage() as storage:
            return await perform_job(
                definition,
                definition.encode(job),
                scratch=storage,
                state=state,
                client=client,
                hooks=own.attempt_hooks,
                messages=messages,
                work=own.run_worker,
            )
