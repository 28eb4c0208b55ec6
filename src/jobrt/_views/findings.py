"""Findings about why nothing is running, from the workers, queues and cron entries in the database."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

import attrs

from jobrt._client import Client
from jobrt._core.queues import QueueStatus
from jobrt._storage.contract import CronRow, WorkerRow
from jobrt._supervision.decisions import ServiceState
from jobrt._supervision.records import ChildStatistics, SupervisorStatistics
from jobrt._views.words import age, count_in_words, notice_in_words, since

COUNT_LIMIT: Final = 10_000
"""Limit for counting jobs for display. Counting up to it takes milliseconds."""
_LATE: Final = 0.5
"""Fraction of a lease without a heartbeat that is reported. A worker sends three heartbeats per lease."""
_WAITING: Final = 60
"""Seconds that a due job may wait while slots are free before it is reported: longer than a burst of jobs takes."""


@attrs.frozen
class Finding:
    """Result of one check, with the remedy if it is ``wrong``."""

    wrong: bool
    text: str


@attrs.frozen
class Snapshot:
    """Workers, queues and cron entries in the database."""

    workers: Sequence[WorkerRow]
    queues: Sequence[QueueStatus]
    crons: Sequence[CronRow]


async def take_snapshot(jobs: Client) -> Snapshot:
    """Read the workers, queues and cron entries. The jobs of a queue are counted up to `COUNT_LIMIT`."""
    return Snapshot(await jobs.workers(), await jobs.queues(limit=COUNT_LIMIT), await jobs.crons())


def examine(snapshot: Snapshot, *, names: Collection[str], now: datetime) -> Iterator[Finding]:
    """Return the findings. `names` are the jobs that the application defines; if empty, job names are not checked."""
    alive = [worker for worker in snapshot.workers if worker.alive]
    if alive:
        yield _fine(f"live workers: {len(alive)}")
    else:
        yield _wrong("no worker is alive: start a worker with `python -m jobrt --app MODULE:ATTR worker`")
    for worker in snapshot.workers:
        yield from examine_worker(worker, now)
    for queue in snapshot.queues:
        yield _examine_queue(queue, alive)
        yield from _unknown_names(queue, names)
    for row in snapshot.crons:
        if row.paused:
            yield _fine(f"cron entry {row.name} is paused")


def _fine(text: str) -> Finding:
    return Finding(wrong=False, text=text)


def _wrong(text: str) -> Finding:
    return Finding(wrong=True, text=text)


def examine_worker(row: WorkerRow, now: datetime) -> Iterator[Finding]:
    """Return the problems of a worker."""
    worker = f"worker {row.id}"
    if not row.alive:
        yield _wrong(f"{worker} is dead: its jobs run again when another worker is running")
        return
    if row.info.outage:
        yield _wrong(f"{worker} cannot reach the database: {row.info.outage}")
    if (now - row.beat_at) / (row.expires_at - row.beat_at) > _LATE:
        silence = since(row.beat_at, now)
        yield _wrong(f"{worker} sent its last heartbeat {silence} ago: a job may be blocking its event loop")
    notices = row.info.notices
    for notice in notices:
        yield _wrong(f"{worker}: {notice_in_words(notice)}; see its log for the stack")
    reported = {notice.job for notice in notices}
    for name, queue in row.info.queues.items():
        stuck = [job for job in queue.stuck if job not in reported]
        if stuck:
            ids = ", ".join(map(str, stuck))
            yield _wrong(f"{worker}: stuck jobs in queue {name}: {ids}; see its log for their stacks")
    for child in _failed(row.info.tree):
        yield _wrong(f"{worker}: {child.name} has failed: {child.last_error}")


def _failed(tree: SupervisorStatistics | None) -> Iterator[ChildStatistics]:
    for child in () if tree is None else tree.children:
        if child.state is ServiceState.FAILED:
            yield child
        yield from _failed(child.nested)


def _examine_queue(queue: QueueStatus, alive: Iterable[WorkerRow]) -> Finding:
    name, due = f"queue {queue.name}", count_in_words(queue.available, "due job", more=queue.more)
    serving = [row.info.queues[queue.name] for row in alive if queue.name in row.info.queues]
    if queue.paused:
        remedy = f"resume it with `queues resume {queue.name}`"
        return Finding(bool(queue.available), f"{name} is paused with {due}: {remedy}")
    if not queue.available:
        return _fine(f"{name}: {due}, {queue.executing} running, {queue.scheduled} scheduled")
    if not serving:
        remedy = "start a worker whose App(queues=…) includes it"
        return _wrong(f"{name}: {due}, but no live worker serves it: {remedy}")
    free = sum(info.concurrency for info in serving) - queue.executing
    slots = count_in_words(free, "free slot") if free > 0 else "all slots are busy"
    late = (queue.oldest_due or 0) > _WAITING and free > 0
    return Finding(late, f"{name}: {due}, the oldest due for {age(queue.oldest_due)}; {slots}")


def _unknown_names(queue: QueueStatus, names: Collection[str]) -> Iterator[Finding]:
    for name in sorted(set(queue.names) - set(names)) if names else ():
        waiting = f"queue {queue.name}: jobs named {name!r} are waiting"
        yield _wrong(f"{waiting}, but this application does not define them")
