# ruff: noqa: D101, D103 - a program as a user writes it
# pyright: strict
"""The result of a handle has the type that the job's `run` returns, verdicts left out."""

from collections.abc import Iterable
from typing import Any, Generic, TypedDict, TypeVar, assert_type

import jobrt
from jobrt import aio, blocking

app = jobrt.App("sqlite:///:memory:")


class Text(jobrt.Job):
    number: int = 0

    async def run(self, ctx: jobrt.Context) -> str:
        return str(self.number)


class TextInThread(jobrt.Job):
    def run(self, ctx: jobrt.Context) -> str:
        return "text"


class Counts(jobrt.Job):
    def run(self, ctx: jobrt.Context) -> dict[str, int]:
        return {"attempt": ctx.job.attempt}


class Nothing(jobrt.Job):
    async def run(self, ctx: jobrt.Context) -> None: ...


class NothingInThread(jobrt.Job):
    def run(self, ctx: jobrt.Context) -> None: ...


class TextOrSnooze(jobrt.Job):
    async def run(self, ctx: jobrt.Context) -> str | jobrt.Snooze:
        return jobrt.Snooze(5) if ctx.job.attempt < 3 else "text"


class TextOrVerdict(jobrt.Job):
    def run(self, ctx: jobrt.Context) -> str | jobrt.Snooze | jobrt.Cancel | jobrt.Discard:
        return jobrt.Cancel("gone")


class NothingOrVerdict(jobrt.Job):
    async def run(self, ctx: jobrt.Context) -> jobrt.After | jobrt.Discard | None:
        return jobrt.After([await ctx.enqueue(Text(1))])


class OnlyVerdict(jobrt.Job):
    async def run(self, ctx: jobrt.Context) -> jobrt.Cancel:
        return jobrt.Cancel("never")


class MaybeNumber(jobrt.Job):
    async def run(self, ctx: jobrt.Context) -> int | None:
        return None


class NumberOrText(jobrt.Job):
    async def run(self, ctx: jobrt.Context) -> int | str:
        return 3


class NumberTextOrVerdict(jobrt.Job):
    async def run(self, ctx: jobrt.Context) -> int | str | jobrt.Snooze:
        return 3


class Total(TypedDict):
    files: int


class Totals(jobrt.Job):
    async def run(self, ctx: jobrt.Context) -> Total:
        return {"files": 1}


class Anything(jobrt.Job):
    async def run(self, ctx: jobrt.Context) -> Any:
        return 3


T = TypeVar("T")


class Store(jobrt.Job, Generic[T], abstract=True):
    value: T


class StoreNumber(Store[int]):
    async def run(self, ctx: jobrt.Context) -> int:
        return self.value


@app.job
async def resize(ctx: jobrt.Context, path: str) -> str:
    return path


@app.job(queue="slow")
def count(ctx: jobrt.Context, path: str) -> int:
    return len(path)


@app.job
async def wait(ctx: jobrt.Context) -> list[int] | jobrt.Snooze:
    return jobrt.Snooze(5)


@app.job
async def tidy(ctx: jobrt.Context) -> None: ...


async def classes(jobs: jobrt.Client) -> None:
    handle = await jobs.enqueue(Text(1))
    assert_type(handle, jobrt.Handle[str])
    assert_type(await handle.result(), str)
    assert_type(await handle.wait(), jobrt.JobRecord)
    assert_type(await jobs.enqueue(TextInThread(), priority=3), jobrt.Handle[str])
    assert_type(await jobs.enqueue(Counts()), jobrt.Handle[dict[str, int]])
    assert_type(await jobs.enqueue(Nothing()), jobrt.Handle[None])
    assert_type(await jobs.enqueue(NothingInThread()), jobrt.Handle[None])
    assert_type(await jobs.enqueue(MaybeNumber()), jobrt.Handle[int | None])
    assert_type(await jobs.enqueue(NumberOrText()), jobrt.Handle[int | str])
    assert_type(await jobs.enqueue(Totals()), jobrt.Handle[Total])
    assert_type(await jobs.enqueue(StoreNumber(3)), jobrt.Handle[int])
    assert_type(await jobs.enqueue(Anything()), jobrt.Handle[Any])
    assert_type(jobs.handle(3), jobrt.Handle[Any])


async def verdicts(jobs: jobrt.Client) -> None:
    assert_type(await jobs.enqueue(TextOrSnooze()), jobrt.Handle[str])
    assert_type(await jobs.enqueue(TextOrVerdict()), jobrt.Handle[str])
    assert_type(await jobs.enqueue(NothingOrVerdict()), jobrt.Handle[None])
    cancelled = await jobs.enqueue(OnlyVerdict())
    assert_type(cancelled, jobrt.Handle[Any])
    declared: jobrt.Handle[int | str] = await jobs.enqueue(NumberTextOrVerdict())  # mypy needs the annotation
    assert_type(await declared.result(), int | str)


async def functions(jobs: jobrt.Client) -> None:
    assert_type(await jobs.enqueue(resize.new("cat.png")), jobrt.Handle[str])
    assert_type(await jobs.enqueue(count.new(path="cat.png")), jobrt.Handle[int])
    assert_type(await jobs.enqueue(wait.new()), jobrt.Handle[list[int]])
    assert_type(await jobs.enqueue(tidy.new()), jobrt.Handle[None])


async def options(jobs: jobrt.Client) -> None:
    text = Text(1).with_options(queue="slow")
    assert_type(text, jobrt.JobWithOptions[Text])
    assert_type(await jobs.enqueue(text), jobrt.Handle[str])
    assert_type(await jobs.enqueue(text.with_options(priority=1), priority=2), jobrt.Handle[str])
    assert_type(await jobs.enqueue(TextOrVerdict().with_options(tags=["x"])), jobrt.Handle[str])
    assert_type(await jobs.enqueue(Counts().with_options(tags=["x"])), jobrt.Handle[dict[str, int]])
    assert_type(await jobs.enqueue(resize.new("cat.png").with_options(tags=["x"])), jobrt.Handle[str])
    assert_type(await jobs.enqueue(count.new("cat.png").with_options(tags=["x"])), jobrt.Handle[int])
    assert_type(await jobs.enqueue(wait.new().with_options(tags=["x"])), jobrt.Handle[list[int]])


async def many(jobs: jobrt.Client, chosen: list[jobrt.Job], either: Iterable[jobrt.Job]) -> None:
    assert_type(await jobs.enqueue_many([Text(1), Text(2)]), list[jobrt.Handle[str]])
    assert_type(await jobs.enqueue_many(Counts() for _ in range(3)), list[jobrt.Handle[dict[str, int]]])
    assert_type(await jobs.enqueue_many([TextOrSnooze(), TextOrSnooze()]), list[jobrt.Handle[str]])
    assert_type(await jobs.enqueue_many([NumberOrText()]), list[jobrt.Handle[int | str]])
    assert_type(
        await jobs.enqueue_many(resize.new("x").with_options(priority=n) for n in range(3)),
        list[jobrt.Handle[str]],
    )
    for handle in await jobs.enqueue_many(
        [Text(1).with_options(tags=["x"]), Counts(), tidy.new(), OnlyVerdict()]
    ):
        await handle.result()
    first, second = await jobs.enqueue_many([Text(1), Counts()])
    await first.result()
    await second.result()
    assert_type(await jobs.enqueue_many(chosen), list[jobrt.Handle[Any]])
    assert_type(await jobs.enqueue_many(either), list[jobrt.Handle[Any]])


async def of_a_base_class(jobs: jobrt.Client, job: jobrt.Job, store: Store[int]) -> None:
    assert_type(await jobs.enqueue(job), jobrt.Handle[Any])
    assert_type(await jobs.enqueue(store), jobrt.Handle[Any])
    assert_type(await jobs.enqueue(job.with_options(priority=3)), jobrt.Handle[Any])


async def give(jobs: jobrt.Client) -> jobrt.Handle[int | str]:
    return await jobs.enqueue(NumberTextOrVerdict())


async def in_a_job(ctx: jobrt.Context) -> None:
    assert_type(ctx.client, jobrt.Client)
    assert_type(await ctx.enqueue(Text(1), schedule_in=5), jobrt.Handle[str])
    assert_type(await ctx.enqueue(resize.new("cat.png")), jobrt.Handle[str])
    assert_type(await ctx.enqueue(TextOrVerdict().with_options(tags=["x"])), jobrt.Handle[str])
    assert_type(await ctx.client.enqueue_many([Text(1), Text(2)]), list[jobrt.Handle[str]])


def without_trio(jobs: blocking.Client) -> None:
    assert_type(jobs.enqueue(Text(1)), blocking.Handle[str])
    assert_type(jobs.enqueue(Text(1)).result(timeout=5), str)
    assert_type(jobs.enqueue(TextOrSnooze().with_options(tags=["x"])).result(), str)
    assert_type(jobs.enqueue(count.new("cat.png"), priority=3).result(), int)
    assert_type(jobs.enqueue_many([Counts(), Counts()]), list[blocking.Handle[dict[str, int]]])
    assert_type(jobs.handle(3), blocking.Handle[Any])


async def in_asyncio(jobs: aio.Client) -> None:
    assert_type(await jobs.enqueue(Text(1)), aio.Handle[str])
    assert_type(await jobs.enqueue(Text(1)), jobrt.Handle[str])
    assert_type(await (await jobs.enqueue(TextOrSnooze().with_options(tags=["x"]))).result(), str)
    assert_type(await (await jobs.enqueue(count.new("cat.png"), priority=3)).result(), int)
    assert_type(await jobs.enqueue_many([Counts(), Counts()]), list[aio.Handle[dict[str, int]]])
    assert_type(jobs.handle(3), aio.Handle[Any])
    assert_type(await jobs.get(3), jobrt.JobRecord)


def on_event(event: jobrt.events.Event) -> None:
    match event:
        case jobrt.events.JobEnded(id=number, state=jobrt.State.DISCARDED, message=message):
            assert_type(number, int)
            assert_type(message, str | None)
        case jobrt.events.WorkerStopping():
            assert_type(event.grace, float)
        case _:
            pass


async def modules_and_events(subscriber: jobrt.events.Subscriber) -> None:
    with app.events.subscribed(on_event, routine=False), app.events.subscribed(subscriber):
        assert_type(app.events, jobrt.events.EventBus)
    async with jobrt.testing.open_app(jobs=[Text]) as (copy, jobs):
        assert_type(copy, jobrt.App)
        assert_type(await jobs.enqueue(Text(1)), jobrt.Handle[str])
        await jobrt.testing.drain(copy)
    page = jobrt.dashboard.asgi
    assert callable(page)
