"""Deletion of jobs, by a filter or by the retention rules."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

from jobrt._core.keep import PruneRule
from jobrt._core.where import Where
from jobrt._storage.apart import Aside, of_a_row
from jobrt._storage.postgres.encode import interval, numbers, texts
from jobrt._storage.postgres.filters import condition
from jobrt._storage.postgres.names import Run, Schema
from jobrt._storage.postgres.session import Session, Transact
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


async def prune(transact: Transact, aside: Aside, *, rules: Sequence[PruneRule], limit: int) -> int:
    """Delete the jobs that the rules no longer keep, at most `limit`, and full buckets; return the number of jobs.

    All in one transaction; if that fails, in one for each rule, and apart.
    """

    async def together(session: Session) -> int:
        async def change(ids: Sequence[int]) -> list[int]:
            return [await _remove_final(session, ids)]

        number = await _prune(session.lend, change, aside, rules=rules, limit=limit)
        await _tidy(session, number)
        return number

    async def change_apart(ids: Sequence[int]) -> list[int]:
        async def remove(part: Sequence[int]) -> int:
            return await transact(partial(_remove_final, ids=part))

        return await aside.apart("prune", ids, remove)

    try:
        return await transact(together)
    except Exception as error:
        if not of_a_row(error):
            raise
    number = await _prune(transact, change_apart, aside, rules=rules, limit=limit)
    await transact(partial(_tidy, pruned=number))
    return number


async def _prune(
    look: Transact,
    change: Callable[[Sequence[int]], Awaitable[list[int]]],
    aside: Aside,
    *,
    rules: Sequence[PruneRule],
    limit: int,
) -> int:
    done = 0
    for rule in rules:
        if done >= limit:
            break
        values = {**_covered(rule), "limit": str(limit - done), "but": numbers(aside.but("prune"))}
        ids = await look(partial(_find_final, values=values))
        if ids:
            done += sum(await change(ids))
    return done


async def _find_final(session: Session, values: Mapping[str, str | None]) -> list[int]:
    return [job_id for (job_id,) in await session.fetch("jobs/prune_find", **values)]


async def _remove_final(session: Session, ids: Sequence[int]) -> int:
    """Delete final jobs; return how many. Waiting for locked ones could deadlock: they are left for the next time."""
    chosen = {"ids": numbers(ids)}
    where = "c.id = any(:ids::bigint[])"
    return len(
        await drive(
            session, _remove(session.schema, where, values=chosen, limit=len(ids), locked="skip locked")
        )
    )


async def _tidy(session: Session, pruned: int) -> None:
    if pruned:
        await session.fetch("jobs/prune_fold")
    await session.fetch("attempts/limited_clean")


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
