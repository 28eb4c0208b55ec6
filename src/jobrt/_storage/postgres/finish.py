"""Write how attempts ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobrt._core.job import JobRef
from jobrt._core.states import FINAL, End, State, Transition, transition
from jobrt._storage.postgres.encode import booleans, clean, numbers, seconds, texts

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from jobrt._core.job import Outcome
    from jobrt._storage.postgres.session import Session

__all__ = ["await_children", "ended_values", "is_clean", "lock_families", "refused_of"]

_STATES: Final = {
    event: transition(State.EXECUTING, event)
    for event in (
        Transition.COMPLETE,
        Transition.RETRY,
        Transition.SNOOZE,
        Transition.GIVE_BACK,
        Transition.DISCARD,
        Transition.CANCEL,
    )
}
_DELAYED: Final = frozenset({Transition.RETRY, Transition.SNOOZE})


def is_clean(outcome: Outcome) -> bool:
    """Say whether the hot row is all that has to be written."""
    return (
        outcome.event is Transition.COMPLETE
        and outcome.end is End.FINISHED
        and outcome.result is None
        and not outcome.children
    )


def ended_values(outcomes: Sequence[Outcome]) -> tuple[str, dict[str, str | None]]:
    """Return the file and the parameters for a batch, its rows in the order of ids so that writers never cross."""
    outcomes = sorted(outcomes)
    if not outcomes:
        return "ended_none", {}
    values: dict[str, str | None] = {
        "sent": str(len(outcomes)),
        "ids": numbers([one.id for one in outcomes]),
        "leases": numbers([one.lease for one in outcomes]),
    }
    if all(map(is_clean, outcomes)):
        return "ended_clean", values
    states = [_state(one) for one in outcomes]
    return "ended_mixed", values | {
        "states": texts(states),
        "finals": booleans([state in FINAL for state in states]),
        "unspent": numbers([int(not one.spent) for one in outcomes]),
        "waits": booleans([bool(one.children) for one in outcomes]),
        "delays": numbers([seconds(one.delay) if one.event in _DELAYED else None for one in outcomes]),
        "endings": texts([_ending(one) for one in outcomes]),
        "error_types": texts([clean(one.error_type) for one in outcomes]),
        "messages": texts([clean(one.message) for one in outcomes]),
        "tracebacks": texts([clean(one.traceback) for one in outcomes]),
        "results": texts([one.result for one in outcomes]),
    }


def _state(outcome: Outcome) -> State:
    return State.SCHEDULED if outcome.children else _STATES[outcome.event]


def _ending(outcome: Outcome) -> End | None:
    """Return the end to be recorded, or None where the job's own row tells it or there is nothing to tell."""
    told = outcome.event is Transition.COMPLETE and outcome.end is End.FINISHED and not outcome.children
    return None if told else outcome.end


async def refused_of(
    session: Session, outcomes: Sequence[Outcome], *, landed: Collection[tuple[int, int]] | None
) -> tuple[JobRef, ...]:
    """Return the outcomes that were refused; `landed` are those that were not, None for all."""
    if landed is None:
        return ()
    refs = [JobRef(one.id, one.lease) for one in outcomes]
    missing = [ref for ref in refs if ref not in landed]
    if not missing:
        return ()
    rows = await session.fetch(
        "landed", ids=numbers(ref.id for ref in missing), leases=numbers(ref.lease for ref in missing)
    )
    before = {JobRef(*row) for row in rows}
    return tuple(ref for ref in missing if ref not in before)


async def lock_families(session: Session, outcomes: Sequence[Outcome]) -> None:
    """Lock the jobs of outcomes and their children, if any has children; before the outcomes are written."""
    children = {child for one in outcomes for child in one.children}
    if children:
        await session.fetch("lock_families", ids=numbers(sorted(children | {one.id for one in outcomes})))


async def await_children(session: Session, outcomes: Sequence[Outcome]) -> list[str]:
    """Let the jobs of outcomes with children wait for those; in the transaction that wrote the outcomes.

    Returns the queues to wake: of jobs that have nothing to wait for, and of children that could run.
    """
    due: list[str] = []
    for one in outcomes:
        if one.children:
            skipped = await session.fetch(
                "await_children",
                parent=str(one.id),
                lease=str(one.lease),
                children=numbers(sorted(set(one.children) - {one.id})),
            )
            due += [row[0] for row in skipped]
            due += [row[0] for row in await session.fetch("due_without_children", parent=str(one.id))]
    return due
