"""Filters as SQL: every value is a parameter, every combination has parentheses, and no condition is null.

The negation of null is null, so columns that can be null are handled first. The SQL must agree with
`jobrt._core.where.matches`. States are literals in the SQL, from a closed set: only then can the planner see that a
partial index applies.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import attrs

from jobrt._core.states import FINAL, HELD, State
from jobrt._core.text import is_storable
from jobrt._core.where import And, Compare, Everything, In, JsonEquals, Not, Or, Tagged, Where
from jobrt._storage.postgres.encode import LARGEST_ID, instant, numbers, texts
from jobrt.errors import InvalidFilter

_WAITING_FOR_CHILDREN: Final = "9999-12-31 23:59:59.999999+00"
_TIMES: Final = {
    "schedule_at": f"least(c.schedule_at, '{_WAITING_FOR_CHILDREN}')",
    "created_at": "c.created_at",
    "finished_at": "c.finished_at",
}


_HELD: Final = {
    State.CLAIMED: "c.state = 'executing' and c.started_at is null",
    State.EXECUTING: "c.state = 'executing' and c.started_at is not null",
}


_BY_ID: Final = {
    "id": "(c.id = any({ids}))",
    "parent": "(c.id in (select m.child_id from {{schema}}.member m where m.kind <> 'd' and m.job_id = any({ids})))",
}


_SCOPED: Final = frozenset({State.SUSPENDED, State.CLOSING})


@attrs.define
class Condition:
    """The text of a condition on the job row ``c``, and its parameters."""

    text: str = ""
    values: dict[str, str | None] = attrs.field(factory=dict)

    def bind(self, value: str) -> str:
        """Add a parameter and return how the text refers to it."""
        name = f"w{len(self.values)}"
        self.values[name] = value
        return f":{name}"


def condition(where: Where) -> Condition:
    """Return the SQL for a filter.

    Raises:
        InvalidFilter: this is not a filter.

    """
    found = Condition()
    found.text = _text(where, found)
    return found


def conditions(wheres: Iterable[Where]) -> tuple[list[str], dict[str, str | None]]:
    """Return the SQL for several filters of one statement, and the parameters of all."""
    found = Condition()
    return [_text(where, found) for where in wheres], found.values


def _text(where: Where, into: Condition) -> str:
    match where:
        case Everything():
            return "(true)"
        case And(parts):
            return _joined(parts, " and ", empty="true", into=into)
        case Or(parts):
            return _joined(parts, " or ", empty="false", into=into)
        case Not(part):
            return f"(not {_text(part, into)})"
        case In("state", values):
            return _states([State(str(value)) for value in values])
        case In("id" | "parent" as column, values):
            ids = [id for id in values if isinstance(id, int) and -LARGEST_ID <= id <= LARGEST_ID]
            return _BY_ID[column].format(ids=f"{into.bind(numbers(ids))}::bigint[]")
        case In(column, values):
            return _member(column, values, into)
        case Tagged(tags, every):
            operator = "@>" if every else "&&"
            known = [tag for tag in tags if _storable(tag)]
            if every and len(known) < len(tags):
                return "(false)"
            return f"(coalesce(c.tags, '{{}}') {operator} {into.bind(texts(known))}::text[])"
        case JsonEquals():
            return _json(where, into)
        case Compare():
            return _compare(where, into)
        case _:
            raise InvalidFilter(f"{where!r} is not a filter: build one with jobrt.where")


def _joined(parts: Sequence[Where], word: str, *, empty: str, into: Condition) -> str:
    return f"({word.join([_text(part, into) for part in parts]) or empty})"


def _storable(value: Any) -> bool:
    """Return whether a value is a text that can be stored. Any other is in no row."""
    return isinstance(value, str) and is_storable(value)


def _member(column: str, values: Sequence[Any], into: Condition) -> str:
    known = [value for value in values if _storable(value)]
    text = f"c.{column} = any({into.bind(texts(known))}::text[])"
    return f"(coalesce({text}, false))" if column == "worker" else f"({text})"


def _states(states: Sequence[State]) -> str:
    """Return the condition for the state that is shown: a due scheduled job is available."""
    wanted = set(states) - {State.UNKNOWN}  # the column's type has no others
    split = (State.SCHEDULED in wanted) != (State.AVAILABLE in wanted)
    stored = wanted - {State.SCHEDULED} if split else wanted
    held, stored = stored & HELD, stored - HELD
    parts = []
    if scoped := stored & _SCOPED:
        # Always true of these jobs. They have no index of their own, and few jobs have a row there.
        waiting = "c.id in (select w.job_id from {schema}.waiting w)"
        parts.append(f"c.state in ({_literals(scoped)}) and {waiting}")
    if live := stored - FINAL - _SCOPED:
        parts.append(f"c.state in ({_literals(live)})")
    if held:
        parts.append("c.state = 'executing'" if held == HELD else _HELD[held.pop()])
    if final := stored & FINAL:
        # Always true of final jobs. It lets the planner use the index of finished jobs: dead letters are rare.
        parts.append(f"c.state in ({_literals(final)}) and c.finished_at is not null")
    if split:
        operator = ">" if State.SCHEDULED in wanted else "<="
        parts.append(f"c.state = 'scheduled' and c.schedule_at {operator} statement_timestamp()")
    return f"({' or '.join(parts) or 'false'})"


def _literals(states: Iterable[State]) -> str:
    return ", ".join(f"'{state.value}'" for state in sorted(states))


def _json(where: JsonEquals, into: Condition) -> str:
    if where.field and not _storable(where.field):
        return "(false)"
    # `->` with a text takes fields of objects only, where `#>` would also index arrays.
    path = "".join(f" -> {into.bind(step)}::text" for step in (where.field or "").split(".") if where.field)
    found = f"{{schema}}.as_json(coalesce(c.{where.column}, '{{}}')){path}"
    wanted = f"{{schema}}.as_json({into.bind(json.dumps(where.value))})"
    return f"(coalesce({found} = {wanted}, false))"


def _compare(where: Compare, into: Condition) -> str:
    column, moment = _TIMES[where.column], where.moment
    if isinstance(moment, datetime):
        limit = f"{into.bind(instant(moment) or '')}::timestamptz"
    else:
        limit = f"statement_timestamp() - {into.bind(f'{moment.total_seconds():.6f} seconds')}::interval"
    text = f"{column} {where.operator} {limit}"
    return f"(coalesce({text}, false))" if where.column == "finished_at" else f"({text})"
