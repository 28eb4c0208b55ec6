"""Actions behind the buttons, and the page that asks for confirmation."""

from collections.abc import Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Final
from urllib.parse import parse_qsl, urlencode

import trio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from jobrt._client import Client
from jobrt._core import where
from jobrt._core.where import Where
from jobrt._views.findings import COUNT_LIMIT
from jobrt._views.status import apply_to_each
from jobrt.dashboard.render import Site, root_of
from jobrt.dashboard.selection import Selection, parse_number, parse_selection
from jobrt.errors import InvalidFilter, JobNotFound

DONE: Final[Mapping[str, str]] = {"cancel": "cancelled", "rerun": "set to run again", "delete": "deleted"}
"""Result of each action on jobs, in words."""
_FORM_LIMIT: Final = 200_000
"""Bytes of a form: enough for a thousand ids, or for a long payload as a filter."""
_FORM_SECONDS: Final = 10.0
_PREVIEW_LIMIT: Final = 5


async def confirm(site: Site, request: Request) -> Response:
    """Show how many jobs an action would change and the first of them, and ask for confirmation."""
    if site.read_only:
        raise HTTPException(403, "the dashboard is read-only")
    selection = parse_selection(request.query_params.multi_items(), also=("action",), ids=True)
    selected = _selected(selection)
    return site.page(
        request,
        "confirm.html",
        action=_action(selection),
        selection=selection,
        count=await site.jobs.count(selected, limit=COUNT_LIMIT),
        first=await site.jobs.query(selected, order_by="id", limit=_PREVIEW_LIMIT, details=False),
    )


def _action(selection: Selection) -> str:
    action = selection.rest.get("action", "")
    if action not in DONE:
        raise _unknown_action(action, DONE)
    return action


def _unknown_action(action: str | None, known: Iterable[str]) -> InvalidFilter:
    return InvalidFilter(f"unknown action {action or ''!r}: use {', '.join(known)}")


def _selected(selection: Selection) -> Where:
    if selection.ids and selection.where is not None:
        raise InvalidFilter("select jobs by id or by filters, not both")
    if selection.ids:
        return where.id_in(selection.ids)
    if selection.where is None:
        raise InvalidFilter("no jobs are selected: select some, or set a filter")
    return selection.where


async def _apply(jobs: Client, job: int | Where, *, action: str, reason: str) -> int:
    """Apply an action to a job, or to all jobs that match a filter."""
    match action:
        case "cancel":
            return await jobs.cancel(job, reason)
        case "rerun":
            return await jobs.rerun(job)
        case _:
            return await jobs.delete(job)


async def change_jobs(site: Site, request: Request) -> Response:
    """Cancel, rerun or delete jobs, and redirect to a page that shows the result."""
    selection = parse_selection(await _form(request), also=("action", "reason", "page"), ids=True)
    action, selected = _action(selection), _selected(selection)
    apply, root = partial(_apply, action=action, reason=selection.rest.get("reason", "")), root_of(request)
    if selection.rest.get("page") == "job" and len(selection.ids) == 1 and action != "delete":
        await apply(site.jobs, selection.ids[0])
        return RedirectResponse(f"{root}/jobs/{selection.ids[0]}", 303)
    if not selection.ids:
        count = await apply(site.jobs, selected)
    else:
        count, refused = await apply_to_each(site.jobs, selection.ids, apply)
        if refused:
            status = 404 if isinstance(refused[0], JobNotFound) else 409
            shown = {"action": action, "done": DONE[action], "count": count, "refused": refused}
            return site.page(request, "refused.html", status=status, **shown)
    query = urlencode([*selection.pairs, ("done", action), ("count", count)])
    return RedirectResponse(f"{root}/jobs?{query}", 303)


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
            await site.jobs.scale(queue, parse_number("concurrency", slots) if slots else None)
        case other:
            raise _unknown_action(other, ("pause", "resume", "scale"))
    return RedirectResponse(f"{root_of(request)}/#queues", 303)


async def change_cron(site: Site, request: Request) -> Response:
    """Pause or resume a cron entry; raise `CronNotFound` for an unknown entry."""
    form = dict(await _form(request))
    name = form.get("name", "")
    match form.get("action"):
        case "pause":
            await site.jobs.pause_cron(name)
        case "resume":
            await site.jobs.resume_cron(name)
        case other:
            raise _unknown_action(other, ("pause", "resume"))
    return RedirectResponse(f"{root_of(request)}/cron", 303)


async def _form(request: Request) -> list[tuple[str, str]]:
    """Return the fields of a submitted form, which must arrive within a time limit."""
    body = b""
    with trio.move_on_after(_FORM_SECONDS) as scope:
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > _FORM_LIMIT:
                    raise HTTPException(413, f"the form is too large: the limit is {_FORM_LIMIT:,} bytes")
    if scope.cancelled_caught:
        raise HTTPException(408, f"the form did not arrive within {_FORM_SECONDS:g} s: nothing was changed")
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=10_000)
    except ValueError:
        raise InvalidFilter("the form is malformed: send it from a page of the dashboard") from None
