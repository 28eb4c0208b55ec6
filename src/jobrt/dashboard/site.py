"""Put the pages together: routes, and what becomes of errors."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from jobrt.dashboard.actions import change_cron, change_jobs, change_queue, confirm
from jobrt.dashboard.crons import crons
from jobrt.dashboard.guard import Guard
from jobrt.dashboard.job import job
from jobrt.dashboard.joblist import jobs_page
from jobrt.dashboard.overview import overview
from jobrt.dashboard.render import Site, is_live, static_file
from jobrt.dashboard.workers import workers
from jobrt.errors import (
    CronNotFound,
    InvalidFilter,
    InvalidSetting,
    JobNotFound,
    JobStateError,
    StorageError,
    StorageUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from jobrt._client import Client
    from jobrt.app import App

__all__ = ["asgi"]

_PATIENCE: Final = 5.0
"""Seconds that a look may take; a page that is asked for every two seconds has to be a cheap one."""
_STATUS: Final[dict[type[Exception], int]] = {
    InvalidFilter: 400,
    InvalidSetting: 400,
    JobNotFound: 404,
    CronNotFound: 404,
    JobStateError: 409,
    StorageUnavailable: 503,
    StorageError: 500,
    trio.TooSlowError: 503,
}


def asgi(
    app: App,
    jobs: Client,
    *,
    hosts: Iterable[str] = (),
    password: str | None = None,
    read_only: bool = False,
) -> ASGIApp:
    """Return the dashboard as an ASGI application, to be served under Trio at any path.

    ::

        async with app.open_client() as jobs:
            routes = [Mount("/jobs", jobrt.dashboard.asgi(app, jobs, hosts=["shop.example.com"]))]

    Args:
        app: whose jobs; it says which job names are known.
        jobs: an open client of it; the caller closes it, after the last request.
        hosts: the names, without port, by which browsers reach it; ``localhost`` and addresses are always known.
        password: what a browser has to give (HTTP Basic, under any user name); None: nothing, since the program
            around it knows who asks.
        read_only: show everything and change nothing.

    """
    site = Site(app, jobs, read_only)
    look, do = partial(_look, site), partial(_do, site)
    pages = Starlette(
        routes=[
            Route("/", look(overview)),
            Route("/jobs", look(jobs_page)),
            Route("/jobs/confirm", look(confirm)),
            Route("/jobs/change", do(change_jobs), methods=["POST"]),
            Route("/jobs/{id:int}", look(job)),
            Route("/queues/change", do(change_queue), methods=["POST"]),
            Route("/workers", look(workers)),
            Route("/cron", look(crons)),
            Route("/cron/change", do(change_cron), methods=["POST"]),
            Route("/static/{name}", static_file),
        ],
        exception_handlers={
            HTTPException: partial(_refused, site),
            **{kind: partial(_failed, site) for kind in _STATUS},
        },
    )
    return Guard(pages, frozenset(one.lower() for one in hosts), password, read_only)


def _look(
    site: Site, view: Callable[[Site, Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        with trio.fail_after(_PATIENCE):
            return await view(site, request)

    return endpoint


def _do(
    site: Site, view: Callable[[Site, Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await view(site, request)

    return endpoint


async def _refused(site: Site, request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    said = error.detail if isinstance(error, HTTPException) else ""
    phrase = HTTPStatus(status).phrase
    said = "there is no such page" if said == phrase == "Not Found" else said
    return _problem(site, request, said=said, status=status)


async def _failed(site: Site, request: Request, error: Exception) -> Response:
    status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
    match error:
        case trio.TooSlowError():
            said = (
                f"this took longer than {_PATIENCE:g} s: narrow it, by state, queue or name, or by less time"
            )
        case StorageUnavailable():
            said = f"the database is away: {error}"
        case _:
            said = str(error)
    return _problem(site, request, said=said, status=status)


def _problem(site: Site, request: Request, *, said: str, status: int) -> Response:
    """Say what is wrong on a page; to our script in a line, which it shows above what it has."""
    if is_live(request):
        return PlainTextResponse(said, status)
    title = {400: "Not understood", 404: "Not there", 409: "Not now", 503: "No answer"}.get(status, "Refused")
    return site.page(request, "problem.html", status=status, title=title, said=said, retry=status == 503)  # noqa: PLR2004
