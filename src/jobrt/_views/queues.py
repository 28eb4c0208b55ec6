"""Status of queues: waiting jobs, running jobs, and the workers that serve them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from jobrt._core.queues import QueueStatus
from jobrt._storage.contract import WorkerRow


@attrs.frozen
class QueueView:
    """Queue with the number of live workers that serve it, and the slots that they have together."""

    status: QueueStatus
    workers: int
    slots: int

    @property
    def state(self) -> str:
        """Return ``served``, ``paused`` or ``no worker``, and the concurrency that it is scaled to."""
        status = self.status
        state = "paused" if status.paused else "served" if self.workers else "no worker"
        return state if status.concurrency is None else f"{state}, scaled to {status.concurrency}"


def view_queues(queues: Iterable[QueueStatus], workers: Sequence[WorkerRow]) -> list[QueueView]:
    """Return a view of each queue, including queues that have nothing but a live worker."""
    known = {status.name: status for status in queues}
    for worker in workers:
        for name in worker.info.queues if worker.alive else ():
            known.setdefault(name, QueueStatus(name=name))
    return [_view(known[name], workers) for name in sorted(known)]


def _view(status: QueueStatus, workers: Iterable[WorkerRow]) -> QueueView:
    serving = [
        worker.info.queues[status.name]
        for worker in workers
        if worker.alive and status.name in worker.info.queues
    ]
    return QueueView(status, len(serving), sum(queue.concurrency for queue in serving))
