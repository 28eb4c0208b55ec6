"""The role of a storage for jobs: enqueue, read, change and delete."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol

from jobrt._core.job import JobRecord, NewJob
from jobrt._core.keep import PruneRule
from jobrt._core.stats import Bucket
from jobrt._core.where import Where
from jobrt._storage.observed import ObservedJobs
from jobrt._storage.values import Inserted, Records


class JobStore(ObservedJobs, Protocol):
    """Jobs as clients and operators use them: enqueue, read, change and delete."""

    async def insert(self, jobs: Sequence[NewJob], *, conn: object = None) -> tuple[Inserted, ...]:
        """Store jobs, in one transaction, and return the result for each, in input order.

        A job with a `UniqueKey` is not inserted if a job with the same digest counts as its duplicate. Duplicates
        within the batch count too. Any number of concurrent callers create exactly one row: an insert that
        meets an uncommitted equal one waits for it. A job due now is ``available``, a later one ``scheduled``.

        `conn` is a connection of the caller with an open transaction. Then everything happens inside it: if it is
        rolled back, nothing was enqueued and no worker is woken. Workers are woken after the commit, once per queue.
        """
        ...

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Open a transaction of the program's own and yield its connection, which has psycopg's asynchronous methods.

        At the end of the block it commits; an exception rolls it back. Jobs that were inserted with the connection
        as `conn` are part of it. On SQLite it is limited in time, as is `AttemptStore.transaction`.
        """
        ...

    async def get(self, job_id: int) -> JobRecord | None:
        """Return a job with all its details, or None."""
        ...

    async def query(
        self,
        where: Where,
        *,
        order_by: str = "-id",
        limit: int | None = None,
        after: int | None = None,
        details: bool = True,
    ) -> tuple[JobRecord, ...]:
        """Return the jobs that match.

        ``order_by`` is ``id, schedule_at, created_at, finished_at`` or ``priority``, with a ``-`` first for
        descending. Ids break ties in the same direction; rows without the time come last. ``after`` continues after
        the job with that id. ``details=False`` leaves out attempts, results, progress and checkpoints, and of large
        payloads all but the beginning. `jobrt._core.stored` says how unreadable values are shown.
        """
        ...

    async def records(self, ids: Sequence[int], *, parent: int | None = None) -> Records:
        """Return the records of jobs with all details, in the order of the ids; jobs that do not exist are left out.

        `parent` is the job that has enqueued them all, if the caller knows it: then it is not looked up for each.
        """
        ...

    async def count(self, where: Where, *, limit: int | None = None) -> int:
        """Return how many jobs match, at most `limit`."""
        ...

    async def cancel(self, where: Where, reason: str, *, limit: int | None = None) -> tuple[int, int]:
        """Cancel waiting jobs, request it for running ones, and return both numbers.

        Final jobs, and running ones that already have a request, are unchanged. A parked job is running. A job with
        living children becomes ``closing``, and counts as running too. So does one that is closing on its way to a
        retry: it is cancelled instead, when its children are over. Other closing jobs are unchanged.
        ``cancel_reason`` becomes `reason` immediately, storable and clipped (`jobrt._core.text`).
        """
        ...

    async def rerun(self, where: Where, *, limit: int | None = None) -> int:
        """Make final jobs available now, with one more attempt if all are used up; return how many.

        Result, cancel reason and finish time are cleared; attempts, checkpoint and steps stay. Jobs that are not
        final are unchanged, and so are children of a final parent. Nurseries are as after a failed attempt; deadlines
        that have passed are dropped.
        """
        ...

    async def update(self, where: Where, changes: Mapping[str, Any]) -> int:
        """Change waiting jobs and return how many; running and final ones are unchanged.

        Keys: queue, priority, max_attempts, schedule_at (aware datetime), delay (timedelta), args, metadata (JSON
        texts), tags, context, timeout (seconds).
        """
        ...

    async def delete(self, where: Where, *, limit: int | None = None) -> int:
        """Delete jobs, running ones too (their outcome is refused later); return how many.

        A job with living descendants is left alone. The families of the others are deleted with them.
        """
        ...

    async def prune(self, rules: Sequence[PruneRule], *, limit: int = 10_000) -> int:
        """Delete final jobs as the rules say, at most `limit`; call again while it returns `limit`.

        A child is not pruned before its parent.
        """
        ...

    async def await_final(self, ids: Sequence[int]) -> Mapping[int, str | None]:
        """Return each job's state (None: no such job).

        Also requests a ``finished`` wake for when the others become final.
        """
        ...

    async def stats(self, *, since: datetime) -> tuple[Bucket, ...]:
        """Return counts by hour, queue and name since a time, including jobs that have been deleted since.

        Counts of deleted jobs that are older than 400 days may be summed by month, in its first hour. No count is lost.
        """
        ...
