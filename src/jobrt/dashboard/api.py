"""``/api/…``: what the commands' ``--json`` prints, for programs. It reads and never writes.

==================  =============================================================================================
``/api/jobs``       ``jobs --json``: the filters of the command, ``limit``, ``after``, ``order_by``; ``count=1``;
                    ``look=newest`` or ``oldest`` for a page as the dashboard shows it
``/api/jobs/ID``    ``show ID --json``
``/api/queues``     ``queues --json``; counts stop at 10,000 unless there is ``exact``; ``more`` says that they did
``/api/workers``    ``workers --json``
``/api/cron``       ``cron --json``
``/api/actions``    ``actions --json``: ``queue`` or ``cron``, ``limit``
``/api/stats``      ``stats --json``; ``since`` limits it
``/api/doctor``     ``doctor --json`` without the checks that write
==================  =============================================================================================

Lists are complete. A filter that few of millions of jobs match may take longer than the five seconds of a request. With
``look``, a request looks at some thousand jobs and answers ``{"jobs": […], "looked_at": 5000, "after": "77"}``: the
next one has ``after=77``, until ``after`` is null. It may have a ``text`` to search for.

An error is ``{"error": "…"}`` with the status that its page would have.
"""

import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import UTC, timedelta
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from jobrt._client.observing import look, looked_up
from jobrt._core.walks import parse_place
from jobrt._views.as_json import jsonable
from jobrt._views.filters import parse_time
from jobrt._views.findings import COUNT_LIMIT, examine, take_snapshot
from jobrt.dashboard.actions import SEARCHED
from jobrt.dashboard.render import Site
from jobrt.dashboard.selection import Selection, parse_about, parse_number, parse_selection
from jobrt.errors import InvalidFilter

ROOT: Final = "/api"
LOOKS: Final = ("newest", "oldest")
"""Directions in which a list looks at jobs."""
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
        request.query_params.multi_items(), also=("limit", "after", "order_by", "count", "look", "text")
    )
    rest = selection.rest
    if "look" in rest:
        return await _look(site, selection)
    if "text" in rest:
        raise InvalidFilter("text is searched for some thousand jobs at a time: add look=newest")
    if "count" in rest:
        return as_json(await site.jobs.count(selection.where))
    found = await site.jobs.query(
        selection.where,
        order_by=rest.get("order_by", "-id"),
        limit=_limit(rest),
        after=parse_number("after", rest["after"]) if "after" in rest else None,
    )
    return as_json(found)


async def _look(site: Site, selection: Selection) -> Response:
    rest = selection.rest
    for other in ("order_by", "count"):
        if other in rest:
            raise InvalidFilter(f"look and {other} cannot be combined: leave one of them out")
    if rest["look"] not in LOOKS:
        raise InvalidFilter(f"look is {rest['look']!r}: use {' or '.join(LOOKS)}")
    found = await look(
        site.jobs,
        selection.where,
        limit=_limit(rest),
        scan=SEARCHED,
        newest=rest["look"] == "newest",
        after=parse_place("after", rest["after"]) if "after" in rest else None,
        text=rest.get("text", ""),
    )
    jobs = await looked_up(site.jobs, found.ids, details=True)
    after = None if found.after is None else str(found.after)
    return as_json({"jobs": jobs, "looked_at": found.looked_at, "after": after})


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
