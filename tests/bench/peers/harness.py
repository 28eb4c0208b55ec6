"""Run one side of a measurement in a process of its own: a client that enqueues, or a worker. Standard library only.

::

    ADAPTER setup URL             make the tables
    ADAPTER one URL SECONDS       enqueue one by one for so long; prints jobs, seconds and CPU seconds
    ADAPTER many URL NUMBER       enqueue so many as fast as the library can; prints jobs, seconds and CPU seconds
    ADAPTER pulse URL NUMBER      enqueue so many with pauses; prints when each was called for and committed
    ADAPTER work URL SETTING      run a worker until SIGTERM

The file that MARKS names is shared with whoever measures: each body leaves there when it began. Times are nanoseconds
of the monotonic clock, which all processes of a machine share. PROFILE names a file for a profile of a worker.
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
"""Makes a payload of some ninety bytes."""

WARM_UP = 5
"""Jobs before the pulses: each is awaited, so that worker and client are up and their connections warm."""

_HEADER = 16
_PAUSE = (0.02, 0.08)
"""Seconds between pulses: long enough for every worker here to be idle again, random so as not to beat with polls."""
_PATIENCE = 60.0


class Adapter(Protocol):
    """What a job queue must offer to be measured."""

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run an async function to its end."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        ...

    async def setup(self, url: str) -> None:
        """Make the tables."""
        ...

    def client(self, url: str) -> AbstractAsyncContextManager[Any]:
        """Open what has ``one(number)`` and ``many(numbers)``, which return once the jobs are committed."""
        ...

    def work(self, url: str, setting: str, body: Callable[[int], None]) -> None:
        """Work until SIGTERM; each job calls ``body`` with its number."""
        ...


class Marks:
    """Times at which bodies began, by the number of the job, in a file that several processes map."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._size = len(self._map) // 8 - _HEADER
        self._begun = False
        self._seen = 0

    @classmethod
    def make(cls, path: Path, jobs: int) -> Marks:
        """Make an empty file for jobs with numbers from 0."""
        path.write_bytes(bytes(8 * (_HEADER + jobs)))
        return cls(path)

    def hit(self, number: int) -> None:
        """Note that a body began. Cheap, as it is part of what is measured."""
        if number < self._size:
            now = time.monotonic_ns()
            struct.pack_into("<q", self._map, 8 * (_HEADER + number), now)
            if not self._begun:
                self._begun = True
                if not self.begun:
                    struct.pack_into("<q", self._map, 0, now)

    @property
    def begun(self) -> int:
        """Return when about the first body began, 0 if none has."""
        return int(struct.unpack_from("<q", self._map)[0])

    def start(self, number: int) -> int:
        """Return when the body of the job with this number began last, 0 if it did not."""
        return int(struct.unpack_from("<q", self._map, 8 * (_HEADER + number))[0])

    def all_begun(self, jobs: int) -> bool:
        """Return whether the bodies of all jobs below a number began. Looks at each only until it has."""
        while self._seen < jobs and self.start(self._seen):
            self._seen += 1
        return self._seen >= jobs

    def starts(self) -> list[int]:
        """Return when bodies began, in order; those that did not are left out."""
        return sorted(filter(None, array("q", self._map[8 * _HEADER :])))


@cache
def marks() -> Marks:
    """Return the marks of this process, mapped when they are first asked for."""
    return Marks(Path(os.environ["MARKS"]))


def body(number: int) -> None:
    """Be the body of a job."""
    marks().hit(number)


def main(adapter: Adapter) -> None:
    """Do what the command line says."""
    command, url, argument = (*sys.argv[1:], "")[:3]
    if command != "work":
        print(json.dumps(_ask(adapter, command, url=url, argument=argument)), flush=True)
    elif profile := os.environ.get("PROFILE"):
        cProfile.runctx("adapter.work(url, argument, body)", globals(), locals(), profile)
    else:
        marks()
        adapter.work(url, argument, body)


def _ask(adapter: Adapter, command: str, *, url: str, argument: str) -> Any:
    said: list[Any] = []

    async def run() -> None:
        if command == "setup":
            await adapter.setup(url)
            return
        async with adapter.client(url) as client:
            said.append(await _COMMANDS[command](adapter, client, float(argument)))

    adapter.run(run)
    return said[0] if said else None


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
    """Return when each enqueue was called and when it returned, committed."""
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
