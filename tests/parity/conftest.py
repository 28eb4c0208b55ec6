"""Apps and clients on each engine."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import trio

import jobrt
from tests.parity.jobs import JOBS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager


class Open(Protocol):
    """Function that opens an app with these settings, and a client, on the database of the test."""

    def __call__(self, **settings: Any) -> AbstractAsyncContextManager[tuple[jobrt.App, jobrt.Client]]: ...


@pytest.fixture
def opened(database_url: str) -> Open:
    """A function that opens an app of `JOBS` and a client, with a time limit of half a minute."""

    @asynccontextmanager
    async def opened(**settings: Any) -> AsyncIterator[tuple[jobrt.App, jobrt.Client]]:
        settings = {"jobs": JOBS, "migrate": True, **settings}
        app = jobrt.App(database_url, **settings)
        with trio.fail_after(30):
            async with app.open_client() as jobs:
                yield app, jobs

    return opened
