"""Insertion of jobs: the statements, separate from the connection that runs them.

`insert_steps` returns steps. `jobrt._storage.postgres.steps` runs them, on a connection of jobrt or a caller's.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from typing import Final, TypeAlias

from jobrt._core.job import NewJob
from jobrt._core.states import State
from jobrt._core.unique_batch import Batch, Stored, repeats
from jobrt._storage.contract import Inserted
from jobrt._storage.postgres.encode import instant, numbers, seconds, texts
from jobrt._storage.postgres.keys import KnownKeys, make_keys
from jobrt._storage.postgres.names import Copy, Run, Schema
from jobrt._storage.postgres.rows import Row
from jobrt._storage.postgres.steps import Steps
from jobrt.errors import StorageError

_COPY_FROM: Final = 500
"""Number of jobs from which COPY, with one more round trip, is faster than one statement."""

_MAY_BE_AWAITED: Final = 4
"""Flag of a job whose end is looked for by a job that waits for it."""

_LIMITED: Final = 64
"""Flag of a job that has a deadline or an expiry."""

_BLOCK: Final = 1000
"""Rows of COPY formatted at a time: about 200 kB, so other tasks run every millisecond."""


_new: Final = tuple.__new__
"""Makes a named tuple of all of its fields, in half the time of its constructor."""

Wake: TypeAlias = Callable[[str], "str | None"]
"""Function that returns the channel to notify now for a queue with a new due job, or None."""


def one_statement(jobs: Sequence[NewJob]) -> bool:
    """Return whether a batch is stored by a single statement, which is a transaction by itself."""
    return len(jobs) == 1 and jobs[0].unique is None and not _has_side_rows(jobs[0])


def insert_steps(
    schema: Schema, jobs: Sequence[NewJob], *, wake: Wake, keys: KnownKeys | None = None, flags: int = 0
) -> Steps[tuple[Inserted, ...]]:
    """Return the steps that store `jobs` with these flags; run all of them in one transaction.

    `keys` is what the client knows of the keys of queues. Without it they are read each time.
    """
    known = KnownKeys() if keys is None else keys
    yield from known.read(schema)
    if not flags and one_statement(jobs):
        return (yield from _insert_one(schema, jobs[0], wake=wake, keys=known))
    if any([job.unique for job in jobs]):  # noqa: C419 - a list is quicker
        return (yield from _insert_unique(schema, jobs, wake=wake, keys=known, flags=flags))
    return (yield from _insert_many(schema, jobs, wake=wake, keys=known, flags=flags))


def flags_in_a_worker(jobs: Sequence[NewJob]) -> int:
    """Return the flags of a batch that a worker's storage enqueues: a running job does so, and may wait for the batch.

    To set the flag later is to write each row again. In a row of a job that nobody waits for it costs next to nothing:
    a batch of ends looks once whether anybody waits.
    """
    return _MAY_BE_AWAITED if len(jobs) >= _COPY_FROM else 0


def _has_side_rows(job: NewJob) -> bool:
    return job.deadline is not None or job.expires is not None or job.parent is not None


def insert_one(schema: Schema, job: NewJob, *, channel: str | None, keys: KnownKeys) -> Run:
    """Return the statement that stores a single job that is not unique; it notifies, and returns the id."""
    plain = _is_plain(job) and job.queue not in keys.paths
    values = _plain_fields(job) if plain else _fields(job) | {"limit_key": keys.of(job)}
    values["channel"] = channel
    return Run(schema.statement("jobs/insert_one_plain" if plain else "jobs/insert_one"), values)


def _insert_one(schema: Schema, job: NewJob, *, wake: Wake, keys: KnownKeys) -> Steps[tuple[Inserted, ...]]:
    rows = yield insert_one(schema, job, channel=wake(job.queue), keys=keys)
    return (Inserted(rows[0][0]),)


def _insert_many(
    schema: Schema, jobs: Sequence[NewJob], *, wake: Wake, keys: KnownKeys, flags: int
) -> Steps[tuple[Inserted, ...]]:
    queues = {job.queue for job in jobs}
    keyed = bool(keys.paths) and not keys.paths.keys().isdisjoint(queues)
    plain = all([job[_FIRST_OPTION:] == _NO_OPTIONS for job in jobs])  # noqa: C419 - a list is quicker
    if len(jobs) < _COPY_FROM:
        columns = [
            _fields(job) | {"limit_key": keys.of(job), "flags": str(_flags(job, flags))} for job in jobs
        ]
        values: dict[str, str | None] = {
            name: texts([fields[name] for fields in columns]) for name in columns[0]
        }
        rows = yield Run(schema.statement("jobs/insert_many"), values)
        ids = [row[0] for row in rows]
    else:
        rows = yield Run(schema.statement("jobs/insert_ids"), {"number": str(len(jobs))})
        ids, now = rows[0]
        if plain and not keyed:
            more, end = (", flags", f"\t{flags}\n") if flags else ("", "\n")
            usual = schema.statement("jobs/insert_copy_plain", more_columns=more)
            yield Copy(usual, _plain_blocks(jobs, ids, end))
        elif not keyed and not flags and all(map(_is_only_unique, jobs)):
            unique = schema.statement("jobs/insert_copy_plain", more_columns=", digest")
            yield Copy(unique, _unique_blocks(jobs, ids))
        else:  # all in one COPY: then all are due at the same time, and stay in order
            also = ", limit_key" if keyed else ""
            yield Copy(
                schema.statement("jobs/insert_copy", more_columns=also),
                _blocks(jobs, ids, now=now, keys=keys if keyed else None, flags=flags),
            )
    if not plain:
        yield from _store_side_rows(schema, jobs, ids)
    yield from _notify(schema, queues, wake)
    return tuple([_new(Inserted, (id, False)) for id in ids])


def _store_side_rows(
    schema: Schema, jobs: Sequence[NewJob], ids: Sequence[int]
) -> Generator[Run | Copy, list[Row], None]:
    """Store deadlines, and by whom jobs were enqueued."""
    if not any(map(_has_side_rows, jobs)):
        return
    limited = [(id, job) for id, job in zip(ids, jobs, strict=True) if _flags(job, 0)]
    if limited:
        limits = [(job.deadline, job.expires) for _, job in limited]
        values: dict[str, str | None] = {"ids": numbers(id for id, _ in limited)}
        for column, name in enumerate(("deadline", "expires")):
            chosen = [limit[column] for limit in limits]
            at = [instant(limit) if isinstance(limit, datetime) else None for limit in chosen]
            values[f"{name}_at"] = texts(at)
            values[f"{name}_in"] = numbers(
                limit.total_seconds() if isinstance(limit, timedelta) else None for limit in chosen
            )
        yield Run(schema.statement("scopes/limits"), values)
    origins = [(id, job.parent) for id, job in zip(ids, jobs, strict=True) if job.parent is not None]
    if origins:
        parents = {
            "ids": numbers(id for id, _ in origins),
            "parents": numbers(parent for _, parent in origins),
        }
        yield Run(schema.statement("scopes/origins"), {**parents})


def _flags(job: NewJob, flags: int) -> int:
    return flags if job.deadline is None and job.expires is None else flags | _LIMITED


def _notify(schema: Schema, queues: Iterable[str], wake: Wake) -> Generator[Run | Copy, list[Row], None]:
    channels = {queue: wake(queue) for queue in sorted(queues)}
    payloads = [f"j:{queue}" for queue, channel in channels.items() if channel is not None]
    if payloads:
        channel = next(channel for channel in channels.values() if channel is not None)
        yield Run(schema.statement("wakes/notify"), {"channel": channel, "payloads": texts(payloads)})


_FIRST_OPTION: Final = NewJob._fields.index("schedule_at")
_NO_OPTIONS: Final = NewJob("", "")[_FIRST_OPTION:]


def _is_plain(job: NewJob) -> bool:
    """Return whether a job has no options: all but its five `_plain_fields` are the table's defaults."""
    return job[_FIRST_OPTION:] == _NO_OPTIONS


_UNIQUE: Final = NewJob._fields.index("unique")


def _is_only_unique(job: NewJob) -> bool:
    """Return whether a job has no options but its uniqueness, which it has."""
    return job.unique is not None and job[_FIRST_OPTION:_UNIQUE] == _BEFORE and job[_UNIQUE + 1 :] == _BEHIND


_BEFORE: Final = NewJob("", "")[_FIRST_OPTION:_UNIQUE]
_BEHIND: Final = NewJob("", "")[_UNIQUE + 1 :]


def _plain_fields(job: NewJob) -> dict[str, str | None]:
    """Return the parameters of a job without options."""
    return {
        "priority": str(job.priority),
        "max_attempts": None if job.max_attempts is None else str(job.max_attempts),
        "queue": job.queue,
        "name": job.name,
        "args": job.args,
    }


def _fields(job: NewJob) -> dict[str, str | None]:
    """Return the parameters of any job."""
    return _plain_fields(job) | {
        "schedule_at": instant(job.schedule_at),
        "delay": str(seconds(job.delay.total_seconds())) if job.delay else "0",
        "timeout": None if job.timeout is None else str(job.timeout),
        "digest": None if job.unique is None else job.unique.digest,
        "metadata": None if job.metadata == "{}" else job.metadata,
        "tags": texts(job.tags) if job.tags else None,
        "context": job.context,
        "version": None if job.version is None else str(job.version),
    }


# ---------------------------------------------------------------------- COPY

_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _plain_blocks(jobs: Sequence[NewJob], ids: Sequence[int], end: str) -> Iterable[str]:
    """Format rows without options for COPY. They differ mostly in id and args; the rest is cached, or at the `end`."""
    for start in range(0, len(jobs), _BLOCK):
        part = slice(start, start + _BLOCK)
        yield "".join(
            [
                f"{id}{_middle(job.priority, job.max_attempts, job.queue, job.name)}{_cell(job.args)}{end}"
                for id, job in zip(ids[part], jobs[part], strict=True)
            ]
        )


def _unique_blocks(jobs: Sequence[NewJob], ids: Sequence[int]) -> Iterable[str]:
    """Format rows with a digest and no other options for COPY."""
    for start in range(0, len(jobs), _BLOCK):
        part = slice(start, start + _BLOCK)
        yield "".join(
            [
                f"{id}{_middle(job.priority, job.max_attempts, job.queue, job.name)}{_cell(job.args)}"
                f"\t{'' if job.unique is None else job.unique.digest}\n"
                for id, job in zip(ids[part], jobs[part], strict=True)
            ]
        )


@lru_cache(maxsize=256)
def _middle(priority: int, max_attempts: int | None, queue: str, name: str) -> str:  # noqa: PLR0917 - by keyword the cache costs more
    limit = "\\N" if max_attempts is None else max_attempts
    return f"\t{priority}\t{limit}\t{_cell(queue)}\t{_cell(name)}\t"


def _blocks(
    jobs: Sequence[NewJob], ids: Sequence[int], *, now: datetime, keys: KnownKeys | None, flags: int
) -> Iterable[str]:
    """Format rows for COPY as text, in half the time that the driver takes."""
    at = now.isoformat() + "+00"
    for start in range(0, len(jobs), _BLOCK):
        part = slice(start, start + _BLOCK)
        pairs = zip(ids[part], jobs[part], strict=True)
        lines = [f"{_line(id, job, at=at, now=now)}\t{_flags(job, flags)}" for id, job in pairs]
        if keys is not None:
            lines = [
                f"{line}\t{_key_cell(keys.of(job))}" for line, job in zip(lines, jobs[part], strict=True)
            ]
        yield "\n".join(lines) + "\n"


def _key_cell(key: str | None) -> str:
    return "\\N" if key is None else _cell(key)


_AVAILABLE: Final = State.AVAILABLE.value


def _line(id: int, job: NewJob, *, at: str, now: datetime) -> str:
    if job.schedule_at is None and not job.delay:
        due, state = at, _AVAILABLE
    else:
        due, state = _due(job, now)
    timeout = "\\N" if job.timeout is None else job.timeout
    max_attempts = "\\N" if job.max_attempts is None else job.max_attempts
    digest = "\\N" if job.unique is None else job.unique.digest
    metadata = "\\N" if job.metadata == "{}" else _cell(job.metadata)
    tags = _cell(texts(job.tags)) if job.tags else "\\N"
    context = "\\N" if job.context is None else _cell(job.context)
    version = "\\N" if job.version is None else job.version
    return (
        f"{id}\t{due}\t{at}\t{timeout}\t{job.priority}\t{max_attempts}\t{state}\t{digest}\t{_cell(job.queue)}\t"
        f"{_cell(job.name)}\t{_cell(job.args)}\t{metadata}\t{tags}\t{context}\t{version}"
    )


def _due(job: NewJob, now: datetime) -> tuple[str, str]:
    now = now.replace(tzinfo=UTC)
    delay = job.delay.total_seconds() if job.delay else 0.0
    moment = job.schedule_at or now + timedelta(seconds=seconds(delay))
    return moment.isoformat(), (State.SCHEDULED if moment > now else State.AVAILABLE).value


def _cell(text: str) -> str:
    return text.translate(_ESCAPES) if "\\" in text or "\n" in text or "\t" in text or "\r" in text else text


# ---------------------------------------------------------------------- unique jobs


def _insert_unique(
    schema: Schema, jobs: Sequence[NewJob], *, wake: Wake, keys: KnownKeys, flags: int
) -> Steps[tuple[Inserted, ...]]:
    digests = sorted({job.unique.digest for job in jobs if job.unique})
    now = yield from _lock(schema, digests)
    rows = yield Run(schema.statement("jobs/insert_unique_find"), {"digests": texts(digests)})
    if not (rows or repeats(jobs)):
        return (yield from _insert_many(schema, jobs, wake=wake, keys=keys, flags=flags))
    batch = Batch.of([Stored(*row) for row in rows], now=now)
    for job in jobs:
        batch.add(job)
    for id, job, fields in sorted(batch.replaced, key=itemgetter(0)):  # so that writers do not deadlock
        changed = yield Run(schema.statement("jobs/insert_unique_replace"), _replacement(id, job, fields))
        if changed and keys.paths:
            yield from make_keys(schema, [id])
        if changed and changed[0][1]:
            yield from _notify(schema, [changed[0][0]], wake)
    made: tuple[Inserted, ...] = ()
    if batch.new:
        made = yield from _insert_many(schema, batch.new, wake=wake, keys=keys, flags=flags)
    return tuple(
        Inserted(made[place.new].id if place.id is None else place.id, duplicate=place.duplicate)
        for place in batch.places
    )


def _lock(schema: Schema, digests: Sequence[str]) -> Generator[Run | Copy, list[Row], datetime]:
    # In the order of the keys, or two batches could deadlock.
    keys = sorted(int(digest[:16], 16) - (1 << 63) for digest in digests)
    rows = yield Run(schema.statement("jobs/insert_unique_lock"), {"keys": numbers(keys)})
    if rows[0][1] not in {"read committed", "read uncommitted"}:
        raise StorageError(
            f"a unique job cannot be enqueued in a {rows[0][1]} transaction, which does not see recent commits"
            ": use READ COMMITTED, or enqueue outside the transaction"
        )
    now: datetime = rows[0][2]
    return now.replace(tzinfo=UTC)


def _replacement(id: int, job: NewJob, fields: Sequence[str]) -> dict[str, str | None]:
    given = _fields(job) | {"metadata": job.metadata}
    return {
        "id": str(id),
        "priority": given["priority"] if "priority" in fields else None,
        "args": given["args"] if "args" in fields else None,
        "version": given["version"],
        "metadata": given["metadata"] if "metadata" in fields else None,
        "set_max_attempts": "t" if "max_attempts" in fields else "f",
        "max_attempts": given["max_attempts"],
        "set_schedule_at": "t" if "schedule_at" in fields else "f",
        "schedule_at": given["schedule_at"],
        "delay": given["delay"],
    }
