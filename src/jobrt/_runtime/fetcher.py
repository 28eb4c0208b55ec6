"""Claim jobs for one queue: wait for a reason, claim, hand over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import attrs
import trio

from jobrt._core.limits import demand
from jobrt._runtime.flag import Flag
from jobrt.errors import StorageError, StorageUnavailable
from jobrt.events import EventBus, JobsClaimed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobrt._core.job import Claimed, JobRef, Outcome
    from jobrt._core.limits import Demand
    from jobrt._runtime.outage import Backoff
    from jobrt._runtime.queue_state import QueueState
    from jobrt._storage.contract import Exchange, Storage

__all__ = ["Fetcher", "Outbox"]

_LARGEST_CLAIM = 1000
_MOST_PREFETCHED = 4000
_PREFETCH_WINDOW = 0.1
"""Seconds of work to hold beyond the free slots: nothing for slow jobs, thousands for no-ops.

A claim of a thousand takes 15 ms beside a busy worker. It is begun when half of this is left, so that the executors
never wait for it: with 2,000 jobs as the most to hold they were out of work half of the time.
"""
_LEAST_ELAPSED = 0.01
_LEAST_FINISHED = 10
"""What makes a sample of the rate: so many seconds, or so many jobs if all slots have had one."""


class Parcel(Protocol):
    """An outcome on its way, as the outbox hands it out."""

    @property
    def outcome(self) -> Outcome:
        """Return what is to be written."""
        ...


P = TypeVar("P", bound=Parcel)


class Outbox(Protocol[P]):
    """What the fetcher needs of the completer: to take pending outcomes along with a claim."""

    @property
    def crowded(self) -> bool: ...
    def take(self) -> list[P]: ...
    def settled(self, reports: Sequence[P], refused: Sequence[JobRef]) -> None: ...
    def put_back(self, reports: Sequence[P]) -> None: ...
    def rejected(self, reports: Sequence[P]) -> None: ...
    def known(self) -> list[JobRef]: ...
    def give_back(self, job: Claimed) -> None: ...


@attrs.define(eq=False)
class Fetcher:
    """Keep a queue's executors fed.

    One claim at a time; at load, when a large one would not fill what is to be held, two: the database works on one
    while the other's jobs travel. A claim whose reply was lost may have been committed: before the next one, alone, the
    storage is told which claims are known, and gives the others back.
    """

    queue: QueueState
    storage: Storage
    outbox: Outbox[Any]
    worker: Callable[[], str | None]
    names: tuple[str, ...]
    announce: Callable[[str, float], None]
    backoff: Backoff
    emit: EventBus
    _large: Flag = attrs.Factory(Flag)
    _rate: float = 0.0
    _measured_at: float = 0.0
    _seen: int = 0
    _taken: int = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Claim whenever woken, and at every poll interval, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._claim_ahead)
            task_status.started()
            self.queue.wake.set()
            while True:
                with trio.move_on_after(self.queue.settings.poll_interval) as poll:
                    await self.queue.wake.wait()
                if poll.cancelled_caught:
                    self._give_back_unused()
                while await self._fetch():
                    pass

    async def _claim_ahead(self) -> None:
        """Have a second claim under way while the first is answered, as long as there is work for both."""
        while True:
            await self._large.wait()
            while self._wants_second() and await self._fetch():
                pass

    def _wants_second(self) -> bool:
        return self.queue.more and not self.queue.doubts and self._room() >= _LARGEST_CLAIM

    async def _fetch(self) -> bool:
        """Claim once; say whether it is worth claiming again at once."""
        if self.queue.closed or self.queue.paused:
            self.give_back()
            self.queue.looked(0)
            return False
        worker = self.worker()
        if worker is None or self.outbox.crowded:
            return False
        wanted = self._demand(worker)
        if wanted.limit > 0:  # before the claim: a slot that becomes free during it is not for this claim
            self.queue.lacks(self._left_out(wanted, ()))
        if wanted.empty:
            self.queue.turns += 1  # for the watchdog: the fetcher is well, there is only nothing it may claim
            return False
        return await self._claim(wanted)

    async def _claim(self, wanted: Demand) -> bool:
        """Claim, and hand over what came; say whether it is worth claiming again at once."""
        again = True
        try:
            with self.queue.claiming(wanted) as scope:
                exchange = await self._exchange(wanted)
                again = exchange is None or self._hand_over(wanted, exchange)
        except StorageUnavailable as error:
            self.queue.wake.set()  # whoever comes next clears up what is in doubt
            await self.backoff.wait(error)
            return True
        if not scope.cancelled_caught:  # by a stop; the next look sees that the queue is closed
            self.backoff.reset()
        return again

    def _demand(self, worker: str) -> Demand:
        self.queue.low = self._prefetch() // 2
        room = min(self._room(), _LARGEST_CLAIM)
        return demand(
            worker,
            self.queue.name,
            settings=self.queue.settings,
            room=room,
            names=self.names,
            free=self.queue.limits.free(),
        )

    def _room(self) -> int:
        """Return how many jobs more the worker may hold, those counted that are being claimed."""
        return self.queue.concurrency + self._prefetch() - self.queue.held - sum(self.queue.claims.values())

    def _prefetch(self) -> int:
        """Return how many jobs to hold beyond the free slots: what the queue finishes in `_PREFETCH_WINDOW`."""
        now = trio.current_time()
        elapsed, finished = now - self._measured_at, self.queue.finished - self._seen
        if elapsed >= _LEAST_ELAPSED or finished >= max(_LEAST_FINISHED, self.queue.concurrency):
            self._rate = finished / max(elapsed, _LEAST_ELAPSED / 10)
            self._restart_measuring(now)
        return min(int(self._rate * _PREFETCH_WINDOW), _MOST_PREFETCHED)

    def _restart_measuring(self, now: float) -> None:
        self._measured_at, self._seen = now, self.queue.finished

    async def _exchange(self, wanted: Demand) -> Exchange | None:
        if self.queue.doubts:
            await self._clear_up(wanted.worker)
        if wanted.limit == _LARGEST_CLAIM and not wanted.clustered:
            self._large.set()
        reports = self.outbox.take()
        try:
            exchange = await self.storage.exchange([one.outcome for one in reports], wanted)
        except BaseException as error:
            self.queue.doubts += 1
            if reports and isinstance(error, StorageError) and not isinstance(error, StorageUnavailable):
                self.outbox.rejected(reports)  # one may be at fault, or the claim: the next one goes alone
                return None
            self.outbox.put_back(reports)
            raise
        self.outbox.settled(reports, exchange.refused)
        return exchange

    async def _clear_up(self, worker: str) -> None:
        """Have the database give back what it holds for this worker and the worker does not know of."""
        await self.queue.wait_alone()  # or the other claim's jobs would be given back as unknown
        known, doubts = self.queue.known() + self.outbox.known(), self.queue.doubts
        await self.storage.release_unknown(worker, self.queue.name, known)
        self.queue.doubts -= doubts  # what came into doubt meanwhile is for the next one

    def _hand_over(self, wanted: Demand, exchange: Exchange) -> bool:
        count = len(exchange.jobs)
        full, had_nothing_to_do = count >= wanted.limit, not (self.queue.more or self.queue.held)
        left_out = self._left_out(wanted, exchange.jobs)
        self.queue.more = full or wanted.clustered or bool(left_out)
        self.queue.lacks(left_out)
        self.queue.limits.take(exchange.jobs)
        if count:
            if had_nothing_to_do:  # that time says nothing about how quick these will be
                self._restart_measuring(trio.current_time())
            self.queue.offer(exchange.jobs)
            if self.queue.unwanted:
                for job in self.queue.withdraw_unwanted():
                    self.outbox.give_back(job)
            self.emit.routine(JobsClaimed(self.queue.name, wanted.limit, count))
        if exchange.next_due is not None:
            self.announce(self.queue.name, exchange.next_due)
        self.queue.looked(count)
        lost = self.worker() != wanted.worker  # these jobs may already be rescued, and then this is refused
        if self.queue.closed or self.queue.paused or lost:
            self.give_back()
            return False
        return full and len(self.queue.inbox) <= self.queue.low

    def _left_out(self, wanted: Demand, jobs: Sequence[Claimed]) -> set[str]:
        """Name the limited jobs that had no room left, so that the database may hold more of them."""
        if not self.queue.limits.most:
            return set()
        counts: dict[str, int] = {}
        for job in jobs:
            counts[job.name] = counts.get(job.name, 0) + 1
        room = {name for name, most in wanted.capped if counts.get(name, 0) < most}
        return set(self.queue.limits.most) - room

    def give_back(self, *, keep: int = 0) -> None:
        """Give back the claimed jobs that nobody has begun, but for the first `keep`."""
        for job in self.queue.withdraw(keep=keep):
            self.outbox.give_back(job)

    def _give_back_unused(self) -> None:
        """Give back what was claimed ahead and is not wanted soon: others may be free for it.

        The first jobs may have been quicker than those that followed them, or nothing is taken at all any more.
        """
        keep = self._prefetch() if self.queue.taken != self._taken else 0
        self._taken = self.queue.taken
        self.give_back(keep=keep)
