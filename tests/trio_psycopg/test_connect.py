"""Connecting: the hosts of the conninfo in order, each with a time limit, and names resolved by Trio."""

import gc
import os
import socket
from collections.abc import Sequence
from typing import Any, cast

import psutil
import psycopg
import pytest
import trio
from psycopg.conninfo import make_conninfo

from jobrt._trio_psycopg import TrioConnection, connection
from jobrt._trio_psycopg.errors import AllHostsFailed
from tests.support.postgres import Cluster, Server
from tests.support.tcp_proxy import TcpProxy


@pytest.fixture
def dead_port() -> int:
    """A TCP port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return cast("int", probe.getsockname()[1])


async def _answer(conn: TrioConnection[Any], query: str) -> Any:
    row = await (await conn.execute(cast("Any", query))).fetchone()
    assert row is not None
    return row[0]


async def test_second_host_is_tried(postgres_url: str, dead_port: int) -> None:
    """If the first host refuses the connection, the second is tried."""
    params = psycopg.conninfo.conninfo_to_dict(postgres_url)
    conninfo = make_conninfo(postgres_url, host="127.0.0.1,127.0.0.1", port=f"{dead_port},{params['port']}")
    async with await TrioConnection.connect(conninfo) as conn:
        assert await _answer(conn, "select 1") == 1


async def test_all_hosts_fail(postgres_url: str, dead_port: int) -> None:
    """If no host accepts the connection, the error has one line with the reason of each."""
    conninfo = make_conninfo(postgres_url, host="127.0.0.1,127.0.0.1", port=f"{dead_port},{dead_port}")
    with pytest.raises(AllHostsFailed) as caught:
        await TrioConnection.connect(conninfo)
    assert str(caught.value) == "2 attempts to connect failed: Connection refused; Connection refused"
    assert len(caught.value.failures) == 2


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set connect_timeout to 0.1 s: libpq's minimum of 2 s is long for a test."""
    monkeypatch.setattr(connection, "connect_timeout", lambda params: 0.1)


async def test_silent_host_is_given_up_after_connect_timeout(
    postgres_url: str, proxied_url: str, *, proxy: TcpProxy, impatient: None
) -> None:
    """A host that does not respond is given up after connect_timeout, and the next one is tried."""
    params = psycopg.conninfo.conninfo_to_dict(postgres_url)
    proxy.silence()
    conninfo = make_conninfo(proxied_url, host="127.0.0.1,127.0.0.1", port=f"{proxy.port},{params['port']}")
    with trio.fail_after(30):
        async with await TrioConnection.connect(conninfo) as conn:
            assert await _answer(conn, "select 1") == 1
    assert proxy.accepted == 1


@pytest.mark.slow
async def test_silent_host_alone(proxied_url: str, proxy: TcpProxy) -> None:
    """The error of a silent host has its name and the time limit."""
    proxy.silence()
    with trio.fail_after(30), pytest.raises(psycopg.errors.ConnectionTimeout) as caught:
        await TrioConnection.connect(proxied_url, connect_timeout=2)
    assert str(caught.value) == f"127.0.0.1:{proxy.port} did not answer within 2 s"


class _Resolver(trio.abc.HostnameResolver):
    """Resolver with a table of addresses; the name `never` is never resolved."""

    def __init__(self, **addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self.asked: list[str] = []

    async def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        name = host.decode()
        self.asked.append(name)
        if name == "nowhere":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if name == "never":
            await trio.sleep_forever()
        addresses = self._addresses[name]
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port or 0)) for address in addresses]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


async def test_name_is_resolved_by_trio(postgres_url: str) -> None:
    """Trio resolves a host name, and all of its addresses are tried."""
    resolver = _Resolver(database=["::1", "127.0.0.1"])
    trio.socket.set_custom_hostname_resolver(resolver)
    async with await TrioConnection.connect(postgres_url, host="database") as conn:
        assert conn.info.host == "database"
        assert conn.info.hostaddr == "127.0.0.1"
    assert resolver.asked == ["database"]


async def test_hostaddr_is_kept(postgres_url: str) -> None:
    """A name with an address is not resolved; it remains for the check of the certificate."""
    resolver = _Resolver()
    trio.socket.set_custom_hostname_resolver(resolver)
    async with await TrioConnection.connect(postgres_url, host="database", hostaddr="127.0.0.1") as conn:
        assert conn.info.host == "database"
    assert resolver.asked == []


async def test_names_are_resolved_one_at_a_time(postgres_url: str) -> None:
    """A name is resolved only when its host is tried."""
    resolver = _Resolver(database=["127.0.0.1"])
    trio.socket.set_custom_hostname_resolver(resolver)
    async with await TrioConnection.connect(postgres_url, host="database,never"):
        pass
    assert resolver.asked == ["database"]


async def test_unknown_name(postgres_url: str) -> None:
    """After an unknown name the next host is tried; the error has the name."""
    trio.socket.set_custom_hostname_resolver(_Resolver(database=["127.0.0.1"]))
    async with await TrioConnection.connect(postgres_url, host="nowhere,database"):
        pass
    with pytest.raises(psycopg.OperationalError, match="cannot resolve the host name 'nowhere'"):
        await TrioConnection.connect(postgres_url, host="nowhere")


async def test_name_that_never_resolves(postgres_url: str, impatient: None) -> None:
    """The next host is tried if resolving a name takes longer than connect_timeout."""
    trio.socket.set_custom_hostname_resolver(_Resolver(database=["127.0.0.1"]))
    with trio.fail_after(30):
        async with await TrioConnection.connect(postgres_url, host="never,database"):
            pass


async def test_random_host(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With load_balance_hosts=random the hosts are shuffled."""
    monkeypatch.setattr("random.shuffle", lambda hosts: hosts.reverse())
    resolver = _Resolver(first=["127.0.0.1"], second=["127.0.0.1"])
    trio.socket.set_custom_hostname_resolver(resolver)
    async with await TrioConnection.connect(postgres_url, host="first,second", load_balance_hosts="random"):
        pass
    assert resolver.asked == ["second"]


async def test_prefer_standby(postgres_url: str) -> None:
    """With target_session_attrs=prefer-standby a primary is used if no host is a standby."""
    resolver = _Resolver(first=["127.0.0.1"], second=["127.0.0.1"])
    trio.socket.set_custom_hostname_resolver(resolver)
    async with await TrioConnection.connect(
        postgres_url, host="first,second", target_session_attrs="prefer-standby"
    ) as conn:
        assert conn.info.host == "first"
    assert resolver.asked == ["first", "second", "first"]


async def test_unknown_database(postgres_url: str) -> None:
    """The error for an unknown database has the server's message."""
    with pytest.raises(psycopg.OperationalError, match='database "nosuch" does not exist'):
        await TrioConnection.connect(postgres_url, dbname="nosuch")


@pytest.mark.slow
async def test_wrong_password(private_postgres: Cluster) -> None:
    """A wrong password is an error of the server's words; the right one is taken."""
    server = private_postgres.server
    server.execute("create role careful login password 'right'")
    hba = private_postgres.data / "pg_hba.conf"
    hba.write_text("host all careful 127.0.0.1/32 scram-sha-256\n" + hba.read_text())
    server.execute("select pg_reload_conf()")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await TrioConnection.connect(server.admin, user="careful", password="wrong")
    async with await TrioConnection.connect(server.admin, user="careful", password="right"):
        pass


async def test_connection_limit(postgres_server: Server, postgres_url: str) -> None:
    """At the connection limit the error has the server's message."""
    role = f"limited_{os.getpid()}"
    postgres_server.execute(f"create role {role} login connection limit 0")
    try:
        with pytest.raises(psycopg.OperationalError, match="too many connections"):
            await TrioConnection.connect(postgres_url, user=role)
    finally:
        postgres_server.execute(f"drop role {role}")


async def test_invalid_conninfo() -> None:
    """An invalid conninfo is refused before connecting, and an invalid port by libpq."""
    with pytest.raises(psycopg.ProgrammingError):
        await TrioConnection.connect("localhost")
    with pytest.raises(psycopg.OperationalError, match='invalid integer value "port"'):
        await TrioConnection.connect("postgresql://localhost:port")


@pytest.mark.slow
async def test_thousand_failures_leak_nothing(postgres_url: str, dead_port: int) -> None:
    """A thousand failed attempts leave no open file descriptor."""
    nowhere = make_conninfo(postgres_url, host="127.0.0.1", port=dead_port)
    unknown = make_conninfo(postgres_url, dbname="nosuch")
    before = _open_files()
    for number in range(1000):
        with trio.fail_after(30), pytest.raises(psycopg.OperationalError):
            await TrioConnection.connect(unknown if number % 10 == 0 else nowhere)
    assert _open_files() == before


async def test_cancelled_attempts_leak_nothing(
    proxied_url: str, proxy: TcpProxy, conn: TrioConnection[Any]
) -> None:
    """An attempt that is cancelled closes its socket."""
    conninfo = make_conninfo(proxied_url, application_name="leak")
    proxy.silence()
    gc.collect()
    at_first = _open_files()
    for number in range(1, 51):
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                before = _open_files()
                nursery.start_soon(TrioConnection.connect, conninfo)
                await proxy.until_accepted(number)
                assert _open_files() > before
                nursery.cancel_scope.cancel()
    proxy.speak()
    with trio.fail_after(30):
        await proxy.until_idle()
        while (
            await _answer(conn, "select count(*) from pg_stat_activity where application_name = 'leak'") > 0
        ):
            pass
    assert _open_files() == at_first


def _open_files() -> int:
    return psutil.Process().num_fds()


async def test_options(postgres_url: str) -> None:
    """The other options of psycopg's connect are supported."""
    conn = await TrioConnection.connect(
        postgres_url,
        autocommit=True,
        prepare_threshold=None,
        row_factory=psycopg.rows.dict_row,
        cursor_factory=psycopg.AsyncRawCursor,
    )
    async with conn:
        assert conn.autocommit
        assert conn.prepare_threshold is None
        cursor = await conn.execute("select $1::int as n", [1])
        assert await cursor.fetchone() == {"n": 1}


async def test_adapters_of_a_context(postgres_url: str) -> None:
    """The connection uses the adapters of the context."""
    async with await TrioConnection.connect(postgres_url) as model:
        model.adapters.register_loader("int4", psycopg.types.string.TextLoader)
        async with await TrioConnection.connect(postgres_url, context=model) as conn:
            assert await _answer(conn, "select 1::int4") == "1"
