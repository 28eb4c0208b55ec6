"""Status of running jobs, and operations on several job ids."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

from jobrt._client import Client
from jobrt._core.job import JobRecord
from jobrt._core.states import State
from jobrt._storage.contract import WorkerRow
from jobrt._views.words import PHASES, notice_words
from jobrt.errors import JobNotFound, JobrtError, JobStateError


def cancel_phases(workers: Iterable[WorkerRow]) -> Mapping[int, str]:
    """Return the phase of each cancellation that the workers report, by job id."""
    return {
        job: phase
        for row in workers
        for queue in row.info.queues.values()
        for job, phase in queue.cancelling.items()
    }


def cancel_phase(job: JobRecord, reported: Mapping[int, str]) -> str:
    """Return the phase of cancelling a running job in words, or ``""`` if it is not being cancelled."""
    if job.state is not State.EXECUTING or job.cancel_reason is None:
        return ""
    return PHASES.get(reported.get(job.id), "")


def watchdog_notices(job: JobRecord, workers: Iterable[WorkerRow]) -> Iterator[str]:
    """Return the notices about a running job from its worker's watchdog, in words."""
    if job.state is State.EXECUTING:
        for row in workers:
            if row.id == job.worker:
                notices = row.info.notices
                yield from (notice_words(notice) for notice in notices if notice.job == job.id)


async def apply_to_each(
    jobs: Client, ids: Iterable[int], operation: Callable[[Client, int], Awaitable[int]]
) -> tuple[int, list[JobrtError]]:
    """Apply an operation to each job id; return how many jobs it changed, and the error of each refused job."""
    count, refused = 0, list[JobrtError]()
    for job_id in dict.fromkeys(ids):
        try:
            count += await operation(jobs, job_id)
        except (JobNotFound, JobStateError) as error:
            refused.append(error)
    return count, refused
