"""Jobs that wait for other jobs. A database trigger makes them due when those are final or gone."""

from collections.abc import Sequence

from jobrt._core.job import Outcome
from jobrt._storage.postgres.encode import numbers, seconds
from jobrt._storage.postgres.session import Session


async def lock_families(session: Session, outcomes: Sequence[Outcome]) -> None:
    """Lock the jobs of outcomes, and their children if there are any. Call it before writing the outcomes."""
    children = {child for outcome in outcomes for child in outcome.children}
    if children:
        ids = sorted(children | {outcome.id for outcome in outcomes})
        await session.fetch("attempts/finish_lock_families", ids=numbers(ids))


async def wait_for_children(session: Session, outcomes: Sequence[Outcome]) -> list[str]:
    """Make the jobs of outcomes with children wait for them, in the transaction that wrote the outcomes.

    Returns the queues to wake: those of jobs that have nothing to wait for, and those of children that could run.
    """
    due: list[str] = []
    for outcome in outcomes:
        if outcome.children:
            skipped = await session.fetch(
                "attempts/finish_wait_for_children",
                parent=str(outcome.id),
                lease=str(outcome.lease),
                children=numbers(sorted(set(outcome.children) - {outcome.id})),
            )
            free = await session.fetch(
                "attempts/finish_without_children", parent=str(outcome.id), delay=str(seconds(outcome.delay))
            )
            due += [queue for (queue,) in skipped]
            due += [queue for queue, now in free if now]
    return due
