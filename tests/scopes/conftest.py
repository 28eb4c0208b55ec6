"""Apps on both engines, with jobs that tell what they did."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import pytest

import jobrt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    Site = Callable[..., AbstractAsyncContextManager["Scene"]]


@attrs.frozen
class Scene:
    """An app on a database of its own, with an open client. The test starts workers, and jobs write to `log`."""

    app: jobrt.App
    jobs: jobrt.Client
    log: list[Any]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database of each engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.db"
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def site(url: str) -> Site:
    """Return a function that opens an app with these jobs, on the test's database."""

    @asynccontextmanager
    async def open_site(*jobs: type[jobrt.Job], slots: int = 4, **settings: Any) -> AsyncIterator[Scene]:
        log: list[Any] = []
        queues = settings.pop("queues", None) or {"default": jobrt.Queue(slots, poll_interval=60)}
        app = jobrt.App(url, jobs=jobs, queues=queues, state=log, migrate=True, grace=0, **settings)
        async with app.open_client() as client:
            yield Scene(app, client, log)

    return open_site
