"""Streams of jobs in PostgreSQL."""

from collections.abc import Sequence
from functools import partial

import attrs

from jobrt._core.stream import BYTES_KEPT, ENTRIES_KEPT, Append, StreamPage
from jobrt._storage.postgres.changes import notify_steps
from jobrt._storage.postgres.database import Database, retried
from jobrt._storage.postgres.encode import LARGEST_ID, numbers, texts
from jobrt._storage.postgres.names import Run, Schema
from jobrt._storage.postgres.rows import Row, stream_page
from jobrt._storage.postgres.steps import Steps
from jobrt._storage.postgres.waker import Waker
from jobrt._storage.together import Together


@attrs.frozen
class PostgresStreams:
    """Implementation of `StreamStore`."""

    _database: Database
    _waker: Waker
    _together: Together[Append, bool] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_together", Together(self._append_all, self._append_one))

    async def append(self, append: Append) -> bool:
        return await self._together(append)

    async def _append_all(self, appends: Sequence[Append]) -> list[bool | None]:
        """Append what jobs say, one batch of a job, but of those only whose rows are leased and not locked."""
        first = {append.id: append for append in reversed(appends)}
        stored = await retried(partial(self._stored, list(first.values()), skip="skip locked"))
        return [True if append.id in stored and append is first[append.id] else None for append in appends]

    async def _append_one(self, append: Append) -> bool:
        return bool(await retried(partial(self._stored, [append], skip="")))

    async def _stored(self, appends: Sequence[Append], *, skip: str) -> set[int]:
        """Append, and return the ids of the jobs whose entries are stored."""
        statement = self._database.schema.statement("streams/append", skip=skip)
        async with self._database.session() as session:
            rows = await session.run(statement, **_values(appends))
        return {row[0] for row in rows}

    async def note(self, ids: Sequence[int], value: str) -> None:
        values = {"ids": numbers(ids), "value": value}
        kept = {"entries_kept": str(ENTRIES_KEPT), "bytes_kept": str(BYTES_KEPT)}
        rows = await self._database.fetch("streams/note", **values, **kept)
        self._waker.due_again({queue for (queue,) in rows})

    async def read(self, job_id: int, after: int, *, wake: bool = False) -> StreamPage | None:
        if wake and self._database.listening:
            ((skipped,),) = await self._database.fetch("streams/read_wake", id=str(job_id))
            self._waker.due_again([] if skipped is None else [skipped])
        rows = await self._database.fetch("streams/read", id=str(job_id), after=cursor(after))
        return page_of(rows)


def _values(appends: Sequence[Append]) -> dict[str, str | None]:
    entries = [(append.id, entry) for append in appends for entry in append.entries]
    return {
        "ids": numbers([id for id, _ in entries]),
        "kinds": texts([entry.kind for _, entry in entries]),
        "keys": texts([entry.key for _, entry in entries]),
        "texts": texts([entry.value for _, entry in entries]),
        "ages": numbers([entry.age for _, entry in entries]),
        "jobs": numbers([append.id for append in appends]),
        "leases": numbers([append.lease for append in appends]),
        "numbers": numbers([append.batch for append in appends]),
        "dropped": numbers([append.dropped for append in appends]),
        "entries_kept": str(ENTRIES_KEPT),
        "bytes_kept": str(BYTES_KEPT),
    }


def cursor(after: int) -> str:
    """Return a cursor; none is larger than a bigint."""
    return str(min(after, LARGEST_ID))


def page_of(rows: Sequence[Row]) -> StreamPage | None:
    """Return what the rows of streams/read.sql say; None if there is no such job."""
    return stream_page(rows[0]) if rows else None


def read_run(schema: Schema, job_id: int, after: int) -> Run:
    """Return the statement that reads a job and its entries."""
    return Run(schema.statement("streams/read"), {"id": str(job_id), "after": cursor(after)})


def follow_steps(schema: Schema, job_id: int, *, channel: str | None) -> Steps[None]:
    """Return the steps that request wakes about a job."""
    ((skipped,),) = yield Run(schema.statement("streams/read_wake"), {"id": str(job_id)})
    yield from notify_steps(schema, [] if skipped is None else [f"j:{skipped}"], channel=channel)
