"""Run each conformance test once per engine, on a database of its own."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, closing
from typing import TYPE_CHECKING

import pytest
import trio

from tests.conformance.harness import Clock, Engine, Memory, Pooled, Postgres, Sqlite
from tests.support.pgbouncer import through

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path

    from jobrt._storage.contract import Storage

ENGINES = ["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
if "JOBRT_TEST_PGBOUNCER" in os.environ:  # also through a pooler, for work on pooler support
    ENGINES.append(pytest.param("pgbouncer", marks=pytest.mark.postgres))


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
    url = request.getfixturevalue("postgres_url")
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
