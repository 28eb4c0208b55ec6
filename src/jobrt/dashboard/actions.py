"""Actions behind the buttons, and the page that asks for confirmation."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, timedelta
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import attrs
import trio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from jobrt._client import Client
from jobrt._client.observing import count_each, look, looked_up
from jobrt._core import where
from jobrt._core.cron import CronEntry
from jobrt._core.states import FINAL, HELD, UNSTARTED, State
from jobrt._core.walks import Place, parse_place, walk_of
from jobrt._core.where import Where
from jobrt._registry import tick_job
from jobrt._views.filters import parse_time
from jobrt._views.findings import COUNT_LIMIT
from jobrt._views.status import apply_to_each
from jobrt._views.words import jobs_in_words
from jobrt.dashboard.audit import log_action, note, operator
from jobrt.dashboard.render import Site, root_of
from jobrt.dashboard.selection import Selection, parse_number, parse_selection
from jobrt.errors import CronNotFound, InvalidFilter, JobNotFound, JobStateError

DONE: Final[Mapping[str, str]] = {"cancel": "cancelled", "rerun": "set to run again", "delete": "deleted"}
"""Result of each action on jobs, in words."""
_DID: Final[Mapping[str, str]] = {"cancel": "cancelled", "rerun": "set to run again:", "delete": "deleted"}
_ALL: Final = frozenset(State)
_CHANGED: Final = {"cancel": _ALL - FINAL, "rerun": FINAL, "delete": _ALL}
"""States of the jobs that an action changes; it leaves the others alone."""
_INDEXED: Final = (UNSTARTED, HELD, _ALL - UNSTARTED - HELD - FINAL, FINAL)
"""All states, by the index that finds their jobs."""
SEARCHED: Final = 5_000
"""Jobs that one request looks at, for a filter or a text: some ten milliseconds."""
PREVIEWED: Final = 2_500
"""Jobs that a preview looks at, for a filter: waiting, running, suspended and final ones so many each."""
_FORM_LIMIT: Final = 200_000
"""Bytes of a form: enough for the ids of a search, or for a long payload as a filter."""
_FORM_SECONDS: Final = 10.0
_PREVIEW_LIMIT: Final = 5
_IDS_SHOWN: Final = 10


async def confirm(site: Site, request: Request) -> Response:
    """Show how many jobs an action would change and the newest of them, and ask for confirmation."""
    if site.read_only:
        raise HTTPException(403, "the dashboard is read-only")
    pairs = request.query_params.multi_items()
    selection, older = parse_selection(pairs, also=("action", "text", "after"), ids=True), None
    action = _action(selection)
    searched = "text" in selection.rest
    if searched:
        selection, older = await _searched(site.jobs, selection)
    selected = where.id_in(()) if searched and not selection.ids else _selected(selection)
    given = frozenset(map(State, selection.filters.get("state", ()))) or _ALL
    changed = _CHANGED[action] & given
    matching = await _matching(site.jobs, selected, changed)
    others = await _matching(site.jobs, selected, given - changed)
    held = [one for one in matching if one.states <= HELD]
    newest = sorted((job_id for one in matching for job_id in one.newest), reverse=True)
    return site.page(
        request,
        "confirm.html",
        action=action,
        selection=selection,
        count=_sum(matching),
        running=_sum(held),
        unchanged=_sum(others),
        partly=any(one.more for one in matching),
        text=selection.rest.get("text", ""),
        older=older,
        searched=SEARCHED,
        previewed=PREVIEWED,
        first=await looked_up(site.jobs, newest[:_PREVIEW_LIMIT]),
    )


async def _searched(jobs: Client, selection: Selection) -> tuple[Selection, Place | None]:
    """Return a selection with the ids of those jobs that have its text, and the place behind which others may have it.

    The form of the confirmation has these ids, so it changes the jobs that were counted and no others.
    """
    if selection.ids:
        raise InvalidFilter("select jobs by id or by a text, not both")
    after = parse_place("after", selection.rest["after"]) if "after" in selection.rest else None
    text = selection.rest["text"]
    found = await look(jobs, selection.where, limit=SEARCHED, scan=SEARCHED, after=after, text=text)
    return attrs.evolve(selection, ids=found.ids), found.after


@attrs.frozen
class _Matching:
    """Jobs that match and are in some states: how many, whether there may be more, and ids of the newest."""

    states: frozenset[State]
    number: int
    more: bool
    newest: Sequence[int]


async def _matching(jobs: Client, selected: Where, states: frozenset[State]) -> list[_Matching]:
    """Return the selected jobs in these states, apart for each index that has them.

    Those that an index counts are counted up to the limit. Of the others as many are looked at as a list looks at.
    """
    split = [states & part for part in _INDEXED if states & part]
    wheres = [selected & where.state(*sorted(part)) for part in split]
    walks = [walk_of(each, newest=True) for each in wheres]
    counted = [walk.covers for walk in walks]
    limits = [_PREVIEW_LIMIT if each else COUNT_LIMIT for each in counted]
    looks = [
        await look(jobs, each, limit=limit, scan=SEARCHED + 1 if walk.by == "given" else PREVIEWED)
        for each, limit, walk in zip(wheres, limits, walks, strict=True)
    ]
    whole = [each for each, known in zip(wheres, counted, strict=True) if known]
    numbers = iter(await count_each(jobs, whole, limit=COUNT_LIMIT) if whole else ())
    return [
        _Matching(
            part,
            next(numbers) if known else len(found.ids),
            more=not known and found.after is not None,
            newest=found.ids[:_PREVIEW_LIMIT],
        )
        for part, known, found in zip(split, counted, looks, strict=True)
    ]


def _sum(matching: Iterable[_Matching]) -> int:
    return min(sum(one.number for one in matching), COUNT_LIMIT)


def _in(selected: Where, states: frozenset[State]) -> Where:
    return selected if states == _ALL else selected & where.state(*sorted(states))


def _action(selection: Selection) -> str:
    action = selection.rest.get("action", "")
    if action not in DONE:
        raise _unknown_action(action, DONE)
    return action


def _unknown_action(action: str | None, known: Iterable[str]) -> InvalidFilter:
    return InvalidFilter(f"unknown action {action or ''!r}: use {', '.join(known)}")


def _selected(selection: Selection) -> Where:
    if "text" in selection.rest:
        if not selection.ids:
            raise InvalidFilter(
                "no jobs are selected: give the ids of those that a search for the text has found"
            )
        found = where.id_in(selection.ids)
        return found if selection.where is None else found & selection.where
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
    selection = parse_selection(await _form(request), also=("action", "reason", "page", "text"), ids=True)
    action, selected = _action(selection), _selected(selection)
    reason, root = selection.rest.get("reason", ""), root_of(request)
    apply, noted = (
        partial(_apply, action=action, reason=reason),
        partial(note, site.jobs, request, why=reason),
    )
    if selection.rest.get("page") == "job" and len(selection.ids) == 1 and action != "delete":
        await apply(site.jobs, selection.ids[0])
        await noted(f"{_DID[action]} job {selection.ids[0]}", jobs=selection.ids)
        return RedirectResponse(f"{root}/jobs/{selection.ids[0]}", 303)
    found = [(key, value) for key, value in selection.rest.items() if key == "text"]
    if found or not selection.ids:
        changed = [] if action == "delete" else await _some(site.jobs, _in(selected, _CHANGED[action]))
        count = await apply(site.jobs, selected)
        filters = ", ".join(f"{key}={value}" for key, value in found + selection.pairs)
        await noted(f"{_DID[action]} {jobs_in_words(count)} with {filters}", jobs=changed)
    else:
        count, refused = await apply_to_each(site.jobs, selection.ids, apply)
        changed = [job for job in dict.fromkeys(selection.ids) if job not in refused]
        if count:
            of = (
                f"job {changed[0]}"
                if len(selection.ids) == 1
                else f"{count} of the jobs {_ids(selection.ids)}"
            )
            await noted(f"{_DID[action]} {of}", jobs=() if action == "delete" else changed)
        if refused:
            errors = list(refused.values())
            status = 404 if isinstance(errors[0], JobNotFound) else 409
            shown = {"action": action, "done": DONE[action], "count": count, "refused": errors}
            return site.page(request, "refused.html", status=status, **shown)
    query = urlencode([*selection.pairs, *found, ("done", action), ("count", count)])
    return RedirectResponse(f"{root}/jobs?{query}", 303)


async def _some(jobs: Client, selected: Where) -> list[int]:
    """Return the ids of the newest jobs of a selection: those in whose streams an action on it is noted."""
    return [job.id for job in await jobs.query(selected, order_by="-id", limit=SEARCHED, details=False)]


def _ids(ids: Sequence[int]) -> str:
    """Return the first ids."""
    shown = ", ".join(map(str, ids[:_IDS_SHOWN]))
    return shown if len(ids) <= _IDS_SHOWN else f"{shown} and {len(ids) - _IDS_SHOWN} more"


async def edit_job(site: Site, request: Request) -> Response:
    """Change when a waiting job is due, or its priority, and redirect to its page."""
    form = dict(await _form(request))
    job = parse_number("id", form.get("id", ""))
    changes: dict[str, Any] = {}
    if form.get("priority"):
        changes["priority"] = _parse_priority(form["priority"])
    if due := form.get("due", "").strip():
        moment = parse_time(due, UTC)
        if isinstance(moment, timedelta):
            changes["schedule_in"] = moment
        else:
            changes["schedule_at"] = moment
    if not changes:
        raise InvalidFilter("nothing to change: give a priority or a time")
    await site.jobs.update(job, **changes)
    words = [f"{name} {form[name]}" for name in ("priority", "due") if form.get(name)]
    await note(
        site.jobs, request, f"changed job {job}: {', '.join(words)}", why=form.get("reason", ""), jobs=(job,)
    )
    return RedirectResponse(f"{root_of(request)}/jobs/{job}", 303)


def _parse_priority(text: str) -> int:
    if not re.fullmatch("-?[0-9]{1,10}", text):
        raise InvalidFilter(f"priority is {text[:40]!r}: use a whole number")
    return int(text)


async def change_queue(site: Site, request: Request) -> Response:
    """Pause, resume or scale a queue."""
    form = dict(await _form(request))
    queue, why = form.get("queue", ""), form.get("reason", "")
    by = operator(request)
    match form.get("action"):
        case "pause":
            await site.jobs.pause(queue, reason=why, by=by)
        case "resume":
            await site.jobs.resume(queue, reason=why, by=by)
        case "scale":
            slots = form.get("concurrency", "")
            number = parse_number("concurrency", slots) if slots else None
            await site.jobs.scale(queue, number, reason=why, by=by)
        case other:
            raise _unknown_action(other, ("pause", "resume", "scale"))
    what = f"{form['action']}d queue {queue}"
    if form["action"] == "scale":
        what += f" to {form.get('concurrency') or 'the setting of the application'}"
    log_action(request, what, why=why)
    return RedirectResponse(f"{root_of(request)}/#queues", 303)


async def change_cron(site: Site, request: Request) -> Response:
    """Pause or resume a cron entry, or run its job now; raise `CronNotFound` for an unknown entry."""
    form = dict(await _form(request))
    name, why = form.get("name", ""), form.get("reason", "")
    by = operator(request)
    match form.get("action"):
        case "pause":
            await site.jobs.pause_cron(name, reason=why, by=by)
        case "resume":
            await site.jobs.resume_cron(name, reason=why, by=by)
        case "run":
            job = await _run_cron(site, name)
            await note(
                site.jobs, request, f"ran cron entry {name} as job {job}", why=why, jobs=(job,), cron=name
            )
            return RedirectResponse(f"{root_of(request)}/jobs/{job}", 303)
        case other:
            raise _unknown_action(other, ("pause", "resume", "run"))
    log_action(request, f"{form['action']}d cron entry {name}", why=why)
    return RedirectResponse(f"{root_of(request)}/cron", 303)


async def _run_cron(site: Site, name: str) -> int:
    """Enqueue the job of a cron entry, and return its id. The ticks of the entry stay as they are."""
    row = next((row for row in await site.jobs.crons() if row.name == name), None)
    if row is None:
        raise CronNotFound(f"there is no cron entry {name!r}")
    entry = CronEntry.from_spec(row.name, row.spec, paused=row.paused, anchor=row.created_at)
    registry = site.app.registry
    job = tick_job(registry, entry.job, args=entry.args, options=entry.options, version=entry.version)
    if job is None:
        remedy = "start the dashboard with the application that has it"
        raise JobStateError(f"cron entry {name} runs the job {entry.job}, which is not known here: {remedy}")
    return (await site.jobs.enqueue(job.with_options(context=f"cron {name}, run by an operator"))).id


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
