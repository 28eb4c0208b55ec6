"""Show how things stand: what is wrong, how many jobs there are, the queues, what runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from jobrt._core import where
from jobrt._core.states import State
from jobrt._views.findings import MOST, examine, look
from jobrt._views.jobs import cancelling, phases
from jobrt._views.queues import view_queues

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from jobrt._client import Client
    from jobrt._core.queues import QueueStatus
    from jobrt.dashboard.render import Site

__all__ = ["overview"]

_RUNNING: Final = 15
"""Running jobs that are shown."""
_OVER: Final = (State.COMPLETED, State.CANCELLED, State.DISCARDED)


async def overview(site: Site, request: Request) -> Response:
    """Return the overview."""
    state = await look(site.jobs)
    running = await site.jobs.query(where.state("executing"), order_by="schedule_at", limit=_RUNNING)
    known, now = phases(state.workers), datetime.now(UTC)
    return site.page(
        request,
        "overview.html",
        findings=list(examine(state, names=site.app.registry.names, now=now)),
        totals=await _totals(site.jobs, state.queues),
        queues=view_queues(state.queues, state.workers),
        running=[(one, cancelling(one, known)) for one in running],
    )


async def _totals(jobs: Client, queues: Sequence[QueueStatus]) -> dict[str, tuple[int, bool]]:
    """Return how many jobs are in each state, and whether there are more of them."""
    more = any(one.more for one in queues)
    totals = {
        "scheduled": (sum(one.scheduled for one in queues), more),
        "available": (sum(one.available for one in queues), more),
        "executing": (sum(one.executing for one in queues), False),
        "retryable": (sum(one.retryable for one in queues), more),
    }
    for state in _OVER:
        count = await jobs.count(where.state(state), limit=MOST)
        totals[state.value] = (count, count == MOST)
    return totals
