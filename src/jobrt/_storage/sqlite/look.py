"""Lists of jobs at a bounded cost: `ObservedJobs.look`."""

from collections.abc import Sequence
from typing import Any, Final

from jobrt._core.search import PAYLOAD, Needle
from jobrt._core.walks import MOST_KINDS, Look, Place, Walk, depth, given, merged, seen
from jobrt._core.where import And, Where
from jobrt._storage.sqlite.filters import Condition, condition
from jobrt._storage.sqlite.rows import LARGEST, SMALLEST, dumps
from jobrt._storage.sqlite.states import CODES
from jobrt._storage.sqlite.stats import first_id
from jobrt._storage.sqlite.transaction import SQL, Transaction

_DISORDER: Final = 60_000_000
"""Microseconds by which the order of ids and creation times may differ: transactions wait for the lock in between."""


def look(
    tx: Transaction,
    *,
    where: Where,
    walk: Walk,
    needle: Needle | None,
    scan: int,
    limit: int,
    after: Place | None,
) -> Look:
    """Return the first jobs of a walk that match, behind a place."""
    kinds = _kinds(tx, walk)
    if len(kinds) > MOST_KINDS:
        walk, kinds = walk.by_id(), [()]
    deep = depth(len(kinds), scan=scan, limit=limit if walk.covers and needle is None else 0)
    lists = [_list(tx, walk, kind, deep=deep, after=after) for kind in kinds]
    places, more = merged(lists, depth=deep, newest=walk.newest)
    matching = None
    if not walk.covers or needle is not None:
        matching = _matching(tx, where, needle=needle, ids=[place.id for place in places])
    return seen(places, matching, more=more, limit=limit)


def _kinds(tx: Transaction, walk: Walk) -> Sequence[Sequence[Any]]:
    """Return the lists that make up a walk, a few more than there may be at most."""
    most = MOST_KINDS + 1
    match walk.by:
        case "ends":
            codes = [CODES[state] for state in walk.states]
            if walk.names is not None:
                return [(code, name) for code in codes for name in walk.names][:most]
            # Each state ends with an entry without a name, which is left out.
            return tx.array(SQL["jobs/look_names"], {"states": dumps(codes), "most": most + len(codes)})
        case "due":
            queues = [] if walk.queues is None else list(walk.queues)
            values = {"queues": dumps(queues), "all": walk.queues is None, "most": 2 * most}
            return tx.array(SQL["jobs/look_priorities"], values)
        case _:
            return [()]


def _list(tx: Transaction, walk: Walk, kind: Sequence[Any], *, deep: int, after: Place | None) -> list[Place]:
    """Return the first places of one of the lists that make up a walk."""
    less, way = ("<", "DESC") if walk.newest else (">", "ASC")
    values: dict[str, Any] = {"depth": deep}
    if after is not None:
        values |= {"id": after.id, "at": after.at}
    match walk.by:
        case "given":
            return given(walk, after)[:deep]
        case "id":
            return _by_id(tx, walk, way=way, less=less, deep=deep, after=after)
        case "ends":
            behind = f" AND (finished_at, id) {less} (:at, :id)"
            values |= {"code": kind[0], "name": kind[1]}
        case "due":
            behind = f" AND (schedule_at, id) {less} (:at, :id)"
            values |= {"queue": kind[0], "priority": kind[1]}
        case "held":
            behind = f" AND id {less} :id"
        case "suspended":
            behind = f" AND job_id {less} :id"
        case "children":
            behind = f" AND child_id {less} :id"
            values["parents"] = dumps(list(walk.ids))
    behind = "" if after is None else behind
    if walk.due_now is not None:
        behind += f" AND schedule_at {'<=' if walk.due_now else '>'} :now"
        values["now"] = tx.now
    sql = SQL[f"jobs/look_{walk.by}"].replace("{behind}", behind).replace("{way}", way)
    return [Place(id, at) for id, at in tx.array(sql, values)]


def _by_id(
    tx: Transaction, walk: Walk, *, way: str, less: str, deep: int, after: Place | None
) -> list[Place]:
    created = condition(And(walk.created), tx.now)
    values: list[Any] = []
    for part in walk.created:
        (limit,) = condition(part, tx.now).values
        if part.operator == ">":
            first = first_id(tx, max(limit - _DISORDER, SMALLEST))
            created = Condition(f"id >= ? AND {created.sql}", (first, *created.values))
        else:
            behind = first_id(tx, min(limit + _DISORDER, LARGEST))
            created = Condition(f"id < ? AND {created.sql}", (behind, *created.values))
    sql, values = created.sql, [*created.values]
    if after is not None:
        sql, values = f"id {less} ? AND {sql}", [after.id, *values]
    sql = SQL["jobs/look_ids"].replace("{where}", sql).replace("{way}", way)
    return [Place(id) for id, _ in tx.array(sql, (*values, deep))]


def _matching(tx: Transaction, where: Where, *, needle: Needle | None, ids: Sequence[int]) -> frozenset[int]:
    """Return which of some jobs match a filter and have a text."""
    wanted = condition(where, tx.now)
    sql = SQL["jobs/look_matching"].replace("{where}", wanted.sql)
    found = tx.array(sql, (dumps(list(ids)), *wanted.values))
    if needle is not None:
        forms = {"plain": needle.plain, "escaped": needle.escaped[0], "ascii": needle.escaped[1]}
        values = {"ids": dumps(found), "payload": PAYLOAD, "limit": len(found), **forms}
        found = tx.array(SQL["jobs/look_text"], values)
    return frozenset(found)
