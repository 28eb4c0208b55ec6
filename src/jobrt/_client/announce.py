"""Events about inserted jobs."""

from collections.abc import Sequence
from typing import Any

from jobrt._client.handle import Handle
from jobrt._core.job import NewJob
from jobrt._storage.contract import Inserted
from jobrt.events import EventBus, JobEnqueued


def announce(emit: EventBus, new: Sequence[NewJob], inserted: Sequence[Inserted | Handle[Any]]) -> None:
    """Emit a `JobEnqueued` for the inserted jobs of each name and queue."""
    groups: dict[tuple[str, str, bool], list[int]] = {}
    for job, row in zip(new, inserted, strict=True):
        groups.setdefault((job.name, job.queue, row.duplicate), []).append(row.id)
    for (name, queue, duplicate), ids in groups.items():
        emit.routine(JobEnqueued(name, queue, tuple(ids), duplicate))
