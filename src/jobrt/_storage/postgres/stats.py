"""Statistics by hour, queue and name.

No counter is updated while jobs run: live rows are counted on request. When a job is deleted, its counts are
added to the table ``past``.
"""

from datetime import UTC, datetime
from typing import Any, Final

from jobrt._core.stats import Bucket, Ended, Numbers, Slot
from jobrt._storage.postgres.encode import boolean, instant
from jobrt._storage.postgres.session import Session

FAILED_ATTEMPTS: Final = (
    "{{schema}}.attempt a join {jobs} j on j.id = a.job_id"
    " where a.\"end\" in ('failed', 'timed_out', 'crashed', 'undecodable')"
)
"""SQL for the failed attempts of some jobs."""


async def stats(session: Session, *, since: datetime) -> tuple[Bucket, ...]:
    """Return counts from the start of the hour of `since`."""
    statement = session.schema.statement(
        "jobs/stats",
        enqueued="(select * from {schema}.job where id >= :first::bigint and created_at >= :since::timestamptz)",
        finished="jobs/stats_finished",
        failed=FAILED_ATTEMPTS.format(jobs="{schema}.job") + " and a.finished_at >= :since::timestamptz",
    )
    first = (await session.fetch("jobs/stats_first", since=instant(since)))[0][0]
    rows = await session.run(statement, since=instant(since), first=str(first or 0))
    return tuple(_bucket(*row) for row in rows)


async def ended(
    session: Session, *, since: datetime, until: datetime, step: int, limit: int, deleted: bool
) -> Ended:
    """Return what ended in a range of time, by slots of `step` seconds."""
    statement = session.schema.statement("jobs/ended", failed=FAILED_ATTEMPTS.format(jobs="{schema}.job"))
    rows = await session.run(
        statement,
        since=instant(since),
        until=instant(until),
        step=f"{step} seconds",
        limit=str(limit + 1),
        deleted=boolean(deleted),
    )
    slots = sorted((_slot(*row) for row in rows), key=lambda slot: (slot.start, slot.queue, slot.name))
    return Ended(tuple(slots), more=any(sum(row[column] for row in rows) > limit for column in (-2, -1)))


def _slot(start: datetime, queue: str, name: str, *counts: Any) -> Slot:
    *sums, histogram, waits, _final, _attempts = counts
    classes = [tuple(number or 0 for number in each) for each in (histogram, waits)]
    return Slot(start.astimezone(UTC), queue, name, Numbers(*sums, *classes))


def _bucket(hour: datetime, queue: str, name: str, *counts: Any) -> Bucket:
    enqueued, completed, failed, dead, cancelled, seconds, histogram = counts
    return Bucket(
        hour=hour.replace(tzinfo=UTC),
        queue=queue,
        name=name,
        enqueued=enqueued,
        completed=completed,
        failed=failed,
        dead=dead,
        cancelled=cancelled,
        seconds=seconds,
        histogram=tuple(number or 0 for number in histogram),
    )
