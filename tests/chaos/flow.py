"""A flow of jobs whose worker is killed at its N-th storage call, for N = 1, 2, …, and continued by another.

`python -m tests.chaos.flow URL [EVERY]` kills before and after every call, or at each EVERY-th of these moments.
Each worker is a fork of this process, which has imported all modules and has no threads. The jobs of a dead worker
are released immediately, as `worker --processes` does.
"""

from __future__ import annotations

import logging
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
from jobrt._storage import postgres, sqlite  # noqa: F401 - imported before the first fork
from tests.support.roles import ROLES, RoleProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection

    Main = Callable[[str, int], Any]

TEXTS = ["a b c", "d e", "", "f"]
COUNTED = {"exchange", "finish", "insert", "steps", "save_step", "query", "count"}
KILLED = -signal.SIGKILL


class Count(jobrt.Job):
    """Count words; discard an empty text."""

    MAX_ATTEMPTS = None

    text: str

    async def run(self, ctx: jobrt.Context) -> Any:
        return len(self.text.split()) if self.text else jobrt.Discard("nothing to count")


class Publish(jobrt.Job):
    """Last job of the chain."""

    MAX_ATTEMPTS = None

    words: int

    async def run(self, ctx: jobrt.Context) -> str:
        return f"{self.words} words"


class Flow(jobrt.Job):
    """Enqueue a job for each text, wait for all, and pass the sum to another job."""

    MAX_ATTEMPTS = None

    async def run(self, ctx: jobrt.Context) -> Any:
        counts = await children(ctx, "count", [Count(text) for text in TEXTS])
        if counts is None:
            return await waiting(ctx, "count")
        failed = [job.attempts[-1].message for job in counts if job.state is jobrt.State.DISCARDED]
        words = sum(job.result for job in counts if job.state is jobrt.State.COMPLETED)
        published = await children(ctx, "publish", [Publish(words)])
        if published is None:
            return await waiting(ctx, "publish")
        return {"failed": failed, "published": [job.result for job in published]}


async def children(ctx: jobrt.Context, name: str, jobs: list[Any]) -> list[jobrt.JobRecord] | None:
    """Enqueue children once for all attempts; return them when all are final, else None."""
    async with ctx.step(name) as step:
        if step.todo:
            keys = (jobrt.Unique(key=f"{ctx.job.id}.{name}.{n}", states="all") for n in range(len(jobs)))
            unique = [job.with_options(unique=key) for job, key in zip(jobs, keys, strict=True)]
            step.value = [handle.id for handle in await ctx.client.enqueue_many(unique)]
    found = await ctx.client.query(where.id_in(step.value), order_by="id", limit=None)
    return found if all(job.state in FINAL for job in found) else None


async def waiting(ctx: jobrt.Context, name: str) -> jobrt.After:
    """Return the result that waits for the children of a step."""
    async with ctx.step(name) as step:
        return jobrt.After(step.value)


@attrs.define(eq=False)
class Dying:
    """A storage that kills its process before (even `fatal`) or after (odd `fatal`) one of its calls."""

    real: Any
    fatal: int
    counted: Collection[str] = frozenset(COUNTED)
    calls: int = 0

    def __getattr__(self, role: str) -> Any:
        real = getattr(self.real, role)
        return RoleProxy(role, real, self._counted) if role in ROLES else real

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        return partial(self._call, method) if name in self.counted else method

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
    """An app whose workers are killed at a given moment."""

    fatal = 0

    @asynccontextmanager
    async def open_storage(self) -> AsyncIterator[Any]:
        async with super().open_storage() as storage:
            yield Dying(storage, self.fatal)


def app(url: str, fatal: int = 0) -> Mortal:
    """Return an app for one process; 0 means that it is not killed."""
    made = Mortal(url, jobs=[Flow, Count, Publish], migrate=True)
    made.fatal = fatal
    return made


async def begin(url: str, fatal: int) -> None:
    """Enqueue a flow and run it until it has ended or the process is killed."""
    async with app(url).open_client() as client:
        await client.enqueue(Flow(), context=str(fatal))
    await app(url, fatal).drain()


async def bury(app: jobrt.App) -> None:
    """Release the jobs of dead workers at once."""
    async with app.open_storage() as storage:
        for row in await storage.workers.all():
            await storage.workers.unregister(row.id)
        await storage.workers.rescue()


async def go_on(url: str, fatal: int) -> None:
    """Release the jobs of the dead worker, finish the flow, and check the result."""
    await bury(app(url))
    await app(url).drain()
    async with app(url).open_client() as client:
        flow, *_ = await client.query(where.name("Flow"), order_by="-id")
        assert flow.context == str(fatal)
        assert flow.result == {"failed": ["nothing to count"], "published": ["6 words"]}, flow
        jobs = await client.query(where.id_in(range(flow.id + 1, flow.id + 100)), order_by="id", limit=None)
        assert [job.name for job in jobs] == [*["Count"] * len(TEXTS), "Publish"], "each child once"
        ends = [attempt.end for job in [flow, *jobs] for attempt in job.attempts]
        assert ends.count(jobrt.End.CRASHED) <= 1 + len(TEXTS), ends


def run_process(main: Main, url: str, fatal: int) -> int:
    """Run a function in a forked process, and return its exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            trio.run(main, url, fatal)
        except BaseException:  # noqa: BLE001 - printed, and reported by the exit status
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(url: str, every: int, *, begin: Main = begin, go_on: Main = go_on) -> int:
    """Kill at one moment after the other, until a process ends before its moment; return the number of kills."""
    killed, moment, ended = 0, 2, KILLED
    while ended == KILLED:
        ended = run_process(begin, url, moment)
        killed += ended == KILLED
        if ended not in {0, KILLED} or run_process(go_on, url, moment) != 0:
            raise SystemExit(f"killed at {moment}: ended with {ended}")
        moment += every
    return killed


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)  # deaths and discards are expected
    print(run(sys.argv[1], int(sys.argv[2]) if sys.argv[2:] else 1), "processes were killed")  # noqa: T201 - a program
