"""Status of cron entries: their last tick and their next one."""

from __future__ import annotations

from datetime import datetime

import attrs

from jobrt._core.cron import CronEntry, next_tick
from jobrt._storage.contract import CronRow
from jobrt.errors import JobrtError


@attrs.frozen
class CronView:
    """Cron entry as it is shown; a non-empty ``error`` says why it cannot tick."""

    name: str
    job: str
    schedule: str
    last: datetime | None
    upcoming: datetime | None = None
    missed: str = ""
    paused: bool = False
    error: str = ""


def view_cron(row: CronRow, now: datetime) -> CronView:
    """Return the view of a stored entry, including one that cannot be read."""
    try:
        entry = CronEntry.from_spec(row.name, row.spec, paused=row.paused, anchor=row.created_at)
        upcoming = next_tick(entry, now)
    except JobrtError as error:
        return CronView(row.name, str(row.spec.get("job")), "", row.last_tick, error=str(error))
    return CronView(row.name, entry.job, entry.schedule, row.last_tick, upcoming, entry.missed, row.paused)
