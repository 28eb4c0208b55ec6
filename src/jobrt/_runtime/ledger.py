"""State and decisions of a fetcher: which claims are open, how much to claim, when to claim again.

No clock, no Trio, no I/O: times are arguments.
"""

import math
from bisect import insort
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter, itemgetter

import attrs

from jobrt._core.job import Claimed, JobRef
from jobrt._core.limits import Demand
from jobrt._core.queues import Queue
from jobrt._runtime.chains import Chains, Link
from jobrt._runtime.held_texts import HeldTexts
from jobrt._runtime.messages import Batch, Holding, OutcomeBatch, Report, Settings
from jobrt._runtime.parked_jobs import ParkedJobs

LARGEST_CLAIM = 1000
UNSETTLED_LIMIT = 10_000
"""Outcomes of a queue that may wait to be written; at this number it stops claiming."""
_AHEAD_LIMIT = 4000
_AHEAD_GROWTH = 8
"""Factor by which each full claim may hold more ahead: the first samples are of a few jobs, and may mislead."""
_AHEAD_SECONDS = 0.05
"""Seconds of work to hold beyond the free slots: no job if jobs are slow, thousands if they are no-ops.

The rate is that of the executors at their best. With the mean rate, a worker on a busy machine made three times as many
claims, of 2 ms each.
"""
_SAMPLE_SECONDS = 0.1
_SAMPLE_ATTEMPTS = 10
"""Size of a sample of the rate: this many seconds, or this many attempts if every slot has finished one."""
_CAUTION = 4
"""Attempts that must end, for each job that was claimed ahead in vain, until jobs are claimed ahead again."""
_LOOK_EVERY = 0.04
"""Seconds between two looks for urgent jobs while others wait in the inbox."""
_PACED_SECONDS = 0.05
"""Seconds for which claimed jobs wait for their tokens when the next claim comes; with a token less, it comes late."""
_BATCHES_ON_THE_WAY = 8
"""More than the sent batches that can be between fetcher and executors: the channel's four, and one for each claim."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros_of(moment: datetime) -> int:
    """Return the microseconds from 1970 to an aware time."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


@attrs.frozen
class ClaimFailure:
    """Error of the last claim, and the time of the first claim in a row that failed."""

    error: str
    since: float


@attrs.define(eq=False)
class Ledger:
    """State of one queue's fetcher; it survives restarts of the fetcher.

    A claimed job is *open* from the reply to its claim until its outcome is settled. It is *held* until the executors
    return it. ``more``: the database may have due jobs for which the last claim had no room. ``unresolved``: the
    number of events after which the database may hold jobs for this worker that are unknown to the worker.
    ``cycles``: the number of fetches, including those for which nothing could be claimed.

    ``shown``: the open claims that the database shows as executing. They are counted from before the write until the
    outcome is settled, so there are never more in the database. ``starting``: those that claims under way will add.
    """

    settings: Queue
    concurrency: int = attrs.field(init=False)
    paused: bool = False
    held: int = 0
    claiming: int = 0
    more: bool = False
    unresolved: int = 0
    cycles: int = 0
    claimed: int = 0
    finished: int = 0
    claim_failure: ClaimFailure | None = None
    unsettled: int = 0
    shown: set[tuple[int, int]] = attrs.Factory(set[tuple[int, int]])
    starting: int = 0
    unsent: deque[Batch] = attrs.Factory(deque[Batch])
    paced: list[tuple[float, int, Claimed, str]] = attrs.Factory(list[tuple[float, int, Claimed, str]])
    """Claimed jobs whose tokens are not there yet: when by Trio's clock and by the storage's, the job, the worker."""
    chains: Chains | None = attrs.field(init=False)
    """The slots of limits that this worker has alone, and the jobs that were claimed ahead for them."""
    texts: HeldTexts = attrs.Factory(HeldTexts)
    beside: bool = False
    """Outcomes were written beside the last claim of a limited queue, which may have found their slots taken still."""
    parked: ParkedJobs = attrs.Factory(ParkedJobs)
    """Jobs that go on without a token; none, if starts take no tokens."""
    _open: dict[int, set[int]] = attrs.Factory(dict[int, set[int]])
    _returned: dict[int, OutcomeBatch] = attrs.Factory(dict)
    _recent: deque[Batch] = attrs.Factory(deque[Batch])
    _last_batch: int = 0
    _rate: float = 0.0
    _measured_at: float = 0.0
    _measured: int = 0
    _cautious_until: int = 0
    _ahead_limit: int = 1
    _most_at_once: int = 1
    """The most jobs that had a slot since the last sample, and before that: those of a limit may be few."""
    _slots: int = 1
    _looked_at: float = -math.inf

    def __attrs_post_init__(self) -> None:
        self.concurrency = self._ahead_limit = self.settings.concurrency
        self.chains = Chains.of(self.settings) if self.settings.has_chains else None

    def note_failure(self, error: str, now: float) -> None:
        """Note that a claim has failed; a claim that succeeds sets `claim_failure` to None."""
        failure = self.claim_failure
        self.claim_failure = ClaimFailure(error, now if failure is None else failure.since)

    # ------------------------------------------------------------------ how much to claim

    @property
    def crowded(self) -> bool:
        """Whether so many outcomes wait to be written that no more jobs should be claimed."""
        return self.unsettled >= UNSETTLED_LIMIT

    @property
    def idle(self) -> bool:
        """Whether no job is claimed, running, or waiting for its outcome to be written."""
        return not self._open and not self.claiming

    def prefetch(self, now: float) -> int:
        """Return how many jobs to hold beyond the free slots: what the queue finishes in a moment.

        None, if a slot does not finish a job in that time: those claimed ahead would wait for longer.
        """
        if self.settings.rated:  # such a job would take a token long before it starts
            return 0
        elapsed, finished = now - self._measured_at, self.finished - self._measured
        if elapsed >= _SAMPLE_SECONDS or finished >= max(_SAMPLE_ATTEMPTS, self.concurrency):
            self._rate = finished / max(elapsed, 0.001)
            self._measured_at, self._measured = now, self.finished
            if self.chains is not None:
                self._slots, self._most_at_once = self._most_at_once, max(self.sent, 1)
        ahead = int(self._rate * _AHEAD_SECONDS)
        if (
            ahead < (self.concurrency if self.chains is None else self._slots)
            or self.finished < self._cautious_until
        ):
            return 0
        return min(ahead, self._ahead_limit)

    def room(self, now: float) -> int:
        """Return how many more jobs may be claimed now."""
        if not (self.held or self.more):  # nothing is known of the jobs that come after an idle time
            self._measure_anew(now)
        if self.texts.full:
            return 0
        return self.concurrency + self.prefetch(now) - self.held - self.claiming

    @property
    def chained(self) -> int:
        """The number of jobs that wait for a slot of a limit."""
        return 0 if self.chains is None else self.chains.waiting

    @property
    def sent(self) -> int:
        """The number of jobs that were sent to the executors, or are about to be, and have not come back."""
        return self.held - self.chained

    def room_ahead(self, now: float) -> int:
        """Return how many jobs may be claimed for slots of limits that are taken."""
        if self.chains is None or self.texts.full:
            return 0
        return max(self.prefetch(now) - self.chains.waiting, 0)

    @property
    def _shown_limit(self) -> int:
        limit = self.settings.cluster_limit
        return self.concurrency if limit is None else min(self.concurrency, limit)

    def look_at(self) -> float:
        """Return when to look for urgent jobs although there is no room: those in the inbox should not go first.

        Never, if no job waits in the inbox. Then the next free slot is reason enough for a claim.
        """
        waits = self.sent > self.concurrency and not self.texts.full
        return self._looked_at + _LOOK_EVERY if waits else math.inf

    def note_look(self, now: float) -> None:
        """Note that a claim looks for urgent jobs."""
        self._looked_at = now

    def wants_refill(self, now: float) -> bool:
        """Return whether two thirds of the prefetched jobs are gone and the database may have more.

        If tokens have been taken for some time ahead, each slot that comes free would cost a claim for one more.
        """
        if self.chains is not None and not self.chains.low:
            return False
        if self.paced and self.paced[-1][0] - now > _PACED_SECONDS:
            return False
        return self.more and self.held - self.concurrency <= self.prefetch(now) // 3

    def wants_second_claim(self, now: float) -> bool:
        """Return whether to run a second claim beside a large one.

        Never while there are unresolved claims: they are reconciled only when no other claim is running.
        """
        return self.more and not self.unresolved and self.room(now) >= LARGEST_CLAIM

    def note_writes_beside(self, wanted: Demand, own: Iterable[OutcomeBatch]) -> None:
        """Note whether others write outcomes of a limited queue while a claim takes `own` along."""
        self.beside = wanted.clustered and self.unsettled > sum(len(batch.reports) for batch in own)

    def free_slots(self, wanted: Demand, taken: Iterable[OutcomeBatch]) -> int:
        """Return how many jobs of a claim that is under way begin at once, and may be shown as executing.

        The outcomes `taken` along are written with it, so the jobs that they end are no longer shown.
        """
        idle = self.concurrency - self.sent - (self.claiming - wanted.limit)
        if idle <= 0:
            return 0
        ended = sum(report.ref in self.shown for batch in taken for report in batch.reports)
        return max(min(idle, self._shown_limit - len(self.shown) - self.starting + ended), 0)

    def room_to_show(self) -> int:
        """Return how many more claims may be shown as executing.

        None while a reply is lost, which may have shown some.
        """
        return 0 if self.unresolved else max(self._shown_limit - len(self.shown) - self.starting, 0)

    # ------------------------------------------------------------------ life of a claimed job

    def accept(
        self,
        demand: Demand,
        jobs: tuple[Claimed, ...],
        *,
        left_out: bool,
        now: float,
        at: int = 0,
        keys: Mapping[int, str] | None = None,
    ) -> None:
        """Accept the jobs of a claim: make a batch of those that may start. `keys` is that of `Exchange`."""
        had_nothing_to_do = not (self.more or self.held)
        if demand.only_rated:  # a claim that finds no token tells when to look again
            self.more = len(jobs) >= demand.starting or left_out
        else:
            self.more = len(jobs) >= demand.limit or demand.clustered or left_out
        self.cycles += 1
        if self.chains is not None:
            self.chains.exhausted = len(jobs) < min(demand.limit, demand.ahead)
        if not jobs:
            return
        chained = self.chained
        if self.chains is None:
            self._hand_on(demand.worker, self._hold_back(demand, jobs, now=now, at=at), at=at, received=now)
        else:
            links = [Link(job, demand.worker, at, now) for job in jobs]
            self._start(self.chains.add(links, keys=keys or {}, now=now), now=now)
        if len(jobs) >= demand.limit or 0 < demand.ahead <= self.chained - chained:
            self._ahead_limit = min(_AHEAD_GROWTH * self._ahead_limit, _AHEAD_LIMIT)
        if (
            had_nothing_to_do
        ):  # the idle time says nothing about the rate, and the rate before it nothing of these
            self._measure_anew(now)
        self.held += len(jobs)
        self.texts.add(jobs)
        self._most_at_once = max(self._most_at_once, self.sent)
        self.claimed += len(jobs)
        self.shown.update((job.id, job.lease) for job in jobs if job.started_at is not None)
        for lease in {job.lease for job in jobs}:
            self._open[lease] = {job.id for job in jobs if job.lease == lease}

    def _hand_on(
        self, worker: str, jobs: tuple[Claimed, ...], *, at: int, received: float, sent: float = 0.0
    ) -> None:
        if not jobs:
            return
        self._last_batch += 1
        batch = Batch(self._last_batch, worker, jobs, at, received, sent)
        self._recent.append(batch)
        self.unsent.append(batch)
        while len(self._recent) > len(self.unsent) + _BATCHES_ON_THE_WAY:
            self._recent.popleft()

    def _start(self, links: Iterable[Link], *, now: float) -> None:
        """Make batches of jobs that have a slot now, one for each claim."""
        for (worker, at, received), group in groupby(links, key=attrgetter("worker", "at", "received")):
            jobs = tuple(link.job for link in group)
            self._hand_on(worker, jobs, at=at, received=received, sent=now)

    def _hold_back(
        self, demand: Demand, jobs: tuple[Claimed, ...], *, now: float, at: int
    ) -> tuple[Claimed, ...]:
        """Keep the jobs whose tokens are not there yet, and return the others."""
        if not demand.rated:
            return jobs
        ready: list[Claimed] = []
        for job in jobs:
            start = at if job.started_at is None else micros_of(job.started_at)
            if start <= at:
                ready.append(job)
            else:
                insort(self.paced, (now + (start - at) / 1e6, start, job, demand.worker), key=itemgetter(0))
        return tuple(ready)

    def next_start(self) -> float:
        """Return when the next job that waits for its token starts."""
        return self.paced[0][0] if self.paced else math.inf

    def release(self, now: float) -> None:
        """Make batches of the jobs whose tokens are there."""
        while self.paced and self.paced[0][0] <= now:
            received, at, job, worker = self.paced.pop(0)
            self._hand_on(worker, (job,), at=at, received=received)

    def drop_unsent(self) -> list[Claimed]:
        """Drop the batches that were not sent, and the jobs that wait for tokens or slots; return their jobs."""
        jobs = [job for batch in self.unsent for job in batch.jobs]
        jobs += [job for _, _, job, _ in self.paced]
        self.paced.clear()
        if self.chains is not None:
            jobs += self.chains.drop()
        for batch in self.unsent:
            self._recent.remove(batch)
        self.unsent.clear()
        return jobs

    def _measure_anew(self, now: float) -> None:
        self._rate, self._measured_at, self._measured = 0.0, now, self.finished
        self._ahead_limit = self.concurrency

    def set_back(self, unstarted: int, now: float) -> None:
        """Note that jobs came back unstarted: claim nothing ahead until many more have ended than were in vain."""
        self._measure_anew(now)
        self._cautious_until = self.finished + _CAUTION * unstarted

    def take_back(
        self, batch: OutcomeBatch | None, *, attempts: int, unheld: int = 0, now: float = 0.0
    ) -> None:
        """Note outcomes that the executors returned; `attempts` of them belong to ended attempts.

        `unheld` of them belong to parked attempts, whose jobs were returned before.
        """
        if batch is not None:
            self._free_slots([report.job for report in batch.reports], now=now)
            if self.settings.rated:
                self.parked.note(batch.reports)
        self.finished += attempts
        if batch is not None:
            self.held -= len(batch.reports) - unheld
            self.unsettled += len(batch.reports)
            self._returned[batch.number] = batch

    def withdraw(self, reports: Sequence[Report]) -> list[Claimed]:
        """Return the claims that wait for a slot here, of parked attempts that have ended under these claims."""
        if self.chains is None or not reports:
            return []
        return self.chains.withdraw([report.job for report in reports])

    def take_written(self, reports: Sequence[Report], *, now: float = 0.0) -> None:
        """Note outcomes that were written by the jobs' own transactions."""
        self.held -= len(reports)
        self.parked.forget(reports)
        self._free_slots([report.job for report in reports], now=now)
        self._close([report.job for report in reports])

    def _free_slots(self, jobs: Sequence[Claimed | JobRef], *, now: float) -> None:
        self.texts.remove(jobs)
        if self.chains is not None:
            self._start(self.chains.end(jobs), now=now)

    def settle(self, number: int, lost: Sequence[JobRef] = ()) -> None:
        """Note that a batch was written or refused; the jobs of lost outcomes must be reconciled."""
        batch = self._returned.pop(number)
        self.unsettled -= len(batch.reports)
        self._close([report.job for report in batch.reports])
        self.unresolved += len(lost)

    def _close(self, jobs: Iterable[Claimed | JobRef]) -> None:
        shown = self.shown
        for job in jobs:
            if shown:
                shown.discard((job.id, job.lease))
            ids = self._open.get(job.lease)
            if ids is not None:  # else the job was lost between fetcher and executors at a restart
                ids.discard(job.id)
                if not ids:
                    del self._open[job.lease]
                    self._forget_closed()

    def _forget_closed(self) -> None:
        """Forget the oldest batches without an open job: their payloads may be large."""
        while self._recent and not any(job.lease in self._open for job in self._recent[0].jobs):
            self._recent.popleft()

    def apply(self, settings: Settings) -> None:
        """Apply the settings of an operator."""
        self.paused, self.concurrency = settings.paused, settings.concurrency

    # ------------------------------------------------------------------ open claims

    def known(self) -> list[JobRef]:
        """Return every open claim."""
        return [JobRef(job_id, lease) for lease, ids in self._open.items() for job_id in ids]

    def compare(self, holding: Holding, *, now: float = 0.0) -> list[Claimed]:
        """Return the jobs that restarted executors hold or will receive.

        Open jobs that were lost between fetcher and executors are dropped and must be reconciled.
        """
        late = [job for batch in self._recent if batch.number > holding.last_batch for job in batch.jobs]
        returned = [report.job for batch in self._returned.values() for report in batch.reports]
        paced = [job for _, _, job, _ in self.paced]
        if self.chains is not None:
            paced += self.chains.jobs
        found = {(job.lease, job.id) for jobs in (holding.jobs, late, returned, paced) for job in jobs}
        lost = [ref for ref in self.known() if (ref.lease, ref.id) not in found]
        self.held -= len(lost)
        self.unresolved += bool(lost)
        self._free_slots(lost, now=now)
        self._close(lost)
        return [*holding.jobs, *late, *paced]
