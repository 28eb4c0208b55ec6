"""Status of queues, cron entries and running jobs, and operations on several jobs."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import attrs

from jobrt._client import Client
from jobrt._core.cron import CronEntry, next_tick
from jobrt._core.job import JobRecord
from jobrt._core.queues import QueueStatus
from jobrt._core.states import HELD, State
from jobrt._storage.contract import CronRow, WorkerRow
from jobrt._views.words import PHASES, notice_in_words
from jobrt.errors import JobNotFound, JobrtError, JobStateError


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


def view_queues(queues: Iterable[QueueStatus], workers: Iterable[WorkerRow]) -> list[QueueView]:
    """Return a view of each queue, including queues that have nothing but a live worker."""
    alive = [worker.info for worker in workers if worker.alive]
    known = {name: QueueStatus(name=name) for info in alive for name in info.queues}
    known |= {status.name: status for status in queues}
    views: list[QueueView] = []
    for name in sorted(known):
        slots = [info.queues[name].concurrency for info in alive if name in info.queues]
        views.append(QueueView(known[name], len(slots), sum(slots)))
    return views


@attrs.frozen
class CronView:
    """Cron entry with its last and next tick; a non-empty ``error`` says why it cannot tick."""

    name: str
    job: str
    schedule: str
    last: datetime | None
    upcoming: datetime | None = None
    missed: str = ""
    paused: bool = False
    error: str = ""


def view_cron(row: CronRow, now: datetime) -> CronView:
    """Return the view of a stored entry, including an entry with an invalid definition."""
    try:
        entry = CronEntry.from_spec(row.name, row.spec, paused=row.paused, anchor=row.created_at)
        upcoming = next_tick(entry, now)
    except JobrtError as error:
        return CronView(row.name, str(row.spec.get("job")), "", row.last_tick, error=str(error))
    return CronView(row.name, entry.job, entry.schedule, row.last_tick, upcoming, entry.missed, row.paused)


def cancel_phases(workers: Iterable[WorkerRow]) -> Mapping[int, str]:
    """Return the phase of each cancellation that the workers report, by job id."""
    queues = (queue for row in workers for queue in row.info.queues.values())
    return {job: phase for queue in queues for job, phase in queue.cancelling.items()}


def cancel_phase(job: JobRecord, reported: Mapping[int, str]) -> str:
    """Return the phase of cancelling a running job in words, or ``""`` if it is not being cancelled."""
    if job.state not in HELD or job.cancel_reason is None:
        return ""
    return PHASES.get(reported.get(job.id), "")


def watchdog_notices(job: JobRecord, workers: Sequence[WorkerRow]) -> Iterator[str]:
    """Return the notices about a running job from its worker's watchdog, in words."""
    if job.state is State.EXECUTING:
        notices = (notice for row in workers if row.id == job.worker for notice in row.info.notices)
        yield from (notice_in_words(notice) for notice in notices if notice.job == job.id)


async def apply_to_each(
    jobs: Client, ids: Iterable[int], operation: Callable[[Client, int], Awaitable[int]]
) -> tuple[int, dict[int, JobrtError]]:
    """Apply an operation to each job id; return how many jobs it changed, and the errors of refused jobs by id."""
    count, refused = 0, dict[int, JobrtError]()
    for job_id in dict.fromkeys(ids):
        try:
            count += await operation(jobs, job_id)
        except (JobNotFound, JobStateError) as error:
            refused[job_id] = error
    return count, refused
