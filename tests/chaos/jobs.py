"""Application of the chaos test: each body logs its begin, that it still runs, and its end.

Every kind of job uses another feature, which `tests/chaos/rules.py` checks.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import Any

import attrs
import tenacity
import trio

import jobrt
from jobrt import where
from jobrt._core.states import FINAL
from tests.chaos import mutants

LEASE = 3.0
TICK = 0.05
"""Seconds between two lines of a running body."""
STUBBORN = 1.2
NAME_LIMIT = 2
CLUSTER_LIMIT = 2
CONCURRENCY = {"default": 5, "ordered": 1, "cluster": 3, "keyed": 3, "family": 2}
_LOG = os.environ.get("JOBRT_CHAOS_LOG")
_FILE = os.open(_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) if _LOG else -1


@attrs.define
class Body:
    """One execution of a job."""

    job: int
    name: str
    queue: str
    lease: int

    @property
    def result(self) -> list[int]:
        """The result that only this body returns."""
        return [self.job, self.lease]

    def write(self, what: str, note: Any = None) -> None:
        """Append a line in a single write, so that it is complete even if the process is killed next."""
        line = [what, self.job, self.name, self.lease, os.getpid(), time.monotonic(), note, self.queue]
        os.write(_FILE, (json.dumps(line) + "\n").encode())

    async def work(self, seconds: float) -> None:
        """Run for some time, and log that. A freeze of the process does not count."""
        while seconds > 0:
            await trio.sleep(min(TICK, seconds))
            self.write("tick")
            seconds -= TICK


class Logged(jobrt.Job):
    """Base class: a job that takes some time and fails in its first attempts."""

    MAX_ATTEMPTS = None
    BACKOFF = tenacity.wait_fixed(0.2)

    seconds: float = 0.0
    failures: int = 0

    async def run(self, ctx: jobrt.Context) -> Any:
        """Log what happens to the body."""
        body = Body(ctx.job.id, ctx.job.name, ctx.job.queue, ctx._running.job.lease)  # it is not public
        body.write("begin")
        try:
            await body.work(self.seconds)
            self.fail(ctx.job.attempt)
            return await self.finish(ctx, body)
        except trio.Cancelled:
            body.write("cancelled")
            raise
        except Exception as error:
            body.write("fail", type(error).__name__)
            raise

    def fail(self, attempt: int) -> None:
        """Raise in the first attempts."""
        if attempt <= self.failures:
            raise OSError("fails as asked")

    async def finish(self, ctx: jobrt.Context, body: Body) -> Any:
        """Log the end, and return the result."""
        body.write("end")
        return body.result


class Work(Logged):
    """Job without any option."""


class Stubborn(Logged):
    """Job that does not let itself be cancelled, so its outcome can come after the end of its lease."""

    async def finish(self, ctx: jobrt.Context, body: Body) -> Any:
        """Work on in a shield, shorter than the time in which a worker stops."""
        with trio.CancelScope(shield=True):
            await body.work(STUBBORN)
        return await super().finish(ctx, body)


class Fragile(Logged):
    """Job with a number of attempts; crashes count."""

    MAX_ATTEMPTS = 3


class Named(Logged):
    """Job that every worker runs only twice at a time."""

    MAX_CONCURRENCY = NAME_LIMIT


class Ordered(Logged):
    """Job of a queue with one slot, whose jobs have priorities."""

    QUEUE = "ordered"


class Clustered(Logged):
    """Job of a queue with a limit for the whole cluster."""

    QUEUE = "cluster"


class Keyed(Logged):
    """Job of a queue that runs one job of each key at a time."""

    QUEUE = "keyed"

    who: str = "a"


class Single(Logged):
    """Job of which only one for each key may be unfinished."""

    UNIQUE = jobrt.Unique(by=("name", "args.who"))

    who: str = "a"


class Tick(Logged):
    """Job of the cron entry."""


class Exact(Logged):
    """Job that writes a row and completes in one transaction."""

    inside: float = 0.0
    """Seconds within the transaction."""

    async def finish(self, ctx: jobrt.Context, body: Body) -> Any:
        """Write the row. A deferred foreign key refuses a commit of the row without the outcome."""
        async with ctx.transaction(result=body.result) as conn:
            await conn.execute(
                "insert into chaos_written (job, lease) values (%s, %s)", (body.job, body.lease)
            )
            await body.work(self.inside)
            body.write("end")
        if body.job % 4 == 0:
            raise OSError("after the commit")


class Parent(Logged):
    """Job that waits for its children."""

    async def finish(self, ctx: jobrt.Context, body: Body) -> Any:
        """Enqueue the children once, wait for them, and end when all are final."""
        async with ctx.step("children") as step:
            if step.todo:
                step.value = [
                    handle.id for handle in await ctx.client.enqueue_many(self._children(ctx.job.id))
                ]
        found = await ctx.client.query(where.id_in(step.value), limit=None)
        if all(child.state in FINAL for child in found):
            return await super().finish(ctx, body)
        body.write("waits", step.value)
        return jobrt.After(step.value)

    def _children(self, parent: int) -> list[Any]:
        keys = (jobrt.Unique(key=f"{parent}.{number}", states="all") for number in range(3))
        return [Work(0.2 * number).with_options(unique=key) for number, key in enumerate(keys)]


class Leaf(Logged):
    """Child of a `Nest`."""

    QUEUE = "family"

    root: int = 0
    """The parent."""
    number: int = 0
    bad: bool = False

    async def finish(self, ctx: jobrt.Context, body: Body) -> Any:
        """Complete, or fail for good."""
        if self.bad:
            body.write("fail", "Discard")
            return jobrt.Discard("fails as asked")
        return await super().finish(ctx, body)


class Nest(Logged):
    """Job with a nursery, messages and a sleep. Parents and children share one queue, which has two slots."""

    QUEUE = "family"
    PARK = 0.5

    root: int = 0
    number: int = 0
    leaves: int = 3
    bad: bool = False
    """Whether a leaf fails for good."""
    late: bool = False
    """Whether the first attempt fails behind the nursery."""
    depth: int = 0

    async def finish(self, ctx: jobrt.Context, body: Body) -> Any:
        """Wait for the children, for two messages, and for a time; log what was received."""
        received: list[Any] = []
        try:
            async with ctx.open_nursery() as nursery:
                await nursery.enqueue_many(self._children(ctx.job.id))
                body.write("parks")
        except* jobrt.JobUnsuccessful:
            received.append("a child failed")
        self._go_on(ctx, body)
        if self.late and ctx.job.attempt == 1:
            raise OSError("fails as asked")
        for _ in range(0 if self.root else 2):
            body.write("parks")
            with suppress(trio.TooSlowError):
                received.append(await ctx.receive("news", int, within=4.0))
            self._go_on(ctx, body)
        body.write("parks")
        await ctx.sleep(0.2)
        self._go_on(ctx, body)
        body.write("end", received)
        return body.result

    def _children(self, parent: int) -> list[Any]:
        leaves = [
            Leaf(0.1 * number, root=parent, number=number, bad=self.bad and not number)
            for number in range(self.leaves)
        ]
        inner = Nest(0.0, root=parent, number=self.leaves, depth=self.depth - 1)
        return [*leaves, inner] if self.depth else leaves

    def _go_on(self, ctx: jobrt.Context, body: Body) -> None:
        """Log that the body goes on, under the lease of another claim if it was parked."""
        body.lease = ctx._running.job.lease  # it is not public
        body.write("begin")


JOBS = [Work, Stubborn, Fragile, Named, Ordered, Clustered, Keyed, Single, Tick, Exact, Parent, Leaf, Nest]


def make_app(url: str | None = None, *, migrate: bool | None = None) -> jobrt.App:
    """Return the application; workers take the URL from their environment."""
    queues = {
        "default": CONCURRENCY["default"],
        "ordered": CONCURRENCY["ordered"],
        "cluster": jobrt.Queue(concurrency=CONCURRENCY["cluster"], cluster_limit=CLUSTER_LIMIT),
        "keyed": jobrt.Queue(concurrency=CONCURRENCY["keyed"], key="args.who", per_key=1),
        "family": jobrt.Queue(concurrency=CONCURRENCY["family"], cluster_limit=CLUSTER_LIMIT),
    }
    made = jobrt.App(url, jobs=JOBS, queues=queues, lease=LEASE, grace=0.5, migrate=migrate)
    made.every(1.0, Tick(), name="tick", missed="all")
    return made


mutants.apply_from_environment()
app = make_app()
