# ruff: noqa: D101, D103 - a program as a user writes it
# pyright: strict
"""A user's job classes, as the documentation writes them."""

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Generic, TypeVar, assert_type

import attrs
import tenacity

import jobrt


class SendEmail(jobrt.Job):
    """Deliver one message."""

    QUEUE = "mail"
    PRIORITY = -3
    MAX_ATTEMPTS = 5
    MAX_CONCURRENCY = 10
    TIMEOUT = 30
    BACKOFF = tenacity.wait_exponential(max=60) + tenacity.wait_random(0, 1)
    RETRY = tenacity.retry_if_exception_type(OSError)
    UNIQUE = jobrt.Unique(by=("name", "args.to"), within=timedelta(minutes=5))

    to: str
    subject: str = "Hello"
    tags: tuple[str, ...] = ()
    headers: dict[str, str] = attrs.field(factory=dict[str, str])

    async def run(self, ctx: jobrt.Context) -> None:
        assert_type(self.to, str)
        await ctx.state.mailer.send(self.to, self.subject, ctx.job.attempt)


class Nightly(jobrt.Job):
    NAME = "nightly"
    MAX_ATTEMPTS = None
    TIMEOUT = timedelta(hours=1)
    RUN_IN = "thread"

    def run(self, ctx: jobrt.Context) -> dict[str, int]:
        return {"attempt": ctx.job.attempt}


def longer_each_time(job: jobrt.JobRecord) -> timedelta:
    return timedelta(seconds=job.attempt * 10)


def only_timeouts(call: tenacity.RetryCallState) -> bool:
    return call.outcome is not None and isinstance(call.outcome.exception(), TimeoutError)


class Impatient(jobrt.Job):
    TIMEOUT = longer_each_time
    BACKOFF = longer_each_time
    RETRY = only_timeouts

    url: str

    async def run(self, ctx: jobrt.Context) -> jobrt.Snooze | jobrt.Cancel | None:
        return jobrt.Snooze(timedelta(minutes=1)) if ctx.job.attempt < 3 else jobrt.Cancel("gone")


def seconds(job: jobrt.JobRecord) -> float:
    return job.attempt * 1.5


class Retried(jobrt.Job):
    BACKOFF = seconds

    async def run(self, ctx: jobrt.Context) -> None: ...


class Report(jobrt.Job, abstract=True):
    MAX_ATTEMPTS: ClassVar[int | None] = 2

    customer: int


class Weekly(Report):
    week: int

    async def run(self, ctx: jobrt.Context) -> str:
        return f"{self.customer} {self.week}"


class Options(jobrt.Job, kw_only=True):
    fast: bool = False
    path: str

    async def run(self, ctx: jobrt.Context) -> None: ...


T = TypeVar("T")


class Store(jobrt.Job, Generic[T], abstract=True):
    value: T


class StoreNumber(Store[int]):
    async def run(self, ctx: jobrt.Context) -> int:
        return self.value


app = jobrt.App("sqlite:///jobs.db", jobs=[SendEmail, Nightly, Impatient, Weekly], queues={"mail": 20})


async def main() -> Any:
    async with app.open_client() as jobs:
        handle = await jobs.enqueue(SendEmail(to="a@example.com"))
        assert_type(handle, jobrt.Handle[None])
        await jobs.enqueue(SendEmail("a@example.com", "Hi", headers={"x": "y"}), priority=3, tags=["x"])
        await jobs.enqueue(Nightly(), schedule_at=datetime.now(UTC), max_attempts=None)
        await jobs.enqueue(Weekly(1, 2), schedule_in=3600, metadata={"a": [1]}, context="because")
        await jobs.enqueue(Weekly(customer=1, week=2))
        await jobs.enqueue(Options(path="x"))
        await jobs.enqueue(StoreNumber(3))
        email = SendEmail("a@example.com").with_options(queue="slow", timeout=5, unique=None)
        assert_type(email, jobrt.JobWithOptions[SendEmail])
        assert_type(email.job, SendEmail)
        await jobs.enqueue_many([email.with_options(priority=1), Nightly(), SendEmail("b@example.com")])
        return await handle.result()
