"""Answers to the paths of the probes, for the server in threads and for ASGI programs."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final, TypeAlias

import attrs

from jobrt._core.escape import printable
from jobrt.app import App
from jobrt.probes.families import Family
from jobrt.probes.health import Health
from jobrt.probes.report import Report, Reporter

_TEXT: Final = "text/plain; charset=utf-8"
PATHS: Final = ("/livez", "/readyz", "/metrics")
_MISSING: Final = "metrics need prometheus_client: pip install 'jobrt[prometheus]'"

_log = logging.getLogger("jobrt.probes")

_Message: TypeAlias = MutableMapping[str, Any]
_Application: TypeAlias = Callable[
    [_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]], Awaitable[None]
]


@attrs.frozen
class Answer:
    """Response to a request."""

    status: int
    body: bytes
    content_type: str = _TEXT


def _lines(status: int, *lines: str) -> Answer:
    return Answer(status, "".join(f"{printable(line)}\n" for line in lines).encode())


def probe_answer(path: str, health: Health) -> Answer:
    """Return the answer of ``/livez`` or ``/readyz``."""
    problems = health.dead if path == "/livez" else health.problems
    return _lines(503, *problems) if problems else _lines(200, "ok")


def metrics_answer(families: Sequence[Family], *, accept: str) -> Answer:
    """Return the answer of ``/metrics``, or which extra to install."""
    if missing := missing_extra():
        return _lines(501, missing)
    from jobrt.probes.exposition import exposition  # noqa: PLC0415 - an extra

    return Answer(200, *exposition(families, accept))


def missing_extra() -> str:
    """Return what to install for metrics, or an empty text if it is installed."""
    try:
        importlib.import_module("prometheus_client")
    except ModuleNotFoundError:
        return _MISSING
    return ""


def lost_answer(path: str) -> Answer:
    """Return the answer for a path that does not exist."""
    return _lines(404, f"there is no {path}: use {', '.join(PATHS)}")


def answer(path: str, report: Report, *, accept: str = "") -> Answer:
    """Return the answer to a request for a path, from a report with the families that the path needs."""
    if path == "/metrics":
        if report.health.dead and not report.families:  # nothing could be asked
            return _lines(503, *report.health.dead)
        return metrics_answer(report.families, accept=accept)
    return probe_answer(path, report.health) if path in PATHS else lost_answer(path)


def own_metrics() -> tuple[Family, ...]:
    """Return what the program itself has registered with prometheus-client, if that is installed.

    A collector of the program that fails is logged, and takes no metric of jobrt along.
    """
    if missing_extra():
        return ()
    from jobrt.probes.exposition import own_families  # noqa: PLC0415 - an extra

    try:
        return own_families()
    except Exception:  # noqa: BLE001 - it is the program's own
        _log.exception("metrics that the program has registered cannot be collected")
        return ()


# ---------------------------------------------------------------------- ASGI


def asgi(app: App) -> _Application:
    """Return the probes and metrics of the app's workers in this process as an ASGI application.

    Serve it under Trio, in the event loop of the workers, at any path. It has no access control::

        routes = [Mount("/-", jobrt.probes.asgi(app))]      # /-/livez, /-/readyz, /-/metrics

    A blocked event loop does not answer, so the probe needs a time limit. Metrics are counted from this call on. Those
    that the program has registered with prometheus-client itself are not included.
    """
    return _Site(Reporter(app))


@attrs.frozen(eq=False)
class _Site:
    reporter: Reporter

    async def __call__(self, scope: _Message, receive: Any, send: Any) -> None:
        match scope["type"]:
            case "http":
                found = await self._answer(scope)
                headers = [
                    (b"content-type", found.content_type.encode()),
                    (b"content-length", b"%d" % len(found.body)),
                    (b"cache-control", b"no-store"),
                ]
                start = {"type": "http.response.start", "status": found.status, "headers": headers}
                body = b"" if scope["method"] == "HEAD" else found.body
                await send(start)
                await send({"type": "http.response.body", "body": body})
            case "lifespan":
                await _live(receive, send)
            case _:
                await send({"type": "websocket.close"})

    async def _answer(self, scope: _Message) -> Answer:
        if scope["method"] not in {"GET", "HEAD"}:
            return _lines(405, "only GET and HEAD are answered")
        path = str(scope["path"]).removeprefix(scope.get("root_path", ""))
        if path == "/metrics":
            headers = {name.lower(): value for name, value in scope["headers"]}
            accept = headers.get(b"accept", b"").decode("latin-1")
            return answer(path, await self.reporter.report(), accept=accept)
        return answer(path, Report(self.reporter.health()))


async def _live(receive: Any, send: Any) -> None:
    """Follow the protocol of a server that starts and stops its application: there is nothing to do."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
