"""Translation of psycopg's errors: transient or not, in one line, without the password."""

import os
from typing import Any

import psycopg
import pytest
import trio
from psycopg.conninfo import make_conninfo

from jobrt._trio_psycopg import TrioConnection
from jobrt._trio_psycopg.errors import AllHostsFailed, SchemaMissing, is_stale, one_line, translate
from jobrt._trio_psycopg.hosts import describe
from jobrt._trio_psycopg.pool import call_deadline, open_connection, storage_errors
from jobrt.errors import SchemaError, StorageError, StorageUnavailable
from tests.support.postgres import Cluster, Server
from tests.support.tcp_proxy import TcpProxy
from tests.trio_psycopg.conftest import Until

_TRANSIENT = [
    "08006",  # connection failure
    "25006",  # read-only transaction: the primary has moved
    "25P03",  # idle in transaction for too long
    "26000",  # the prepared statement does not exist
    "40001",  # serialization failure
    "40P01",  # deadlock
    "42P05",  # another prepared statement has the name
    "53100",  # disk full
    "53300",  # too many connections
    "55P03",  # lock timeout
    "57014",  # statement timeout
    "57P01",  # admin shutdown
    "57P03",  # cannot connect now: starting, recovering
    "58030",  # I/O error
]
_PERMANENT = ["22012", "23505", "28P01", "3D000", "42501", "42601", "XX000", "XX001"]
_SCHEMA = ["42P01", "42703", "42883", "3F000"]


@pytest.mark.parametrize(
    ("sqlstate", "expected"),
    [(state, StorageUnavailable) for state in _TRANSIENT]
    + [(state, StorageError) for state in _PERMANENT]
    + [(state, SchemaMissing) for state in _SCHEMA],
)
def test_sqlstates(sqlstate: str, expected: type[StorageError]) -> None:
    """Each sqlstate becomes the error of its class."""
    error = psycopg.errors.lookup(sqlstate)("why")
    assert type(translate(error, "here")) is expected


@pytest.mark.parametrize("state", ["XX001", "XX002"])
def test_damage_names_its_remedy(state: str) -> None:
    """A page that cannot be read is of a table or of an index, which the server's message names."""
    error = translate(psycopg.errors.lookup(state)('invalid page in block 3 of relation "base/1/2"'), "here")
    assert str(error).endswith(
        '"base/1/2"; the database is damaged: REINDEX what is an index, or restore a backup'
    )


def test_what_is_missing_may_come_back() -> None:
    """For a worker, which has checked the schema before, a dropped table is an outage."""
    assert issubclass(SchemaMissing, StorageUnavailable)
    assert issubclass(SchemaMissing, SchemaError)


@pytest.mark.parametrize("state", ["26000", "42P05", "XX000"])
def test_stale_sessions(state: str) -> None:
    """These sqlstates mean that a new connection may help."""
    assert is_stale(psycopg.errors.lookup(state)("why"))


@pytest.mark.parametrize(
    "error",
    [
        None,
        OSError(),
        psycopg.OperationalError("why"),
        psycopg.errors.FeatureNotSupported(),
        psycopg.errors.DatatypeMismatch(),
    ],
)
def test_other_errors_are_not_about_the_session(error: BaseException | None) -> None:
    """Nor is every unsupported feature."""
    assert not is_stale(error)


async def test_a_changed_result_makes_a_session_stale(conn: TrioConnection[Any]) -> None:
    """PostgreSQL reports it as an unsupported feature; the function that reports it tells which one."""
    with trio.fail_after(30):
        await conn.execute("create table t (x integer)")
        await conn.prepared.run(b"select x from t", [])
        await conn.execute("alter table t alter column x type bigint")
        with pytest.raises(StorageUnavailable) as caught, storage_errors(conn):
            await conn.prepared.run(b"select x from t", [])
    assert is_stale(caught.value.__cause__)
    assert conn.stale


async def test_a_changed_column_makes_the_plans_of_functions_stale(conn: TrioConnection[Any]) -> None:
    """A function of the session has planned with the type that a column had before."""
    with trio.fail_after(30):
        await conn.execute("create table t (x text)")
        await conn.execute("insert into t values ('a')")
        await conn.execute(
            "create function f() returns void language plpgsql as"
            " 'declare r record; begin for r in select x from t loop perform length(r.x); end loop; end'"
        )
        await conn.prepared.run(b"select f()", [])
        await conn.execute("alter table t alter column x type varchar")
        with pytest.raises(StorageUnavailable) as caught, storage_errors(conn):
            await conn.prepared.run(b"select f()", [])
    assert is_stale(caught.value.__cause__)
    assert conn.stale


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'connection failed: connection to server at "h", port 1 failed: Connection refused',
            StorageUnavailable,
        ),
        ("consuming input failed: server closed the connection unexpectedly", StorageUnavailable),
        ("connection failed: FATAL:  sorry, too many clients already", StorageUnavailable),
        ("connection failed: FATAL:  the database system is starting up", StorageUnavailable),
        ("connection failed: FATAL:  the database system is in recovery mode", StorageUnavailable),
        ('connection failed: FATAL:  password authentication failed for user "u"', StorageError),
        ("connection failed: fe_sendauth: no password supplied", StorageError),
        ('connection failed: FATAL:  role "u" does not exist', StorageError),
        ('connection failed: FATAL:  database "d" does not exist', StorageError),
        ('connection failed: FATAL:  no pg_hba.conf entry for host "h"', StorageError),
        ('connection failed: FATAL:  permission denied for database "d"', StorageError),
        ("connection is bad: server does not support SSL, but SSL was required", StorageError),
        ('connection is bad: invalid sslmode value: "maybe"', StorageError),
    ],
)
def test_texts_of_refused_connections(text: str, expected: type[StorageError]) -> None:
    """A connection error has no sqlstate; its text decides whether it is transient."""
    assert type(translate(psycopg.OperationalError(text), "here")) is expected


def test_all_hosts_must_fail_permanently() -> None:
    """If several hosts failed, a single transient error makes the whole transient."""
    wrong = psycopg.OperationalError('FATAL:  password authentication failed for user "u"')
    away = psycopg.OperationalError("Connection refused")
    assert type(translate(AllHostsFailed([wrong, away]), "here")) is StorageUnavailable
    assert type(translate(AllHostsFailed([wrong, wrong]), "here")) is StorageError


@pytest.mark.parametrize("lost", [True, False])
def test_errors_of_a_lost_connection(lost: bool) -> None:
    """On a lost connection, an error without an sqlstate is transient."""
    expected = StorageUnavailable if lost else StorageError
    for kind in (psycopg.InterfaceError, psycopg.DatabaseError, psycopg.InternalError):
        assert type(translate(kind("the connection is closed"), "here", lost=lost)) is expected


def test_one_line() -> None:
    """The message is one line without libpq's prefix."""
    refused = 'connection failed: connection to server at "127.0.0.1", port 1 failed: Connection refused\n\tIs it up?'
    assert one_line(psycopg.OperationalError(refused)) == "Connection refused"
    socket = 'connection is bad: connection to server on socket "/tmp/.s" failed: No such file or directory\n\tIs it?'
    assert one_line(psycopg.OperationalError(socket)) == "No such file or directory"
    fatal = 'connection failed: connection to server at "h", port 1 failed: FATAL:  role "u" does not exist'
    assert one_line(psycopg.OperationalError(fatal)) == 'role "u" does not exist'
    assert one_line(psycopg.OperationalError("")) == "OperationalError"
    assert one_line(psycopg.errors.LockNotAvailable("  canceling\n  more")) == "canceling"


def test_description() -> None:
    """The description of a conninfo has no password."""
    assert describe("postgresql://me:secret@db:5433/jobs") == "PostgreSQL jobs at db:5433 as me"
    assert (
        describe("host=a,b port=1,2 dbname=jobs user=me password=secret")
        == "PostgreSQL jobs at a,b:1,2 as me"
    )


async def test_query_errors(conn: TrioConnection[Any]) -> None:
    """The error of a query names the database; its cause is psycopg's error."""
    with (
        pytest.raises(
            SchemaError, match=r'^PostgreSQL jobrt_test_\w+ at .* as \w+: relation "x" does'
        ) as caught,
        storage_errors(conn),
    ):
        await conn.execute("select * from x")
    assert isinstance(caught.value.__cause__, psycopg.errors.UndefinedTable)


async def test_lost_reply_to_commit_is_unavailable(proxied: TrioConnection[Any], proxy: TcpProxy) -> None:
    """A lost reply to COMMIT is transient."""
    proxy.lose_reply_to(b"COMMIT")
    with trio.fail_after(30), pytest.raises(StorageUnavailable), storage_errors(proxied):
        async with proxied.transaction():
            await proxied.execute("select 1")


async def test_terminated_backend_is_unavailable(
    conn: TrioConnection[Any], watcher: TrioConnection[Any]
) -> None:
    """A terminated backend is transient."""
    await watcher.execute("select pg_terminate_backend(%s, 5000)", (conn.info.backend_pid,))
    with trio.fail_after(30), pytest.raises(StorageUnavailable), storage_errors(conn):
        await conn.execute("select 1")


async def test_statement_timeout_is_unavailable(conn: TrioConnection[Any]) -> None:
    """A statement timeout is transient, and leaves the connection usable."""
    await conn.execute("set statement_timeout = '10ms'")
    with (
        trio.fail_after(30),
        pytest.raises(StorageUnavailable, match="statement timeout"),
        storage_errors(conn),
    ):
        await conn.execute("select pg_sleep(100)")
    assert conn.reusable


async def test_deadline_of_a_call(conn: TrioConnection[Any], until: Until) -> None:
    """A call that takes too long is cancelled in the server, and its connection is closed."""
    pid = conn.info.backend_pid
    late = pytest.raises(StorageUnavailable, match=r"no answer within 0\.05 s$")
    with trio.fail_after(30), late, call_deadline(conn, 0.05):
        await conn.execute("select pg_sleep(100)")
    assert conn.closed
    await until("select not exists (select from pg_stat_activity where pid = %s)", pid)


async def test_deadline_with_a_silent_server(proxied: TrioConnection[Any], proxy: TcpProxy) -> None:
    """With a silent server, a call takes no longer than its deadline and the clean-up."""
    proxy.silence()
    late = pytest.raises(StorageUnavailable, match="no answer within")
    with trio.fail_after(30), late, call_deadline(proxied, 0.05):
        async with proxied.transaction():
            await proxied.execute("select 1")
    assert proxied.closed


async def test_cancellation_is_not_an_error(conn: TrioConnection[Any]) -> None:
    """A cancellation from outside is not translated, and leaves the connection usable."""
    with trio.move_on_after(0.05) as scope, call_deadline(conn, 100):
        await conn.execute("select pg_sleep(100)")
    assert scope.cancelled_caught
    assert conn.reusable


async def test_opening(postgres_url: str) -> None:
    """An opened connection has autocommit and is configured."""

    async def configure(conn: TrioConnection[Any]) -> None:
        await conn.execute("set application_name = 'configured'")

    conn = await open_connection(postgres_url, seconds=10, prepare_threshold=None, configure=configure)
    try:
        assert conn.autocommit
        assert conn.prepare_threshold is None
        assert await (await conn.execute("show application_name")).fetchone() == ("configured",)
    finally:
        conn.abort()


async def test_opening_with_a_wrong_password(private_postgres: Cluster) -> None:
    """A wrong password is permanent; the message has address and user, but not the password."""
    server = private_postgres.server
    server.execute("create role careful login password 'right'")
    hba = private_postgres.data / "pg_hba.conf"
    hba.write_text("host all careful 127.0.0.1/32 scram-sha-256\n" + hba.read_text())
    server.execute("select pg_reload_conf()")
    conninfo = make_conninfo(server.admin, user="careful", password="wrong-one")
    with pytest.raises(StorageError) as caught:
        await open_connection(conninfo, seconds=10)
    assert type(caught.value) is StorageError
    assert str(caught.value) == (
        f"cannot connect to PostgreSQL postgres at 127.0.0.1:{private_postgres.port} as careful: "
        'password authentication failed for user "careful"'
    )


async def test_opening_unknown_database(postgres_url: str) -> None:
    """An unknown database is permanent."""
    with pytest.raises(StorageError, match='database "nosuch" does not exist') as caught:
        await open_connection(make_conninfo(postgres_url, dbname="nosuch"), seconds=10)
    assert type(caught.value) is StorageError


async def test_opening_at_the_connection_limit(postgres_server: Server, postgres_url: str) -> None:
    """The connection limit of a server is transient."""
    role = f"limited_{os.getpid()}"
    postgres_server.execute(f"create role {role} login connection limit 0")
    try:
        with pytest.raises(StorageUnavailable, match="too many connections"):
            await open_connection(make_conninfo(postgres_url, user=role), seconds=10)
    finally:
        postgres_server.execute(f"drop role {role}")


async def test_opening_while_the_server_is_down(private_postgres: Cluster) -> None:
    """A server that is down is transient; connecting succeeds after its restart."""
    url = private_postgres.server.admin
    await trio.to_thread.run_sync(private_postgres.stop)
    with trio.fail_after(30):
        with pytest.raises(StorageUnavailable, match="Connection refused"):
            await open_connection(url, seconds=10)
        await trio.to_thread.run_sync(private_postgres.start)
        (await open_connection(url, seconds=10)).abort()


async def test_opening_to_a_silent_server(proxied_url: str, proxy: TcpProxy) -> None:
    """A silent server takes no longer than the time limit."""
    proxy.silence()
    with trio.fail_after(30), pytest.raises(StorageUnavailable, match=r"no answer within 0\.05 s$"):
        await open_connection(proxied_url, seconds=0.05)


@pytest.mark.parametrize(
    "url", ["postgresql://me:se cret@db/jobs", "postgresql://me:%zzsecret@db/jobs", "secret"]
)
async def test_invalid_conninfo_is_not_shown(url: str) -> None:
    """An invalid conninfo is permanent, and not shown, because it may contain the password."""
    with pytest.raises(StorageError, match="cannot be understood") as caught:
        await open_connection(url, seconds=10)
    assert "cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
