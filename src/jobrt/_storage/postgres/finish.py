"""Outcomes of attempts: the new state of their jobs, and the attempt records."""

import json
from collections.abc import Collection, Sequence
from typing import Final

from jobrt._core.job import JobRef, Outcome
from jobrt._core.states import EXECUTING_TO, FINAL, End, State, Transition
from jobrt._core.text import storable
from jobrt._storage.postgres.dependencies import lock_families, wait_for_children
from jobrt._storage.postgres.encode import Value, bigints, booleans, numbers, seconds, texts
from jobrt._storage.postgres.session import Session
from jobrt._storage.postgres.suspend import suspend

# Looking up an enum member costs more than the comparison, and this runs for every attempt.
_COMPLETE, _FINISHED = Transition.COMPLETE, End.FINISHED

_WITH_THE_CLAIM: Final = -1
"""Sent for an attempt whose row knows when it began. An array without nulls is quicker to make."""

_DELAYED: Final = frozenset({Transition.RETRY, Transition.SNOOZE})


async def write(session: Session, outcomes: Sequence[Outcome]) -> tuple[tuple[JobRef, ...], list[str]]:
    """Write outcomes; return the refused ones and the queues that have due jobs again.

    An attempt may park its job and end in one batch, so the outcomes that suspend are written first. One that gives up
    the lease of a parked job is written after the one that parked it.
    """
    waits = [outcome for outcome in outcomes if outcome.wait is not None]
    if waits:
        others = [outcome for outcome in outcomes if outcome.wait is None]
        refused, woken = await suspend(session, waits)
        if others:
            more, also = await write(session, others)
            refused, woken = refused + more, [*woken, *also]
        return refused, woken
    await lock_families(session, outcomes)
    ended, values = ended_values(outcomes)
    rows = await session.run(session.schema.statement("attempts/finish", ended=ended), **values)
    await _hold(session, outcomes)
    number, landed, woken = rows[0]
    woken = [*(woken or ()), *await wait_for_children(session, outcomes)]
    if number == len(outcomes):
        return (), woken
    return await refused_of(session, outcomes, landed=set(map(tuple, json.loads(landed or "[]")))), woken


def needs_statements(outcomes: Sequence[Outcome]) -> bool:
    """Return whether these outcomes are written in a transaction of several statements. That is rare."""
    return any([o.children or o.hold is not None or o.wait is not None for o in outcomes])  # noqa: C419 - a list is quicker


async def _hold(session: Session, outcomes: Sequence[Outcome]) -> None:
    """Write what `Throttle` asks for, in the transaction that has written the outcomes."""
    holds = [outcome for outcome in outcomes if outcome.hold is not None]
    if holds:
        await session.fetch(
            "attempts/finish_hold",
            ids=numbers([outcome.id for outcome in holds]),
            leases=numbers([outcome.lease for outcome in holds]),
            holds=numbers([outcome.hold for outcome in holds]),
        )


def ended_values(outcomes: Sequence[Outcome]) -> tuple[str, dict[str, Value]]:
    """Return the file and the parameters for a batch, with rows in order of ids so that writers do not deadlock."""
    outcomes = sorted(outcomes)
    if not outcomes:
        return "attempts/finish_none", {}
    values: dict[str, Value] = {
        "sent": str(len(outcomes)),
        "ids": bigints([outcome.id for outcome in outcomes]),
        "leases": bigints([outcome.lease for outcome in outcomes]),
        "began": bigints(
            [_WITH_THE_CLAIM if outcome.began is None else outcome.began for outcome in outcomes]
        ),
    }
    if all(map(_is_clean, outcomes)):
        return "attempts/finish_clean", values
    states = [_state(outcome) for outcome in outcomes]
    return "attempts/finish_mixed", values | {
        "states": texts(states),
        "finals": booleans([state in FINAL for state in states]),
        "unstarted": booleans([outcome.end is None for outcome in outcomes]),
        "unspent": numbers([int(not outcome.spent) for outcome in outcomes]),
        "waits": booleans([bool(outcome.children) for outcome in outcomes]),
        "delays": numbers(
            [seconds(outcome.delay) if outcome.event in _DELAYED else None for outcome in outcomes]
        ),
        "endings": texts([_ending(outcome) for outcome in outcomes]),
        "error_types": texts([_said(outcome.error_type) for outcome in outcomes]),
        "messages": texts([_said(outcome.message) for outcome in outcomes]),
        "tracebacks": texts([_said(outcome.traceback) for outcome in outcomes]),
        "results": texts([outcome.result for outcome in outcomes]),
        "unfit": numbers([outcome.unfit for outcome in outcomes]),
        "parked": booleans([outcome.was_parked for outcome in outcomes]),
    }


def _said(text: str | None) -> str | None:
    return None if text is None else storable(text)


def _is_clean(outcome: Outcome) -> bool:
    """Return whether only the job's own row has to be written."""
    return (
        outcome.event is _COMPLETE
        and outcome.end is _FINISHED
        and outcome.result is None
        and not outcome.children
        and not outcome.was_parked
    )


def _state(outcome: Outcome) -> State:
    return State.SCHEDULED if outcome.children else EXECUTING_TO[outcome.event]


def _ending(outcome: Outcome) -> End | None:
    """Return the end to record, or None if the job's own row shows it or there is nothing to record."""
    shown = outcome.event is _COMPLETE and outcome.end is _FINISHED and not outcome.children
    return None if shown else outcome.end


async def refused_of(
    session: Session, outcomes: Sequence[Outcome], *, landed: Collection[tuple[int, int]] | None
) -> tuple[JobRef, ...]:
    """Return the outcomes that were refused; `landed` are the accepted ones, or None if all were accepted."""
    if landed is None:
        return ()
    refs = [JobRef(outcome.id, outcome.lease) for outcome in outcomes]
    missing = [ref for ref in refs if ref not in landed]
    if not missing:
        return ()
    rows = await session.fetch(
        "attempts/finish_landed",
        ids=numbers(ref.id for ref in missing),
        leases=numbers(ref.lease for ref in missing),
    )
    before = {JobRef(*row) for row in rows}
    return tuple(ref for ref in missing if ref not in before)
