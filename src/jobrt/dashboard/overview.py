"""Overview page: problems, jobs by state, queues and running jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from jobrt._client import Client
from jobrt._core import where
from jobrt._core.queues import QueueStatus
from jobrt._core.states import State
from jobrt._views.findings import COUNT_LIMIT, examine, take_snapshot
from jobrt._views.jobs import cancel_phase, cancel_phases
from jobrt._views.queues import view_queues
from jobrt.dashboard.render import Site

_RUNNING_LIMIT: Final = 15
_FINISHED: Final = (State.COMPLETED, State.CANCELLED, State.DISCARDED)


async def overview(site: Site, request: Request) -> Response:
    """Return the overview page."""
    snapshot = await take_snapshot(site.jobs)
    running = await site.jobs.query(where.state("executing"), order_by="schedule_at", limit=_RUNNING_LIMIT)
    phases, now = cancel_phases(snapshot.workers), datetime.now(UTC)
    return site.page(
        request,
        "overview.html",
        findings=list(examine(snapshot, names=site.app.registry.names, now=now)),
        totals=await _totals(site.jobs, snapshot.queues),
        queues=view_queues(snapshot.queues, snapshot.workers),
        running=[(job, cancel_phase(job, phases)) for job in running],
    )


async def _totals(jobs: Client, queues: Sequence[QueueStatus]) -> dict[str, tuple[int, bool]]:
    """Return the number of jobs in each state, and whether there are more than were counted."""
    more = any(queue.more for queue in queues)
    totals = {
        "scheduled": (sum(queue.scheduled for queue in queues), more),
        "available": (sum(queue.available for queue in queues), more),
        "executing": (sum(queue.executing for queue in queues), False),
        "retryable": (sum(queue.retryable for queue in queues), more),
    }
    for state in _FINISHED:
        count = await jobs.count(where.state(state), limit=COUNT_LIMIT)
        totals[state.value] = (count, count == COUNT_LIMIT)
    return totals
