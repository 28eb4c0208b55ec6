"""Page of one job."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from jobrt._core.states import FINAL, State
from jobrt._views.jobs import cancel_phase, cancel_phases, watchdog_notices
from jobrt.dashboard.render import Site


async def job(site: Site, request: Request) -> Response:
    """Return a job's page; raise `JobNotFound`."""
    record = await site.jobs.get(request.path_params["id"])
    running = record.state is State.EXECUTING
    workers = await site.jobs.workers() if running else []
    return site.page(
        request,
        "job.html",
        job=record,
        final=record.state in FINAL,
        running=running,
        phase=cancel_phase(record, cancel_phases(workers)),
        notices=list(watchdog_notices(record, workers)),
    )
