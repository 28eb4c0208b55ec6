"""Filters as SQL with the same meaning as `jobrt._core.where.matches`.

Every value is a parameter. Alternatives and negated parts have parentheses. No part is ever NULL, so that ``NOT``
means the same as in Python.
"""

import json
import re
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, cast

import attrs

from jobrt._core.states import State
from jobrt._core.text import is_storable
from jobrt._core.where import And, Compare, Everything, In, JsonEquals, Not, Or, Tagged, Where, canonical
from jobrt._json import read_json
from jobrt._storage.sqlite.rows import LARGEST, SMALLEST, dumps, micros, span
from jobrt._storage.sqlite.states import CODES, EXECUTING, IS_FINAL, IS_WAITING
from jobrt.errors import InvalidFilter

_PLAIN_PATH: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_EXACT: Final = 2**53
_CHAIN: Final = 100


@attrs.frozen
class Condition:
    """An SQL expression and its parameters."""

    sql: str
    values: tuple[Any, ...] = ()


_TRUE, _FALSE = Condition("1"), Condition("0")


def condition(where: Where, now: int) -> Condition:
    """Return the expression over `jobrt_job` for a filter at the time `now`.

    Raises:
        InvalidFilter: this is not a filter.

    """
    match where:
        case Everything():
            return _TRUE
        case And(parts):
            return _joined("AND", [condition(part, now) for part in parts], _TRUE)
        case Or(parts):
            return _joined("OR", [condition(part, now) for part in parts], _FALSE)
        case Not(part):
            inner = condition(part, now)
            return Condition(f"NOT ({inner.sql})", inner.values)
        case In("state", values):
            return _joined("OR", [_state(State(str(value)), now) for value in values], _FALSE)
        case In("parent", values):
            return Condition(_CHILDREN, (dumps(list(values)),))
        case In(column, values):
            return _in(column, values)
        case Tagged(tags, every):
            return _joined("AND" if every else "OR", list(map(_tagged, tags)), _TRUE if every else _FALSE)
        case JsonEquals():
            return _json(where)
        case Compare(column, operator, moment):
            limit = micros(moment) if isinstance(moment, datetime) else now - span(moment)
            sql = f"({column} IS NOT NULL AND {column} {operator} ?)"
            return Condition(sql, (min(max(limit, SMALLEST), LARGEST),))
        case _:
            raise InvalidFilter(f"{where!r} is not a filter: build one with jobrt.where")


def _joined(word: str, parts: Sequence[Condition], nothing: Condition) -> Condition:
    """Join with AND or OR; the result needs no further parentheses.

    SQLite rejects expressions that are a thousand levels deep, and a chain of so many parts is one. So long chains
    are joined by halves. Its parser stack also holds only a hundred tokens. With the longest part first, each level
    at which AND and OR alternate needs one token, and about eighty levels fit.
    """
    if len(parts) < 2:  # noqa: PLR2004 - one part needs no joining
        return parts[0] if parts else nothing
    if len(parts) > _CHAIN:
        middle = len(parts) // 2
        parts = [_joined(word, half, nothing) for half in (parts[:middle], parts[middle:])]
        return Condition(f"(({parts[0].sql}) {word} ({parts[1].sql}))", parts[0].values + parts[1].values)
    parts = sorted(parts, key=lambda part: len(part.sql), reverse=True)
    sql = f" {word} ".join(part.sql for part in parts)
    return Condition(
        f"({sql})" if word == "OR" else sql, tuple(value for part in parts for value in part.values)
    )


_CHILDREN: Final = """id IN (
    SELECT child_id FROM jobrt_member WHERE kind <> 'd' AND job_id IN (SELECT value FROM json_each(?)))"""


def _state(state: State, now: int) -> Condition:
    """Compare states as users see them; the bounds on `state` match the condition of a partial index."""
    if state is State.UNKNOWN:
        return Condition(f"(state NOT BETWEEN 0 AND {len(CODES) - 1})")
    number = f"state = {CODES[state]}"
    match state:
        case State.SCHEDULED:
            return Condition(f"({IS_WAITING} AND {number} AND schedule_at > ?)", (now,))
        case State.AVAILABLE:
            due = f"state = {CODES[State.SCHEDULED]} AND schedule_at <= ?"
            return Condition(f"({IS_WAITING} AND ({number} OR ({due})))", (now,))
        case State.RETRYABLE:
            return Condition(f"({IS_WAITING} AND {number})")
        case State.CLAIMED:
            return Condition(f"({number} AND started_at IS NULL)")
        case State.EXECUTING:
            return Condition(f"({number} AND started_at IS NOT NULL)")
        case State.SUSPENDED | State.CLOSING:
            return Condition(f"(state > {EXECUTING} AND {number})")
        case _:
            return Condition(f"({IS_FINAL} AND {number})")


def _in(column: str, values: Sequence[Any]) -> Condition:
    values = [value for value in values if not isinstance(value, str) or is_storable(value)]
    if len(values) == 1 and (isinstance(values[0], str) or SMALLEST <= values[0] <= LARGEST):
        return Condition(f"({column} IS NOT NULL AND {column} = ?)", (values[0],))
    # One parameter for all values, because a statement can have at most 32,766.
    sql = f"({column} IS NOT NULL AND {column} IN (SELECT value FROM json_each(?)))"  # noqa: S608 - the column name is a constant
    return Condition(sql, (dumps(values),))


def _tagged(tag: str) -> Condition:
    if not is_storable(tag):  # then no row has it
        return _FALSE
    known = "CASE WHEN json_valid(tags) THEN tags ELSE '[]' END"  # json_each raises for invalid JSON
    return Condition(f"EXISTS (SELECT 1 FROM json_each({known}) AS tag WHERE tag.value = ?)", (tag,))  # noqa: S608 - a text of ours


def _json(where: JsonEquals) -> Condition:
    """Compare JSON values with `_json_equal`, after SQLite has excluded most unequal ones.

    SQLite alone cannot decide: it treats true as 1, cuts texts at NUL, and rounds numbers that Python does not.
    """
    column, field = where.column, where.field
    if field is not None and not is_storable(field):
        return _FALSE
    # As bytes, because the driver raises for texts that are not UTF-8.
    exact = Condition(f"jobrt_json_equal(CAST({column} AS BLOB), ?, ?)", (field, canonical(where.value)))
    quick = _quick(where.value)
    if field is None or quick is None or not _PLAIN_PATH.fullmatch(field):
        return exact
    sql, values = quick
    path = "$." + ".".join(f'"{step}"' for step in field.split("."))
    # CASE, because AND need not evaluate its left side first, and json_extract raises for invalid JSON.
    maybe = f"(CASE WHEN json_valid({column}) THEN {sql.format(f'{column}, ?')} END IS TRUE)"
    return Condition(f"({maybe} AND {exact.sql})", (path, *values, *exact.values))


def _quick(value: Any) -> tuple[str, tuple[Any, ...]] | None:
    """Return a test in plain SQL that every equal value passes, or None if there is no such test."""
    match value:
        case None | True | False:
            return "json_type({}) = ?", (json.dumps(value),)
        case int() if abs(value) < _EXACT:
            return "json_extract({}) = ?", (value,)
        case str() if is_storable(value):
            return "json_extract({}) = ?", (value,)
        case _:
            return None


def register_functions(connection: sqlite3.Connection) -> None:
    """Register the functions that filters use."""
    connection.create_function("jobrt_json_equal", 3, _json_equal, deterministic=True)


def _json_equal(text: bytes, field: str | None, wanted: str) -> bool:
    """Return whether a JSON text, or a field of it, equals a value in canonical form; invalid JSON equals nothing."""
    try:
        found: Any = read_json(text.decode())
    except ValueError:
        return False
    for step in field.split(".") if field else ():
        if not isinstance(found, dict) or step not in found:
            return False
        found = cast("dict[str, Any]", found)[step]
    return canonical(found) == wanted
