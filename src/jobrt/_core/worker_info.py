"""What a worker tells about itself: the frozen value that travels with its heartbeat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from jobrt._supervision.records import SupervisorStatistics

_MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What reading JSON of another shape than expected may raise."""


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
    cancelling: Mapping[int, str] = attrs.Factory(dict)


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
        data["queues"] = {name: _queue_to_dict(queue) for name, queue in self.queues.items()}
        data["notices"] = [
            attrs.asdict(notice, filter=lambda _field, value: value is not None) for notice in self.notices
        ]
        data["tree"] = None if self.tree is None else self.tree.to_dict()
        return data

    @classmethod
    def from_json(cls, text: str) -> WorkerInfo:
        """Return what a worker has stored, perhaps of another version: unknown keys are ignored.

        What cannot be read gives the defaults, since one such row must not hide the other workers.
        """
        try:
            return _read(json.loads(text))
        except _MALFORMED:
            return cls()


def _queue_to_dict(queue: QueueInfo) -> dict[str, Any]:
    data = attrs.asdict(queue)
    data["cancelling"] = {str(job): phase for job, phase in queue.cancelling.items()}
    return data


def _read(data: dict[str, Any]) -> WorkerInfo:
    tree = data.get("tree")
    return WorkerInfo(
        host=str(data.get("host", "")),
        pid=int(data.get("pid", 0)),
        name=_text(data.get("name")),
        version=str(data.get("version", "")),
        python=str(data.get("python", "")),
        program=str(data.get("program", "")),
        leader=bool(data.get("leader")),
        disconnected=bool(data.get("disconnected")),
        outage=_text(data.get("outage")),
        stopping=bool(data.get("stopping")),
        pending_outcomes=int(data.get("pending_outcomes", 0)),
        landed=int(data.get("landed", 0)),
        refused=int(data.get("refused", 0)),
        queues={str(name): _read_queue(queue) for name, queue in data.get("queues", {}).items()},
        notices=tuple(map(_read_notice, data.get("notices", ()))),
        tree=None if tree is None else SupervisorStatistics.from_dict(tree),
    )


def _read_queue(data: dict[str, Any]) -> QueueInfo:
    return QueueInfo(
        concurrency=int(data.get("concurrency", 0)),
        running=int(data.get("running", 0)),
        claimed=int(data.get("claimed", 0)),
        finished=int(data.get("finished", 0)),
        paused=bool(data.get("paused")),
        stuck=tuple(map(int, data.get("stuck", ()))),
        cancelling={int(job): str(phase) for job, phase in data.get("cancelling", {}).items()},
    )


def _read_notice(data: dict[str, Any]) -> Notice:
    return Notice(
        what=str(data["what"]),
        ago=float(data.get("ago", 0.0)),
        job=_number(data.get("job")),
        name=_text(data.get("name")),
        seconds=None if data.get("seconds") is None else float(data["seconds"]),
        at=_text(data.get("at")),
        queue=_text(data.get("queue")),
        due=_number(data.get("due")),
        free=_number(data.get("free")),
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _number(value: Any) -> int | None:
    return None if value is None else int(value)
