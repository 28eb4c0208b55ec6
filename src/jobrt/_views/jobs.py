"""Say how a running job stands, and do something to jobs that are named one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobrt._core.states import State
from jobrt._views.words import PHASES, notice_words
from jobrt.errors import JobNotFound, JobrtError, JobStateError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from jobrt._client import Client
    from jobrt._core.job import JobRecord
    from jobrt._storage.contract import WorkerRow

__all__ = ["cancelling", "one_by_one", "phases", "told"]


def phases(workers: Iterable[WorkerRow]) -> Mapping[int, str]:
    """Return how far cancellations have come, by the job's id, as the workers say."""
    return {
        int(job): phase
        for row in workers
        for queue in row.info.get("queues", {}).values()
        for job, phase in queue.get("cancelling", {}).items()
    }


def cancelling(job: JobRecord, known: Mapping[int, str]) -> str:
    """Return how far the cancellation of a running job has come, in words; empty if nobody wishes that."""
    if job.state is not State.EXECUTING or job.cancel_reason is None:
        return ""
    return PHASES.get(known.get(job.id), "")


def told(job: JobRecord, workers: Iterable[WorkerRow]) -> Iterator[str]:
    """Return what the watchdog of a running job's worker saw of it, in words."""
    if job.state is State.EXECUTING:
        for row in workers:
            if row.id == job.worker:
                yield from (
                    notice_words(one) for one in row.info.get("notices", ()) if one.get("job") == job.id
                )


async def one_by_one(
    jobs: Client, ids: Iterable[int], does: Callable[[Client, int], Awaitable[int]]
) -> tuple[int, list[JobrtError]]:
    """Do something to jobs named by id; return to how many it was done, and why not to the others."""
    count, refused = 0, list[JobrtError]()
    for job_id in dict.fromkeys(ids):
        try:
            count += await does(jobs, job_id)
        except (JobNotFound, JobStateError) as error:
            refused.append(error)
    return count, refused
