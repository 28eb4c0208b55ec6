"""What operators did: who, what, when and why.

Each action is a line of the log `jobrt.dashboard`. The database keeps the newest of them. Those about a job are in its
stream, too.
"""

import base64
import logging
from collections.abc import Sequence

from starlette.requests import Request

from jobrt._client import Client
from jobrt._client.observing import note_action
from jobrt._core.escape import printable
from jobrt.errors import StorageError

_log = logging.getLogger("jobrt.dashboard")


def log_action(request: Request, what: str, *, why: str = "") -> None:
    """Log an action that was carried out."""
    because = f": {why}" if why else ""
    _log.info("%s", printable(f"{operator(request)} {what}{because}"))


async def note(
    client: Client,
    request: Request,
    what: str,
    *,
    why: str = "",
    jobs: Sequence[int] = (),
    cron: str | None = None,
) -> None:
    """Log an action on jobs, or one on a cron entry that concerns them, and store it.

    It was carried out; a database that does not store it undoes nothing.
    """
    log_action(request, what, why=why)
    try:
        await note_action(client, jobs, who=operator(request), what=what, why=why, cron=cron)
    except StorageError as error:
        _log.warning("the action is not stored: %s", printable(str(error)))


def operator(request: Request) -> str:
    """Return who sent a request: the name that they gave, and their address.

    A program around the dashboard that knows its users puts them into the scope, as Starlette's authentication does.
    The password of the dashboard is one for all, so the name that is sent with it is what an operator calls themselves.
    """
    name = getattr(request.scope.get("user"), "display_name", "") or _login_name(request)
    address = request.client.host if request.client is not None else ""
    return f"{name} ({address})" if name and address else name or address or "somebody"


def _login_name(request: Request) -> str:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(encoded, validate=True).partition(b":")[0].decode()[:100]
    except ValueError:
        return ""
