"""Prepared statements: the rows and errors of a cursor, without one."""

from typing import Any

import psycopg
import pytest
import trio

from jobrt._trio_psycopg import TrioConnection
from tests.trio_psycopg.conftest import Until

_PREPARED = "select count(*) from pg_prepared_statements where name like 'jobrt%'"


async def _prepared(conn: TrioConnection[Any]) -> int:
    (number,) = await (await conn.execute(_PREPARED, prepare=False)).fetchone() or (-1,)
    return int(number)


async def test_rows(conn: TrioConnection[Any]) -> None:
    """Rows are Python values of the statement's types; parameters are texts and None."""
    statement = b"select $1::int, $2::text, $3::float8[], $4::bool, null::text"
    row = (-7, "h\u00e9 \U0001f600 \\ '", [0.5, None], True, None)
    for _ in range(3):
        assert await conn.prepared.run(statement, ["-7", row[1], "{0.5,null}", "t"]) == [row]
    assert await conn.prepared.run(statement, [None] * 4) == [(None,) * 5]
    assert await _prepared(conn) == 1


async def test_bytes(conn: TrioConnection[Any]) -> None:
    """Bytes are a value in the binary format of its type, beside texts and in the same prepared statement."""
    statement = b"select $1::bigint, $2::text, $3::int"
    minus_seven = (-7).to_bytes(8, "big", signed=True)
    assert await conn.prepared.run(statement, [minus_seven, "a", "1"]) == [(-7, "a", 1)]
    assert await conn.prepared.run(statement, ["-7", b"a", None]) == [(-7, "a", None)]
    assert await _prepared(conn) == 1


async def test_no_rows(conn: TrioConnection[Any]) -> None:
    """A statement without rows returns an empty list."""
    assert await conn.prepared.run(b"create temp table t (n int)", []) == []
    assert await conn.prepared.run(b"insert into t values ($1::int)", ["1"]) == []
    assert await conn.prepared.run(b"select n from t where n > 1", []) == []
    assert await conn.prepared.run(b"insert into t values (2) returning n", []) == [(2,)]


@pytest.mark.parametrize(
    ("statement", "value", "error"),
    [
        (b"select $1::int", "x", psycopg.errors.InvalidTextRepresentation),
        (b"select 1 / $1::int", "0", psycopg.errors.DivisionByZero),
        (b"select $1::text from nosuch", "x", psycopg.errors.UndefinedTable),
        (b"select $1::text", "nul \x00 inside", psycopg.DataError),
        (b"select $1::text", "half \ud800", UnicodeEncodeError),
    ],
)
async def test_errors(
    conn: TrioConnection[Any], statement: bytes, value: str, error: type[Exception]
) -> None:
    """Errors are psycopg's, and leave the connection and the statement usable."""
    for _ in range(2):
        with pytest.raises(error):
            await conn.prepared.run(statement, [value])
        assert conn.reusable
    assert await conn.prepared.run(b"select 1", []) == [(1,)]


async def test_transaction(conn: TrioConnection[Any]) -> None:
    """A statement is part of an open transaction, and is rolled back with it."""
    await conn.execute("create table t (n int)")
    insert = b"insert into t values ($1::int)"
    with pytest.raises(psycopg.errors.DivisionByZero):
        async with conn.transaction():
            await conn.prepared.run(insert, ["1"])
            await conn.prepared.run(b"select 1 / 0", [])
    assert await conn.prepared.run(b"select n from t", []) == []
    async with conn.transaction():
        await conn.prepared.run(insert, ["2"])
    assert await conn.prepared.run(b"select n from t", []) == [(2,)]


async def test_an_error_after_the_rows(conn: TrioConnection[Any]) -> None:
    """A statement whose commit fails raises the error, even after its rows have arrived."""
    await conn.execute("create table t (n int unique deferrable initially deferred)")
    insert = b"insert into t values ($1::int) returning n"
    assert await conn.prepared.run(insert, ["1"]) == [(1,)]
    with pytest.raises(psycopg.errors.UniqueViolation):
        await conn.prepared.run(insert, ["1"])
    assert conn.reusable


async def test_other_encoding(conn: TrioConnection[Any]) -> None:
    """Texts are in the encoding of the session, in both directions."""
    await conn.execute("set client_encoding to latin1")
    assert await conn.prepared.run(b"select $1::text, ascii($1)", ["\u00e9"]) == [("\u00e9", 233)]


async def test_cancelled(conn: TrioConnection[Any], until: Until) -> None:
    """A cancelled statement is cancelled in the server, and can run again."""
    statement = b"select pg_sleep($1::float8)"
    pid = str(conn.info.backend_pid)
    for _ in range(2):
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(conn.prepared.run, statement, ["100"])
                await until("select wait_event = 'PgSleep' from pg_stat_activity where pid = %s", pid)
                nursery.cancel_scope.cancel()
        assert conn.reusable
    assert len(await conn.prepared.run(statement, ["0"])) == 1
    assert await _prepared(conn) == 1


async def test_cancelled_while_it_is_prepared(conn: TrioConnection[Any]) -> None:
    """Wherever it is cancelled, the next statement gets its own result: no name is used twice."""
    with trio.fail_after(30):
        for number in range(60):
            statement = b"select %d, pg_sleep($1::float8)" % number
            with trio.move_on_after(number / 40_000):
                await conn.prepared.run(statement, ["0.0005"])
            ((found, _),) = await conn.prepared.run(statement, ["0"])
            assert found == number


async def test_nothing_is_sent_from_a_cancelled_scope(conn: TrioConnection[Any]) -> None:
    """No statement starts in a cancelled scope."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await conn.prepared.run(b"create table t ()", [])
    assert scope.cancelled_caught
    assert await conn.prepared.run(b"select to_regclass('t')::text", []) == [(None,)]


async def test_lost_connection(conn: TrioConnection[Any]) -> None:
    """A connection that is lost meanwhile raises an error."""
    with trio.fail_after(30), pytest.raises(psycopg.OperationalError):
        await conn.prepared.run(b"select pg_terminate_backend(pg_backend_pid())", [])
    with pytest.raises(psycopg.OperationalError):
        await conn.prepared.run(b"select 1", [])
