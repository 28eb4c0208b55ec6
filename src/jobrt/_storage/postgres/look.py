"""Lists of jobs at a bounded cost: `ObservedJobs.look`, as steps for every kind of caller."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from jobrt._core.search import PAYLOAD, Needle
from jobrt._core.stored import EARLIEST, LATEST
from jobrt._core.walks import MOST_KINDS, Look, Place, Walk, depth, given, merged, seen
from jobrt._core.where import And, Where
from jobrt._storage.postgres.encode import boolean, instant, microseconds, numbers, texts
from jobrt._storage.postgres.filters import condition
from jobrt._storage.postgres.names import Run, Schema
from jobrt._storage.postgres.steps import Steps

_DISORDER: Final = 100_000
"""Ids by which their order and that of the creation times may differ, see ``jobs/stats_first.sql``."""
_MARGIN: Final = 2 * _DISORDER
"""Ids from that statement's result, which is below the first id, to one that is as far above it."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_FROM: Final = {
    "id": "{schema}.job c where {where}",
    "held": "{schema}.job c where c.state = 'executing'",
    "suspended": "(select w.job_id as id from {schema}.waiting w) c where true",
    "children": (
        "(select distinct m.child_id as id from {schema}.member m"
        " where m.kind <> 'd' and m.job_id = any(:parents::bigint[])) c where true"
    ),
}
"""Where the ids of a walk in the order of ids come from."""


def look_steps(
    schema: Schema,
    where: Where,
    walk: Walk,
    *,
    needle: Needle | None,
    scan: int,
    limit: int,
    after: Place | None,
) -> Steps[Look]:
    """Return the steps of `ObservedJobs.look`."""
    kinds = yield from _kinds(schema, walk)
    if len(kinds) > MOST_KINDS:
        walk, kinds = walk.by_id(), [()]
    deep = depth(len(kinds), scan=scan, limit=limit if walk.covers and needle is None else 0)
    lists = yield from _lists(schema, walk, kinds, deep=deep, after=after)
    places, more = merged(lists, depth=deep, newest=walk.newest)
    matching = None
    if places and (not walk.covers or needle is not None):
        rows = yield _matching(schema, where, needle=needle, ids=[place.id for place in places])
        matching = frozenset(rows[0][0])
    return seen(places, matching, more=more, limit=limit)


def _kinds(schema: Schema, walk: Walk) -> Steps[Sequence[tuple[str, str] | tuple[()]]]:
    """Return the lists that make up a walk, one more than there may be at most."""
    most = MOST_KINDS + 1
    values: dict[str, str | None] = {"most": str(most)}
    match walk.by:
        case "ends" if walk.names is not None:
            return [(state, name) for state in walk.states for name in walk.names][:most]
        case "ends":
            values["states"] = texts(walk.states)
            rows = yield Run(schema.statement("jobs/look_names"), values)
        case "due":
            queues = () if walk.queues is None else walk.queues
            values |= {"queues": texts(queues), "all": boolean(walk.queues is None)}
            rows = yield Run(schema.statement("jobs/look_priorities"), values)
        case _:
            return [()]
    return [(row[0], str(row[1])) for row in rows]


def _lists(
    schema: Schema,
    walk: Walk,
    kinds: Sequence[tuple[str, str] | tuple[()]],
    *,
    deep: int,
    after: Place | None,
) -> Steps[list[list[Place]]]:
    """Return the first places of each of the lists that make up a walk."""
    less, way = ("<", "desc") if walk.newest else (">", "asc")
    values: dict[str, str | None] = {"depth": str(deep)}
    if after is not None:
        values["after"] = str(after.id)
    if walk.by == "given":
        return [given(walk, after)[:deep]]
    if not walk.timed:
        return (yield from _by_ids(schema, walk, values, less=less, way=way))
    column = "finished_at" if walk.by == "ends" else "schedule_at"
    behind = ""
    if after is not None:
        behind = f" and (c.{column}, c.id) {less} (:at::timestamptz, :after::bigint)"
        values["at"] = _moment(after.at or 0)
    if walk.due_now is not None:
        behind += f" and c.schedule_at {'<=' if walk.due_now else '>'} statement_timestamp()"
    firsts, seconds = texts(kind[0] for kind in kinds if kind), texts(kind[1] for kind in kinds if kind)
    values |= dict(zip(_KINDS[walk.by], (firsts, seconds), strict=True))
    rows = yield Run(schema.statement(f"jobs/look_{walk.by}", behind=behind, way=way), values)
    return [
        [Place(id, at) for at, id in zip(times, ids, strict=True)] for times, ids in rows if ids is not None
    ]


_KINDS: Final = {"ends": ("states", "names"), "due": ("queues", "priorities")}
"""Parameters for the lists that make up a walk."""


def _by_ids(
    schema: Schema, walk: Walk, values: dict[str, str | None], *, less: str, way: str
) -> Steps[list[list[Place]]]:
    created = condition(And(walk.created))
    values |= created.values
    text = created.text
    for number, part in enumerate(walk.created):
        moment = part.moment
        if isinstance(moment, timedelta):
            ((now,),) = yield Run(schema.statement("schema/now"), {})
            moment = now.replace(tzinfo=UTC) - moment
        ((first,),) = yield Run(schema.statement("jobs/stats_first"), {"since": instant(moment)})
        if first is not None:
            edge = first if part.operator == ">" else first + _MARGIN
            text += f" and c.id {'>=' if part.operator == '>' else '<'} :edge{number}::bigint"
            values[f"edge{number}"] = str(edge)
    if walk.by == "children":
        values["parents"] = numbers(walk.ids)
    statement = schema.statement(
        "jobs/look_ids",
        **{"from": _FROM[walk.by]},
        where=text,
        behind=f"and c.id {less} :after::bigint" if "after" in values else "",
        key="(c.id + 0)" if walk.by == "held" else "c.id",  # a sum: few are held, so they are read and sorted
        way=way,
    )
    ((ids,),) = yield Run(statement, {name: values[name] for name in statement.parameters})
    return [list(map(Place, ids))]


def _moment(at: int) -> str:
    """Return the time of a place; the last and the first one stand for infinity."""
    if at >= microseconds(LATEST):
        return "infinity"
    return "-infinity" if at <= microseconds(EARLIEST) else str(instant(_EPOCH + timedelta(microseconds=at)))


def _matching(schema: Schema, where: Where, *, needle: Needle | None, ids: Sequence[int]) -> Run:
    """Return the statement for which of some jobs match a filter and have a text."""
    wanted = condition(where)
    values: dict[str, str | None] = {**wanted.values, "ids": numbers(ids)}
    if needle is None:
        return Run(schema.statement("jobs/look_matching", where=wanted.text, text=""), values)
    values |= {"payload": str(PAYLOAD), "plain": needle.plain}
    values |= {"escaped": needle.escaped[0], "ascii": needle.escaped[1]}
    return Run(schema.statement("jobs/look_matching", where=wanted.text, text="jobs/look_text"), values)
