"""Page that lists jobs. The filters are in the URL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from jobrt._views.words import jobs_in_words
from jobrt.dashboard.actions import DONE
from jobrt.dashboard.render import Site, root_of
from jobrt.dashboard.selection import parse_number, parse_selection
from jobrt.errors import InvalidFilter

_PAGE_SIZE: Final = 50
_ORDERS: Final = {"newest": "-id", "oldest": "id"}
_ALSO: Final = ("order", "after", "done", "count")


async def jobs_page(site: Site, request: Request) -> Response:
    """Return a page of jobs, newest first by default."""
    pairs = request.query_params.multi_items()
    if not all(
        value for _, value in pairs
    ):  # forms send their empty fields; keep them out of URLs that people share
        filled = urlencode([(key, value) for key, value in pairs if value])
        return RedirectResponse(f"{root_of(request)}/jobs{'?' if filled else ''}{filled}", 303)
    selection = parse_selection(pairs, also=_ALSO)
    order = selection.rest.get("order", "newest")
    if order not in _ORDERS:
        msg = f"order is {order!r}: use newest or oldest"
        raise InvalidFilter(msg)
    after = parse_number("after", selection.rest["after"]) if "after" in selection.rest else None
    found = await site.jobs.query(
        selection.where, order_by=_ORDERS[order], limit=_PAGE_SIZE + 1, after=after, details=False
    )
    shown = found[:_PAGE_SIZE]
    kept = selection.pairs + ([("order", order)] if order != "newest" else [])
    return site.page(
        request,
        "jobs.html",
        jobs=shown,
        selection=selection,
        order=order,
        first=urlencode(kept) if after is not None else None,
        following=urlencode([*kept, ("after", shown[-1].id)]) if len(found) > _PAGE_SIZE else None,
        done=_done(selection.rest),
    )


def _done(rest: Mapping[str, str]) -> str | None:
    """Return the result of the action that led to this page, in words."""
    done, count = rest.get("done", ""), rest.get("count", "")
    if done not in DONE or not re.fullmatch("[0-9]{1,18}", count):
        return None
    return f"{jobs_in_words(int(count))} {DONE[done]}"
