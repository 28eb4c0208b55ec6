"""Jobs in a SQLite file for asyncio: the blocking client's transactions, in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

from jobrt._core.job import JobRecord, NewJob
from jobrt._core.search import Needle
from jobrt._core.stream import StreamPage
from jobrt._core.walks import Look, Place, Walk
from jobrt._core.where import Where
from jobrt._storage.contract import Inserted, Wake
from jobrt._storage.sqlite.blocking import BlockingSqlite
from jobrt._storage.sqlite.callers import insert_with_asyncio
from jobrt._storage.sqlite.changes import cancel, delete, rerun, update
from jobrt._storage.sqlite.insert import insert
from jobrt._storage.sqlite.look import look
from jobrt._storage.sqlite.messages import send
from jobrt._storage.sqlite.query import count, get, query, states
from jobrt._storage.sqlite.rows import micros
from jobrt._storage.sqlite.sockets import Sockets
from jobrt._storage.sqlite.streams import read
from jobrt._storage.sqlite.transaction import Transaction

T = TypeVar("T")

_THREADS: Final = 4
"""Threads of a client. One writes at a time; the others read."""


class _Abandoned(Exception):
    """Raised in the thread of a call that was cancelled, to roll its transaction back."""


class AsyncioSqlite:
    """Implementation of `AsyncioJobs`."""

    longest_pause = 0.1

    def __init__(self, path: str) -> None:
        self._blocking = BlockingSqlite(path)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="jobrt")

    async def open(self) -> None:
        """Create or migrate the file now, and not with the first call."""
        await self._run(self._blocking.open, threading.Event())

    async def close(self) -> None:
        """Close all connections; those in use, when their calls have ended."""
        self._blocking.close()
        self._threads.shutdown(wait=False)

    async def insert(self, jobs: Sequence[NewJob], *, conn: object = None) -> tuple[Inserted, ...]:
        if conn is not None:
            now = micros(self._blocking.now())
            inserted = await insert_with_asyncio(conn, jobs, now=now, file=self._blocking.path)
            self._blocking.tell_soon()
            return inserted
        return await self._write(partial(insert, jobs=jobs))

    async def get(self, job_id: int) -> JobRecord | None:
        return await self._read(partial(get, job_id=job_id))

    async def query(
        self, where: Where, *, order_by: str, limit: int | None, after: int | None, details: bool
    ) -> tuple[JobRecord, ...]:
        look = partial(query, where=where, order_by=order_by, limit=limit, after=after, details=details)
        return await self._read(look)

    async def look(
        self,
        where: Where,
        walk: Walk,
        *,
        scan: int,
        limit: int,
        after: Place | None = None,
        needle: Needle | None = None,
    ) -> Look:
        call = partial(look, where=where, walk=walk, needle=needle, scan=scan, limit=limit, after=after)
        return await self._read(call)

    async def count(self, where: Where, *, limit: int | None = None) -> int:
        return await self._read(partial(count, where=where, limit=limit))

    async def cancel(self, where: Where, reason: str) -> tuple[int, int]:
        return await self._write(partial(cancel, where=where, reason=reason, limit=None))

    async def rerun(self, where: Where) -> int:
        return await self._write(partial(rerun, where=where, limit=None))

    async def update(self, where: Where, changes: Mapping[str, Any]) -> int:
        return await self._write(partial(update, where=where, changes=changes))

    async def delete(self, where: Where, *, limit: int | None = None) -> int:
        return await self._write(partial(delete, where=where, limit=limit))

    async def send(self, job_id: int, name: str, value: str, *, key: str | None = None) -> bool:
        return await self._write(partial(send, job_id=job_id, name=name, value=value, key=key))

    async def await_final(self, ids: Sequence[int]) -> Mapping[int, str | None]:
        return await self._read(partial(states, ids=ids))

    async def read_stream(self, job_id: int, after: int, *, wake: bool = False) -> StreamPage | None:  # noqa: ARG002 - nothing is asked for here
        return await self._read(partial(read, job_id=job_id, after=after))

    async def listen(self, wake: Callable[[], None], news: Callable[[Wake], None] | None = None) -> None:
        """Get words of other processes, for those who follow jobs; else return, since the file is looked at."""
        if news is None:
            return
        loop = asyncio.get_running_loop()
        with Sockets.of(self._blocking.path).listening(news=True) as ear:
            wake()
            if ear is None:
                return
            while await loop.sock_recv(ear.socket, 1):
                news(Wake("stream"))

    async def _write(self, work: Callable[[Transaction], T]) -> T:
        """Run work in a transaction, which is rolled back if the caller does not wait for it any more."""
        abandoned = threading.Event()

        def checked(tx: Transaction) -> T:
            result = work(tx)
            if abandoned.is_set():
                raise _Abandoned
            return result

        return await self._run(partial(self._blocking.write, checked), abandoned)

    async def _read(self, work: Callable[[Transaction], T]) -> T:
        return await self._run(partial(self._blocking.read, work), threading.Event())

    async def _run(self, call: Callable[[], T], abandoned: threading.Event) -> T:
        """Call in a thread. A caller that is cancelled does not wait: the lock may be held for half a minute."""
        try:
            return await asyncio.wrap_future(self._threads.submit(call))
        except asyncio.CancelledError:
            abandoned.set()
            raise
