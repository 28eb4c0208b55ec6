"""Show the cron entries: what ticks, when it did last, and when it will."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from jobrt._views.crons import view_cron

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from jobrt.dashboard.render import Site

__all__ = ["crons"]


async def crons(site: Site, request: Request) -> Response:
    """Return the cron page. What the code declares and no worker has stored yet is named: looking stores nothing."""
    now = datetime.now(UTC)
    found = [view_cron(row, now) for row in await site.jobs.crons()]
    declared = sorted(set(site.app.crons) - {one.name for one in found})
    return site.page(request, "cron.html", crons=found, declared=declared)
