"""Say which states a job has and what may lead from one to the next.

The rules:

1. A job is *waiting* (``scheduled``, ``available``, ``retryable``), *executing*, or *final*.
2. Only a claim makes a job executing, and only its owner, named by the lease, ends that attempt. A dead
   owner's jobs are ended by a rescue, which is the owner's ``crash`` told by somebody else.
3. ``scheduled`` becomes ``available`` when its time comes. That is the clock's doing, not a write: a row
   is read as available as soon as it is due, so a million due jobs cost nothing.
4. A final job stays as it is until somebody asks for a rerun.

`TRANSITIONS` is the whole table; the diagram in ``design/state-machine.md`` is drawn from it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from jobrt._records import End, State
from jobrt.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ALL",
    "EXECUTING_TO",
    "FINAL",
    "INCOMPLETE",
    "TRANSITIONS",
    "UNSTARTED",
    "End",
    "Event",
    "State",
    "mermaid",
    "transition",
]


class Event(StrEnum):
    """What happens to a job."""

    FALL_DUE = "fall_due"
    CLAIM = "claim"
    POSTPONE = "postpone"
    COMPLETE = "complete"
    RETRY = "retry"
    SNOOZE = "snooze"
    GIVE_BACK = "give_back"
    DISCARD = "discard"
    CANCEL = "cancel"
    RERUN = "rerun"


UNSTARTED: Final = frozenset({State.SCHEDULED, State.AVAILABLE, State.RETRYABLE})
INCOMPLETE: Final = UNSTARTED | {State.EXECUTING}
FINAL: Final = frozenset({State.COMPLETED, State.CANCELLED, State.DISCARDED})
ALL: Final = INCOMPLETE | FINAL

TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = {
    (State.SCHEDULED, Event.FALL_DUE): State.AVAILABLE,
    (State.SCHEDULED, Event.CLAIM): State.EXECUTING,
    (State.SCHEDULED, Event.POSTPONE): State.SCHEDULED,
    (State.SCHEDULED, Event.CANCEL): State.CANCELLED,
    (State.AVAILABLE, Event.CLAIM): State.EXECUTING,
    (State.AVAILABLE, Event.POSTPONE): State.SCHEDULED,
    (State.AVAILABLE, Event.CANCEL): State.CANCELLED,
    (State.RETRYABLE, Event.CLAIM): State.EXECUTING,
    (State.RETRYABLE, Event.POSTPONE): State.RETRYABLE,
    (State.RETRYABLE, Event.CANCEL): State.CANCELLED,
    (State.EXECUTING, Event.COMPLETE): State.COMPLETED,
    (State.EXECUTING, Event.RETRY): State.RETRYABLE,
    (State.EXECUTING, Event.SNOOZE): State.SCHEDULED,
    (State.EXECUTING, Event.GIVE_BACK): State.AVAILABLE,
    (State.EXECUTING, Event.DISCARD): State.DISCARDED,
    (State.EXECUTING, Event.CANCEL): State.CANCELLED,
    (State.COMPLETED, Event.RERUN): State.AVAILABLE,
    (State.CANCELLED, Event.RERUN): State.AVAILABLE,
    (State.DISCARDED, Event.RERUN): State.AVAILABLE,
}

EXECUTING_TO: Final[Mapping[Event, State]] = {
    event: after for (before, event), after in TRANSITIONS.items() if before is State.EXECUTING
}
"""Where each end of an attempt leads."""


def transition(state: State, event: Event) -> State:
    """Return the state that `event` leads to; raise `InternalError` for a pair the table lacks."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        msg = f"a job that is {state.value} cannot {event.value}"
        raise InternalError(msg) from None


def mermaid() -> str:
    """Draw the table as a Mermaid state diagram, one line per transition."""
    lines = ["stateDiagram-v2", "    [*] --> scheduled: enqueue later", "    [*] --> available: enqueue"]
    lines += [f"    {a.value} --> {b.value}: {event.value}" for (a, event), b in TRANSITIONS.items()]
    return "\n".join(lines) + "\n"
