"""Short helpers for the tests: jobs, demands, outcomes, and common sequences of calls."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jobrt._core import where
from jobrt._core.job import Claimed, JobRecord, JobRef, NewJob, Outcome
from jobrt._core.limits import Demand
from jobrt._core.states import End, Transition

if TYPE_CHECKING:
    from jobrt._storage.contract import Storage

__all__ = ["add", "ask", "claim", "complete", "end", "job", "look", "next_due", "ref", "start", "states"]

_ENDS = {
    Transition.COMPLETE: End.FINISHED,
    Transition.RETRY: End.FAILED,
    Transition.SNOOZE: End.SNOOZED,
    Transition.GIVE_BACK: End.INTERRUPTED,
    Transition.DISCARD: End.FAILED,
    Transition.CANCEL: End.CANCELLED,
    Transition.SUSPEND: End.SUSPENDED,
}


def job(name: str = "send", args: Any = None, **options: Any) -> NewJob:
    """Make a new job; `args` and ``metadata`` are JSON values here."""
    if "metadata" in options:
        options["metadata"] = json.dumps(options["metadata"])
    return NewJob(name=name, args=json.dumps({} if args is None else args), **options)


def ask(*names: str, limit: int = 1000, worker: str = "w1", queue: str = "default", **more: Any) -> Demand:
    """Make a demand for jobs of these names, ``send`` if none is given."""
    if not names and "capped" not in more:
        names = ("send",)
    return Demand(worker, queue, limit, names, **more)


def ref(claimed: Claimed) -> JobRef:
    """Name the claim."""
    return JobRef(claimed.id, claimed.lease)


def end(claimed: Claimed | JobRef, event: Transition = Transition.COMPLETE, **fields: Any) -> Outcome:
    """Make an attempt's outcome; as in the worker, snoozed and given-back attempts are not counted."""
    fields.setdefault("end", _ENDS[event])
    fields.setdefault("spent", event not in {Transition.SNOOZE, Transition.GIVE_BACK, Transition.SUSPEND})
    return Outcome(claimed.id, claimed.lease, event, **fields)


async def add(storage: Storage, *jobs: NewJob) -> list[int]:
    """Insert jobs and return their ids."""
    return [one.id for one in await storage.jobs.insert(jobs)]


async def claim(storage: Storage, *names: str, **demand: Any) -> tuple[Claimed, ...]:
    """Claim what is due."""
    return (await storage.attempts.exchange((), ask(*names, **demand))).jobs


async def start(
    storage: Storage, new: NewJob | None = None, *, worker: str = "w1", ahead: bool = False
) -> Claimed:
    """Insert one job and claim it, as one that begins at once or `ahead`."""
    new = new or job()
    (found,) = await storage.jobs.insert([new])
    (claimed,) = await claim(storage, new.name, queue=new.queue, worker=worker, free_slots=int(not ahead))
    assert claimed.id == found.id, "a claim gave another job than the only one that the test has made due"
    return claimed


async def complete(storage: Storage, *claimed: Claimed, **fields: Any) -> None:
    """Complete attempts that are still owned."""
    assert await storage.attempts.finish([end(one, **fields) for one in claimed]) == ()


async def next_due(storage: Storage, *queues: str) -> dict[str, float]:
    """Return the seconds until the first future job of each queue that has one."""
    claims = {queue: await storage.attempts.exchange((), ask("of no job", queue=queue)) for queue in queues}
    return {queue: one.next_due for queue, one in claims.items() if one.next_due is not None}


async def look(storage: Storage, job_id: int) -> JobRecord:
    """Return a job that must exist."""
    record = await storage.jobs.get(job_id)
    assert record is not None, f"job {job_id} is gone"
    return record


async def states(storage: Storage, ids: Sequence[int] = ()) -> list[str]:
    """Return the states of these jobs, or of all, by id."""
    which = where.id_in(ids) if ids else where.everything()
    return [record.state.value for record in await storage.jobs.query(which, order_by="id")]
