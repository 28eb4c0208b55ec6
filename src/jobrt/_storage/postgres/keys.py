"""Keys of limited queues: stored with jobs when they are enqueued or changed, and found where they are missing."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from jobrt._core.job import NewJob
from jobrt._core.keys import key_range, stored_key
from jobrt._core.looks import Look
from jobrt._storage.apart import Aside
from jobrt._storage.postgres.encode import numbers, texts
from jobrt._storage.postgres.names import Run, Schema
from jobrt._storage.postgres.session import Session
from jobrt._storage.postgres.steps import Steps

_FRESH: Final = 0.5
"""Seconds for which a client trusts what it knows of the keys of queues.

Less than the pause before a worker's second search for jobs without the key of a new setting.
"""

_PAGE: Final = 500
_FIRST: Final = 2000
"""Jobs that the call looks at which changes the setting: so short queues get all their keys at once."""

_BEFORE_ALL: Final = (1 << 40, "-infinity", 0)


@attrs.define(eq=False)
class KnownKeys:
    """What one client knows of the fields that keys are made of, by queue."""

    clock: Callable[[], float] = time.monotonic
    paths: Mapping[str, str] = attrs.field(init=False, factory=dict[str, str])
    _read_at: float = attrs.field(init=False, default=float("-inf"))

    @property
    def fresh(self) -> bool:
        """Whether the paths may be used without reading them."""
        return self.clock() < self._read_at + _FRESH

    def read(self, schema: Schema) -> Steps[None]:
        """Return the steps that read the paths, none if they are fresh."""
        if not self.fresh:
            now = self.clock()
            self.paths = dict((yield Run(schema.statement("keys/settings"), {})))
            self._read_at = now

    def forget(self) -> None:
        """Read the paths before they are used again."""
        self._read_at = float("-inf")

    def of(self, job: NewJob) -> str | None:
        """Return the key to store with a new job, or None if its queue has none."""
        path = self.paths.get(job.queue)
        return None if path is None else stored_key(path, job.name, args=job.args, metadata=job.metadata)


def changed(schema: Schema, run: Run) -> Steps[tuple[int, Sequence[str]]]:
    """Return the steps of a change: their number and the queues of due jobs. Jobs with keys get new ones."""
    ((number, queues, keyed),) = yield run
    if keyed:
        yield from make_keys(schema, keyed)
    return int(number), queues or ()


def make_keys(schema: Schema, ids: Sequence[int]) -> Steps[None]:
    """Return the steps that store the keys of jobs whose queue or payload has changed."""
    found = yield Run(schema.statement("keys/of_jobs"), {"ids": numbers(ids)})
    keys = [(row[0], None if row[1] is None else _key(row[1], row[2:])) for row in found]
    if keys:
        yield _put(schema, keys)


async def find_missing(session: Session, queue: str, *, path: str, look: Look, aside: Aside) -> Look:
    """Store the setting of a queue's key, and the key of each job that has none, or one of another setting.

    A long search goes on with the next calls, a page in each: then the memory has a ``place``. Each page is a
    transaction of its own. Jobs that the database refuses to change are set aside.
    """
    now, most, looked = time.monotonic(), _PAGE, 0
    low, high = key_range(path)
    if look.path != path:
        changed = await session.fetch("keys/declare", queue=queue, key=path)
        look = Look(path, place=_BEFORE_ALL, hurries=bool(changed))
        most = _FIRST if changed else _PAGE
        running = await session.fetch("keys/of_executing", queue=queue, low=low, high=high)
        await _store(session, path, running, aside=aside)
    elif look.place is None:
        look = attrs.evolve(look, place=_BEFORE_ALL)
    while looked < most:
        priority, at, after_id = look.place
        rows = await session.fetch(
            "keys/page",
            queue=queue,
            priority=str(priority),
            at=at,
            id=str(after_id),
            low=low,
            high=high,
            limit=str(_PAGE),
        )
        await _store(session, path, [(row[2], *row[4:]) for row in rows if row[3]], aside=aside)
        if len(rows) < _PAGE:
            return look.found_all(now)
        look = look.goes_on(time.monotonic(), place=tuple(rows[-1][:3]))
        looked += len(rows)
    return look


def search_is_due(look: Look, path: str) -> bool:
    """Return whether to call `find_missing` before the next claim."""
    return look.path != path or time.monotonic() >= look.search_at


async def _store(session: Session, path: str, rows: Sequence[Sequence[Any]], *, aside: Aside) -> None:
    keys = {int(row[0]): _key(path, row[1:]) for row in rows}

    async def store(ids: Sequence[int]) -> None:
        put = _put(session.schema, [(job_id, keys[job_id]) for job_id in ids])
        await session.run(put.statement, **put.values)

    await aside.apart("claim", list(keys), store)


def _put(schema: Schema, keys: Sequence[tuple[int, str | None]]) -> Run:
    return Run(
        schema.statement("keys/put"),
        {"ids": numbers(id for id, _ in keys), "keys": texts([key for _, key in keys])},
    )


def _key(path: str, job: Sequence[str | None]) -> str:
    """Return the key of a stored job: its name, args and metadata."""
    name, args, metadata = job
    return stored_key(path, name or "", args=args or "", metadata=metadata or "{}")
