"""``/api/…``: what the commands' ``--json`` prints, for programs. It reads and never writes.

==================  =============================================================================================
``/api/jobs``       ``jobs --json``: the filters of the command, ``limit``, ``after``, ``order_by``; ``count=1``
``/api/jobs/ID``    ``show ID --json``
``/api/queues``     ``queues --json``; counts stop at 10,000 unless there is ``exact``; ``more`` says that they did
``/api/workers``    ``workers --json``
``/api/cron``       ``cron --json``
``/api/actions``    ``actions --json``: ``queue`` or ``cron``, ``limit``
``/api/stats``      ``stats --json``; ``since`` limits it
``/api/doctor``     ``doctor --json`` without the checks that write
==================  =============================================================================================

An error is ``{"error": "…"}`` with the status that its page would have.
"""

import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import UTC, timedelta
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from jobrt._views.as_json import jsonable
from jobrt._views.filters import parse_time
from jobrt._views.findings import COUNT_LIMIT, examine, take_snapshot
from jobrt.dashboard.render import Site
from jobrt.dashboard.selection import parse_about, parse_number, parse_selection
from jobrt.errors import InvalidFilter

ROOT: Final = "/api"
_DEFAULT_LIMIT: Final = 50
_LIMIT: Final = 1000
"""Jobs in one response. A whole job can have some hundred kilobytes."""

Endpoint = Callable[[Site, Request], Awaitable[Response]]


def routes(view: Callable[[Endpoint], Any]) -> list[BaseRoute]:
    """Return the routes; `view` makes an endpoint of a function."""
    return [
        Route(f"{ROOT}/jobs", view(_jobs)),
        Route(f"{ROOT}/jobs/{{id:digits}}", view(_job)),
        Route(f"{ROOT}/queues", view(_queues)),
        Route(f"{ROOT}/workers", view(_workers)),
        Route(f"{ROOT}/cron", view(_crons)),
        Route(f"{ROOT}/actions", view(_actions)),
        Route(f"{ROOT}/stats", view(_stats)),
        Route(f"{ROOT}/doctor", view(_doctor)),
    ]


def as_json(value: Any, status: int = 200) -> Response:
    """Return a response with a value as the commands print it."""
    text = json.dumps(
        jsonable(value), default=str
    )  # ASCII, so that odd characters in texts of jobs are escaped
    return Response(text, status, media_type="application/json")


async def _jobs(site: Site, request: Request) -> Response:
    selection = parse_selection(
        request.query_params.multi_items(), also=("limit", "after", "order_by", "count")
    )
    rest = selection.rest
    if "count" in rest:
        return as_json(await site.jobs.count(selection.where))
    found = await site.jobs.query(
        selection.where,
        order_by=rest.get("order_by", "-id"),
        limit=_limit(rest),
        after=parse_number("after", rest["after"]) if "after" in rest else None,
    )
    return as_json(found)


def _limit(rest: Mapping[str, str]) -> int:
    limit = parse_number("limit", rest["limit"]) if "limit" in rest else _DEFAULT_LIMIT
    if limit > _LIMIT:
        raise InvalidFilter(f"limit is {limit}: use at most {_LIMIT}, and after=ID for the next jobs")
    return limit


async def _job(site: Site, request: Request) -> Response:
    _parameters(request, ())
    return as_json(await site.jobs.get(parse_number("id", request.path_params["id"])))


async def _queues(site: Site, request: Request) -> Response:
    exact = "exact" in _parameters(request, ("exact",))
    return as_json(await site.jobs.queues(limit=None if exact else COUNT_LIMIT))


async def _workers(site: Site, request: Request) -> Response:
    _parameters(request, ())
    return as_json(await site.jobs.workers())


async def _crons(site: Site, request: Request) -> Response:
    _parameters(request, ())
    return as_json(await site.jobs.crons())


async def _actions(site: Site, request: Request) -> Response:
    given = request.query_params.multi_items()
    limit = _limit({key: value for key, value in given if key == "limit" and value})
    about = parse_about([(key, value) for key, value in given if key != "limit"])
    return as_json(await site.jobs.actions(limit=limit, **about))


async def _stats(site: Site, request: Request) -> Response:
    given = _parameters(request, ("since",)).get("since")
    since = None if given is None else parse_time(given, UTC)
    if isinstance(since, timedelta):
        since = await site.jobs.now() - since  # durations are shorter than a thousand years
    return as_json(await site.jobs.totals(since=since))


async def _doctor(site: Site, request: Request) -> Response:
    _parameters(request, ())
    return as_json(list(examine(await take_snapshot(site.jobs), names=site.app.registry.names)))


def _parameters(request: Request, known: Collection[str]) -> Mapping[str, str]:
    """Return the parameters of the address; raise `InvalidFilter` for others than the known ones."""
    for key in request.query_params:
        if key not in known:
            remedy = f"use {', '.join(known)}" if known else "leave it out"
            raise InvalidFilter(f"unknown parameter {key!r}: {remedy}")
    return dict(request.query_params)
