"""Access control of the dashboard, and the security headers of its responses.

It defends against these attacks:

* Cross-site requests: another site that the operator visits sends a form. Only its origin differs from ours.
* DNS rebinding: another site's name points to this server, so its pages have our origin. Only known names are allowed.
* Requests of other machines: they need the password, and failed logins are slowed down and logged.

Why this is not Starlette's own middleware: `design/decisions/009-guard-formatter-backoff.md`.
"""

import base64
import hashlib
import hmac
import math
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import attrs
import trio
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobrt.dashboard.logins import FailedLogins

_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",  # without a referrer, browsers would not send the origin of our own forms
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",  # for browsers that do not know frame-ancestors
}


def _host_name(value: str) -> str:
    """Return the name in a ``Host`` header without its port, or ``""`` if the header is malformed."""
    try:
        return (urlsplit(f"//{value}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_known_host(value: str, names: frozenset[str]) -> bool:
    """Return whether a ``Host`` header is a known name or an IP address, which DNS rebinding cannot use."""
    name = _host_name(value)
    if name in names or name == "localhost":
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def is_same_origin(headers: Mapping[str, str], scheme: str = "http") -> bool:
    """Return whether a request comes from our own pages, according to its browser.

    `scheme` is that of the request as this server got it. A proxy in front may add TLS: so a page that was loaded with
    https is trusted here, but a page loaded with plain http is not trusted by a site that is served with https.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    try:  # old browsers, and all over plain HTTP to another machine, send only the origin
        origin = urlsplit(headers.get("origin", ""))
    except ValueError:
        return False
    secure = "https" in {scheme, headers.get("x-forwarded-proto", "").lower()}
    schemes = {"https"} if secure else {"http", "https"}
    same_host = bool(origin.netloc) and origin.netloc.lower() == headers.get("host", "").lower()
    return same_host and origin.scheme in schemes


@attrs.frozen
class Guard:
    """ASGI application in front of the pages in ``app``.

    ``hosts`` are the allowed host names. Without a ``password``, none is required. ``read_only`` refuses changes.
    """

    app: ASGIApp
    hosts: frozenset[str] = frozenset()
    password: str | None = None
    read_only: bool = False
    _logins: FailedLogins = attrs.Factory(FailedLogins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request."""
        if scope["type"] != "http":  # the pages have no lifespan and no web sockets
            await self.app(scope, receive, send)
            return
        send = _add_headers(send)
        refusal = self._refusal(scope, Headers(scope=scope))
        if refusal is not None:
            await refusal(scope, receive, send)
        elif scope["method"] in _SAFE_METHODS:
            await _respond_while_connected(self.app, scope, receive, send)
        else:
            await self.app(scope, receive, send)  # an action is completed even if the browser disconnects

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if not scope["query_string"].isascii():
            return _refuse(400, "the address has bytes that are not ASCII: encode them as %XX")
        host = headers.get("host", "")
        if not is_known_host(host, self.hosts):
            remedy = "allow it with --allow-host, or asgi(…, hosts=…)"
            return _refuse(400, f"the host name {_host_name(host)!r} is not allowed: {remedy}")
        if self.password is not None:
            refusal = self._check_login(scope, headers, self.password)
            if refusal is not None:
                return refusal
        if scope["method"] in _SAFE_METHODS:
            return None
        if not is_same_origin(headers, scope["scheme"]):
            return _refuse(
                403, "this request does not come from a page of the dashboard: nothing was changed"
            )
        if self.read_only:
            return _refuse(403, "the dashboard is read-only: nothing was changed")
        return None

    def _check_login(self, scope: Scope, headers: Headers, password: str) -> Response | None:
        """Return the response to a request without the password; note a wrong one."""
        if "authorization" not in headers:  # a browser's first request: it asks its user now
            return _unauthorized()
        address = (scope.get("client") or ("unknown",))[0]
        seconds = self._logins.seconds_to_wait(address)
        if seconds:
            text = "too many failed logins: wait and try again\n"
            return PlainTextResponse(text, 429, {"retry-after": str(math.ceil(seconds))})
        if has_password(headers, password):
            self._logins.note_success(address)
            return None
        self._logins.note_failure(address)
        return _unauthorized()


def _unauthorized() -> Response:
    challenge = {"www-authenticate": 'Basic realm="jobrt", charset="UTF-8"'}
    return PlainTextResponse("the dashboard requires a password\n", 401, challenge)


def _refuse(status: int, reason: str) -> Response:
    return PlainTextResponse(f"{reason}\n", status)


def has_password(headers: Headers, password: str) -> bool:
    """Return whether the ``Authorization`` header has the password, with any user name, in constant time."""
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    try:
        credentials = base64.b64decode(encoded, validate=True) if scheme.lower() == "basic" else b""
    except ValueError:  # not base64, or not even ASCII
        credentials = b""
    given = credentials.partition(b":")[2]
    return hmac.compare_digest(_digest(given), _digest(password.encode()))


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()  # all have the same length, so the time does not reveal it


def _add_headers(send: Send) -> Send:
    """Return `send` with the headers that every response has."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return send_with_headers


async def _respond_while_connected(  # noqa: PLR0917 - the parameters of an ASGI application
    app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    """Respond to a request; cancel the response when the client disconnects."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_at_disconnect, receive, nursery.cancel_scope)
        try:
            await app(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - raised below, without an exception group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _cancel_at_disconnect(receive: Receive, response: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    response.cancel()
