"""Management of jobs, by id or by filter: checks of arguments, and errors where nothing could be done.

The Trio client and the blocking client share these decisions.
"""

from typing import Final

import attrs

from jobrt._core import where as filters
from jobrt._core.arguments import (
    checked_flag,
    checked_id,
    checked_limit,
    checked_place,
    did_you_mean,
    is_int,
    refused,
    shown,
)
from jobrt._core.job import JobRecord
from jobrt._core.states import FINAL
from jobrt._core.where import Where
from jobrt.errors import InvalidFilter, JobNotFound, JobStateError

_ORDERS: Final = ("id", "schedule_at", "created_at", "finished_at", "priority")


@attrs.frozen(kw_only=True)
class Listing:
    """Checked arguments of `query`."""

    where: Where
    order_by: str
    limit: int | None
    after: int | None
    details: bool


def target(method: str, job: object) -> Where:
    """Return the filter for a job's id, or the given filter.

    None is refused: it is the value of an empty column, and would mean all jobs.
    """
    if isinstance(job, Where):
        return job
    if is_int(job):
        return filters.id(checked_id(f"{method}: job", job))
    remedy = "the id of a job, a filter of jobrt.where, or where.everything() for all jobs"
    raise refused(f"{method}: job", job, use=remedy, error=InvalidFilter)


def chosen(method: str, where: object) -> Where:
    """Return a filter; None matches all jobs."""
    if where is None:
        return filters.everything()
    if isinstance(where, Where):
        return where
    raise refused(
        f"{method}: where", where, use="a filter of jobrt.where, or None for all jobs", error=InvalidFilter
    )


def listing(where: object, *, order_by: object, limit: object, after: object, details: object) -> Listing:
    """Check the arguments of `query`."""
    if not isinstance(order_by, str) or order_by.removeprefix("-") not in _ORDERS:
        hint = did_you_mean(order_by, _ORDERS) if isinstance(order_by, str) else f"use {', '.join(_ORDERS)}"
        raise InvalidFilter(f"query: order_by is {shown(order_by)}: {hint}; a leading - reverses the order")
    return Listing(
        where=chosen("query", where),
        order_by=order_by,
        limit=checked_limit("query: limit", limit),
        after=checked_place("query: after", after),
        details=checked_flag("query: details", details, error=InvalidFilter),
    )


def not_found(job_id: int, reason: str = "") -> JobNotFound:
    """Return the error for an id that no job has."""
    return JobNotFound(f"there is no job {shown(job_id)}{reason}")


def check_cancelled(job: JobRecord) -> None:
    """Raise `JobStateError` for a job that was not cancelled since it is final."""
    if job.state in FINAL:
        raise JobStateError(f"job {job.id} ({job.name}) is {job.state} already: there is nothing to cancel")


def not_rerun(job: JobRecord) -> JobStateError:
    """Return the error for a job that was not run again."""
    why = (
        "its parent, or the nursery that it belongs to, is over: run the parent again"
        if job.state in FINAL
        else "only a job that has ended can be run again"
    )
    return JobStateError(f"{_label(job)}: {why}")


def not_updated(job: JobRecord) -> JobStateError:
    """Return the error for a job that was not changed."""
    return JobStateError(f"{_label(job)}: only a waiting job can be changed")


def not_deleted(job: JobRecord) -> JobStateError:
    """Return the error for a job that was not deleted."""
    return JobStateError(f"{_label(job)} and has living descendants: cancel it first")


def _label(job: JobRecord) -> str:
    return f"job {job.id} ({job.name}) is {job.state}"
