"""Run each conformance test once per engine, on a database of its own."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, closing
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import trio

from tests.conformance.harness import PATIENCE, Clock, Engine, Memory, Pooled, Postgres, Sqlite
from tests.support.pgbouncer import through
from tests.support.reused import ReusedDatabase

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path

    from jobrt._storage.contract import Storage
    from tests.support.postgres import Server

ENGINES = ["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
if "JOBRT_TEST_PGBOUNCER" in os.environ:  # also through a pooler, for work on pooler support
    ENGINES.append(pytest.param("pgbouncer", marks=pytest.mark.postgres))


@pytest.fixture(scope="session")
def migrated(postgres_server: Server) -> Iterator[str]:
    """The name of a migrated database, to be copied."""
    name = f"jobrt_test_{uuid4().hex}"
    try:
        url = postgres_server.create_database(name)

        async def migrate() -> None:
            from jobrt._storage.postgres import open_postgres

            with trio.fail_after(PATIENCE):
                async with open_postgres(url, listen=False) as storage:
                    await storage.schema.migrate()

        trio.run(migrate)
        yield name
    finally:
        postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def reused(postgres_server: Server, migrated: str) -> Iterator[ReusedDatabase]:
    """A copy of that database."""
    database = ReusedDatabase(postgres_server, migrated)
    yield database
    database.drop()


@pytest.fixture
def postgres_copy(reused: ReusedDatabase) -> Iterator[str]:
    """The URL of a migrated PostgreSQL database, which is as new, and for this test alone."""
    yield reused.lend()
    reused.take_back()


@pytest.fixture(params=ENGINES)
def unopened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine whose `storage` is not open yet."""
    if request.param in {"memory", "sqlite"}:
        engine = Memory(Clock()) if request.param == "memory" else Sqlite(Clock(), tmp_path / "jobs.db")
        with closing(engine.saved):
            yield engine
    else:
        yield _on_postgres(request)


def _on_postgres(request: pytest.FixtureRequest) -> Engine:
    url = request.getfixturevalue("postgres_copy")
    if request.param == "postgres":
        return Postgres(url)
    if request.module.__name__.endswith("test_listen") or "wakes" in request.node.name:
        pytest.skip("LISTEN does not work behind a pooler")
    return Pooled(url, through(request.getfixturevalue("pgbouncer_port"), url))


@pytest.fixture
async def engine(unopened: Engine) -> AsyncGenerator[Engine]:
    """An engine with its storage open."""
    with trio.fail_after(50):
        async with AsyncExitStack() as stack:
            await open_in(stack, unopened)
            yield unopened


@pytest.fixture
def storage(engine: Engine) -> Storage:
    """The storage under test."""
    return engine.storage


async def open_in(stack: AsyncExitStack, engine: Engine) -> None:
    """Open the engine's storage until the stack ends."""
    if isinstance(engine, Memory):
        from jobrt._storage.sqlite import open_sqlite

        engine.storage = await stack.enter_async_context(open_sqlite(":memory:", clock=engine.clock))
    else:
        engine.storage = await stack.enter_async_context(engine.open())


@pytest.fixture
def shareable(unopened: Engine) -> None:
    """Skip databases that another process cannot open."""
    if not unopened.shareable:
        pytest.skip("another process cannot open a database in memory")


@pytest.fixture
def corrupt(unopened: Engine) -> str:
    """A payload, as an SQL literal, that no job can have written: as far from JSON as the column lets it be."""
    return """'"[1"'""" if isinstance(unopened, Postgres) else """'{"a'"""
