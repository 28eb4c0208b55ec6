"""Values in PostgreSQL's binary format: the arrays of outcomes, and the times of claimed jobs."""

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrt._core import stored
from jobrt._storage.postgres.encode import bigints, numbers
from jobrt._storage.postgres.names import Schema, Statement
from jobrt._storage.postgres.rows import aware, moment
from jobrt._storage.postgres.session import BlockingSession, Session
from jobrt._trio_psycopg import TrioConnection

_LIST = Statement("list", b"select $1::bigint[], $1::text", ("values",))
_TIME = Statement(
    "time", b"select timestamptz_send($1::timestamptz), $1::timestamptz at time zone 'UTC'", ("at",)
)
_VALUES = [0, 1, -1, 255, 256, 2**31, 2**63 - 1, -(2**63)]


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_layout_of_arrays(values: list[int]) -> None:
    """Dimensions, nulls, type, number and first index come first; then each value, with its length before it."""
    parts = [number.to_bytes(4, "big") for number in (1, 0, 20, len(values), 1)]
    parts += [b"\0\0\0\x08" + value.to_bytes(8, "big", signed=True) for value in values]
    assert bigints(values) == b"".join(parts)


@pytest.mark.parametrize("values", [[], _VALUES])
async def test_arrays_on_any_connection(postgres_url: str, values: list[int]) -> None:
    """A dedicated session, which prepares statements, and all others read the same array, also as text."""
    same = [(values, numbers(values))]
    with psycopg.connect(postgres_url) as plain:
        assert BlockingSession(plain).run(_LIST, values=bigints(values)) == same
    async with await TrioConnection.connect(postgres_url) as conn:
        assert await conn.prepared.run(_LIST.text, [bigints(values)]) == same
        assert await conn.prepared.run(_LIST.text, [numbers(values)]) == same
        assert await Session(conn, Schema("jobrt")).run(_LIST, values=bigints(values)) == same


@pytest.mark.parametrize(
    "at", ["2026-11-29 03:04:05.678901+05:45", "2000-01-01Z", "1969-12-31 23:59:59.999999Z", "0001-01-01Z"]
)
def test_times(postgres_url: str, at: str) -> None:
    """They are those that the driver reads."""
    with psycopg.connect(postgres_url) as conn:
        ((binary, expected),) = BlockingSession(conn).run(_TIME, at=at)
    assert moment(binary) == aware(expected)


@pytest.mark.parametrize(
    ("at", "nearest"),
    [
        ("infinity", stored.LATEST),
        ("-infinity", stored.EARLIEST),
        ("294000-01-01Z", stored.LATEST),
        ("4000-01-01 BC", stored.EARLIEST),
    ],
)
def test_times_that_no_datetime_holds(postgres_url: str, at: str, nearest: object) -> None:
    """They are shown as the nearest time."""
    statement = Statement("time", b"select timestamptz_send($1::timestamptz)", ("at",))
    with psycopg.connect(postgres_url) as conn:
        ((binary,),) = BlockingSession(conn).run(statement, at=at)
    assert moment(binary) == nearest
