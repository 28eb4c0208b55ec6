"""Numbers of the states in SQLite's tables, and conditions on them.

The partial indexes of migration 1 and the files in ``sql/`` contain the same conditions as text: SQLite uses such an
index only for a query with the same condition.
"""

from typing import Final

from jobrt._core.states import State

__all__ = [
    "AVAILABLE",
    "CANCELLED",
    "CLOSING",
    "CODES",
    "COMPLETED",
    "DISCARDED",
    "EXECUTING",
    "FINAL_CODES",
    "IS_EXECUTING",
    "IS_FINAL",
    "IS_HELD",
    "IS_WAITING",
    "RESCHEDULED",
    "RETRYABLE",
    "SCHEDULED",
    "STATES",
    "SUSPENDED",
    "shown",
]

STATES: Final = (
    State.SCHEDULED,
    State.AVAILABLE,
    State.RETRYABLE,
    State.EXECUTING,
    State.COMPLETED,
    State.CANCELLED,
    State.DISCARDED,
    State.SUSPENDED,
    State.CLOSING,
)
CODES: Final = {state: code for code, state in enumerate(STATES)} | {
    State.CLAIMED: STATES.index(State.EXECUTING)
}
"""A job that a worker holds has one number; it is executing if there is a start."""
SCHEDULED, AVAILABLE, RETRYABLE, EXECUTING, COMPLETED, CANCELLED, DISCARDED, SUSPENDED, CLOSING = range(
    len(STATES)
)
FINAL_CODES: Final = range(COMPLETED, DISCARDED + 1)

IS_WAITING: Final = f"state < {EXECUTING}"
IS_EXECUTING: Final = f"state = {EXECUTING}"
IS_FINAL: Final = f"(state > {EXECUTING} AND state <= {DISCARDED})"
IS_HELD: Final = f"({IS_EXECUTING} OR (({IS_WAITING} OR state = {SUSPENDED}) AND ifnull(lease, 0) > 0))"
"""A worker runs the job, or has it parked."""

RESCHEDULED: Final = (
    f"schedule_at = :schedule_at, state = CASE WHEN state = {RETRYABLE} THEN {RETRYABLE}"
    f" WHEN :schedule_at > :now THEN {SCHEDULED} ELSE {AVAILABLE} END"
)
"""SQL that sets a waiting job's due time and its state. A job that waits for a retry stays retryable."""


def shown(code: int, schedule_at: int, started_at: int | None, *, now: int) -> State:
    """Return the state that users see: a scheduled job that is due is available, one without a start is claimed."""
    if code == SCHEDULED and schedule_at <= now:
        return State.AVAILABLE
    if not 0 <= code < len(STATES):
        return State.UNKNOWN
    return State.CLAIMED if code == EXECUTING and started_at is None else STATES[code]
