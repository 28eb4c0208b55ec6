"""Deletion of jobs, by a filter or by the retention rules."""

from collections.abc import Mapping, Sequence
from typing import Final

from jobrt._core.keep import PruneRule
from jobrt._core.where import Where
from jobrt._storage.postgres.encode import interval, numbers, texts
from jobrt._storage.postgres.filters import condition
from jobrt._storage.postgres.names import Run, Schema
from jobrt._storage.postgres.session import Session
from jobrt._storage.postgres.stats import FAILED_ATTEMPTS
from jobrt._storage.postgres.steps import Steps, drive

_BATCH: Final = 10_000
"""Jobs to delete per statement: their ids are sent to the client and back."""

_LARGEST_INTEGER: Final = (1 << 31) - 1


def delete(schema: Schema, where: Where, *, limit: int | None) -> Steps[int]:
    """Return the steps that delete the jobs that match, and their number; all of them belong in one transaction."""
    found = condition(where)
    done = 0
    while limit is None or done < limit:
        batch = _BATCH if limit is None else min(_BATCH, limit - done)
        ids = yield from _remove(schema, found.text, values=found.values, limit=batch, locked="")
        done += len(ids)
        if len(ids) < batch:
            break
    return done


async def prune(session: Session, *, rules: Sequence[PruneRule], limit: int) -> int:
    """Delete the jobs that the rules no longer keep, at most `limit`, and full buckets; return the number of jobs."""
    done = 0
    for rule in rules:
        if done >= limit:
            break
        values = {**_covered(rule), "limit": str(limit - done)}
        ids = [row[0] for row in await session.fetch("jobs/prune_find", **values)]
        if ids:
            # Locked jobs are left for the next time. Waiting for them, with jobs of other rules locked, could deadlock.
            chosen = {"ids": numbers(ids)}
            where = "c.id = any(:ids::bigint[])"
            steps = _remove(session.schema, where, values=chosen, limit=len(ids), locked="skip locked")
            done += len(await drive(session, steps))
    if done:
        await session.fetch("jobs/prune_fold")
    await session.fetch("attempts/limited_clean")
    return done


def _covered(rule: PruneRule) -> dict[str, str | None]:
    return {
        "state": rule.state.value,
        "keep": str(min(rule.keep_at_least, _LARGEST_INTEGER)),
        "age": None if rule.age is None else interval(rule.age),
        "only": texts(rule.only) if rule.only else None,
        "except": texts(rule.except_),
        "queue": rule.queue,
        "except_queues": texts(rule.except_queues),
    }


def _remove(
    schema: Schema, where: str, *, values: Mapping[str, str | None], limit: int, locked: str
) -> Steps[list[int]]:
    """Delete jobs, their families and all their rows, but keep their counts for statistics; return their ids."""
    statement = schema.statement(
        "jobs/delete",
        where=where,
        locked=locked,
        enqueued="gone",
        finished="(select * from gone where finished_at is not null)",
        failed=FAILED_ATTEMPTS.format(jobs="gone"),
    )
    rows = yield Run(statement, {**values, "limit": str(limit)})
    ids: list[int] = rows[0][0]
    if ids:
        gone: dict[str, str | None] = {"ids": numbers(ids)}
        children = yield Run(schema.statement("jobs/delete_children"), gone)
        yield Run(schema.statement("jobs/delete_sides"), gone)
        if children:
            family = {"family": numbers([child for (child,) in children])}
            where = "c.id = any(:family::bigint[])"
            ids += yield from _remove(schema, where, values=family, limit=len(children), locked="")
    return ids
