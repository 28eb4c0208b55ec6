"""Kill a worker at its N-th call of the storage, for N = 1, 2, …, while it runs a flow of jobs; let another go on.

`python -m tests.chaos.flow URL [EVERY]` does it at every call, before it and after it, or at each EVERY-th of these.
Each life is a fork of this process, which has imported everything and never runs a thread, and ends by SIGKILL.
What a dead worker held is handed back at once, as `worker --processes` does.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

import jobrt
from jobrt import where
from jobrt._core.states import FINAL
from jobrt._storage import postgres, sqlite  # noqa: F401 - imported once, before the first fork
from tests.support.roles import ROLES, RoleProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

TEXTS = ["a b c", "d e", "", "f"]
COUNTED = {"exchange", "finish", "insert", "steps", "save_step", "query", "count"}
KILLED = -signal.SIGKILL


class Count(jobrt.Job):
    """Count words; give up on an empty text."""

    MAX_ATTEMPTS = None

    text: str

    async def run(self, ctx: jobrt.Context) -> Any:
        return len(self.text.split()) if self.text else jobrt.Discard("nothing to count")


class Publish(jobrt.Job):
    """Be the last link of the chain."""

    MAX_ATTEMPTS = None

    words: int

    async def run(self, ctx: jobrt.Context) -> str:
        return f"{self.words} words"


class Flow(jobrt.Job):
    """Fan out to the texts, fan in, and hand the sum on to one more job."""

    MAX_ATTEMPTS = None

    async def run(self, ctx: jobrt.Context) -> Any:
        counts = await children(ctx, "count", [Count(text) for text in TEXTS])
        if counts is None:
            return await waiting(ctx, "count")
        failed = [one.attempts[-1].message for one in counts if one.state is jobrt.State.DISCARDED]
        words = sum(one.result for one in counts if one.state is jobrt.State.COMPLETED)
        published = await children(ctx, "publish", [Publish(words)])
        if published is None:
            return await waiting(ctx, "publish")
        return {"failed": failed, "published": [one.result for one in published]}


async def children(ctx: jobrt.Context, name: str, jobs: list[Any]) -> list[jobrt.JobRecord] | None:
    """Enqueue children once over all attempts; return them when all are final, else None."""
    async with ctx.step(name) as step:
        if step.todo:
            keys = (jobrt.Unique(key=f"{ctx.job.id}.{name}.{n}", states="all") for n in range(len(jobs)))
            named = [job.with_options(unique=key) for job, key in zip(jobs, keys, strict=True)]
            step.value = [one.id for one in await ctx.client.enqueue_many(named)]
    found = await ctx.client.query(where.id_in(step.value), order_by="id", limit=None)
    return found if all(one.state in FINAL for one in found) else None


async def waiting(ctx: jobrt.Context, name: str) -> jobrt.After:
    """Return what waits for the children of a step."""
    async with ctx.step(name) as step:
        return jobrt.After(step.value)


@attrs.define(eq=False)
class Dying:
    """A storage whose process is killed before (an even number) or after (an odd one) one of its calls."""

    real: Any
    fatal: int
    calls: int = 0

    def __getattr__(self, role: str) -> Any:
        real = getattr(self.real, role)
        return RoleProxy(role, real, self._counted) if role in ROLES else real

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        return partial(self._call, method) if name in COUNTED else method

    async def _call(self, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        moment = 2 * self.calls
        self._die_at(moment)
        result = await method(*args, **kwargs)
        self._die_at(moment + 1)
        return result

    def _die_at(self, moment: int) -> None:
        if moment == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


class Mortal(jobrt.App):
    """An app whose workers are killed at a moment."""

    fatal = 0

    @asynccontextmanager
    async def open_storage(self) -> AsyncIterator[Any]:
        async with super().open_storage() as storage:
            yield Dying(storage, self.fatal)


def app(url: str, fatal: int = 0) -> Mortal:
    """Make the app of one life; 0 is no moment."""
    made = Mortal(url, jobs=[Flow, Count, Publish], migrate=True)
    made.fatal = fatal
    return made


async def begin(url: str, fatal: int) -> None:
    """Enqueue a flow and work on it until there is nothing left to do, or until death."""
    async with app(url).open_client() as client:
        await client.enqueue(Flow(), context=str(fatal))
    await app(url, fatal).drain()


async def go_on(url: str, fatal: int) -> None:
    """Hand back what the dead worker held, finish the flow, and see that it is right."""
    async with app(url).open_storage() as storage:
        for row in await storage.workers.all():
            await storage.workers.unregister(row.id)
        await storage.workers.rescue()
    await app(url).drain()
    async with app(url).open_client() as client:
        flow, *_ = await client.query(where.name("Flow"), order_by="-id")
        assert flow.context == str(fatal)
        assert flow.result == {"failed": ["nothing to count"], "published": ["6 words"]}, flow
        jobs = await client.query(where.id_in(range(flow.id + 1, flow.id + 100)), order_by="id", limit=None)
        assert [one.name for one in jobs] == [*["Count"] * len(TEXTS), "Publish"], "each child once"
        ends = [one.end for job in [flow, *jobs] for one in job.attempts]
        assert ends.count(jobrt.End.CRASHED) <= 1 + len(TEXTS), ends


def live(main: Callable[[str, int], Any], url: str, fatal: int) -> int:
    """Run one life in a process of its own; return how it ended."""
    pid = os.fork()
    if pid == 0:
        try:
            trio.run(main, url, fatal)
        except BaseException:  # noqa: BLE001 - told, and the exit status says it
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(url: str, every: int) -> int:
    """Kill at one moment after the other, until a life ends before its moment comes; return how many were killed."""
    killed, moment, ended = 0, 2, KILLED
    while ended == KILLED:
        ended = live(begin, url, moment)
        killed += ended == KILLED
        if ended not in {0, KILLED} or live(go_on, url, moment) != 0:
            raise SystemExit(f"killed at {moment}: ended with {ended}")
        moment += every
    return killed


if __name__ == "__main__":
    print(run(sys.argv[1], int(sys.argv[2]) if sys.argv[2:] else 1), "lives were cut short")  # noqa: T201 - a program
