"""Make up rows that jobrt would not write: any value that each column can hold, in any table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.conformance.harness import Engine

__all__ = ["TABLES", "Column", "columns_of", "rows"]

TABLES: Final = {
    "job",
    "attempt",
    "detail",
    "step",
    "dependency",
    "worker",
    "queue",
    "bucket",
    "cron",
    "rollup",
    "past",
}
"""The tables whose rows are about one job, worker, queue, entry or hour."""

_JSON_TEXTS: Final = [
    "",
    "nope",
    "{",
    '"[1"',
    "null",
    "[]",
    "7",
    '{"v": NaN}',
    '{"v": "\\ud800"}',
    '{"v": ' + "[" * 300 + "]" * 300 + "}",
    '{"v": ' + "[" * 20_000 + "]" * 20_000 + "}",
    '{"v": ' + "9" * 5000 + "}",
    '{"v": "' + "x" * 20_000 + '"}',
    '{"done": "much"}',
    '["a", 1]',
    "\N{SNOWMAN}\N{PILE OF POO}\x1b[31m",
]
_BYTES: Final = [b'{"v": "\xff\xfe"}', b"\xed\xa0\x80", b"a\x00b", b'{"v": "\x00"}', b'["\xff"]']
_INTEGERS: Final = [
    0,
    1,
    -1,
    3,
    99,
    2**31 - 1,
    -(2**31),
    2**53 + 1,
    2**63 - 1,
    -(2**63),
    253_402_300_800_000_000,
]
_FLOATS: Final = ["0", "-1", "1e308", "-1e308"]
_TIMES: Final = [
    "'infinity'",
    "'-infinity'",
    "'4713-01-01 00:00:00+00 BC'",
    "'0001-01-01 00:00:00+00 BC'",
    "'10000-01-01 00:00:00+00'",
    "'294276-12-31 23:59:59+00'",
    "now()",
]


@attrs.frozen
class Column:
    """A column of a table, with its type and whether it can be null."""

    table: str
    name: str
    type: str
    nullable: bool


async def columns_of(engine: Engine) -> list[Column]:
    """Return the columns of `TABLES`."""
    if engine.name == "postgres":
        found = await engine.execute(
            "select 'jobrt.' || table_name, column_name, udt_name, is_nullable = 'YES' from information_schema.columns"
            " where table_schema = 'jobrt' order by table_name, ordinal_position"
        )
    else:
        found = await engine.execute(
            'select m.name, c.name, lower(c.type), not c."notnull" and not c.pk from sqlite_master m,'
            " pragma_table_info(m.name) c where m.type = 'table' and m.name like 'jobrt_%' order by m.name, c.cid"
        )
    columns = [Column(table, name, kind, bool(nullable)) for table, name, kind, nullable in found]
    return [column for column in columns if _short(column.table) in TABLES]


def _short(table: str) -> str:
    return table.removeprefix("jobrt.").removeprefix("jobrt_")


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _values(column: Column, *, sqlite: bool) -> st.SearchStrategy[str]:
    """Return values of a column as SQL."""
    values = _OF_SQLITE if sqlite else _OF_POSTGRES
    found = st.sampled_from(values[column.type])
    return found | st.just("null") if column.nullable else found


def _integers(bits: int) -> list[str]:
    ends = [2 ** (bits - 1) - 1, -(2 ** (bits - 1))]
    return [f"'{value}'" for value in [*_INTEGERS, *ends] if ends[1] <= value <= ends[0]]


_OF_SQLITE: Final = {
    "text": [f"CAST(x'{raw.hex()}' AS TEXT)" for raw in [*(text.encode() for text in _JSON_TEXTS), *_BYTES]],
    "integer": list(map(str, _INTEGERS)),
    "real": [*_FLOATS, "9e999", "-9e999"],
}
_OF_POSTGRES: Final = {
    "text": list(map(_text, _JSON_TEXTS)),
    "int2": _integers(16),
    "int4": _integers(32),
    "int8": _integers(64),
    "float8": [*_FLOATS, "'NaN'", "'Infinity'", "'-Infinity'"],
    "timestamptz": _TIMES,
    "bool": ["true", "false"],
    "_text": ["'{NULL}'", "'{{a,b},{c,d}}'", "'{}'", "'[5:6]={x,y}'", "'{\"nope\"}'"],
    "_int8": ["'{NULL}'", "'{{1,2},{3,4}}'", "'{}'", f"'{{{2**63 - 1},{2**63 - 1}}}'"],
    "uuid": ["'00000000-0000-0000-0000-000000000000'"],
    "job_state": [
        f"'{state}'"
        for state in (
            "scheduled",
            "available",
            "retryable",
            "executing",
            "completed",
            "cancelled",
            "discarded",
        )
    ],
}


def _usual(column: Column, *, sqlite: bool, number: int) -> str:
    """Return an ordinary value of a column that has no default."""
    now = "1936862813589793" if sqlite else "now() - interval '1 minute'"
    ordinary = {
        "id": str(number),
        "queue": "'default'",
        "name": "'odd'",
        "args": "'{}'",
        "metadata": "'{}'",
        "tags": "'[]'" if sqlite else "null",
        "state": "1" if sqlite else "'available'",
        "end": "'failed'",
        "job_id": str(number),
        "kind": "'completed'",
        "info": "'{}'",
        "spec": "'{}'",
    }
    if column.table.endswith("bucket") and column.name in {"at", "full_at", "held_until"}:
        return now
    if column.table.endswith(("worker", "queue", "cron")) and column.name in {"id", "name"}:
        return f"'odd {number}'"
    if column.name in ordinary:
        return ordinary[column.name]
    if column.name.endswith("_at") or column.name == "hour":
        return "null" if column.nullable else now
    if column.nullable:
        return "null"
    match column.type:
        case "text":
            return "''"
        case "bool":
            return "false"
        case "_int8":
            return "'{}'"
        case _:
            return "0"


_KEYS: Final = {
    "job": {"id"},
    "attempt": {"job_id"},
    "detail": {"job_id"},
    "step": {"job_id"},
    "dependency": {"job_id"},
}
"""Columns that say what a row is about: they are made up last."""


@st.composite
def rows(draw: st.DrawFn, columns: list[Column], *, sqlite: bool) -> list[str]:
    """Return statements that insert some rows, each with a few columns, or all, made up."""
    tables = sorted({column.table for column in columns})
    statements: list[str] = []
    for number in range(9001, 9001 + draw(st.integers(1, 5))):
        job = next(table for table in tables if _short(table) == "job")
        statements.append(_insert(draw, [c for c in columns if c.table == job], sqlite=sqlite, number=number))
        table = draw(st.sampled_from(tables))
        if table != job:
            statements.append(
                _insert(draw, [c for c in columns if c.table == table], sqlite=sqlite, number=number)
            )
    return statements


def _insert(draw: st.DrawFn, columns: list[Column], *, sqlite: bool, number: int) -> str:
    table = columns[0].table
    free = [column for column in columns if column.name not in _KEYS.get(_short(table), set())]
    odd = draw(
        st.sets(st.sampled_from([c.name for c in free]), min_size=1, max_size=3)
        | st.just({c.name for c in free})
    )
    if "queue" in odd and draw(st.booleans()):
        odd = odd - {"queue"}  # most of them where they are claimed
    values = [
        draw(_values(column, sqlite=sqlite))
        if column.name in odd
        else _usual(column, sqlite=sqlite, number=number)
        for column in columns
    ]
    names = ", ".join(f'"{column.name}"' for column in columns)
    return f"insert into {table} ({names}) values ({', '.join(values)})"
