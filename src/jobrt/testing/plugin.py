"""Give pytest tests an app in memory; loaded by pytest itself wherever jobrt is installed.

==================  ==================================================================================
`jobrt_settings`    what the app is made of; yours, in ``conftest.py``, takes its place
`jobrt_app`         a fresh in-memory app of those settings, whose clock follows Trio's
`jobrt_client`      an open client of it
`jobrt_events`      the events of that app so far, a list that grows
==================  ==================================================================================

::

    @pytest.fixture
    def jobrt_settings():
        return shop.app                     # or {"jobs": [SendEmail], "queues": {"mail": 2}}

    async def test_signing_up_sends_mail(jobrt_app, jobrt_client, autojump_clock):
        await sign_up("a@example.com", jobs=jobrt_client)
        await assert_enqueued(jobrt_client, job=SendEmail, args={"to": "a@example.com"}, count=1)
        assert await drain(jobrt_app) == {"completed": 1}

One test's other settings: ``@pytest.mark.jobrt(jobs=[…], queues={…})``, or ``@pytest.mark.jobrt(shop.app)``.
The fixtures are async: they need pytest-trio, as ``async def test_…`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from jobrt.app import App
from jobrt.testing.fresh import open_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from jobrt._client import Client
    from jobrt.events import Event

__all__ = ["jobrt_app", "jobrt_client", "jobrt_events", "jobrt_settings", "pytest_configure"]


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers",
        "jobrt(app=None, **settings): what jobrt_app is made of: an app to copy, or App's settings.",
    )


@pytest.fixture
def jobrt_settings() -> App | Mapping[str, Any]:
    """Say what `jobrt_app` is made of: keyword arguments of `jobrt.App`, or an app to copy. By default: no jobs."""
    return {}


@pytest.fixture
async def jobrt_app(
    request: pytest.FixtureRequest, jobrt_settings: App | Mapping[str, Any]
) -> AsyncIterator[App]:
    """Open a fresh in-memory app, of `jobrt_settings` or of the marker ``jobrt``, for as long as the test runs."""
    wanted, settings = _wanted(request, jobrt_settings)
    opened = open_app(**settings) if wanted is None else open_app(wanted, **settings)
    async with opened as (app, _):
        yield app


@pytest.fixture
async def jobrt_client(jobrt_app: App) -> AsyncIterator[Client]:
    """Open a client of `jobrt_app`."""
    async with jobrt_app.open_client() as client:
        yield client


@pytest.fixture
async def jobrt_events(jobrt_app: App) -> AsyncIterator[list[Event]]:
    """Collect the events of `jobrt_app`, oldest first."""
    events: list[Event] = []
    with jobrt_app.events.subscribed(events.append):
        yield events


def _wanted(
    request: pytest.FixtureRequest, settings: App | Mapping[str, Any]
) -> tuple[App | None, dict[str, Any]]:
    """Return the app to copy (or None) and the settings of the app to make."""
    node: pytest.Item = request.node
    marker = node.get_closest_marker("jobrt")
    if marker is not None:
        (app,) = marker.args or (None,)
        return app, dict(marker.kwargs)
    return (settings, {}) if isinstance(settings, App) else (None, dict(settings))
