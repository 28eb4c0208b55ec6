"""Streams of jobs in SQLite."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import attrs

from jobrt._core.stream import BYTES_KEPT, ENTRIES_KEPT, Append, Entry, StoredEntry, StreamPage
from jobrt._storage.sqlite.database import Database
from jobrt._storage.sqlite.rows import LARGEST, dumps, moment
from jobrt._storage.sqlite.states import shown
from jobrt._storage.sqlite.transaction import SQL, Transaction
from jobrt._storage.together import Together


@attrs.frozen
class SqliteStreams:
    """Implementation of `StreamStore`."""

    _database: Database
    _together: Together[Append, bool] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_together", Together(self._append_all, self._append_one))

    async def append(self, append: Append) -> bool:
        self._database.refuse_nested()  # whoever writes for this task would wait for its transaction
        return await self._together(append)

    async def _append_all(self, appends: Sequence[Append]) -> list[bool]:
        return await self._database.write(lambda tx: [_append(tx, append) for append in appends])

    async def _append_one(self, append: Append) -> bool:
        return await self._database.write(partial(_append, append=append))

    async def note(self, ids: Sequence[int], value: str) -> None:
        await self._database.write(partial(_note, ids=ids, value=value))

    async def read(self, job_id: int, after: int, *, wake: bool = False) -> StreamPage | None:  # noqa: ARG002 - wakes are free here
        return await self._database.read(partial(read, job_id=job_id, after=after))


def _append(tx: Transaction, append: Append) -> bool:
    """Append a batch; False if the lease is lost."""
    attempt = tx.value(SQL["streams/append_held"], {"id": append.id, "lease": append.lease})
    if attempt is None:
        return False
    lease, batch, last, size = tx.row(SQL["streams/append_head"], (append.id,)) or (None, 0, 0, 0)
    if lease == append.lease and batch >= append.batch:
        return True
    head = _Head(append.id, append.lease, append.batch, last, size)
    if lease is None:  # keys and entries refer to this row
        _set_head(tx, head)
    _add(tx, head._replace(last=last + append.dropped), append.entries, attempt=attempt)
    return True


def _note(tx: Transaction, ids: Sequence[int], value: str) -> None:
    """Append an action to the streams of the jobs that there are."""
    for job_id in dict.fromkeys(ids):
        attempt = tx.value(SQL["streams/note_attempt"], (job_id,))
        if attempt is None:
            continue
        found = tx.row(SQL["streams/append_head"], (job_id,))
        head = _Head(job_id, *(found or (0, 0, 0, 0)))
        if found is None:
            _set_head(tx, head)
        _add(tx, head, (Entry("action", value),), attempt=attempt)


class _Head(NamedTuple):
    """Row of a stream: the lease and number of its last batch, the number of its last entry, the bytes so far."""

    id: int
    lease: int
    batch: int
    last: int
    bytes: int


def _add(tx: Transaction, head: _Head, entries: Sequence[Entry], *, attempt: int) -> None:
    """Add entries to a stream, and trim it."""
    last, size = head.last, head.bytes
    rows: list[tuple[object, ...]] = []
    for entry in entries:
        if _is_new(tx, head.id, entry):
            last += 1
            rows.append((last, size, tx.now - round(entry.age * 1e6), entry.kind, entry.key, entry.value))
            size += len(entry.value)
    _set_head(tx, head._replace(last=last, bytes=size))
    tx.run(SQL["streams/append_entries"], {"id": head.id, "attempt": attempt, "entries": dumps(rows)})
    kept = {"entries_kept": ENTRIES_KEPT, "bytes_kept": BYTES_KEPT}
    tx.run(SQL["streams/append_trim"], {"id": head.id, "last": last, "bytes": size, **kept})
    tx.news.append(head.id)


def _set_head(tx: Transaction, head: _Head) -> None:
    tx.run(SQL["streams/append_to_head"], head._asdict())


def _is_new(tx: Transaction, job_id: int, entry: Entry) -> bool:
    """Return whether an entry has no key, or one that the stream never had; note the key."""
    return entry.key is None or tx.run(SQL["streams/append_key"], (job_id, entry.key)) > 0


def read(tx: Transaction, job_id: int, after: int) -> StreamPage | None:
    """Return a job and its entries behind a number, or None."""
    row = tx.row(SQL["streams/read"], (job_id,))
    if row is None:
        return None
    code, schedule_at, started_at, attempt, progress, last = row
    found = tx.array(SQL["streams/read_entries"], {"id": job_id, "after": min(after, LARGEST)})
    entries = tuple(StoredEntry(number, moment(at), *rest) for number, at, *rest in found)
    return StreamPage(shown(code, schedule_at, started_at, now=tx.now), attempt, progress, last, entries)
