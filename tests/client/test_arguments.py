"""Every argument of every public function, with values that callers pass by mistake.

The functions and their parameters are found by introspection, so a new one is under test without being listed. Only a
valid value for each parameter is: a call with a bad value has valid ones for the others.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import typing
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import attrs
import pytest
import trio

import jobrt
from jobrt import errors, where
from jobrt._core.arguments import shown
from jobrt._registry import EnqueueKeywords, UpdateKeywords
from tests.parity.jobs import JOBS, Echo
from tests.support.in_asyncio import in_asyncio

NOW = datetime(2031, 5, 14, tzinfo=UTC)


class Nasty:
    """Value whose `repr` raises."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


class Lines:
    """Value whose `repr` is long and has several lines."""

    def __repr__(self) -> str:
        return "first\nsecond" * 1000


NEVER = [math.nan, Nasty(), Lines(), object(), [None], {1: object()}, b"1", ValueError, print, 1j]
"""Values that no parameter takes, those of any type aside."""
OTHERS: list[Any] = [
    *(None, True, False),
    *("", "1", "x\ny", " ", "\0", "x" * 100_000, "mial"),
    *(0, -1, 1, 10**18, 2**70, -(2**70), 10**5000, 1.5, -0.5, 1e308, math.inf, -math.inf),
    *([], [1, "a"], {}, {"a": 1}, (), set()),
    *(datetime(2031, 5, 14), datetime.max.replace(tzinfo=UTC), NOW),  # noqa: DTZ001 - a mistake under test
    *(timedelta.max, timedelta.min, timedelta(seconds=-1), timedelta(days=3_650_000), timedelta(0)),
    *(where.everything(), Echo, Echo(1), jobrt.Snooze(1)),
]
BAD = [*NEVER, *OTHERS]

ABOUT_THE_DATABASE = (errors.JobNotFound, errors.CronNotFound, errors.UnknownJob, errors.JobStateError)
"""Errors about what is stored: the argument was understood."""

ANYTHING = {
    ("use_clock", "clock"),
    ("App", "state"),
    ("Unique", "key"),
    ("checkpoint", "value"),
    ("around_steps", "scope"),
    ("transaction", "result"),
}
"""Parameters of any type, and any function. A value that is not JSON is refused where it is stored."""
OF_STORAGE = {"url", "schema", "conn"}
"""Parameters about the database itself: errors are `StorageError`."""


@attrs.frozen
class Case:
    """A function and one of its parameters."""

    owner: str
    name: str
    call: Callable[..., Any]
    parameter: str
    annotation: str
    others: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}({self.parameter})"


def parameters(function: Callable[..., Any]) -> Iterator[tuple[str, str, bool]]:
    """Yield name, annotation and whether it is required, of each parameter; keywords by their TypedDict."""
    for name, parameter in inspect.signature(function).parameters.items():
        annotation = str(parameter.annotation)
        if name in {"self", "task_status"}:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            for keywords in (EnqueueKeywords, UpdateKeywords):
                if keywords.__name__ in annotation:
                    for keyword, hint in typing.get_type_hints(keywords).items():
                        yield keyword, str(hint), False
        else:
            yield name, annotation, parameter.default is parameter.empty


def cases(owner: str, holder: object, *, skipped: set[str] = frozenset()) -> Iterator[Case]:  # type: ignore[assignment]
    """Yield a case for each parameter of each public function of a class or module."""
    for name, function in inspect.getmembers(holder, inspect.isfunction):
        imported = inspect.ismodule(holder) and function.__module__ != holder.__name__
        if not imported and not name.startswith("_") and name not in skipped:
            found = list(parameters(function))
            for parameter, annotation, _ in found:
                others = tuple(other for other, _, required in found if required and other != parameter)
                yield Case(owner, name, function, parameter, annotation, others)


def values_of(name: str, made: type) -> Iterator[Case]:
    """Yield a case for each parameter of a constructor."""
    found = list(parameters(made))
    for parameter, annotation, _ in found:
        others = tuple(other for other, _, required in found if required and other != parameter)
        yield Case(name, name, made, parameter, annotation, others)


VALID: dict[str, Any] = {
    "job": Echo(1),
    "jobs": [],
    "job_id": 1,
    "queue": "mail",
    "concurrency": 3,
    "name": "entry",
    "since": NOW,
    "expression": "0 3 * * *",
    "interval": 60,
    "reason": "why",
    "delay": 1,
    "children": [1],
    "url": "sqlite:///:memory:",
    "clock": lambda: NOW,
    "payload": {"value": 1},
    "value": "a",
    "values": ["a"],
    "moment": NOW,
    "window": timedelta(1),
    "field_or_value": {"value": 1},
    "done": 1,
    "function": None,
    "fields": "priority",
    "seconds": 1,
    "when": NOW,
    "type": str,
}
IDS = {"cancel", "rerun", "update", "delete", "id", "id_in"}


def arguments(case: Case, bad: object, job_id: int = 1) -> dict[str, Any]:
    """Return the keywords of a call with a bad value; `job_id` is that of a stored job."""
    valid = {**VALID, "job_id": job_id, **({"job": job_id} if case.name in IDS else {})}
    given = {other: valid[other] for other in case.others}
    if case.name == "update" and case.parameter == "job":
        given["priority"] = 3
    return given | {case.parameter: bad}


def judge(case: Case, bad: object, error: BaseException | None) -> None:
    """Check the answer to a bad value."""
    label = f"{case} with {type(bad).__name__} {shown(bad)}"
    if error is None:
        free = (
            (case.name, case.parameter) in ANYTHING or "Any" in case.annotation or "object" in case.annotation
        )
        assert free or not any(bad is value for value in NEVER), f"{label} is taken"
        assert free or bad is not None or "None" in case.annotation, f"{label} is taken"
        # A progress may count true values.
        free = free or case.name == "progress"
        assert free or not isinstance(bad, bool) or "bool" in case.annotation, f"{label} is taken"
        return
    text = str(error)
    assert isinstance(error, errors.JobrtError | ValueError | TypeError), f"{label}: {error!r}"
    assert not isinstance(error, errors.StorageError) or case.parameter in OF_STORAGE, f"{label}: {text}"
    assert text, label
    assert "\n" not in text, f"{label}: {text}"
    assert len(text) < 700, f"{label}: {text}"
    if not isinstance(error, ABOUT_THE_DATABASE) and not text.startswith("Echo."):  # the path of a field
        assert case.parameter.rstrip("s") in text.lower() or case.name in text or case.owner in text, (
            f"{label}: {text}"
        )


# ------------------------------------------------------------------------------------------------------ values


VALUES = [
    *values_of("Queue", jobrt.Queue),
    *values_of("Unique", jobrt.Unique),
    *values_of("Keep", jobrt.Keep),
    *values_of("Snooze", jobrt.Snooze),
    *values_of("Cancel", jobrt.Cancel),
    *values_of("Discard", jobrt.Discard),
    *values_of("After", jobrt.After),
    *values_of("App", jobrt.App),
    *values_of("Client", jobrt.blocking.Client),
    *values_of("aio.Client", jobrt.aio.Client),
    *cases("where", where, skipped={"matches", "canonical"}),
    *cases(
        "App",
        jobrt.App,
        skipped={"open_client", "open_storage", "await_storage", "run_worker", "drain", "perform"},
    ),
]


@pytest.mark.parametrize("case", VALUES, ids=str)
def test_values_are_checked_when_they_are_made(case: Case) -> None:
    """A bad value is refused with one line that names the parameter; without any I/O."""
    first: tuple[Any, ...] = (
        (jobrt.App("sqlite:///:memory:", jobs=JOBS),) if case.owner == "App" != case.name else ()
    )
    for bad in BAD:
        given = arguments(case, bad)
        several = [given.pop(name) for name in ("values", "fields") if case.name == "state" and name in given]
        error: BaseException | None = None
        try:
            case.call(*first, *several, **given)
        except Exception as raised:  # noqa: BLE001 - under test
            error = raised
        judge(case, bad, error)


def test_replacements_are_checked() -> None:
    """The fields are positional."""
    for bad in BAD:
        with pytest.raises(errors.InvalidJob, match=r"Replace\.fields") as caught:
            jobrt.Replace("priority", bad)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


# ----------------------------------------------------------------------------------------------------- clients


ASKED = [
    *cases("Client", jobrt.Client, skipped={"close"}),
    *cases(
        "App",
        jobrt.App,
        skipped={"job", "cron", "every", "at", "move_to", "use_clock", "drain", "run_worker"},
    ),
]
ASKED = [case for case in ASKED if inspect.iscoroutinefunction(case.call) or case.owner == "Client"]
AIO = list(cases("Client", jobrt.aio.Client, skipped={"close"}))
BLOCKING = list(cases("Client", jobrt.blocking.Client, skipped={"close"}))


async def stored(jobs: jobrt.Client) -> object:
    """Return everything that a caller can change."""
    queues = [(queue.name, queue.paused, queue.concurrency) for queue in await jobs.queues()]
    return rows(await jobs.query(limit=None)), queues, await jobs.crons()


def rows(records: list[jobrt.JobRecord]) -> list[jobrt.JobRecord]:
    """Return records without what changes by itself: a scheduled job becomes available."""
    unstarted = {jobrt.State.SCHEDULED, jobrt.State.AVAILABLE}
    return [attrs.evolve(one, state="scheduled") if one.state in unstarted else one for one in records]


@pytest.fixture
def app(database_url: str) -> jobrt.App:
    """An app with jobs on an engine."""
    return jobrt.App(database_url, jobs=JOBS, migrate=True)


@pytest.mark.slow
async def test_clients_check_their_arguments(app: jobrt.App) -> None:
    """A refused call has changed nothing, on any engine."""
    async with app.open_client() as jobs:
        for case in ASKED:
            of = jobs if case.owner == "Client" else app
            await jobs.delete(where.everything())
            job = await jobs.enqueue(Echo(1))
            refused = []
            for bad in BAD:
                error = await failure(partial(case.call, of, **arguments(case, bad, job.id)))
                judge(case, bad, error)
                refused += [] if error is None else [bad]
            before = await stored(jobs)
            for bad in refused:  # once more, because reading after each call takes most of the time
                if await failure(partial(case.call, of, **arguments(case, bad, job.id))) is None:
                    before = await stored(jobs)  # it depends on what is stored
            assert await stored(jobs) == before, f"{case}: a value was refused and changed something"


async def failure(call: Callable[[], object]) -> Exception | None:
    """Return what a call raises; a wait for a job that is there is as good as over."""
    try:
        with trio.fail_after(50):
            result = call()
            if isinstance(result, Awaitable):
                with trio.move_on_after(
                    0.01 if getattr(call, "func", None) is jobrt.Client.wait else math.inf
                ):
                    await result
    except Exception as error:  # noqa: BLE001 - under test
        return error
    return None


@pytest.mark.slow
async def test_blocking_clients_check_their_arguments(app: jobrt.App) -> None:
    """As the Trio client does."""
    await app.migrate()
    await trio.to_thread.run_sync(blocking_calls, app.url)


def blocking_calls(url: str) -> None:
    """Call each method of a blocking client with each bad value."""
    with jobrt.blocking.Client(url) as jobs:
        for case in BLOCKING:
            jobs.delete(where.everything())
            job = jobs.enqueue(Echo(1))
            before = rows(jobs.query(limit=None))
            for bad in BAD:
                error = None
                wait = {"timeout": 0} if case.name == "wait" and case.parameter != "timeout" else {}
                number = bad is None or (isinstance(bad, float | int) and not isinstance(bad, bool))
                if case.name == "wait" and not wait and number and bad not in NEVER:
                    continue  # how long it waits is not under test
                try:
                    case.call(jobs, **arguments(case, bad, job.id) | wait)
                except TimeoutError:
                    pass
                except Exception as raised:  # noqa: BLE001 - under test
                    error = raised
                judge(case, bad, error)
                after = rows(jobs.query(limit=None))
                assert error is None or after == before, f"{case}: {bad!r} was refused and changed something"
                before = after


@pytest.mark.slow
async def test_asyncio_clients_check_their_arguments(sqlite_url: str) -> None:
    """As the Trio client does."""
    await jobrt.App(sqlite_url).migrate()
    await in_asyncio(partial(asyncio_calls, sqlite_url))


async def asyncio_calls(url: str) -> None:
    """Call each method of an asyncio client with each bad value."""
    async with jobrt.aio.Client(url) as jobs:
        for case in AIO:
            await jobs.delete(where.everything())
            job = await jobs.enqueue(Echo(1))
            before = rows(await jobs.query(limit=None))
            for bad in BAD:
                error = None
                try:
                    result = case.call(jobs, **arguments(case, bad, job.id))
                    if isinstance(result, Awaitable):
                        await asyncio.wait_for(result, 0.01 if case.name == "wait" else 50)
                except TimeoutError:
                    pass
                except Exception as raised:  # noqa: BLE001 - under test
                    error = raised
                judge(case, bad, error)
                after = rows(await jobs.query(limit=None))
                assert error is None or after == before, f"{case}: {bad!r} was refused and changed something"
                before = after


async def test_workers_refuse_queues_that_are_none(app: jobrt.App) -> None:
    """The letters of a string are no queues."""
    for bad in [value for value in BAD if value not in (None, [], (), {}, set())]:
        with pytest.raises((errors.InvalidSetting, TypeError), match="queue"):
            await app.run_worker(queues=bad)
        if not isinstance(bad, str):
            with pytest.raises(errors.InvalidSetting, match="queue"):
                await app.drain(bad)


# ---------------------------------------------------------------------------------------------------- contexts


CONTEXT = list(cases("Context", jobrt.Context))


async def test_contexts_check_their_arguments() -> None:
    """A job learns of its mistake in the line that made it."""
    app = jobrt.App("sqlite:///:memory:", jobs=JOBS)

    @app.job(name="asks")
    async def asks(ctx: jobrt.Context, case_number: int, first: int) -> int:
        """Try values from the first on; return the number of the next one, which needs a job of its own."""
        case = CONTEXT[case_number]
        for number, bad in enumerate(BAD[first:], first):
            error = await failure(partial(asked, ctx, case, bad))
            if isinstance(error, RuntimeError | errors.LeaseLost) and number > first:
                return number  # the cause may be an earlier call
            understood = isinstance(error, RuntimeError) and "there is no worker" in str(error)
            judge(case, bad, None if understood else error)
        return len(BAD)

    async with app.open_client():
        for case_number in range(len(CONTEXT)):
            first = 0
            while first < len(BAD):
                first = await app.perform("asks", {"case_number": case_number, "first": first})


async def asked(ctx: jobrt.Context, case: Case, bad: object) -> None:
    """Call a method of the context with a bad value."""
    result = case.call(ctx, **arguments(case, bad))
    if isinstance(result, Awaitable):
        await result
    elif hasattr(result, "__aenter__"):
        async with result:
            pass
