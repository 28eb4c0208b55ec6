"""Workers in SQLite: heartbeats, leadership, and the rescue of jobs whose worker died."""

from collections.abc import Iterator, Sequence
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any, Final

import attrs

from jobrt._core import stored
from jobrt._core.attempts import state_after_crash
from jobrt._core.job import JobRef
from jobrt._core.states import End, State
from jobrt._core.worker_info import WorkerInfo
from jobrt._storage.apart import Aside, Refused
from jobrt._storage.beats import Beat, Beats, info_with
from jobrt._storage.contract import CancelRequest, Changes, NurseryEnding, QueueSettings, Rescued, WorkerRow
from jobrt._storage.sqlite.database import Database
from jobrt._storage.sqlite.family import end_jobs, settle
from jobrt._storage.sqlite.finish import record_attempts
from jobrt._storage.sqlite.rows import dumps, later, moment
from jobrt._storage.sqlite.savepoints import Apart
from jobrt._storage.sqlite.states import CODES
from jobrt._storage.sqlite.transaction import SQL, Transaction

_PAGE: Final = 1000


@attrs.frozen
class SqliteWorkers:
    """Implementation of `WorkerStore`."""

    _database: Database
    _beats: Beats
    _aside: Aside

    async def register(self, worker: str, *, lease: float, info: WorkerInfo) -> None:
        await self._database.write(partial(_register, worker=worker, lease=lease, info=info))
        self._beats.registered(worker)
        if self._database.registered is not None:
            self._database.registered.add(worker)

    async def beat(self, worker: str, *, lease: float, info: WorkerInfo) -> Changes:
        beat = self._beats.next(worker)
        call = partial(_beat, worker=worker, lease=lease, info=info, beat=beat)
        changes = await self._database.write(call, urgent=True)
        if changes.known:
            self._beats.answered(worker, beat)
        return changes

    async def changes(self, worker: str) -> Changes:
        return await self._database.read(partial(_changes, worker=worker))

    async def unregister(self, worker: str) -> None:
        await self._database.write(lambda tx: tx.run(SQL["workers/unregister"], (worker,)))
        self._beats.forget(worker)

    async def all(self) -> tuple[WorkerRow, ...]:
        return await self._database.read(all_workers)

    async def rescue(self, *, limit: int = 1000) -> tuple[Rescued, ...]:
        call = partial(_rescue, limit=limit, but=dumps(self._aside.but("rescue")))
        rescued, refused = await self._database.write(call)
        self._aside.put(refused)
        await self._database.shorten_log()  # here, because one worker calls this every few seconds
        return rescued

    async def lead(self, role: str, worker: str, *, seconds: float) -> int | None:
        return await self._database.write(partial(_lead, role=role, worker=worker, seconds=seconds))

    async def resign(self, role: str, worker: str) -> None:
        leader = {"role": role, "worker": worker}
        await self._database.write(lambda tx: tx.run(SQL["workers/resign"], leader))


def _register(tx: Transaction, worker: str, *, lease: float, info: WorkerInfo) -> None:
    tx.run(SQL["workers/register"], _row(tx, worker, lease=lease, info=info_with(info, 0)))


def _beat(tx: Transaction, worker: str, *, lease: float, info: WorkerInfo, beat: Beat) -> Changes:
    row = _row(tx, worker, lease=lease, info=info_with(info, beat.number))
    known = tx.run(SQL["workers/beat"], row | {"since": beat.since}) > 0
    return attrs.evolve(_changes(tx, worker), known=known)


def _row(tx: Transaction, worker: str, *, lease: float, info: dict[str, Any]) -> dict[str, Any]:
    return {"id": worker, "now": tx.now, "expires_at": later(tx.now, lease), "info": dumps(info)}


def _changes(tx: Transaction, worker: str) -> Changes:
    return Changes(
        known=bool(tx.value(SQL["workers/changes_known"], {"id": worker, "now": tx.now})),
        cancels=tuple(
            CancelRequest(JobRef(job_id, lease), reason, stop)
            for job_id, lease, reason, stop in tx.array(SQL["workers/changes_cancels"], {"worker": worker})
        ),
        nurseries=tuple(
            NurseryEnding(JobRef(job_id, lease), name)
            for job_id, lease, name in tx.array(SQL["workers/changes_nurseries"], {"worker": worker})
        ),
        queues=tuple(
            QueueSettings(name, paused=bool(paused), concurrency=stored.concurrency_of(concurrency))
            for name, paused, concurrency in tx.array(SQL["queues/settings"])
        ),
    )


def all_workers(tx: Transaction) -> tuple[WorkerRow, ...]:
    """Return all workers by id."""
    return tuple(
        WorkerRow(
            id=name,
            started_at=moment(started),
            beat_at=moment(beaten),
            expires_at=moment(expires),
            alive=expires > tx.now,
            info=WorkerInfo.from_json(info),
        )
        for name, started, beaten, expires, info in tx.array(SQL["workers/all"])
    )


def _lead(tx: Transaction, role: str, *, worker: str, seconds: float) -> int | None:
    request = {"role": role, "worker": worker, "now": tx.now, "expires_at": later(tx.now, seconds)}
    term: int | None = tx.value(SQL["workers/lead"], request)
    return term


# ---------------------------------------------------------------------- rescue


def _rescue(tx: Transaction, *, limit: int, but: str) -> tuple[tuple[Rescued, ...], list[Refused]]:
    apart = Apart(tx, "rescue")
    rescued: list[Rescued] = []
    for page in _orphans(tx, but):
        if len(rescued) == limit:
            break
        chosen = page[: limit - len(rescued)]
        for ended in apart(chosen, partial(_end_all, tx), job=attrgetter("id")):
            rescued += ended
    parked = tx.array(SQL["scopes/rescue_parked"], {"now": tx.now, "limit": limit, "but": but})
    apart(parked, partial(_free_parked, tx), job=itemgetter(0))
    tx.queues.update(job.queue for job in rescued if job.state == State.RETRYABLE)
    tx.news += [job.id for job in rescued]
    tx.run(SQL["workers/rescue_clean"], (tx.now,))
    return tuple(rescued), apart.refused


def _free_parked(tx: Transaction, found: Sequence[tuple[int, bool, int]]) -> None:
    """Let the jobs that a dead worker has parked wait on without it; one that is asked to stop ends."""
    given = {"ids": dumps([job_id for job_id, *_ in found])}
    freed = tx.rows(SQL["scopes/free_parked"], given)
    tx.run(SQL["scopes/unpark"], given)
    tx.queues.update(queue for queue, _ in freed)
    end_jobs(tx, [job_id for job_id, asked, _ in found if asked], reason="it was asked to stop")


@attrs.frozen
class _Orphan:
    """A running job without a live worker."""

    id: int
    name: str
    queue: str
    worker: str | None
    lease: int | None
    attempt: int
    max_attempts: int | None
    schedule_at: int
    started_at: int | None
    cancel_reason: str | None

    @property
    def state(self) -> State:
        """The state after the rescue."""
        return state_after_crash(self.attempt, self.max_attempts, cancel_asked=self.cancel_reason is not None)


def _orphans(tx: Transaction, but: str) -> Iterator[list[_Orphan]]:
    place = {"now": tx.now, "after": 0, "limit": _PAGE, "but": but}
    while page := tx.array(SQL["workers/rescue_find"], place):
        yield [_Orphan(*row) for row in page]
        place["after"] = page[-1][0]


def _end_all(tx: Transaction, orphans: Sequence[_Orphan]) -> list[Rescued]:
    rescued = [_end(tx, orphan) for orphan in orphans]
    settle(tx, [job.id for job in rescued if job.state != State.RETRYABLE])
    return rescued


def _end(tx: Transaction, orphan: _Orphan) -> Rescued:
    """End one job's attempt."""
    new = {
        "id": orphan.id,
        "lease": orphan.lease,
        "state": CODES[orphan.state],
        "finished_at": None if orphan.state is State.RETRYABLE else tx.now,
        "schedule_at": min(orphan.schedule_at, tx.now),
    }
    tx.run(SQL["workers/rescue_end"], new)
    # A damaged row, without a start, worker or lease, is rescued too.
    started = tx.now if orphan.started_at is None else orphan.started_at
    worker = stored.shown_text(orphan.worker or "")
    record = (orphan.attempt, End.CRASHED.value, started, tx.now, worker)
    message = f"worker {worker} died, or was away for longer than its lease"
    record_attempts(tx, [(orphan.id, orphan.lease or 0, *record, None, message, None)])
    return Rescued(orphan.id, orphan.name, orphan.queue, orphan.worker or "", orphan.state)
