"""Do what the buttons say, and show before how many jobs it is about."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode

import attrs
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from jobrt._core import where
from jobrt._views.findings import MOST
from jobrt._views.jobs import one_by_one
from jobrt.dashboard.picks import number, read
from jobrt.dashboard.render import root_of
from jobrt.errors import InvalidFilter, JobNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from jobrt._client import Client
    from jobrt._core.where import Where
    from jobrt.dashboard.picks import Picked
    from jobrt.dashboard.render import Site

__all__ = ["DONE", "change_cron", "change_jobs", "change_queue", "confirm"]

DONE: Final[Mapping[str, str]] = {"cancel": "cancelled", "rerun": "to run again", "delete": "deleted"}
"""What becomes of jobs, by the word on the button."""
_LARGEST: Final = 200_000
"""Bytes of a form: a thousand ids, or a long payload as a filter."""
_SHOWN: Final = 5


async def confirm(site: Site, request: Request) -> Response:
    """Show how many jobs an action is about, and the first of them, and ask."""
    if site.read_only:
        raise HTTPException(403, "the dashboard is read-only")
    picked = read(request.query_params.multi_items(), also=("action",), ids=True)
    chosen = _chosen(picked)
    return site.page(
        request,
        "confirm.html",
        action=_action(picked.rest),
        picked=picked,
        count=await site.jobs.count(chosen, limit=MOST),
        first=await site.jobs.query(chosen, order_by="id", limit=_SHOWN, details=False),
    )


def _action(rest: Mapping[str, str]) -> str:
    action = rest.get("action", "")
    if action not in DONE:
        msg = f"action is {action!r}: use {', '.join(DONE)}"
        raise InvalidFilter(msg)
    return action


def _chosen(picked: Picked) -> Where:
    if picked.ids and picked.where is not None:
        msg = "name jobs by id, or pick them with filters, not both"
        raise InvalidFilter(msg)
    if picked.ids:
        return where.id_in(picked.ids)
    if picked.where is None:
        msg = "no job is chosen: tick some, or set a filter"
        raise InvalidFilter(msg)
    return picked.where


@attrs.frozen
class _Doing:
    """One action, to be done to a job or to all that match."""

    action: str
    reason: str = ""

    async def __call__(self, jobs: Client, job: int | Where) -> int:
        match self.action:
            case "cancel":
                return await jobs.cancel(job, self.reason)
            case "rerun":
                return await jobs.rerun(job)
            case _:
                return await jobs.delete(job)


async def change_jobs(site: Site, request: Request) -> Response:
    """Cancel, rerun or delete jobs, and lead to a page that shows what became of them."""
    picked = read(await _form(request), also=("action", "reason", "page"), ids=True)
    action, chosen = _action(picked.rest), _chosen(picked)
    does, root = _Doing(action, picked.rest.get("reason", "")), root_of(request)
    if picked.rest.get("page") == "job" and len(picked.ids) == 1 and action != "delete":
        await does(site.jobs, picked.ids[0])
        return RedirectResponse(f"{root}/jobs/{picked.ids[0]}", 303)
    if not picked.ids:
        count = await does(site.jobs, chosen)
    else:
        count, refused = await one_by_one(site.jobs, picked.ids, does)
        if refused:
            status = 404 if isinstance(refused[0], JobNotFound) else 409
            return site.page(
                request, "partly.html", status=status, action=action, count=count, refused=refused
            )
    told = urlencode([*picked.pairs, ("done", action), ("count", count)])
    return RedirectResponse(f"{root}/jobs?{told}", 303)


async def change_queue(site: Site, request: Request) -> Response:
    """Pause, resume or scale a queue."""
    form = dict(await _form(request))
    queue = form.get("queue", "")
    match form.get("action"):
        case "pause":
            await site.jobs.pause(queue)
        case "resume":
            await site.jobs.resume(queue)
        case "scale":
            slots = form.get("concurrency", "")
            await site.jobs.scale(queue, number("concurrency", slots) if slots else None)
        case other:
            msg = f"action is {other!r}: use pause, resume or scale"
            raise InvalidFilter(msg)
    return RedirectResponse(f"{root_of(request)}/#queues", 303)


async def change_cron(site: Site, request: Request) -> Response:
    """Pause or resume a cron entry; raise `CronNotFound` for an unknown one."""
    form = dict(await _form(request))
    name = form.get("name", "")
    match form.get("action"):
        case "pause":
            await site.jobs.pause_cron(name)
        case "resume":
            await site.jobs.resume_cron(name)
        case other:
            msg = f"action is {other!r}: use pause or resume"
            raise InvalidFilter(msg)
    return RedirectResponse(f"{root_of(request)}/cron", 303)


async def _form(request: Request) -> list[tuple[str, str]]:
    """Return what a form has sent."""
    body = b""
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > _LARGEST:
                raise HTTPException(413, f"a form has at most {_LARGEST:,} bytes")
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=10_000)
    except ValueError:
        msg = "this is no form of the dashboard's"
        raise InvalidFilter(msg) from None
