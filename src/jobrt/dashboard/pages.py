"""Pages of the dashboard: the overview, the list of jobs, a job, the workers and the cron entries."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final
from urllib.parse import urlencode

import trio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from jobrt._client import Client
from jobrt._client.observing import actions_on, count_each, entries, look, looked_up
from jobrt._core import where
from jobrt._core.actions import Action
from jobrt._core.job import JobRecord
from jobrt._core.queues import QueueStatus
from jobrt._core.states import FINAL, HELD, UNSTARTED, State
from jobrt._core.updates import OperatorAction
from jobrt._core.walks import parse_place, walk_of
from jobrt._views.families import family_lines
from jobrt._views.findings import COUNT_LIMIT, examine, take_snapshot
from jobrt._views.status import cancel_phase, cancel_phases, view_cron, view_queues, watchdog_notices
from jobrt._views.trees import tree_lines, tree_of, worker_condition
from jobrt._views.words import jobs_in_words, notice_in_words, wait_in_words
from jobrt.dashboard.actions import DONE, SEARCHED
from jobrt.dashboard.chart_page import overview_chart
from jobrt.dashboard.reads import Read, at_once
from jobrt.dashboard.render import Site, is_live, root_of
from jobrt.dashboard.selection import Selection, parse_about, parse_number, parse_selection
from jobrt.errors import InvalidFilter

_FAMILY_LIMIT: Final = 200
"""Members of a family on the page of a job."""
_RUNNING_LIMIT: Final = 15
_COUNTED: Final = (State.SUSPENDED, State.CLOSING, State.COMPLETED, State.CANCELLED, State.DISCARDED)
"""States whose jobs the overview counts. The queues have the numbers of the others."""
_PAGE_SIZE: Final = 50
_NUMBER_SECONDS: Final = 0.1
_NUMBER_SCAN: Final = 1_000
"""Jobs that are looked at to say how many match."""
_LINES: Final = 200
"""Newest entries of a job's stream on its page. Our script adds what comes later."""
_ACTIONS: Final = 200
"""Newest actions on their page."""
_ORDERS: Final = ("newest", "oldest")


async def overview(site: Site, request: Request) -> Response:
    """Return the overview page: problems, jobs by state, queues and running jobs."""
    state = Read(partial(take_snapshot, site.jobs))
    jobs = Read(partial(_running_and_counts, site.jobs))
    chart = Read(partial(overview_chart, site, request))
    await at_once(state, jobs, chart)
    snapshot, (running, counts) = state.value, jobs.value
    changed = any(queue.paused or queue.concurrency is not None for queue in snapshot.queues)
    phases = cancel_phases(snapshot.workers)
    return site.page(
        request,
        "overview.html",
        findings=list(examine(snapshot, names=site.app.registry.names)),
        totals=_totals(snapshot.queues, counts),
        queues=view_queues(snapshot.queues, snapshot.workers),
        done=_newest(await actions_on(site.jobs, "queue")) if changed else {},
        running=[(record, cancel_phase(record, phases)) for record in running],
        **chart.value,
    )


async def _running_and_counts(jobs: Client) -> tuple[list[JobRecord], Sequence[int]]:
    """Return the jobs that have been running the longest, and how many jobs the states of `_COUNTED` have."""
    running = await jobs.query(where.state("executing"), order_by="schedule_at", limit=_RUNNING_LIMIT)
    return running, await count_each(jobs, [where.state(state) for state in _COUNTED], limit=COUNT_LIMIT)


def _totals(queues: Sequence[QueueStatus], counts: Sequence[int]) -> dict[str, tuple[int, bool]]:
    """Return the number of jobs in each state, and whether there are more than were counted."""
    more = any(queue.more for queue in queues)
    totals = {
        "scheduled": (sum(queue.scheduled for queue in queues), more),
        "available": (sum(queue.available for queue in queues), more),
        "claimed": (sum(queue.claimed for queue in queues), False),
        "executing": (sum(queue.executing for queue in queues), False),
        "retryable": (sum(queue.retryable for queue in queues), more),
    }
    for state, count in zip(_COUNTED, counts, strict=True):
        totals[state.value] = (count, count == COUNT_LIMIT)
    return totals


async def job_list(site: Site, request: Request) -> Response:
    """Return a page of jobs, newest first by default. The filters are in the URL."""
    pairs = request.query_params.multi_items()
    if not all(value for _, value in pairs):  # keep the empty fields of forms out of URLs that people share
        filled = urlencode([(key, value) for key, value in pairs if value])
        return RedirectResponse(f"{root_of(request)}/jobs{'?' if filled else ''}{filled}", 303)
    selection = parse_selection(pairs, also=("order", "after", "done", "count", "text"))
    order = selection.rest.get("order", "newest")
    if order not in _ORDERS:
        raise InvalidFilter(f"order is {order!r}: use newest or oldest")
    after = parse_place("after", selection.rest["after"]) if "after" in selection.rest else None
    text = selection.rest.get("text", "")
    if text and order != "newest":
        raise InvalidFilter("a search for text finds the newest jobs first: use order=newest")
    found = await look(
        site.jobs,
        selection.where,
        limit=_PAGE_SIZE,
        scan=SEARCHED,
        newest=order == "newest",
        after=after,
        text=text,
    )
    shown = await looked_up(site.jobs, found.ids)
    partly = found.after is not None and len(found.ids) < _PAGE_SIZE
    listed = None if found.after or after else len(found.ids)
    kept = selection.pairs + [("text", text)] * bool(text) + [("order", order)] * (order != "newest")
    return site.page(
        request,
        "jobs.html",
        jobs=shown,
        selection=selection,
        order=order,
        start=after,
        first=urlencode(kept) if after is not None else None,
        following=None if found.after is None else urlencode([*kept, ("after", str(found.after))]),
        number=await _number(site, request, selection, listed=listed, partly=partly),
        text=text,
        after=found.after,
        partly=partly,
        looked_at=found.looked_at,
        searched=SEARCHED,
        done=_done(selection.rest),
    )


async def _number(
    site: Site, request: Request, selection: Selection, *, listed: int | None, partly: bool
) -> int | None:
    """Return how many jobs match, if that is known or quickly counted; our script does not show it again."""
    if listed is not None or selection.where is None or "text" in selection.rest or is_live(request):
        return listed
    if walk_of(selection.where, newest=True).covers:
        with trio.move_on_after(_NUMBER_SECONDS):
            return await site.jobs.count(selection.where, limit=COUNT_LIMIT)
        return None
    if partly:  # then looking at as many jobs again finds no more
        return None
    found = await look(site.jobs, selection.where, limit=COUNT_LIMIT, scan=_NUMBER_SCAN)
    return len(found.ids) if found.after is None else None


def _done(rest: Mapping[str, str]) -> str | None:
    """Return the result of the action that led to this page, in words."""
    done, count = rest.get("done", ""), rest.get("count", "")
    if done not in DONE or not re.fullmatch("[0-9]{1,18}", count):
        return None
    return f"{jobs_in_words(int(count))} {DONE[done]}"


async def job(site: Site, request: Request) -> Response:
    """Return a job's page; raise `JobNotFound`."""
    try:
        number = parse_number("id", request.path_params["id"])
    except InvalidFilter:
        raise HTTPException(404) from None
    record = await site.jobs.get(number)
    running = record.state in HELD
    found = await site.jobs.workers() if running else []
    now = await site.jobs.now()
    family = await site.jobs.tree(number, limit=_FAMILY_LIMIT)
    lines = await entries(site.jobs, number)
    return site.page(
        request,
        "job.html",
        job=record,
        now=now,
        waits="" if record.waiting is None else wait_in_words(record.waiting, now),
        family=list(family_lines(family)),
        more_family=len(family) == _FAMILY_LIMIT,
        final=record.state in FINAL,
        waiting=record.state in UNSTARTED,
        actions=[entry for entry in reversed(lines) if isinstance(entry, OperatorAction)],
        running=running,
        phase=cancel_phase(record, cancel_phases(found)),
        notices=list(watchdog_notices(record, found)),
        lines=lines[-_LINES:],
    )


async def workers(site: Site, request: Request) -> Response:
    """Return the workers page, with their supervision trees and watchdog notices."""
    now = datetime.now(UTC)
    found = [
        {
            "row": row,
            "condition": worker_condition(row),
            "lines": list(tree_lines(row, now)),
            "tree": tree_of(tree_lines(row, now)),
            "notices": [notice_in_words(notice) for notice in row.info.notices],
        }
        for row in await site.jobs.workers()
    ]
    return site.page(request, "workers.html", workers=found)


async def crons(site: Site, request: Request) -> Response:
    """Return the cron page, with the newest action on each entry.

    It also names entries that the code declares and no worker has stored yet. The page does not store them.
    """
    now = datetime.now(UTC)
    entries = [view_cron(row, now) for row in await site.jobs.crons()]
    declared = sorted(set(site.app.crons) - {entry.name for entry in entries})
    done = _newest(await actions_on(site.jobs, "cron"))
    return site.page(request, "cron.html", crons=entries, declared=declared, done=done)


def _newest(actions: Sequence[Action]) -> Mapping[str, Action]:
    """Return the newest action on each name; the actions are the newest first."""
    return {action.name: action for action in reversed(actions)}


async def actions(site: Site, request: Request) -> Response:
    """Return the page of what operators did, of all or of a queue or a cron entry."""
    about = parse_about(request.query_params.multi_items())
    found = await site.jobs.actions(limit=_ACTIONS, **about)
    return site.page(
        request, "actions.html", actions=found, about=next(iter(about.items()), None), limit=_ACTIONS
    )
