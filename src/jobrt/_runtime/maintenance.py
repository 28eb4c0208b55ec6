"""Actor that rescues the jobs of dead workers, prunes finished jobs, and reports what the database refuses."""

from collections.abc import Callable, Sequence

import attrs
import trio

from jobrt._core.keep import PruneRule
from jobrt._core.states import State
from jobrt._runtime.outage import Backoff
from jobrt._storage.apart import Aside
from jobrt._storage.contract import JobStore, WorkerStore
from jobrt.errors import StorageUnavailable
from jobrt.events import EventBus, JobRescued, JobSetAside, JobsPruned

_BATCH = 1000
_PRUNE_INTERVAL = 60.0
ROLE = "maintenance"


@attrs.define(eq=False, kw_only=True)
class Maintenance:
    """Actor that rescues and prunes, normally on one worker at a time.

    Leadership only saves work: two workers may safely rescue or prune at the same time. A long backlog is handled in
    batches, with checkpoints between them.
    """

    workers: WorkerStore
    jobs: JobStore
    worker: Callable[[], str]
    aside: Aside
    interval: float
    rules: Sequence[PruneRule]
    backoff: Backoff
    emit: EventBus
    term: int | None = None
    _pruned: float = float("-inf")

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Rescue and prune until cancelled."""
        task_status.started()
        while True:
            try:
                await self._round()
            except StorageUnavailable as error:
                self.term = None
                await self.backoff.wait(error)
            else:
                self.backoff.reset()
                await trio.sleep(self.interval)
            finally:
                self._report()

    async def _round(self) -> None:
        began = trio.current_time()
        trusted = 3 * self.interval
        self.term = await self.workers.lead(ROLE, self.worker(), seconds=trusted)
        if self.term is None:
            return
        while trio.current_time() < began + trusted and await self._rescue() == _BATCH:
            pass
        if began >= self._pruned + _PRUNE_INTERVAL:
            while trio.current_time() < began + trusted and await self._prune() == _BATCH:
                pass
            self._pruned = began

    async def _rescue(self) -> int:
        rescued = await self.workers.rescue(limit=_BATCH)
        for job in rescued:
            self.emit(JobRescued(job.id, job.name, job.queue, job.worker, State(job.state)))
        return len(rescued)

    async def _prune(self) -> int:
        count = await self.jobs.prune(self.rules, limit=_BATCH)
        if count:
            self.emit(JobsPruned(count))
        return count

    def _report(self) -> None:
        """Report the jobs that were set aside, whichever actor has met them."""
        for job in self.aside.take():
            self.emit(JobSetAside(job.id, job.doing, job.error))

    async def resign(self) -> None:
        """Give up leadership, so that another worker can lead immediately."""
        if self.term is not None:
            self.term = None
            await self.workers.resign(ROLE, self.worker())
