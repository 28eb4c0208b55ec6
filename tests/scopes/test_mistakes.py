"""Mistakes with scopes get one clear error, which names the thing and the remedy."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
import trio

import jobrt
from jobrt.testing import open_app, perform

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Body = Callable[[jobrt.Context], Awaitable[None]]


class Leaf(jobrt.Job):
    """Child that returns its number."""

    number: int = 0

    async def run(self, ctx: jobrt.Context) -> int:
        return self.number


class Makes(jobrt.Job):
    """Job that makes one of the mistakes."""

    mistake: str

    async def run(self, ctx: jobrt.Context) -> None:
        await MISTAKES[self.mistake][0](ctx)


async def nested(ctx: jobrt.Context) -> None:
    """Open a nursery in the block of one with the same name."""
    async with ctx.open_nursery("a"), ctx.open_nursery("a"):
        pass


async def one_key(ctx: jobrt.Context) -> None:
    """Use a key for two jobs."""
    async with ctx.open_nursery() as nursery:
        await nursery.enqueue(Leaf(1), key="one")
        await nursery.enqueue(Leaf(2), key="one")


async def empty_key(ctx: jobrt.Context) -> None:
    """Use no text as a key."""
    async with ctx.open_nursery() as nursery:
        await nursery.enqueue(Leaf(1), key="")


async def late(ctx: jobrt.Context) -> None:
    """Enqueue into a nursery whose block has ended."""
    async with ctx.open_nursery() as nursery:
        pass
    await nursery.enqueue(Leaf())


async def early(ctx: jobrt.Context) -> None:
    """Look at the children in the block."""
    async with ctx.open_nursery() as nursery:
        _ = nursery.children


async def one_job(ctx: jobrt.Context) -> None:
    """Pass one job to `enqueue_many`."""
    async with ctx.open_nursery() as nursery:
        await nursery.enqueue_many(Leaf())  # type: ignore[arg-type]


async def in_transaction(ctx: jobrt.Context) -> None:
    """Open a nursery in a transaction."""
    async with ctx.transaction(), ctx.open_nursery():
        pass


async def other_task(ctx: jobrt.Context) -> None:
    """Open a nursery in a task of the job."""

    async def child() -> None:
        async with ctx.open_nursery():
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(child)


def opening(*args: Any, **options: Any) -> Body:
    """Return a body that opens a nursery with these arguments."""

    async def body(ctx: jobrt.Context) -> None:
        async with ctx.open_nursery(*args, **options):
            pass

    return body


MISTAKES: dict[str, tuple[Body, str]] = {
    "nested": (nested, "a second nursery 'a' in one run: give each a name of its own"),
    "one key": (one_key, "the key 'one' is used for two different jobs: give each its own"),
    "empty key": (empty_key, "key is ''"),
    "late": (late, "its block has ended"),
    "early": (early, "its children are known when its block has ended"),
    "one job": (one_job, "use a list of job values"),
    "in a transaction": (in_transaction, "ctx.open_nursery inside ctx.transaction()"),
    "other task": (other_task, "only the task that runs `run` may wait"),
    "name": (opening(""), "name is ''"),
    "no name": (opening(7), "name is 7"),
    "on_failure": (opening(on_failure="ignore"), "on_failure is 'ignore': use 'cancel' or 'continue'"),
    "negative deadline": (opening(deadline=-1), "deadline is -1"),
    "infinite deadline": (opening(deadline=math.inf), "deadline is inf"),
    "negative sleep": (lambda ctx: ctx.sleep(-1), "seconds is -1"),
    "sleep of no length": (lambda ctx: ctx.sleep(math.nan), "seconds is nan"),
    "naive time": (lambda ctx: ctx.sleep_until(datetime(2030, 1, 1)), "when is"),  # noqa: DTZ001 - the mistake
    "negative limit": (lambda ctx: ctx.receive("x", within=-1), "within is -1"),
    "infinite limit": (lambda ctx: ctx.receive("x", within=math.inf), "within is inf"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_job_makes_a_mistake(mistake: str) -> None:
    """The attempt fails with one line."""
    app = jobrt.App("sqlite:///:memory:", jobs=[Makes, Leaf])
    with pytest.raises((jobrt.InvalidJob, RuntimeError, ExceptionGroup)) as caught:
        await perform(Makes(mistake), app=app)
    error: BaseException = caught.value
    while isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, (jobrt.InvalidJob, RuntimeError))
    assert MISTAKES[mistake][1] in str(error)
    assert "\n" not in str(error)


class Names(jobrt.Job):
    """Job that names a nursery and a sleep again, after their times were refused."""

    async def run(self, ctx: jobrt.Context) -> list[Any]:
        with pytest.raises(jobrt.InvalidJob):
            async with ctx.open_nursery("a", deadline=math.nan):
                pass
        with pytest.raises(jobrt.InvalidJob):
            await ctx.sleep(math.nan, name="s")
        async with ctx.open_nursery("a") as nursery:
            await nursery.enqueue(Leaf(3))
        await ctx.sleep(0, name="s")
        return [child.result for child in nursery.children]


async def test_a_name_is_not_taken_by_a_call_that_was_refused() -> None:
    """The job may call again with a time that is valid."""
    app = jobrt.App("sqlite:///:memory:", jobs=[Names, Leaf])
    assert await perform(Names(), app=app) == [3]


@pytest.mark.parametrize("option", ["deadline_in", "expires_in"])
@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan, "soon"])
async def test_a_deadline_is_a_duration(option: str, seconds: Any) -> None:
    """Otherwise nothing is enqueued."""
    async with open_app(jobs=[Leaf]) as (_, jobs):
        with pytest.raises(jobrt.InvalidJob, match=f"{option} is {seconds!r}"):
            await jobs.enqueue(Leaf(), **{option: seconds})
        assert await jobs.count() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("",), "name is ''"),
        ((3,), "name is 3"),
        (("x", object()), "value of 'x'"),
        (("x", math.nan), "value of 'x'"),
    ],
)
async def test_a_message_is_checked_when_it_is_sent(arguments: Any, message: str) -> None:
    """Name and value."""
    async with open_app(jobs=[Leaf]) as (_, jobs):
        job = await jobs.enqueue(Leaf())
        with pytest.raises(jobrt.InvalidJob, match=message):
            await job.send(*arguments)


async def test_a_message_has_a_receiver() -> None:
    """A final job, an unknown one, or no id."""
    async with open_app(jobs=[Leaf]) as (_, jobs):
        job = await jobs.enqueue(Leaf())
        await jobs.cancel(job.id)
        with pytest.raises(jobrt.JobStateError, match=f"job {job.id} is cancelled"):
            await job.send("x")
        with pytest.raises(jobrt.JobNotFound, match="there is no job 99"):
            await jobs.send(99, "x")
        with pytest.raises((jobrt.InvalidFilter, jobrt.InvalidJob), match="job_id is 'ada'"):
            await jobs.send("ada", "x")  # type: ignore[arg-type]
