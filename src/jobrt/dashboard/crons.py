"""Page of the cron entries, with their last and next ticks."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from jobrt._views.crons import view_cron
from jobrt.dashboard.render import Site


async def crons(site: Site, request: Request) -> Response:
    """Return the cron page.

    It also names entries that the code declares and no worker has stored yet. The page does not store them.
    """
    now = datetime.now(UTC)
    entries = [view_cron(row, now) for row in await site.jobs.crons()]
    declared = sorted(set(site.app.crons) - {entry.name for entry in entries})
    return site.page(request, "cron.html", crons=entries, declared=declared)
