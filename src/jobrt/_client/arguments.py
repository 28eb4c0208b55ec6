"""Arguments of the client's methods, checked: filters, ids of jobs, names of queues."""

from __future__ import annotations

from jobrt._core import where as filters
from jobrt._core.where import Where
from jobrt.errors import InvalidFilter, InvalidSetting


def as_filter(where: Where | None) -> Where:
    """Return a filter; None matches every job.

    Raises:
        InvalidFilter: it is no filter.

    """
    if where is None:
        return filters.everything()
    if not isinstance(where, Where):
        raise InvalidFilter(f"{where!r} is not a filter: build one with jobrt.where")
    return where


def job_filter(job: int | Where) -> Where:
    """Return a filter for the job of that id, or the filter that was given."""
    return filters.id(job) if isinstance(job, int) else as_filter(job)


def queue_name(name: str) -> str:
    """Return the name of a queue; raise `InvalidSetting` if it is empty."""
    if not name:
        raise InvalidSetting("the name of a queue is empty")
    return name
