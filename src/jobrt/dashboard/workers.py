"""Page of the workers, with their supervision trees and watchdog notices."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from jobrt._views.trees import tree_lines, worker_condition
from jobrt._views.words import notice_words
from jobrt.dashboard.render import Site


async def workers(site: Site, request: Request) -> Response:
    """Return the workers page."""
    now = datetime.now(UTC)
    found = [
        {
            "row": row,
            "condition": worker_condition(row),
            "lines": list(tree_lines(row, now)),
            "notices": [notice_words(notice) for notice in row.info.notices],
        }
        for row in await site.jobs.workers()
    ]
    return site.page(request, "workers.html", workers=found)
