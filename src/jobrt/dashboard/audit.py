"""What operators did: who, what, when and why.

Each action is a line of the log `jobrt.dashboard`, and an entry in the stream of each job that it is about. The newest
are also kept in memory, for the page of actions.
"""

import base64
import logging
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import attrs
from starlette.requests import Request

from jobrt._client import Client
from jobrt._client.observing import note_action
from jobrt._core.escape import printable
from jobrt.errors import StorageError

_KEPT: Final = 1000
_log = logging.getLogger("jobrt.dashboard")


@attrs.frozen
class Action:
    """An action of an operator; ``jobs`` are those in whose streams it stands."""

    at: datetime
    who: str
    what: str
    why: str
    jobs: tuple[int, ...] = ()


@attrs.define(eq=False)
class Audit:
    """The newest actions since this dashboard started."""

    _client: Client
    _actions: deque[Action] = attrs.field(factory=lambda: deque[Action](maxlen=_KEPT), init=False)

    async def note(self, request: Request, what: str, *, why: str = "", jobs: Sequence[int] = ()) -> None:
        """Log an action that was carried out, and keep it; a database that does not store it undoes nothing."""
        action = Action(datetime.now(UTC), operator(request), what, why, tuple(jobs))
        self._actions.append(action)
        because = f": {why}" if why else ""
        _log.info("%s", printable(f"{action.who} {what}{because}"))
        try:
            await note_action(self._client, jobs, who=action.who, what=what, why=why)
        except StorageError as error:
            _log.warning("the action is not stored with its jobs: %s", printable(str(error)))

    def newest(self) -> list[Action]:
        """Return the actions, newest first."""
        return list(reversed(self._actions))


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
