"""Client or worker of a measurement, in a process of its own. It uses only the standard library.

::

    ADAPTER setup URL             create the tables
    ADAPTER one URL SECONDS       enqueue one by one for so long; prints jobs, seconds and CPU seconds
    ADAPTER many URL NUMBER       enqueue so many jobs in bulk; prints jobs, seconds and CPU seconds
    ADAPTER pulse URL NUMBER      enqueue so many jobs with pauses; prints the times of call and commit of each
    ADAPTER work URL SETTING      run a worker until SIGTERM

The environment variable MARKS is the path of a file shared with the benchmark, in which each body writes the time of
its start. Times are nanoseconds of the monotonic clock, which is the same for all processes of a machine. PROFILE is
the path of a file for a profile of the worker.
"""

from __future__ import annotations

import cProfile
import json
import mmap
import os
import random
import struct
import sys
import time
from array import array
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

PAD = "x" * 64
"""Gives a payload of about ninety bytes."""

WARM_UP = 5
"""Number of jobs before the pulses, each awaited, so that worker, client and connections are ready."""

_HEADER = 16
_PAUSE = (0.02, 0.08)
"""Seconds between pulses: long enough for workers to be idle, and random so as not to be in step with polls."""
_PATIENCE = 60.0


class Adapter(Protocol):
    """Interface of a job queue for measurements."""

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run an async function."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        ...

    async def setup(self, url: str) -> None:
        """Create the tables."""
        ...

    def client(self, url: str) -> AbstractAsyncContextManager[Any]:
        """Open a client with ``one(number)`` and ``many(numbers)``, which return when the jobs are committed."""
        ...

    def work(self, url: str, setting: str, body: Callable[[int], None]) -> None:
        """Run a worker until SIGTERM; each job calls ``body`` with its number."""
        ...


class Marks:
    """Start times of bodies by job number, in a file that several processes map."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._size = len(self._map) // 8 - _HEADER
        self._begun = False
        self._seen = 0

    @classmethod
    def make(cls, path: Path, jobs: int) -> Marks:
        """Create an empty file for so many jobs."""
        path.write_bytes(bytes(8 * (_HEADER + jobs)))
        return cls(path)

    def hit(self, number: int) -> None:
        """Record the start of a body; fast, because it is part of the measurement."""
        if number < self._size:
            now = time.monotonic_ns()
            struct.pack_into("<q", self._map, 8 * (_HEADER + number), now)
            if not self._begun:
                self._begun = True
                if not self.begun:
                    struct.pack_into("<q", self._map, 0, now)

    @property
    def begun(self) -> int:
        """Approximate start time of the first body, 0 if none has started."""
        return int(struct.unpack_from("<q", self._map)[0])

    def start(self, number: int) -> int:
        """Return the last start time of a job, 0 if it has not started."""
        return int(struct.unpack_from("<q", self._map, 8 * (_HEADER + number))[0])

    def all_begun(self, jobs: int) -> bool:
        """Return whether all jobs with numbers below `jobs` have started."""
        while self._seen < jobs and self.start(self._seen):
            self._seen += 1
        return self._seen >= jobs

    def starts(self) -> list[int]:
        """Return the start times of bodies in ascending order."""
        return sorted(filter(None, array("q", self._map[8 * _HEADER :])))


@cache
def marks() -> Marks:
    """Return the marks, mapped at the first call."""
    return Marks(Path(os.environ["MARKS"]))


def body(number: int) -> None:
    """Record the start of a job; called by its body."""
    marks().hit(number)


def main(adapter: Adapter) -> None:
    """Run the command of the command line."""
    command, url, argument = (*sys.argv[1:], "")[:3]
    if command != "work":
        print(json.dumps(_ask(adapter, command, url=url, argument=argument)), flush=True)
    elif profile := os.environ.get("PROFILE"):
        cProfile.runctx("adapter.work(url, argument, body)", globals(), locals(), profile)
    else:
        marks()
        adapter.work(url, argument, body)


def _ask(adapter: Adapter, command: str, *, url: str, argument: str) -> Any:
    results: list[Any] = []

    async def run() -> None:
        if command == "setup":
            await adapter.setup(url)
            return
        async with adapter.client(url) as client:
            results.append(await _COMMANDS[command](adapter, client, float(argument)))

    adapter.run(run)
    return results[0] if results else None


async def _one(adapter: Adapter, client: Any, seconds: float) -> dict[str, float]:
    for number in range(20):
        await client.one(number)
    count, begin, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() < begin + seconds:
        await client.one(count)
        count += 1
    return {"jobs": count, "seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}


async def _many(adapter: Adapter, client: Any, number: float) -> dict[str, float]:
    begin, cpu = time.perf_counter(), time.process_time()
    await client.many(range(int(number)))
    return {"jobs": number, "seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}


async def _pulse(adapter: Adapter, client: Any, number: float) -> list[tuple[int, int]]:
    """Return the times of call and return of each enqueue."""
    jobs = int(number)
    for warm in range(jobs, jobs + WARM_UP):
        await client.one(warm)
        await _begun(adapter, warm)
    chance, times = random.Random(42), []
    for job in range(jobs):
        await adapter.sleep(chance.uniform(*_PAUSE))
        called = time.monotonic_ns()
        await client.one(job)
        times.append((called, time.monotonic_ns()))
    return times


async def _begun(adapter: Adapter, job: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not marks().start(job):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the worker did not start a job within {_PATIENCE:.0f} s")
        await adapter.sleep(0.01)


_COMMANDS = {"one": _one, "many": _many, "pulse": _pulse}
