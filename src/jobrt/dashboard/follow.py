"""What happens to a job, as server-sent events: ``/jobs/ID/follow``."""

from collections.abc import AsyncIterator, Sequence
from typing import Final

import trio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from jobrt._core.states import FINAL
from jobrt._core.updates import ProgressChange, StateChange, Update
from jobrt._views.updates import as_event
from jobrt.dashboard.render import Site
from jobrt.dashboard.selection import parse_number
from jobrt.errors import InvalidFilter, JobNotFound, StorageError

_SILENCE: Final = 10.0
"""Seconds without an event after which a comment is sent, so that proxies keep the connection."""
_LONGEST: Final = 19
"""Digits of a cursor."""


async def follow(site: Site, request: Request) -> Response:
    """Return the updates of a job as events, behind ``Last-Event-ID`` or ``?after=``.

    A browser connects again when the response ends. If there is nothing new about a job that has ended, it gets status
    204, which tells it to stop.
    """
    try:
        number = parse_number("id", request.path_params["id"])
    except InvalidFilter:
        raise HTTPException(404) from None
    last = request.headers.get("last-event-id")
    after = _cursor(last if last is not None else request.query_params.get("after", "0"))
    updates = site.jobs.follow(number, after=after)
    first, new = await _first(updates)
    if last is not None and not new:
        return Response(status_code=204)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_events(first, updates), media_type="text/event-stream", headers=headers)


def _cursor(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= _LONGEST:
        return int(text)
    raise InvalidFilter(f"after is {text[:_LONGEST]!r}: use 0, or the id of an event of this job")


async def _first(updates: AsyncIterator[Update]) -> tuple[list[Update], bool]:
    """Return the first updates, and whether there is more than the end of a job that was known.

    So errors become pages, not broken streams.
    """
    found: list[Update] = []
    async for update in updates:
        found.append(update)
        final = isinstance(update, StateChange) and update.state in FINAL
        if not (final or isinstance(update, ProgressChange)):
            return found, True
    return found, False


async def _events(first: Sequence[Update], updates: AsyncIterator[Update]) -> AsyncIterator[str]:
    for known in first:
        yield as_event(known)
    while True:
        update: Update | None = None
        with trio.move_on_after(_SILENCE):
            try:
                update = await anext(updates)
            except StopAsyncIteration:
                return
            except (JobNotFound, StorageError):  # when the browser connects again, it gets the error
                return
        yield ": still here\n\n" if update is None else as_event(update)
