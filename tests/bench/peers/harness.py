"""Run one side of a measurement in a process of its own: a client that enqueues, or a worker. Standard library only.

::

    ADAPTER setup URL             make the tables
    ADAPTER one URL SECONDS       enqueue one by one for so long; prints jobs and seconds
    ADAPTER many URL NUMBER       enqueue so many as fast as the library can; prints jobs and seconds
    ADAPTER pulse URL NUMBER      enqueue so many with pauses; prints when each was committed
    ADAPTER work URL SETTING      run a worker until SIGTERM; bodies leave their times in the file MARKS

The file that MARKS names is shared with whoever measures. Times are nanoseconds of the monotonic clock, which all
processes of a machine share.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

PAD = "x" * 64
"""Makes a payload of some ninety bytes."""

_SLOTS = 1 << 16
_COUNT, _FIRST, _LAST = 0, 1, 2
_BY_NUMBER = 16
_BY_THOUSAND = 8192


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
    """Times that bodies left, in a file that several processes map."""

    def __init__(self, path: Path, *, clear: bool = False, until: int = 0) -> None:
        if clear:
            path.write_bytes(bytes(8 * _SLOTS))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8 * _SLOTS)
        self._until = until
        self._done = 0

    def __getitem__(self, slot: int) -> int:
        return int(struct.unpack_from("<q", self._map, 8 * slot)[0])

    def _set(self, slot: int, value: int) -> None:
        struct.pack_into("<q", self._map, 8 * slot, value)

    @property
    def count(self) -> int:
        """Return how many bodies have run, up to the last thousand or the number awaited."""
        return self[_COUNT]

    @property
    def first(self) -> int:
        """Return when the first body ran, 0 if none has."""
        return self[_FIRST]

    def thousand(self, number: int) -> int:
        """Return when so many thousand bodies had run."""
        return self[_BY_THOUSAND + number]

    def started(self, number: int) -> int:
        """Return when the body of the job with this number ran."""
        return self[_BY_NUMBER + number]

    def hit(self, number: int) -> None:
        """Note that a body ran. Cheap, as it is part of what is measured."""
        self._done += 1
        done = self._done
        if done == 1:
            self._set(_FIRST, time.monotonic_ns())
        if done % 1000 == 0:
            self._set(_BY_THOUSAND + done // 1000 % (_SLOTS - _BY_THOUSAND), time.monotonic_ns())
            self._set(_COUNT, done)
        if done == self._until:
            self._set(_COUNT, done)
        if not self._until:
            self._set(_BY_NUMBER + number % (_BY_THOUSAND - _BY_NUMBER), time.monotonic_ns())


def main(adapter: Adapter) -> None:
    """Do what the command line says."""
    command, url, argument = (*sys.argv[1:], "")[:3]
    if command == "work":
        marks = Marks(Path(os.environ["MARKS"]), until=int(os.environ["MARKS_UNTIL"]))
        adapter.work(url, argument, marks.hit)
        return
    print(json.dumps(_asked(adapter, command, url=url, argument=argument)))


def _asked(adapter: Adapter, command: str, *, url: str, argument: str) -> Any:
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
    count, begin = 0, time.perf_counter()
    while time.perf_counter() < begin + seconds:
        await client.one(count)
        count += 1
    return {"jobs": count, "seconds": time.perf_counter() - begin}


async def _many(adapter: Adapter, client: Any, number: float) -> dict[str, float]:
    begin = time.perf_counter()
    await client.many(range(int(number)))
    return {"jobs": int(number), "seconds": time.perf_counter() - begin}


async def _pulse(adapter: Adapter, client: Any, number: float) -> list[int]:
    """Return when each job was committed; the first ones are warm-up for whoever reads that."""
    chance, committed = random.Random(42), []
    for job in range(int(number)):
        await client.one(job)
        committed.append(time.monotonic_ns())
        await adapter.sleep(chance.uniform(0.005, 0.02))
    await adapter.sleep(0.5)
    return committed


_COMMANDS = {"one": _one, "many": _many, "pulse": _pulse}
