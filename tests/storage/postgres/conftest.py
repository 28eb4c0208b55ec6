"""Fixtures for storages on a separate database, with direct access to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import psycopg
import pytest
import trio

from jobrt._storage.contract import Storage
from jobrt._storage.postgres import open_postgres

PATIENCE = 30
"""Seconds that real I/O may take before a test fails instead of hanging."""


@pytest.fixture
async def storage(postgres_url: str) -> AsyncIterator[Storage]:
    """A storage on a migrated database."""
    with trio.fail_after(2 * PATIENCE):
        async with open_postgres(postgres_url) as found:
            await found.schema.migrate()
            yield found


@pytest.fixture
def another(postgres_url: str) -> Callable[..., AbstractAsyncContextManager[Storage]]:
    """A function that opens the database as another process would."""
    return partial(open_postgres, postgres_url)


@pytest.fixture
def admin(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A separate connection, which commits each statement."""
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        yield conn
