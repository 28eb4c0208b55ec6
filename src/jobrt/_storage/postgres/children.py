"""Children that differ in their payloads only: one call stores them, with their places in the nursery."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from jobrt._core.job import JobRef, NewJob
from jobrt._core.scopes import AncestorEnded, AskedToStop, Child
from jobrt._storage.contract import Inserted
from jobrt._storage.postgres.encode import instant, texts
from jobrt._storage.postgres.insert import Wake
from jobrt._storage.postgres.session import Session
from jobrt.errors import JobStateError, LeaseLost

_FREE: Final = {"args", "queue", "name", "priority", "max_attempts", "schedule_at", "version", "context"}
_USUAL: Final = NewJob("", "")
_FIXED: Final = [field for field in NewJob._fields if field not in _FREE]


class Alike(NamedTuple):
    """New children, and the first of their jobs: the others differ in ``args`` only."""

    first: NewJob
    args: Sequence[str]
    identities: Sequence[str]


def alike(children: Sequence[Child]) -> Alike | None:
    """Return children that one call can store, or None. Options other than those of most jobs need several calls."""
    jobs = [child.job for child in children if child.job is not None and child.rerun is None]
    if not jobs or len(jobs) < len(children):
        return None
    first = jobs[0]
    if any(getattr(first, field) != getattr(_USUAL, field) for field in _FIXED):
        return None
    name, others = first.name, first[2:]
    if any([job[2:] != others or job[0] != name for job in jobs]):  # noqa: C419 - a list is quicker
        return None
    return Alike(first, [job.args for job in jobs], [child.identity for child in children])


async def enqueue_alike(
    session: Session, ref: JobRef, name: str, *, new: Alike, wake: Wake
) -> tuple[Inserted, ...]:
    """Store new children; see `ScopeStore.enqueue`. It is a transaction by itself."""
    first = new.first
    ((problem, ids),) = await session.fetch(
        "scopes/enqueue_alike",
        id=str(ref.id),
        lease=str(ref.lease),
        nursery=name,
        args=texts(new.args),
        identities=texts(new.identities),
        name=first.name,
        queue=first.queue,
        priority=str(first.priority),
        max_attempts=None if first.max_attempts is None else str(first.max_attempts),
        schedule_at=instant(first.schedule_at),
        version=None if first.version is None else str(first.version),
        context=first.context,
        channel=wake(first.queue),
    )
    if problem:
        raise refusal(problem, ref, name)
    return tuple(map(Inserted, ids))


def refusal(problem: str, ref: JobRef, name: str) -> Exception:
    """Return the error for children that a nursery does not take; `problem` is as in the function `lets_in`."""
    match problem:
        case "lost":
            return LeaseLost(f"job {ref.id} is no longer leased as {ref.lease}")
        case "ancestor":
            return AncestorEnded(f"an ancestor of job {ref.id} is being ended: it gets no more children")
        case "asked":
            return AskedToStop(f"job {ref.id} is asked to stop: it gets no more children")
        case state:
            return JobStateError(f"nursery {name!r} of job {ref.id} is {state}: it gets no more children")
