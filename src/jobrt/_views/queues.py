"""Say how each queue stands: what waits, what runs, and who serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from jobrt._core.queues import QueueStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jobrt._storage.contract import WorkerRow

__all__ = ["QueueView", "view_queues"]


@attrs.frozen
class QueueView:
    """A queue, the live workers that serve it, and the attempts that they could run at once."""

    status: QueueStatus
    workers: int
    slots: int

    @property
    def state(self) -> str:
        """Say whether it is served: ``served``, ``paused``, ``nobody serves it``, and what it is scaled to."""
        status = self.status
        state = "paused" if status.paused else "served" if self.workers else "nobody serves it"
        return state if status.concurrency is None else f"{state}, scaled to {status.concurrency}"


def view_queues(queues: Iterable[QueueStatus], workers: Sequence[WorkerRow]) -> list[QueueView]:
    """Return the queues as people look at them, those too that have nothing but a live worker."""
    known = {one.name: one for one in queues}
    for worker in workers:
        for name in worker.info.get("queues", ()) if worker.alive else ():
            known.setdefault(name, QueueStatus(name=name))
    return [_view(known[name], workers) for name in sorted(known)]


def _view(queue: QueueStatus, workers: Iterable[WorkerRow]) -> QueueView:
    serving = [
        one.info["queues"][queue.name]
        for one in workers
        if one.alive and queue.name in one.info.get("queues", {})
    ]
    return QueueView(queue, len(serving), sum(one["concurrency"] for one in serving))
