"""Pytest fixtures for an app on an in-memory database. pytest loads this plugin wherever jobrt is installed.

==================  ==================================================================================
`jobrt_settings`    settings of the app; override it in your ``conftest.py``
`jobrt_app`         an app with these settings on a fresh in-memory database; its clock follows Trio's
`jobrt_client`      an open client of the app
`jobrt_events`      the app's events so far, in a list that grows
==================  ==================================================================================

::

    @pytest.fixture
    def jobrt_settings():
        return shop.app                     # or {"jobs": [SendEmail], "queues": {"mail": 2}}

    async def test_signing_up_sends_mail(jobrt_app, jobrt_client, autojump_clock):
        await sign_up("a@example.com", jobs=jobrt_client)
        await assert_enqueued(jobrt_client, job=SendEmail, args={"to": "a@example.com"}, count=1)
        assert await drain(jobrt_app) == {"completed": 1}

To use other settings in one test, mark it with ``@pytest.mark.jobrt(jobs=[…], queues={…})`` or
``@pytest.mark.jobrt(shop.app)``. The fixtures are async, so they need pytest-trio.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from jobrt._client import Client
from jobrt.app import App
from jobrt.events import Event
from jobrt.testing.fresh import open_app


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers", "jobrt(app=None, **settings): the app that jobrt_app copies, or its settings."
    )


@pytest.fixture
def jobrt_settings() -> App | Mapping[str, Any]:
    """Return keyword arguments of `jobrt.App`, or an app to copy, for `jobrt_app`. The default app has no jobs."""
    return {}


@pytest.fixture
async def jobrt_app(
    request: pytest.FixtureRequest, jobrt_settings: App | Mapping[str, Any]
) -> AsyncIterator[App]:
    """Open an app on a fresh in-memory database, with the settings of the marker ``jobrt`` or `jobrt_settings`."""
    node: pytest.Item = request.node
    marker = node.get_closest_marker("jobrt")
    if marker is not None:
        opened = open_app(*marker.args, **marker.kwargs)
    elif isinstance(jobrt_settings, App):
        opened = open_app(jobrt_settings)
    else:
        opened = open_app(**jobrt_settings)
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
