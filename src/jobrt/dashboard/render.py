"""Make pages from templates, and give out the static files."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import attrs
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from jobrt._core.states import State
from jobrt._views.findings import COUNT_LIMIT
from jobrt._views.words import age, attempt_in_words, due_in_words, jobs_in_words, since

if TYPE_CHECKING:
    from starlette.requests import Request

    from jobrt._client import Client
    from jobrt.app import App

__all__ = ["LIVE_HEADER", "Site", "is_live", "root_of", "static_file"]

LIVE_HEADER: Final = "x-jobrt-live"
"""What our script asks with: for the live parts of a page alone."""
_TYPES: Final = {
    "dashboard.css": "text/css; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_FILES: Final = {name: files("jobrt.dashboard").joinpath("static", name).read_bytes() for name in _TYPES}
_VERSION: Final = hashlib.sha256(b"".join(_FILES.values())).hexdigest()[:12]
_LONGEST: Final = 120
"""Characters of a payload that a list shows."""


def _clock(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _at_most(count: int) -> str:
    """Return a count that goes no further than `COUNT_LIMIT`."""
    return f"{count:,}" if count < COUNT_LIMIT else f"{COUNT_LIMIT:,}+"


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


_FILTERS: Final[dict[str, Any]] = {
    "age": age,
    "at_most": _at_most,
    "attempt": attempt_in_words,
    "brief": _brief,
    "clock": _clock,
    "due": due_in_words,
    "in_words": jobs_in_words,
    "pretty": _pretty,
    "query": urlencode,
    "since": since,
}
_GLOBALS: Final[dict[str, Any]] = {"states": [one.value for one in State], "version": _VERSION}


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("jobrt.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(_FILTERS)
    made.globals.update(_GLOBALS)
    return made


_TEMPLATES: Final = _environment()


def root_of(request: Request) -> str:
    """Return the path below which we are mounted, as a URL has it."""
    return quote(request.scope.get("root_path", "").rstrip("/"))


def is_live(request: Request) -> bool:
    """Say whether our script asks, for what has changed."""
    return LIVE_HEADER in request.headers


@attrs.frozen
class Site:
    """What all pages need: the application, a client of it, and whether anything may be changed."""

    app: App
    jobs: Client
    read_only: bool = False

    @property
    def place(self) -> str:
        """Name the database, without what is secret."""
        return self.app.url.rpartition("@")[2].partition("?")[0]

    def page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
        """Return a page, or its live parts if the script asks."""
        base = "live.html" if is_live(request) else "page.html"
        html = _TEMPLATES.get_template(template).render(
            base=base,
            root=root_of(request),
            place=self.place,
            read_only=self.read_only,
            now=datetime.now(UTC),
            here=request.scope["path"].removeprefix(request.scope.get("root_path", "")).rstrip("/"),
            **values,
        )
        return HTMLResponse(html, status)


async def static_file(request: Request) -> Response:
    """Return a static file; its address changes with its content, so it may be kept."""
    name = request.path_params["name"]
    if name not in _FILES:
        raise HTTPException(404, f"there is no file {name!r}")
    headers = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(_FILES[name], media_type=_TYPES[name], headers=headers)
