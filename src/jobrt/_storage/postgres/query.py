"""Queries for jobs: the statements, separate from the connection that runs them."""

from functools import partial
from typing import Final

from jobrt._core.walks import BATCH, Walk, batches
from jobrt._core.where import Where, state
from jobrt._storage.postgres.changes import count
from jobrt._storage.postgres.encode import LARGEST_ID, limit_text
from jobrt._storage.postgres.filters import condition
from jobrt._storage.postgres.names import Run, Schema
from jobrt._storage.postgres.rows import Row
from jobrt._storage.postgres.steps import Steps
from jobrt.errors import InvalidFilter

_ORDERS: Final = {
    "id": "c.id",
    "schedule_at": "least(c.schedule_at, '9999-12-31 23:59:59.999999+00')",
    "created_at": "c.created_at",
    "finished_at": "c.finished_at",
    "priority": "c.priority",
}
_DETAILS: Final = {True: "true", False: "false"}


def by_id(schema: Schema, job_id: int) -> Run:
    """Return the statement that finds a job; its row is for `job_record`."""
    if not -LARGEST_ID <= job_id <= LARGEST_ID:
        job_id = 0  # no job has it; the number does not fit a bigint
    statement = schema.statement("jobs/query", where="c.id = :id::bigint", details="true")
    return Run(statement, {"id": str(job_id)})


def query_steps(
    schema: Schema, where: Where, *, order_by: str, limit: int | None, after: int | None, details: bool
) -> Steps[list[Row]]:
    """Return the steps of `JobStore.query`; their rows are for `job_record`.

    If many jobs may have to be looked at, a statement looks at those in a range of ids. So no snapshot is held for
    long, which would keep vacuum from its work.
    """
    look = partial(listing, schema, where, order_by=order_by, details=details)
    walk = batches(where, order_by)
    if walk is None or (yield from _few(schema, walk)):
        return (yield look(limit=limit, after=after))
    found: list[Row] = []
    edge: int | None = after
    while True:
        begin, edge = edge, (yield from _edge(schema, edge, newest=walk.newest))
        left = None if limit is None else limit - len(found)
        found += yield look(limit=left, after=begin, until=edge)
        if edge is None or len(found) == limit:
            return found


def _few(schema: Schema, walk: Walk) -> Steps[bool]:
    """Return whether few jobs are in the states of a walk, so that their index finds them soon."""
    if walk.by == "id":
        return False
    ((number,),) = yield count(schema, state(*walk.states), limit=BATCH)
    return bool(number < BATCH)


def _edge(schema: Schema, after: int | None, *, newest: bool) -> Steps[int | None]:
    """Return the last id of the next batch, or None if what is left is less than one."""
    values = {"skip": str(BATCH - 1)}
    less, way = ("<", "desc") if newest else (">", "asc")
    behind = "true"
    if after is not None:
        behind, values["after"] = f"c.id {less} :after::bigint", str(after)
    rows = yield Run(schema.statement("jobs/query_edge", behind=behind, way=way), {**values})
    return rows[0][0] if rows else None


def listing(
    schema: Schema,
    where: Where,
    *,
    order_by: str,
    limit: int | None,
    after: int | None,
    details: bool,
    until: int | None = None,
) -> Run:
    """Return the statement that lists the jobs that match, in order, after the one with the id `after`.

    In the order of ids, `until` is the last one that is looked at.
    """
    column, backward = order_by.removeprefix("-"), order_by.startswith("-")
    if column not in _ORDERS:
        raise InvalidFilter(f"order_by={order_by!r}: use {', '.join(_ORDERS)}, with a - first for descending")
    found = condition(where)
    text, values = found.text, {**found.values, "limit": limit_text(limit)}
    key, way = _ORDERS[column], "desc" if backward else "asc"
    if after is not None:
        text = f"{text} and {_behind(column, key, backward=backward)}"
        values["after"] = str(after)
    if until is not None:
        text = f"{text} and c.id {'>=' if backward else '<='} :until::bigint"
        values["until"] = str(until)
    order = f"c.id {way}" if column == "id" else f"{key} {way} nulls last, c.id {way}"
    statement = schema.statement(
        "jobs/query", where=f"{text} order by {order} limit :limit::bigint", details=_DETAILS[details]
    )
    return Run(statement, values)


def _behind(column: str, key: str, *, backward: bool) -> str:
    """Return the condition for rows that come after the job `:after` in the order."""
    less = "<" if backward else ">"
    if column == "id":
        return f"c.id {less} :after::bigint"
    at = f"(select {key} from {{schema}}.job c where c.id = :after::bigint)"  # noqa: S608 - constants of this module
    same = f"c.id {less} :after::bigint"
    return (
        f"(case when {at} is null then {key} is null and {same}"
        f" else {key} {less} {at} or {key} = {at} and {same} or {key} is null end)"
    )
