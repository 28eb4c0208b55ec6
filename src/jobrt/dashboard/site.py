"""Routes of the dashboard, and its error pages."""

import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from http import HTTPStatus
from typing import Final

import trio
from starlette.applications import Starlette
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from jobrt._client import Client
from jobrt._core.escape import printable
from jobrt.app import App
from jobrt.dashboard import api, pages
from jobrt.dashboard.actions import change_cron, change_jobs, change_queue, confirm, edit_job
from jobrt.dashboard.chart_page import charts
from jobrt.dashboard.follow import follow
from jobrt.dashboard.guard import Guard
from jobrt.dashboard.render import Site, is_live, path_of, static_file
from jobrt.errors import (
    CronNotFound,
    InvalidFilter,
    InvalidJob,
    InvalidSetting,
    JobNotFound,
    JobrtError,
    JobStateError,
    StorageError,
    StorageUnavailable,
)

_VIEW_SECONDS: Final = 5.0
"""Time limit for showing a page. Pages refresh every two seconds, so they have to be cheap."""
_STATUS: Final[dict[type[Exception], int]] = {
    InvalidFilter: 400,
    InvalidJob: 400,
    InvalidSetting: 400,
    JobNotFound: 404,
    CronNotFound: 404,
    JobStateError: 409,
    StorageUnavailable: 503,
    StorageError: 500,
    trio.TooSlowError: 503,
}

_log = logging.getLogger("jobrt.dashboard")


class _Digits(StringConvertor):
    """Number in a path, as text: it may have more digits than Python converts."""

    regex = "[0-9]+"


register_url_convertor("digits", _Digits())


def asgi(
    app: App, jobs: Client, *, hosts: Iterable[str] = (), password: str | None = None, read_only: bool = False
) -> ASGIApp:
    """Return the dashboard as an ASGI application. Serve it under Trio, at any path.

    ::

        async with app.open_client() as jobs:
            routes = [Mount("/jobs", jobrt.dashboard.asgi(app, jobs, hosts=["shop.example.com"]))]

    Args:
        app: application whose jobs are shown. It defines which job names are known.
        jobs: open client of the application. The caller closes it after the last request.
        hosts: host names, without port, in the dashboard's URL. ``localhost`` and IP addresses are always allowed.
        password: password for HTTP Basic authentication, with any user name. With None, the surrounding program
            must check who may send requests.
        read_only: whether to show everything but allow no changes.

    """
    site = Site(app, jobs, read_only)
    view, change = partial(_endpoint, site, limit=_VIEW_SECONDS), partial(_endpoint, site, limit=math.inf)
    routes = Starlette(
        routes=[
            Route("/", view(pages.overview)),
            Route("/jobs", view(pages.job_list)),
            Route("/jobs/confirm", view(confirm)),
            Route("/jobs/change", change(change_jobs), methods=["POST"]),
            Route("/jobs/edit", change(edit_job), methods=["POST"]),
            Route("/jobs/{id:digits}", view(pages.job)),
            Route("/jobs/{id:digits}/follow", view(follow)),
            Route("/queues/change", change(change_queue), methods=["POST"]),
            Route("/charts", view(charts)),
            Route("/workers", view(pages.workers)),
            Route("/cron", view(pages.crons)),
            Route("/actions", view(pages.actions)),
            Route("/cron/change", change(change_cron), methods=["POST"]),
            Route("/static/{name}", static_file),
            *api.routes(view),
        ],
        exception_handlers={HTTPException: partial(_refused, site)},
    )
    return Guard(routes, frozenset(name.lower() for name in hosts), password, read_only)


def _endpoint(
    site: Site, page: Callable[[Site, Request], Awaitable[Response]], *, limit: float
) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of a page. Every error becomes a page here, so none is without a line in the log."""

    async def endpoint(request: Request) -> Response:
        try:
            with trio.fail_after(limit):
                return await page(site, request)
        except HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - a page that fails must not end the server
            return _failed(site, request, error)

    return endpoint


async def _refused(site: Site, request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = error.detail if isinstance(error, HTTPException) else ""
    if message == HTTPStatus(status).phrase == "Not Found":
        message = "there is no such page"
    return _problem(site, request, message=message, status=status)


def _failed(site: Site, request: Request, error: Exception) -> Response:
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
    title, message = "", str(error)
    if isinstance(error, trio.TooSlowError):
        title = "Query timed out"
        remedy = "narrow the filter by state, queue, name or time"
        message = f"this took longer than {_VIEW_SECONDS:g} s: {remedy}"
    elif isinstance(error, StorageUnavailable):
        title, message = "Database unavailable", f"the database is unavailable: {error}"
    elif not isinstance(error, JobrtError):
        message = f"the page failed with {type(error).__name__}: the log of the dashboard says more"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        expected = isinstance(error, (JobrtError, trio.TooSlowError))
        text = printable(f"{request.method} {request.url.path} failed: {message}")
        _log.error("%s", text, exc_info=None if expected else error)
    return _problem(site, request, message=message, status=status, title=title)


def _problem(site: Site, request: Request, *, message: str, status: int, title: str = "") -> Response:
    """Return an error page; JSON for a program; only the message for our script, which shows it above the page."""
    if path_of(request).startswith(f"{api.ROOT}/"):
        return api.as_json({"error": message or HTTPStatus(status).phrase}, status)
    if is_live(request):
        return PlainTextResponse(message, status)
    title = title or HTTPStatus(status).phrase.capitalize()
    retry = status == HTTPStatus.SERVICE_UNAVAILABLE
    return site.page(request, "problem.html", status=status, title=title, message=message, retry=retry)
