"""Findings about why nothing is running, from what the database and the workers tell."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import attrs

from jobrt._client import Client
from jobrt._core.health import QueueLoad, Vitals
from jobrt._core.queues import Queue, QueueStatus
from jobrt._storage.contract import CronRow, Storage, WorkerRow
from jobrt._supervision.decisions import ServiceState
from jobrt._supervision.records import ChildStatistics, SupervisorStatistics
from jobrt._views.limits import QueueLimits, blocking_limits, limits_of
from jobrt._views.words import age, count_in_words, notice_in_words, since, size

COUNT_LIMIT: Final = 10_000
"""Limit for counting jobs for display. Counting up to it takes milliseconds."""
SAMPLE: Final = 100
"""Due jobs of a queue whose names and keys are read."""
_LATE: Final = 0.5
"""Fraction of a lease without a heartbeat that is reported. A worker sends three heartbeats per lease."""
_WAITING: Final = 60
"""Seconds that a due job may wait while slots are free before it is reported: longer than a burst of jobs takes."""
_CLOCKS: Final = timedelta(seconds=5)
"""Difference between two clocks that is reported: more than a slow answer, less than a lease."""
_STEP: Final = timedelta(seconds=1)
"""Time that a heartbeat may lie in the future. The clock that stamps it is the one that it is compared with."""
_PENDING: Final = 1000
"""Outcomes that wait to be written before they are reported. A worker with ten times as many claims no more."""
_WAL: Final = 64 << 20
"""Size in bytes of a write-ahead log that is reported. SQLite itself starts anew at 4 MiB."""
_FREE_SHARE: Final = 0.05
_FREE: Final = 1 << 30
"""A disk is nearly full with less than this share, and less than so many bytes, free."""


@attrs.frozen
class Finding:
    """Result of one check, with the remedy if it is ``wrong``."""

    wrong: bool
    text: str


@attrs.frozen(kw_only=True)
class Snapshot:
    """State of the database and its workers at the time ``now`` of the database's clock.

    ``local`` is the time of this machine. ``refusal`` is why the database cannot be written, if it cannot. ``loads``
    has the jobs of those queues that have due jobs. ``payloads`` are findings about jobs that cannot be decoded.
    """

    workers: Sequence[WorkerRow]
    queues: Sequence[QueueStatus]
    crons: Sequence[CronRow]
    now: datetime
    local: datetime | None = None
    refusal: str | None = None
    vitals: Vitals = attrs.Factory(Vitals)
    loads: Mapping[str, QueueLoad] = attrs.Factory(dict)
    payloads: Sequence[Finding] = ()


async def take_snapshot(jobs: Client) -> Snapshot:
    """Read what costs milliseconds: the workers, queues and cron entries, with jobs counted up to `COUNT_LIMIT`."""
    now = await jobs.now()
    queues = await jobs.queues(limit=COUNT_LIMIT)
    return Snapshot(workers=await jobs.workers(), queues=queues, crons=await jobs.crons(), now=now)


async def read_loads(storage: Storage, snapshot: Snapshot) -> Mapping[str, QueueLoad]:
    """Read the jobs of the queues with due jobs, by the keys that their live workers report."""
    loads: dict[str, QueueLoad] = {}
    for queue in snapshot.queues:
        if queue.available or queue.retryable:
            limits = limits_of(queue.name, _serving(queue.name, snapshot.workers))
            loads[queue.name] = await storage.health.queue_load(queue.name, key=limits.key, limit=SAMPLE)
    return loads


def examine(
    snapshot: Snapshot,
    *,
    names: Collection[str],
    queues: Mapping[str, Queue] | None = None,
    address: str = "MODULE:ATTR",
) -> Iterator[Finding]:
    """Return the findings.

    Args:
        snapshot: what is known.
        names: jobs that the application defines; if empty, job names are not checked.
        queues: queues of the application; None without an application.
        address: the application, for commands that remedies name.

    """
    yield from examine_database(snapshot)
    command = f"`python -m jobrt --app {address} worker`"
    alive = [worker for worker in snapshot.workers if worker.alive]
    if alive:
        yield _fine(f"{count_in_words(len(alive), 'worker')} {'is' if len(alive) == 1 else 'are'} alive")
    else:
        yield _wrong(f"no worker is alive: start a worker with {command}")
    for worker in snapshot.workers:
        yield from examine_worker(worker, snapshot.now)
    for queue in snapshot.queues:
        load = snapshot.loads.get(queue.name, QueueLoad())
        if not (serving := _serving(queue.name, alive)) and _due(queue, load) and not queue.paused:
            yield _unserved(queue, load, queues=queues, command=command)
        else:
            yield _examine_queue(queue, load, limits_of(queue.name, serving))
        yield from _unknown_names(queue, names)
    for row in snapshot.crons:
        if "undecodable" in row.spec:
            yield _wrong(f"cron entry {row.name} cannot be read and does not tick: delete or declare it")
        elif row.paused:
            yield _fine(f"cron entry {row.name} is paused")
    yield from snapshot.payloads


def _fine(text: str) -> Finding:
    return Finding(wrong=False, text=text)


def _wrong(text: str) -> Finding:
    return Finding(wrong=True, text=text)


def _serving(queue: str, workers: Sequence[WorkerRow]) -> list[WorkerRow]:
    return [row for row in workers if row.alive and queue in row.info.queues]


# ---------------------------------------------------------------------- the database


def examine_database(snapshot: Snapshot) -> Iterator[Finding]:
    """Return what is wrong with the database, its disk and its clock."""
    if snapshot.refusal is not None:
        yield _wrong(f"the database cannot be written: {snapshot.refusal}")
    vitals = snapshot.vitals
    free, total = vitals.disk_free, vitals.disk_total
    if free is not None and total is not None and free < min(_FREE, total * _FREE_SHARE):
        left = f"{size(free)} of {size(total)} are free"
        yield _wrong(f"the disk of the database is nearly full, {left}: make room")
    if vitals.encoding is not None:
        remedy = "use a database that was created with ENCODING 'UTF8'"
        yield _wrong(
            f"the encoding of the database is {vitals.encoding}, which cannot store every text: {remedy}"
        )
    if vitals.wal is not None and vitals.wal > _WAL:
        reason = "somebody reads from it for long: end old connections and open transactions"
        yield _wrong(f"the write-ahead log of the database has grown to {size(vitals.wal)}: {reason}")
    yield from _examine_clocks(snapshot)


def _examine_clocks(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.local is not None and abs(difference := snapshot.local - snapshot.now) > _CLOCKS:
        judged = "times of jobs are judged by the database's"
        yield _wrong(f"this machine's clock is {_ahead(difference)} of the database's: set it; {judged}")
    ahead = max((row.beat_at - snapshot.now for row in snapshot.workers), default=timedelta())
    if ahead > _STEP:
        yield _wrong(
            f"the database's clock was set back by at least {age(ahead.total_seconds())}: until it is there again,"
            " due jobs wait longer and the jobs of dead workers are not rescued"
        )


def _ahead(difference: timedelta) -> str:
    return f"{age(abs(difference).total_seconds())} {'ahead' if difference > timedelta() else 'behind that'}"


# ---------------------------------------------------------------------- workers


def examine_worker(row: WorkerRow, now: datetime) -> Iterator[Finding]:
    """Return the problems of a worker."""
    worker, info = f"worker {row.id}", row.info
    if not row.alive:
        yield _wrong(f"{worker} is dead: its jobs run again when another worker is running")
        return
    if info.unreadable:
        parts = ", ".join(info.unreadable)
        yield _wrong(
            f"{worker}: of what it tells, {parts} cannot be read: its version differs, or its row is damaged"
        )
    if info.outage:
        yield _wrong(f"{worker} cannot reach the database: {info.outage}")
    if now - row.beat_at > _LATE * (row.expires_at - row.beat_at):
        silence = since(row.beat_at, now)
        yield _wrong(f"{worker} sent its last heartbeat {silence} ago: a job may be blocking its event loop")
    if info.clock is not None and abs(difference := info.clock - row.beat_at) > _CLOCKS:
        yield _wrong(f"{worker}: the clock of its machine is {_ahead(difference)} of the database's: set it")
    if info.pending_outcomes >= _PENDING:
        yield _wrong(f"{worker} cannot write its outcomes: {info.pending_outcomes} are pending; see its log")
    yield from _examine_claims(row)
    yield from _examine_notices(row)
    for child in _failed(info.tree):
        yield _wrong(f"{worker}: {child.name} has failed: {child.last_error}")


def _examine_claims(row: WorkerRow) -> Iterator[Finding]:
    for name, queue in row.info.queues.items():
        if queue.claim_error is not None:
            failing = f"cannot claim jobs of queue {name} since {age(queue.claim_failing)}"
            yield _wrong(f"worker {row.id} beats but {failing}: {queue.claim_error}")


def _examine_notices(row: WorkerRow) -> Iterator[Finding]:
    worker, notices = f"worker {row.id}", row.info.notices
    for notice in notices:
        hint = "" if notice.what == "hook" else "; see its log for the stack"
        yield _wrong(f"{worker}: {notice_in_words(notice)}{hint}")
    reported = {notice.job for notice in notices}
    for name, queue in row.info.queues.items():
        stuck = [job for job in queue.stuck if job not in reported]
        if stuck:
            ids = ", ".join(map(str, stuck))
            yield _wrong(f"{worker}: stuck jobs in queue {name}: {ids}; see its log for their stacks")


def _failed(tree: SupervisorStatistics | None) -> Iterator[ChildStatistics]:
    for child in () if tree is None else tree.children:
        if child.state is ServiceState.FAILED:
            yield child
        yield from _failed(child.nested)


# ---------------------------------------------------------------------- queues


def _due(queue: QueueStatus, load: QueueLoad) -> int:
    """Return the number of due jobs. The load counts due retries as well."""
    return max(queue.available, sum(load.due.values()))


def _examine_queue(queue: QueueStatus, load: QueueLoad, limits: QueueLimits) -> Finding:
    count = _due(queue, load)
    name, due = f"queue {queue.name}", count_in_words(count, "due job", more=queue.more)
    if queue.paused:
        remedy = f"resume it with `queues resume {queue.name}`"
        return Finding(bool(count), f"{name} is paused with {due}: {remedy}")
    if not count:
        return _fine(f"{name}: {due}, {queue.executing} running, {queue.scheduled} scheduled")
    oldest = f"the oldest due for {age(queue.oldest_due)}"
    if reasons := blocking_limits(queue, limits, load):
        return _fine(f"{name}: {due}, {oldest}; {'; '.join(reasons)}")
    free = count_in_words(limits.slots - queue.executing, "free slot")
    if (queue.oldest_due or 0) <= _WAITING:
        return _fine(f"{name}: {due}, {oldest}; {free}")
    reason = "no limit holds them, but no worker takes them: see the workers' logs"
    return _wrong(f"{name}: {due}, {oldest}; {free}; {reason}")


def _unserved(
    queue: QueueStatus, load: QueueLoad, *, queues: Mapping[str, Queue] | None, command: str
) -> Finding:
    """Return the finding about a queue with due jobs and without a worker, with the remedy that fits."""
    due = count_in_words(_due(queue, load), "due job", more=queue.more)
    if queues is None:
        remedy = "start a worker of an application that has this queue"
    elif queue.name in queues:
        remedy = f"start a worker that serves it: {command}"
    else:
        remedy = (
            "this application does not have it: correct the name, or start a worker of another application"
        )
    return _wrong(f"queue {queue.name}: {due}, but no live worker serves it: {remedy}")


def _unknown_names(queue: QueueStatus, names: Collection[str]) -> Iterator[Finding]:
    for name in sorted(set(queue.names) - set(names)) if names else ():
        waiting = f"queue {queue.name}: jobs named {name!r} are waiting"
        yield _wrong(f"{waiting}, but this application does not define them")
