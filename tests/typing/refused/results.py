# ruff: noqa: D101, D103 - a program as a user writes it
# pyright: strict
"""What a user gets wrong with results, handles and what else `ctx` and the client give."""

import jobrt
from jobrt import aio, blocking


class Text(jobrt.Job):
    async def run(self, ctx: jobrt.Context) -> str | jobrt.Snooze:
        return "text"


class NoContext(jobrt.Job):
    async def run(self) -> None: ...  # refused: it is given the context


class TooMuch(jobrt.Job):
    async def run(self, ctx: jobrt.Context, more: int) -> None: ...  # refused: it is given the context alone


class Alike:
    def run(self, ctx: jobrt.Context) -> str:
        return "no job, but it has a run"


async def main(jobs: jobrt.Client, plain: blocking.Client) -> None:
    handle = await jobs.enqueue(Text())
    (await handle.result()).bit_length()  # refused: a str
    number: int = await handle.result()  # refused: a str
    other: jobrt.Handle[int] = await jobs.enqueue(Text())  # refused: its result is a str
    several: list[jobrt.Handle[int]] = await jobs.enqueue_many([Text()])  # refused: their results are str
    plain.enqueue(Text()).result().bit_length()  # refused: a str
    assert all((number, other, several))
    await jobs.enqueue(Alike())  # refused: not a job
    await jobs.enqueue_many([Text])  # refused: a class, not a value
    await jobs.enqueue_many(Text())  # refused: one job
    plain.enqueue(Text)  # refused: a class, not a value
    plain.enqueue(Text(), prio=3)  # refused: no such option


async def in_asyncio(jobs: aio.Client) -> None:
    (await (await jobs.enqueue(Text())).result()).bit_length()  # refused: a str
    await jobs.enqueue(Text)  # refused: a class, not a value
    await jobs.enqueue(Text(), prio=3)  # refused: no such option
    await jobs.update(3, priority="high")  # refused: wrong type


async def in_a_job(ctx: jobrt.Context) -> None:
    await ctx.enqueue(Text)  # refused: a class, not a value
    await ctx.enqueue(Text(), schedule_in="soon")  # refused: wrong type
    (await (await ctx.enqueue(Text())).result()).bit_length()  # refused: a str
    await ctx.client.enqueu(Text())  # refused: no such method


async def change(jobs: jobrt.Client) -> None:
    await jobs.update(3, priority="high")  # refused: wrong type
    await jobs.update(3, prio=3)  # refused: no such option
    await jobs.update(3, unique=jobrt.Unique())  # refused: a job's uniqueness cannot be changed
    await jobs.update(3, args="text")  # refused: a job value or a dict
    await jobs.update(3, args=Text(), priority=3, schedule_in=5, tags=["x"], max_attempts=None)
    await jobs.update(jobrt.where.name("Text"), metadata={"a": 1}, context=None)


async def modules() -> None:
    jobrt.Jobs  # refused: no such name  # noqa: B018 - it is about the name
    await jobrt.testing.drein(jobrt.App())  # refused: no such function


def events(app: jobrt.App) -> None:
    def on_text(event: str) -> None: ...

    with app.events.subscribed(on_text):  # refused: events are not texts
        app.event  # refused: no such attribute  # noqa: B018 - it is about the name
