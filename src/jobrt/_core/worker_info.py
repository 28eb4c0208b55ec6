"""What a worker tells about itself: the frozen value that travels with its heartbeat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from jobrt._supervision.records import SupervisorStatistics

__all__ = ["Notice", "QueueInfo", "WorkerInfo"]


@attrs.frozen(kw_only=True)
class QueueInfo:
    """A queue as one worker serves it.

    ``running`` counts attempts under way, ``claimed`` jobs that the worker holds and has not begun, ``finished``
    attempts since its start. ``stuck`` are ids of jobs that the watchdog reported; ``cancelling`` tells how far the
    cancellation of a job has come: ``"received"``, ``"cleaning"`` or ``"stuck"``.
    """

    concurrency: int = 0
    running: int = 0
    claimed: int = 0
    finished: int = 0
    paused: bool = False
    stuck: tuple[int, ...] = ()
    cancelling: Mapping[str, str] = attrs.Factory(dict)


@attrs.frozen(kw_only=True)
class Notice:
    """What the watchdog reported ``ago`` seconds ago.

    ``what`` is ``"blocking"``, ``"uncancellable"`` or ``"slow"`` of the job ``job``, which was at ``at`` and has run
    for ``seconds``; or ``"stalled"`` of ``queue``, with ``due`` jobs and ``free`` slots.
    """

    what: str
    ago: float = 0.0
    job: int | None = None
    name: str | None = None
    seconds: float | None = None
    at: str | None = None
    queue: str | None = None
    due: int | None = None
    free: int | None = None


@attrs.frozen(kw_only=True)
class WorkerInfo:
    """A worker as it was at its last heartbeat.

    ``disconnected`` says that no wake-ups arrive, ``outage`` why the database cannot be used, if it cannot.
    ``pending_outcomes`` wait to be written; ``landed`` were written and ``refused`` not, since the lease was lost.
    """

    host: str = ""
    pid: int = 0
    name: str | None = None
    version: str = ""
    python: str = ""
    program: str = ""
    leader: bool = False
    disconnected: bool = False
    outage: str | None = None
    stopping: bool = False
    pending_outcomes: int = 0
    landed: int = 0
    refused: int = 0
    queues: Mapping[str, QueueInfo] = attrs.Factory(dict)
    notices: tuple[Notice, ...] = ()
    tree: SupervisorStatistics | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can carry it."""
        data = attrs.asdict(self, recurse=False)
        data["queues"] = {name: attrs.asdict(queue) for name, queue in self.queues.items()}
        data["notices"] = [
            attrs.asdict(notice, filter=lambda _field, value: value is not None) for notice in self.notices
        ]
        data["tree"] = None if self.tree is None else self.tree.to_dict()
        return data
