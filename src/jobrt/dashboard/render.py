"""Pages rendered from templates, and static files."""

import hashlib
import json
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote, urlencode

import attrs
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from jobrt._client import Client
from jobrt._core.states import State
from jobrt._views.findings import COUNT_LIMIT
from jobrt._views.words import age, attempt_in_words, due_in_words, jobs_in_words, since, wait_in_words
from jobrt.app import App
from jobrt.dashboard.charts import in_seconds
from jobrt.dashboard.history import History

LIVE_HEADER: Final = "x-jobrt-live"
"""Request header with which our script asks for only the live parts of a page."""
_TYPES: Final = {
    "dashboard.css": "text/css; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_FILES: Final = {name: files("jobrt.dashboard").joinpath("static", name).read_bytes() for name in _TYPES}
_VERSION: Final = hashlib.sha256(b"".join(_FILES.values())).hexdigest()[:12]
_PAYLOAD_WIDTH: Final = 120
"""Characters of a payload that a list shows."""


def _clock(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _limited(count: int) -> str:
    """Return a count in words; counting stops at `COUNT_LIMIT`."""
    return f"{count:,}" if count < COUNT_LIMIT else f"{COUNT_LIMIT:,}+"


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _PAYLOAD_WIDTH else f"{text[: _PAYLOAD_WIDTH - 1]}…"


def _compact(value: Any) -> str:
    """Return JSON as our script writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


_FILTERS: Final[dict[str, Any]] = {
    "age": age,
    "waits": wait_in_words,
    "attempt": attempt_in_words,
    "brief": _brief,
    "clock": _clock,
    "compact": _compact,
    "seconds": in_seconds,
    "due": due_in_words,
    "in_words": jobs_in_words,
    "limited": _limited,
    "pretty": _pretty,
    "query": urlencode,
    "since": since,
}
_STATES: Final = [state.value for state in State if state is not State.UNKNOWN]
_GLOBALS: Final[dict[str, Any]] = {"states": _STATES, "version": _VERSION}
_TEMPLATES: Final = Environment(
    loader=PackageLoader("jobrt.dashboard"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters.update(_FILTERS)
_TEMPLATES.globals.update(_GLOBALS)


def root_of(request: Request) -> str:
    """Return the path at which the dashboard is mounted, quoted for a URL."""
    return quote(request.scope.get("root_path", "").rstrip("/"))


def path_of(request: Request) -> str:
    """Return the path of a page below the place where the dashboard is mounted."""
    path: str = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return path.rstrip("/")


def is_live(request: Request) -> bool:
    """Return whether our script asks for the live parts of a page."""
    return LIVE_HEADER in request.headers


@attrs.frozen
class Site:
    """Application and client that all pages use; ``read_only`` allows no changes."""

    app: App
    jobs: Client
    read_only: bool = False
    history: History = attrs.field(
        init=False, default=attrs.Factory(lambda self: History(self.jobs), takes_self=True)
    )

    @property
    def place(self) -> str:
        """Return the database's address without its secrets."""
        return self.app.url.rpartition("@")[2].partition("?")[0]

    def page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
        """Return a page, or only its live parts if our script asks for them."""
        base = "live.html" if is_live(request) else "page.html"
        html = _TEMPLATES.get_template(template).render(
            base=base,
            root=root_of(request),
            place=self.place,
            read_only=self.read_only,
            here=path_of(request),
            **{"now": datetime.now(UTC), **values},
        )
        return HTMLResponse(html, status)


async def static_file(request: Request) -> Response:
    """Return a static file. Browsers may cache it forever: its URL changes with its content."""
    name = request.path_params["name"]
    if name not in _FILES:
        raise HTTPException(404, f"there is no file {name!r}")
    headers = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(_FILES[name], media_type=_TYPES[name], headers=headers)
