"""Make jobs, demands and outcomes in few words."""

from __future__ import annotations

from typing import Any

from jobrt._core.job import Claimed, NewJob, Outcome
from jobrt._core.limits import Demand
from jobrt._storage.contract import Storage

__all__ = ["add", "ask", "claim", "end", "job"]


def job(name: str = "a", **options: Any) -> NewJob:
    """Make a new job."""
    return NewJob(name=name, args="{}", **options)


def ask(*names: str, limit: int = 1000, queue: str = "default", worker: str = "w1", **more: Any) -> Demand:
    """Make a demand for jobs of these names, ``a`` if none is given."""
    return Demand(worker, queue, limit, names or ("a",), **more)


def end(claimed: Claimed, **fields: Any) -> Outcome:
    """Make an attempt's outcome."""
    return Outcome(claimed.id, claimed.lease, **fields)


async def add(storage: Storage, *jobs: NewJob) -> list[int]:
    """Insert jobs and return their ids."""
    return [one.id for one in await storage.jobs.insert(jobs)]


async def claim(storage: Storage, *names: str, **demand: Any) -> list[int]:
    """Claim what is due and return the ids."""
    return [one.id for one in (await storage.attempts.exchange((), ask(*names, **demand))).jobs]
