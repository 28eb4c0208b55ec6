"""List jobs by filters that stand in the URL, a page after the other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from starlette.responses import RedirectResponse

from jobrt._views.words import jobs_in_words
from jobrt.dashboard.actions import DONE
from jobrt.dashboard.picks import number, read
from jobrt.dashboard.render import root_of
from jobrt.errors import InvalidFilter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from jobrt.dashboard.render import Site

__all__ = ["jobs_page"]

_PAGE: Final = 50
_ORDERS: Final = {"newest": "-id", "oldest": "id"}
_ALSO: Final = ("order", "after", "done", "count")


async def jobs_page(site: Site, request: Request) -> Response:
    """Return a page of jobs, the newest first unless told otherwise."""
    pairs = request.query_params.multi_items()
    if any(
        not value for _, value in pairs
    ):  # a form sends its empty fields too; what is in the URL is to be passed on
        filled = urlencode([(key, value) for key, value in pairs if value])
        return RedirectResponse(f"{root_of(request)}/jobs{'?' if filled else ''}{filled}", 303)
    picked = read(pairs, also=_ALSO)
    order = picked.rest.get("order", "newest")
    if order not in _ORDERS:
        msg = f"order is {order!r}: use newest or oldest"
        raise InvalidFilter(msg)
    after = number("after", picked.rest["after"]) if "after" in picked.rest else None
    found = await site.jobs.query(
        picked.where, order_by=_ORDERS[order], limit=_PAGE + 1, after=after, details=False
    )
    shown = found[:_PAGE]
    kept = picked.pairs + ([("order", order)] if order != "newest" else [])
    return site.page(
        request,
        "jobs.html",
        jobs=shown,
        picked=picked,
        order=order,
        first=urlencode(kept) if after is not None else None,
        following=urlencode([*kept, ("after", shown[-1].id)]) if len(found) > _PAGE else None,
        done=_done(picked.rest),
    )


def _done(rest: Mapping[str, str]) -> str | None:
    """Return what was just done, in words."""
    done, count = rest.get("done", ""), rest.get("count", "")
    if done not in DONE or not re.fullmatch("[0-9]{1,18}", count):
        return None
    return f"{jobs_in_words(int(count))} {DONE[done]}"
