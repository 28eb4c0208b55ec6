"""Updates about a job, as `Handle.follow` returns them. They are public."""

from datetime import datetime
from typing import Any, ClassVar

import attrs

from jobrt._records import Progress, State


@attrs.frozen
class Update:
    """Something that happened to a job. Base class of all updates.

    ``cursor`` is the number of the newest entry so far. Pass it as ``after`` to go on behind this update. ``kind`` is a
    short name: ``state``, ``progress``, ``log``, ``emit``, ``action`` or ``gap``.
    """

    kind: ClassVar[str] = "update"
    cursor: int

    def as_dict(self) -> dict[str, Any]:
        """Return the update as JSON values: its kind and its fields. Times are in ISO 8601."""
        fields = {name: _plain(value) for name, value in attrs.asdict(self).items()}
        return {"kind": self.kind, **fields}


@attrs.frozen
class StateChange(Update):
    """Change of the job's state. States in between may be skipped; a final one is the last update.

    ``attempt`` is the number of attempts used so far, one that runs included.
    """

    kind: ClassVar[str] = "state"
    state: State
    attempt: int


@attrs.frozen
class ProgressChange(Update):
    """Newest progress that the job reported. Values in between may be skipped."""

    kind: ClassVar[str] = "progress"
    progress: Progress


@attrs.frozen
class LogLine(Update):
    """Line of ``ctx.log``.

    Args:
        cursor: its number in the job's stream.
        at: when it was written, by the database's clock, give or take the time of a call. Order is by ``cursor``.
        attempt: number of the attempt that wrote it.
        level: name of its level in lower case, such as ``info``.
        message: its text.
        traceback: traceback of the exception, or None.

    """

    kind: ClassVar[str] = "log"
    at: datetime
    attempt: int
    level: str
    message: str
    traceback: str | None = None


@attrs.frozen
class Emitted(Update):
    """Value of ``ctx.emit``.

    Args:
        cursor: its number in the job's stream.
        at: when it was emitted, as for `LogLine`.
        attempt: number of the attempt that emitted it.
        value: the JSON value.
        key: the ``key`` of the call, or None.

    """

    kind: ClassVar[str] = "emit"
    at: datetime
    attempt: int
    value: Any
    key: str | None = None


@attrs.frozen
class OperatorAction(Update):
    """What an operator has done with the job, in the dashboard.

    Args:
        cursor: its number in the job's stream.
        at: when it was stored, by the database's clock.
        attempt: number of attempts that the job had used.
        who: name or address of the operator.
        what: what was done, such as ``cancelled job 7``.
        why: the reason that was given, or ``""``.

    """

    kind: ClassVar[str] = "action"
    at: datetime
    attempt: int
    who: str
    what: str
    why: str

    @property
    def words(self) -> str:
        """The action in one line."""
        return f"{self.who} {self.what}: {self.why}" if self.why else f"{self.who} {self.what}"


@attrs.frozen
class Gap(Update):
    """Entries that are not kept any more: ``missing`` of them, the last with the number ``cursor``."""

    kind: ClassVar[str] = "gap"
    missing: int


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, State) else value
