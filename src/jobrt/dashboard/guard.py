"""Let in whom we know, and only what our own pages ask for; say what a browser may do with them.

Three attackers are kept out: a site whose page the operator visits (it can send forms, which differ from ours in their
origin alone); a name that is made to point here, under which a foreign page would be of the same origin (so names have
to be known); and, where others can reach us, those without the password.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs
import trio
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard", "host_name", "is_known_host", "is_same_origin"]

LOOKS: Final = frozenset({"GET", "HEAD"})
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",  # with none at all, browsers would not tell us our own forms' origin
    "x-content-type-options": "nosniff",
}


def host_name(value: str) -> str:
    """Return a ``Host`` header without its port."""
    name = urlsplit(f"//{value}").hostname if value else None
    return (name or "").rstrip(".")


def is_known_host(value: str, names: frozenset[str]) -> bool:
    """Say whether a ``Host`` header is one of ours: a known name, or an address, which nobody can point elsewhere."""
    try:
        name = host_name(value)
        if name in names or name == "localhost":
            return True
        ip_address(name)
    except ValueError:
        return False
    return True


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Say whether a request comes from our own pages, as its browser says; who says nothing does not."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    try:
        origin = urlsplit(headers.get("origin", "")).netloc
    except ValueError:
        return False
    return bool(origin) and origin.lower() == headers.get("host", "").lower()


@attrs.frozen
class Guard:
    """Stand before the pages, as an ASGI application.

    Args:
        app: the pages.
        hosts: names by which we may be asked.
        password: what a client has to know; None: nothing.
        read_only: refuse whatever is not a look.

    """

    app: ASGIApp
    hosts: frozenset[str] = frozenset()
    password: str | None = None
    read_only: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":  # we have nothing to start, and no sockets
            await self.app(scope, receive, send)
            return
        send = _with_headers(send)
        refusal = self._refusal(scope["method"], Headers(scope=scope))
        if refusal is not None:
            await refusal(scope, receive, send)
        elif scope["method"] in LOOKS:
            await _while_wanted(self.app, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if not is_known_host(host, self.hosts):
            name = host_name(host) if _readable(host) else ""
            return _refused(
                400,
                f"the dashboard is not known as {name!r}: allow it with --allow-host, or asgi(…, hosts=…)",
            )
        if self.password is not None and not self._knows(headers.get("authorization", "")):
            asking = {"www-authenticate": 'Basic realm="jobrt", charset="UTF-8"'}
            return PlainTextResponse("the dashboard needs its password\n", 401, asking)
        if method in LOOKS:
            return None
        if not is_same_origin(headers):
            return _refused(403, "this did not come from the dashboard's own pages: nothing was done")
        if self.read_only:
            return _refused(403, "the dashboard is read-only: nothing was done")
        return None

    def _knows(self, header: str) -> bool:
        """Say whether an ``Authorization`` header has the password, under any name, in constant time."""
        scheme, _, encoded = header.partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True) if scheme.lower() == "basic" else b""
        except binascii.Error:
            given = b""
        wanted = (self.password or "").encode()
        return hmac.compare_digest(_digest(given.partition(b":")[2]), _digest(wanted))


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()  # of one length, which so tells nothing


def _readable(host: str) -> bool:
    try:
        host_name(host)
    except ValueError:
        return False
    return True


def _refused(status: int, why: str) -> Response:
    return PlainTextResponse(f"{why}\n", status)


def _with_headers(send: Send) -> Send:
    """Return `send` with what every answer says to browsers."""

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return wrapped


async def _while_wanted(  # noqa: PLR0917 - the parameters of an ASGI application
    app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer for as long as the client is there; then whatever the answer waits for is cancelled."""
    failed: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
        try:
            await app(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - raised below, as it is instead of in a group
            failed = error
        nursery.cancel_scope.cancel()
    if failed is not None:
        raise failed


async def _until_gone(receive: Receive, answering: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    answering.cancel()
