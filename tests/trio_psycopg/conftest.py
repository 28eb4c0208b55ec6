"""Connections for each test, to the server and through a faulty proxy."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, LiteralString
from uuid import uuid4

import pytest
import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jobrt._trio_psycopg import TrioConnection
from tests.support.postgres import Server
from tests.support.tcp_proxy import TcpProxy, open_proxy

Until = Callable[..., Awaitable[None]]


@pytest.fixture(scope="package")
def database_url_of_all(postgres_server: Server) -> Iterator[str]:
    """The URL of a database for all tests of this folder: creating one takes longer than most of them."""
    name = f"jobrt_test_{uuid4().hex}"
    try:
        yield postgres_server.create_database(name)
    finally:
        postgres_server.drop_database(name)


@pytest.fixture
def postgres_url(postgres_server: Server, database_url_of_all: str) -> str:
    """The URL of an empty schema for this test alone."""
    schema = f"s{uuid4().hex}"
    postgres_server.execute(f"create schema {schema}", url=database_url_of_all)
    return f"{database_url_of_all}?options=-csearch_path%3D{schema}"


@pytest.fixture
async def conn(postgres_url: str) -> AsyncGenerator[TrioConnection[Any]]:
    """A connection that commits each statement."""
    with trio.fail_after(30):
        connection = await TrioConnection.connect(postgres_url, autocommit=True)
    yield connection
    connection.abort()


@pytest.fixture
async def watcher(postgres_url: str) -> AsyncGenerator[TrioConnection[Any]]:
    """Another connection to the same database, to observe the first one."""
    with trio.fail_after(30):
        connection = await TrioConnection.connect(postgres_url, autocommit=True)
    yield connection
    connection.abort()


@pytest.fixture
async def until(watcher: TrioConnection[Any]) -> Until:
    """Return a function that repeats a query until its first column is true."""

    async def wait(query: LiteralString, *parameters: object) -> None:
        with trio.fail_after(30):
            while not await _first(await watcher.execute(query, parameters)):
                pass

    return wait


async def _first(cursor: Any) -> Any:
    return (await cursor.fetchone())[0]


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncGenerator[TcpProxy]:
    """A proxy to the server."""
    params = conninfo_to_dict(postgres_url)
    async with open_proxy(str(params["host"]), int(str(params["port"]))) as running:
        yield running


@pytest.fixture
def proxied_url(postgres_url: str, proxy: TcpProxy) -> str:
    """The URL of the database through the proxy."""
    return make_conninfo(postgres_url, host="127.0.0.1", port=proxy.port)


@pytest.fixture
async def proxied(proxied_url: str) -> AsyncGenerator[TrioConnection[Any]]:
    """A connection through the proxy, with a short `cancel_timeout`."""
    with trio.fail_after(30):
        connection = await TrioConnection.connect(proxied_url, autocommit=True)
    connection.cancel_timeout = 0.2
    yield connection
    connection.abort()
