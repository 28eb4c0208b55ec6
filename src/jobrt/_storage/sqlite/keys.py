"""Keys of limited queues: stored with jobs when they are enqueued or changed, and found where they are missing."""

from collections.abc import Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, Final

import attrs

from jobrt._core.job import NewJob
from jobrt._core.keys import key_range, stored_key
from jobrt._core.looks import Look
from jobrt._storage.sqlite.rows import LARGEST, SMALLEST, dumps
from jobrt._storage.sqlite.savepoints import Apart
from jobrt._storage.sqlite.transaction import SQL, Transaction

_PAGE: Final = 500
"""Jobs to look at in one go: their texts are in one JSON text. A call holds the write lock meanwhile."""

_FIRST: Final = 2000
"""Jobs that the call looks at which changes the setting: so short queues get all their keys at once."""

_PRIORITIES: Final = 40
"""Priorities that one call looks at."""


def key_paths(tx: Transaction) -> dict[str, str]:
    """Return the fields that the keys of queues are made of, for queues that have a key."""
    return dict(tx.rows(SQL["keys/settings"]))


def key_of(job: NewJob, paths: Mapping[str, str]) -> str | None:
    """Return the key to store with a new job, or None if its queue has none."""
    path = paths.get(job.queue)
    return None if path is None else stored_key(path, job.name, args=job.args, metadata=job.metadata)


def make_keys(tx: Transaction, ids: Sequence[int]) -> None:
    """Store the keys of jobs whose queue or payload has changed."""
    found = tx.array(SQL["keys/of_jobs"], (dumps(list(ids)),)) if ids else ()
    keys = [(row[0], None if row[1] is None else _key(tx, row[1], row[0], texts=row[2:])) for row in found]
    if keys:
        _put(tx, keys)


def find_missing(tx: Transaction, queue: str, *, path: str, look: Look, apart: Apart | None = None) -> Look:
    """Store the setting of a queue's key, and the key of each job that has none, or one of another setting.

    A long search goes on with the next calls, a page in each: then the memory has a ``place``. With `apart`, jobs are
    left out that the database refuses to change.
    """
    now, most = tx.now / 1e6, _PAGE
    if look.path != path:
        changed = tx.run(SQL["keys/declare"], {"queue": queue, "key": path})
        look = Look(path, place=(LARGEST, SMALLEST, 0), hurries=changed > 0)
        most = _FIRST if changed else _PAGE
        low, high = key_range(path)
        running = tx.array(SQL["keys/of_executing"], {"queue": queue, "low": low, "high": high})
        _store(tx, path, [(row[0], *row[2:]) for row in running], apart=apart)
    elif now < look.search_at:
        return look
    elif look.place is None:
        look = attrs.evolve(look, place=(LARGEST, SMALLEST, 0))
    place, looked = look.place, 0
    for _ in range(_PRIORITIES):
        place, number = _next_page(tx, queue, path=path, place=place, apart=apart)
        if place is None:
            return look.found_all(now)
        looked += number
        if looked >= most:
            break
    return look.goes_on(now, place=place)


def _next_page(
    tx: Transaction, queue: str, *, path: str, place: tuple[int, int, int], apart: Apart | None
) -> tuple[tuple[int, int, int] | None, int]:
    """Store missing keys of the jobs after a place in the order of claims; return the next place and their number."""
    priority, after_at, after_id = place
    if (after_at, after_id) == (SMALLEST, 0):
        found = tx.value(SQL["attempts/exchange_priority"], {"queue": queue, "below": priority})
        if found is None:
            return None, 0
        priority = found
    low, high = key_range(path)
    values = {
        "queue": queue,
        "priority": priority,
        "after_at": after_at,
        "after_id": after_id,
        "limit": _PAGE,
    }
    rows: list[list[Any]] = tx.array(SQL["keys/page"], {**values, "low": low, "high": high})
    missing = [(row[0], *row[2:]) for row in rows if len(row) > 2]  # noqa: PLR2004 - the others are right
    _store(tx, path, missing, apart=apart)
    if len(rows) < _PAGE:
        return (priority, SMALLEST, 0), len(rows)
    return (priority, rows[-1][1], rows[-1][0]), len(rows)


def _store(tx: Transaction, path: str, rows: Sequence[Sequence[Any]], *, apart: Apart | None) -> None:
    keys = [(row[0], _key(tx, path, row[0], texts=row[1:])) for row in rows]
    put = partial(_put, tx)
    if apart is not None:
        apart(keys, put, job=itemgetter(0))
    elif keys:
        put(keys)


def _put(tx: Transaction, keys: Sequence[tuple[int, str | None]]) -> None:
    tx.run(SQL["keys/put"], {"keys": dumps(dict(keys))})


def _key(tx: Transaction, path: str, job_id: int, *, texts: Sequence[Any]) -> str:
    """Return the key of a stored job; `texts` are its name, and the others if they are not large."""
    name, args, metadata, *_ = texts
    if args is None:
        args, metadata, *_ = tx.row(SQL["attempts/exchange_texts"], (job_id,)) or ("{}", "{}")
    return stored_key(path, name, args=args, metadata=metadata)
