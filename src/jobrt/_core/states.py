"""States of a job, and the transitions between them.

The rules:

1. A job is *waiting* (``scheduled``, ``available``, ``retryable``), *held* by a worker (``claimed``, ``executing``),
   *suspended*, *closing* or *final*.
2. Only a claim makes a job held, and only its owner, identified by the lease, ends that attempt. If the
   owner dies, a rescue ends the attempt in its place. A job is ``executing`` from the start of its `run`. An outcome
   or a rescue of a claimed job implies the start, unless the job was released unstarted.
3. ``scheduled`` becomes ``available`` when the job becomes due. This is not a write: a row is read as available
   as soon as it is due, so a million jobs that become due cost nothing.
4. A final job does not change until a rerun is requested.
5. A suspended job waits for others, a message or a time, and runs again after that. A closing job is decided: it takes
   its state when its last descendant is over.

`TRANSITIONS` is the whole table. The diagram in ``design/state-machine.md`` is generated from it.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from jobrt._records import End, State
from jobrt.errors import InternalError

__all__ = [
    "ALL",
    "EXECUTING_TO",
    "FINAL",
    "HELD",
    "INCOMPLETE",
    "TRANSITIONS",
    "UNSTARTED",
    "End",
    "State",
    "Transition",
    "mermaid",
    "transition",
]


class Transition(StrEnum):
    """Event that changes the state of a job."""

    FALL_DUE = "fall_due"
    CLAIM = "claim"
    START = "start"
    POSTPONE = "postpone"
    COMPLETE = "complete"
    RETRY = "retry"
    SNOOZE = "snooze"
    GIVE_BACK = "give_back"
    DISCARD = "discard"
    CANCEL = "cancel"
    RERUN = "rerun"
    SUSPEND = "suspend"
    WAKE = "wake"
    CLOSE = "close"


UNSTARTED: Final = frozenset({State.SCHEDULED, State.AVAILABLE, State.RETRYABLE})
HELD: Final = frozenset({State.CLAIMED, State.EXECUTING})
INCOMPLETE: Final = UNSTARTED | HELD | {State.SUSPENDED, State.CLOSING}
FINAL: Final = frozenset({State.COMPLETED, State.CANCELLED, State.DISCARDED})
ALL: Final = INCOMPLETE | FINAL

TRANSITIONS: Final[Mapping[tuple[State, Transition], State]] = {
    (State.SCHEDULED, Transition.FALL_DUE): State.AVAILABLE,
    (State.SCHEDULED, Transition.CLAIM): State.CLAIMED,
    (State.SCHEDULED, Transition.POSTPONE): State.SCHEDULED,
    (State.SCHEDULED, Transition.CANCEL): State.CANCELLED,
    (State.AVAILABLE, Transition.CLAIM): State.CLAIMED,
    (State.AVAILABLE, Transition.POSTPONE): State.SCHEDULED,
    (State.AVAILABLE, Transition.CANCEL): State.CANCELLED,
    (State.RETRYABLE, Transition.CLAIM): State.CLAIMED,
    (State.RETRYABLE, Transition.POSTPONE): State.RETRYABLE,
    (State.RETRYABLE, Transition.CANCEL): State.CANCELLED,
    (State.CLAIMED, Transition.START): State.EXECUTING,
    (State.CLAIMED, Transition.GIVE_BACK): State.AVAILABLE,
    (State.CLAIMED, Transition.CANCEL): State.CANCELLED,
    (State.EXECUTING, Transition.COMPLETE): State.COMPLETED,
    (State.EXECUTING, Transition.RETRY): State.RETRYABLE,
    (State.EXECUTING, Transition.SNOOZE): State.SCHEDULED,
    (State.EXECUTING, Transition.GIVE_BACK): State.AVAILABLE,
    (State.EXECUTING, Transition.DISCARD): State.DISCARDED,
    (State.EXECUTING, Transition.CANCEL): State.CANCELLED,
    (State.EXECUTING, Transition.SUSPEND): State.SUSPENDED,
    (State.SUSPENDED, Transition.WAKE): State.AVAILABLE,
    (State.SUSPENDED, Transition.CANCEL): State.CANCELLED,
    (State.SUSPENDED, Transition.DISCARD): State.DISCARDED,
    (State.SCHEDULED, Transition.DISCARD): State.DISCARDED,
    (State.AVAILABLE, Transition.DISCARD): State.DISCARDED,
    (State.RETRYABLE, Transition.DISCARD): State.DISCARDED,
    (State.SCHEDULED, Transition.CLOSE): State.CLOSING,
    (State.AVAILABLE, Transition.CLOSE): State.CLOSING,
    (State.RETRYABLE, Transition.CLOSE): State.CLOSING,
    (State.EXECUTING, Transition.CLOSE): State.CLOSING,
    (State.SUSPENDED, Transition.CLOSE): State.CLOSING,
    (State.CLOSING, Transition.COMPLETE): State.COMPLETED,
    (State.CLOSING, Transition.CANCEL): State.CANCELLED,
    (State.CLOSING, Transition.DISCARD): State.DISCARDED,
    (State.CLOSING, Transition.RETRY): State.RETRYABLE,
    (State.COMPLETED, Transition.RERUN): State.AVAILABLE,
    (State.CANCELLED, Transition.RERUN): State.AVAILABLE,
    (State.DISCARDED, Transition.RERUN): State.AVAILABLE,
}

EXECUTING_TO: Final[Mapping[Transition, State]] = {
    event: after for (before, event), after in TRANSITIONS.items() if before is State.EXECUTING
}
"""State after each event that ends an attempt."""


def transition(state: State, event: Transition) -> State:
    """Return the state that `event` leads to; raise `InternalError` for a pair that is not in the table."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise InternalError(f"a job that is {state.value} cannot {event.value}") from None


def mermaid() -> str:
    """Return the table as a Mermaid state diagram, one line per transition."""
    lines = ["stateDiagram-v2", "    [*] --> scheduled: enqueue later", "    [*] --> available: enqueue"]
    lines += [f"    {a.value} --> {b.value}: {event.value}" for (a, event), b in TRANSITIONS.items()]
    return "\n".join(lines) + "\n"
