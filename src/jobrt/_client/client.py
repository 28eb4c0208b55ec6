"""Enqueue jobs, look at them, change them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Unpack

import attrs
import trio

from jobrt._client.handle import Handle
from jobrt._client.totals import ALL_TIME, JobTotals, add_up
from jobrt._client.waiting import Waiting
from jobrt._core.cron import CronEntry, edit
from jobrt._core.states import FINAL
from jobrt._core.where import Where
from jobrt._core.where import id as where_id
from jobrt._registry import changed_job, new_job
from jobrt.errors import CronNotFound, InvalidFilter, InvalidSetting, JobNotFound, JobStateError
from jobrt.events import Emitter, JobEnqueued

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from jobrt._core.cron import Missed
    from jobrt._core.job import JobRecord, NewJob
    from jobrt._core.keep import PruneRule
    from jobrt._core.queues import QueueStatus
    from jobrt._core.stats import Bucket
    from jobrt._registry import EnqueueKeywords, Job, JobWithOptions, Registry
    from jobrt._storage.contract import CronRow, Inserted, Storage, WorkerRow

__all__ = ["Client", "open_client"]

_CHUNK = 10_000
"""Jobs per insert of `enqueue_many`: a few statements, and no transaction that lasts a second."""
_BATCH = 1000
"""Jobs that one statement of a bulk operation changes, so that it never holds many locks for long."""


@attrs.define(eq=False)
class Client:
    """What ``App.open_client`` gives: enqueue, look, manage. Every method is a checkpoint.

    Any method may raise `StorageUnavailable` (trying again later can help) or `StorageError`.
    """

    _storage: Storage
    _registry: Registry
    _rules: Sequence[PruneRule]
    _emit: Emitter
    _waiting: Waiting

    @property
    def registry(self) -> Registry:
        """Return the job classes that this client knows."""
        return self._registry

    # ------------------------------------------------------------------ enqueue

    async def enqueue(
        self, job: Job | JobWithOptions[Any], *, conn: object = None, **options: Unpack[EnqueueKeywords]
    ) -> Handle:
        """Put a job into the database and return a handle to it.

        Args:
            job: a job value, or one with options (``job.with_options(...)``); options given here win over those.
            conn: a connection of yours, in whose open transaction the insert happens.
            options: ``queue``; ``priority`` (higher runs first); ``max_attempts`` (None: no limit);
            ``timeout`` (seconds
                or timedelta for one attempt); ``schedule_at`` (aware) or ``schedule_in`` (seconds or timedelta from the
                database's now); ``tags``; ``metadata`` (JSON-able); ``context`` (why the job exists);
                ``unique`` (instead of the job's ``UNIQUE``; None: none).

        Raises:
            InvalidJob: a value does not fit; names the field. Nothing was stored.
            UnknownJob: the app does not know this job class.

        """
        new = new_job(self._registry, job, **options)
        return (await self._insert([new], conn))[0]

    async def enqueue_many(
        self, jobs: Iterable[Job | JobWithOptions[Any]], *, conn: object = None
    ) -> list[Handle]:
        """Put any number of jobs in with few statements; return handles in input order.

        Without `conn`, each ten thousand commit together.

        Raises:
            InvalidJob: a value does not fit; names the field. Nothing was stored, of any of the jobs.

        """
        new = [new_job(self._registry, job) for job in jobs]
        handles: list[Handle] = []
        for start in range(0, len(new), _CHUNK):
            handles += await self._insert(new[start : start + _CHUNK], conn)
        if not new:
            await trio.lowlevel.checkpoint()
        return handles

    async def _insert(self, new: Sequence[NewJob], conn: object) -> list[Handle]:
        inserted = await self._storage.jobs.insert(new, conn=conn)
        if self._emit.subscribers and conn is None:
            self._tell(new, inserted)
        return [Handle(one.id, one.duplicate, self) for one in inserted]

    def _tell(self, new: Sequence[NewJob], inserted: Sequence[Inserted]) -> None:
        groups: dict[tuple[str, str, bool], list[int]] = {}
        for job, one in zip(new, inserted, strict=True):
            groups.setdefault((job.name, job.queue, one.duplicate), []).append(one.id)
        for (name, queue, duplicate), ids in groups.items():
            self._emit.routine(JobEnqueued(name, queue, tuple(ids), duplicate))

    # ------------------------------------------------------------------ look

    def handle(self, job_id: int) -> Handle:
        """Return a handle for a job of that id, whether or not it exists."""
        return Handle(job_id, duplicate=False, client=self)

    async def get(self, job_id: int) -> JobRecord:
        """Return a job; raise `JobNotFound`."""
        record = await self._storage.jobs.get(job_id)
        if record is None:
            raise _not_found(job_id)
        return record

    async def query(
        self,
        where: Where | None = None,
        *,
        order_by: str = "-id",
        limit: int | None = 100,
        after: int | None = None,
        details: bool = True,
    ) -> list[JobRecord]:
        """Return the jobs that match, the newest first unless told otherwise, at most `limit`.

        ``order_by``: ``id, schedule_at, created_at, finished_at, priority``, a ``-`` in front for descending.
        ``after``: the id of
        the last job of the page before. ``details=False`` leaves out attempts, results and progress (faster).
        """
        return list(
            await self._storage.jobs.query(
                _where(where), order_by=order_by, limit=limit, after=after, details=details
            )
        )

    async def count(self, where: Where | None = None, *, most: int | None = None) -> int:
        """Return how many jobs match, at most `most`: counting no further is quick, however many there are."""
        return await self._storage.jobs.count(_where(where), limit=most)

    async def wait(self, job_id: int) -> None:
        """Wait until a job is final; raise `JobNotFound` if it is not there."""
        await self._waiting.wait(job_id)

    # ------------------------------------------------------------------ manage

    async def cancel(self, job: int | Where, reason: str = "") -> int:
        """Cancel a job, or all that match; running ones are cancelled wherever they run. Returns how many.

        Raises:
            JobNotFound: an id that is not there.
            JobStateError: an id of a job that is final already.

        """
        waiting, running = await self._storage.jobs.cancel(_one_or_many(job), reason)
        if isinstance(job, int) and not waiting + running:
            record = await self.get(job)
            if record.state in FINAL:
                msg = f"job {job} ({record.name}) is {record.state} already: there is nothing to cancel"
                raise JobStateError(msg)
        return waiting + running

    async def rerun(self, job: int | Where) -> int:
        """Run a final job again, or all that match, with one more attempt if theirs are used up. Returns how many.

        Raises:
            JobNotFound: an id that is not there.
            JobStateError: an id of a job that is not final; a running one is refused.

        """
        count = await self._storage.jobs.rerun(_one_or_many(job))
        if isinstance(job, int) and not count:
            record = await self.get(job)
            msg = f"job {job} ({record.name}) is {record.state}: only a job that has ended can be run again"
            raise JobStateError(msg)
        return count

    async def update(self, job: int | Where, **changes: Any) -> int:
        """Change a waiting job, or all that match, and return how many.

        Takes queue, priority, max_attempts, timeout, schedule_at, schedule_in, tags, metadata, context, and ``args``: a
        job value of the same class, or a dict of all its fields (checked against the class if the app knows it).

        Raises:
            InvalidJob: a value does not fit.
            JobNotFound: an id that is not there.
            JobStateError: an id of a job that is running or final.

        """
        name = (await self.get(job)).name if isinstance(job, int) else None
        count = await self._storage.jobs.update(_one_or_many(job), changed_job(self._registry, name, changes))
        if isinstance(job, int) and not count:
            record = await self.get(job)
            msg = f"job {job} ({record.name}) is {record.state}: only a waiting job can be changed"
            raise JobStateError(msg)
        return count

    async def delete(self, job: int | Where) -> int:
        """Delete a job, or all that match, and return how many. A running one's outcome is refused later.

        Raises:
            JobNotFound: an id that is not there.

        """
        total = 0
        while True:
            count = await self._storage.jobs.delete(_one_or_many(job), limit=_BATCH)
            total += count
            if count < _BATCH:
                break
        if isinstance(job, int) and not total:
            raise _not_found(job)
        return total

    async def prune(self) -> int:
        """Apply the app's retention now and return how many jobs were deleted."""
        total = 0
        while count := await self._storage.jobs.prune(self._rules, limit=_BATCH):
            total += count
        return total

    async def failed(self) -> list[JobRecord]:
        """Return the dead letters, the newest first, at most a hundred: for tests, empty is good."""
        from jobrt._core.where import state  # noqa: PLC0415 - a name that would hide too much up there

        return await self.query(state("discarded"))

    # ------------------------------------------------------------------ queues, workers, cron, statistics

    async def queues(self, *, most: int | None = None) -> list[QueueStatus]:
        """Return every queue that has settings or unfinished jobs.

        With `most`, so many due jobs of each priority are counted, and as many that wait for their time: that is quick,
        however many there are. ``more`` tells where there are more of them, ``names`` what the due ones are called.
        """
        return list(await self._storage.queues.all(limit=most))

    async def pause(self, queue: str) -> None:
        """Let no worker claim from the queue, until it is resumed; running jobs go on."""
        await self._storage.queues.set(_queue(queue), paused=True)

    async def resume(self, queue: str) -> None:
        """Let workers claim from the queue again."""
        await self._storage.queues.set(_queue(queue), paused=False)

    async def scale(self, queue: str, concurrency: int | None) -> None:
        """Change how many jobs each worker runs at once; ``None``: as configured."""
        if concurrency is not None and (isinstance(concurrency, bool) or concurrency < 1):
            msg = (
                f"queue {queue!r} cannot be scaled to {concurrency!r}: give a number above zero, or pause it"
            )
            raise InvalidSetting(msg)
        await self._storage.queues.set(
            _queue(queue), concurrency="default" if concurrency is None else concurrency
        )

    async def workers(self) -> list[WorkerRow]:
        """Return the workers that are alive or await rescue, with their supervision trees."""
        return list(await self._storage.workers.all())

    async def crons(self) -> list[CronRow]:
        """Return the cron entries."""
        return list(await self._storage.crons.all())

    async def pause_cron(self, name: str) -> None:
        """Let a cron entry tick no more, until it is resumed; raise `CronNotFound` for an unknown one."""
        await self._edit_cron(name, paused=True)

    async def resume_cron(self, name: str) -> None:
        """Let a cron entry tick again, from now on; raise `CronNotFound` for an unknown one."""
        await self._edit_cron(name, paused=False)

    async def update_cron(
        self,
        name: str,
        *,
        expression: str | None = None,
        interval: timedelta | float | None = None,
        timezone: str | None = None,
        missed: Missed | None = None,
        args: Mapping[str, Any] | None = None,
    ) -> None:
        """Change a cron entry at run time, for all workers; what is None stays as it is.

        It holds over restarts, until the code that declares the entry says something else than it says now.

        Args:
            name: the entry's name.
            expression: tick by this cron expression.
            interval: or every so many seconds (or a timedelta).
            timezone: whose clock the expression means.
            missed: what becomes of missed ticks.
            args: the payload of its jobs.

        Raises:
            CronNotFound: there is no such entry.
            InvalidSetting: it could not tick; names the field. Nothing was changed.

        """
        changes = {
            "expression": expression,
            "interval": interval,
            "timezone": timezone,
            "missed": missed,
            "args": args,
        }
        given: dict[str, Any] = {key: value for key, value in changes.items() if value is not None}
        if len(given.keys() & {"expression", "interval"}) == 1:  # either takes the place of the other
            given = {"expression": None, "interval": None, **given}
        await self._edit_cron(name, **given)

    async def delete_cron(self, name: str) -> None:
        """Remove a cron entry; raise `CronNotFound` for an unknown one. A worker that declares it adds it again."""
        if not await self._storage.crons.delete(name):
            raise _no_cron(name)

    async def _edit_cron(self, name: str, **changes: Any) -> None:
        row = next((row for row in await self._storage.crons.all() if row.name == name), None)
        if row is None:
            raise _no_cron(name)
        entry = CronEntry.from_spec(name, row.spec, paused=row.paused, anchor=row.created_at)
        edited = edit(entry, now=await self._storage.schema.now(), **changes)
        if not await self._storage.crons.set(name, paused=edited.paused, spec=edited.spec()):
            raise _no_cron(name)

    async def stats(self, *, since: datetime) -> list[Bucket]:
        """Return what was enqueued, completed, failed and discarded, by hour, queue and name."""
        return list(await self._storage.jobs.stats(since=since))

    async def totals(self, *, since: datetime | None = None) -> list[JobTotals]:
        """Return, by queue and name, what was counted this hour, today, this month (in UTC) and in all time.

        Jobs that were deleted or pruned count. ``since`` (aware) bounds what is read, and so what "all time" is.
        """
        now = await self._storage.schema.now()
        return add_up(await self._storage.jobs.stats(since=since or ALL_TIME), now=now)


@asynccontextmanager
async def open_client(
    storage: Storage, registry: Registry, *, rules: Sequence[PruneRule], emit: Emitter
) -> AsyncGenerator[Client]:
    """Open a client. An exception of the block comes out as it is, not in a group."""
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield Client(storage, registry, rules, emit, Waiting(storage, nursery))
            except BaseException as error:
                raised = error
                raise
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if raised is not None and group.exceptions == (raised,):
            raise raised from raised.__cause__
        raise


def _where(where: Where | None) -> Where:
    from jobrt._core.where import everything  # noqa: PLC0415 - as above

    if where is None:
        return everything()
    if not isinstance(where, Where):
        msg = f"{where!r} is not a filter: build one with jobrt.where"
        raise InvalidFilter(msg)
    return where


def _one_or_many(job: int | Where) -> Where:
    return where_id(job) if isinstance(job, int) else _where(job)


def _queue(name: str) -> str:
    if not name:
        msg = "a queue's name is a text, and not empty"
        raise InvalidSetting(msg)
    return name


def _not_found(job_id: int) -> JobNotFound:
    return JobNotFound(f"there is no job {job_id}")


def _no_cron(name: str) -> CronNotFound:
    return CronNotFound(f"there is no cron entry {name!r}")
