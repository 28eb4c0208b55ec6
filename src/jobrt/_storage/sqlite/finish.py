"""Outcomes of attempts: the new state of their jobs, and the attempt records."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from jobrt._core.job import JobRef, Outcome, Start, Wait
from jobrt._core.states import FINAL, End, State, Transition, transition
from jobrt._core.text import storable
from jobrt._storage.sqlite.dependencies import wait_for_children
from jobrt._storage.sqlite.family import HAS_NURSERY, close_as, has_living_children, reopen, settle
from jobrt._storage.sqlite.rows import FAR, dumps, later
from jobrt._storage.sqlite.states import AVAILABLE, CODES, SUSPENDED
from jobrt._storage.sqlite.transaction import SQL, Transaction

# Looking up an enum member costs more than the comparison, and this runs for every attempt.
_DEADLINE_PASSED = 128
"""Flag of a job that was told to stop because its deadline has passed."""
_COMPLETE, _FINISHED = Transition.COMPLETE, End.FINISHED


def finish(tx: Transaction, outcomes: Sequence[Outcome]) -> tuple[JobRef, ...]:
    """Write outcomes and return the refused ones; see `AttemptStore.finish`."""
    clean: dict[int, Outcome] = {}
    others: list[Outcome] = []
    for outcome in outcomes:
        # The same job twice in a batch can only be a mistake; the second outcome is handled separately.
        if outcome.event is _COMPLETE and outcome.end is _FINISHED and outcome.id not in clean:
            clean[outcome.id] = outcome
        else:
            others.append(outcome)
    refused = _complete(tx, clean) if clean else []
    refused += [JobRef(other.id, other.lease) for other in others if not _end(tx, other)]
    return tuple(refused)


def _complete(tx: Transaction, outcomes: Mapping[int, Outcome]) -> list[JobRef]:
    """Complete jobs whose attempts ended cleanly, one statement per claim, and return the refused ones."""
    starts: dict[int, dict[int, int | None]] = {}
    for job_id, outcome in outcomes.items():
        starts.setdefault(outcome.lease, {})[job_id] = outcome.began
    written = sum(
        tx.run(SQL["attempts/finish_clean"], {"now": tx.now, "lease": lease, "starts": dumps(jobs)})
        for lease, jobs in starts.items()
    )
    landed: Iterable[int] = outcomes
    if written < len(outcomes):
        refs = dumps({job_id: outcome.lease for job_id, outcome in outcomes.items()})
        landed = set(tx.array(SQL["attempts/finish_landed"], {"refs": refs, "end": End.FINISHED}))
    results = [
        (ended.id, ended.lease, ended.result) for ended in outcomes.values() if ended.result is not None
    ]
    if results:
        tx.run(SQL["attempts/finish_result"], {"results": dumps(results)})
    settle(tx, list(landed))
    return [JobRef(ended.id, ended.lease) for ended in outcomes.values() if ended.id not in landed]


@attrs.frozen
class _Held:
    """Stored values of a job whose attempt ends."""

    queue: str
    attempt: int
    schedule_at: int
    started_at: int | None
    worker: str
    cancel_reason: str | None
    flags: int
    code: int


def _end(tx: Transaction, outcome: Outcome) -> bool:
    """Write one outcome that is more than a clean end; False if it is refused."""
    ref = {"id": outcome.id, "lease": outcome.lease}
    row = tx.row(SQL["attempts/finish_owned"], ref)
    if row is None:
        refs = dumps({outcome.id: outcome.lease})
        return bool(tx.array(SQL["attempts/finish_landed"], {"refs": refs, "end": outcome.end}))
    held = _Held(*row)
    if outcome.wait is not None:
        suspend(tx, outcome, outcome.wait, held=held)
        return True
    if outcome.event is Transition.CANCEL and held.cancel_reason is None:
        tx.own_cancels.add(outcome.id)
    state = _next_state(outcome, held)
    due = _next_due(tx, outcome, state=state, held=held)
    started_at = _started_at(tx, outcome, held)
    new = {
        **ref,
        "state": CODES[state],
        "attempt": held.attempt if outcome.spent else held.attempt - 1,
        "schedule_at": due,
        "started_at": started_at,
        "recorded": outcome.end is not None,
        "finished_at": tx.now if state in FINAL else None,
        "cancel_reason": _reason(outcome, held) if state is State.CANCELLED else None,
        "unfit": outcome.unfit,
    }
    tx.run(SQL["attempts/finish_job"], new)
    if outcome.result is not None:
        tx.run(
            SQL["attempts/finish_result"], {"results": dumps([(outcome.id, outcome.lease, outcome.result)])}
        )
    _remember(tx, outcome, held, started_at=started_at)
    if outcome.hold is not None:
        _hold(tx, outcome.id, until=later(tx.now, outcome.hold))
    if state in FINAL:
        settle(tx, [outcome.id])
    elif state is State.RETRYABLE and held.flags & HAS_NURSERY and has_living_children(tx, outcome.id):
        close_as(tx, {outcome.id: CODES[state]})
    else:
        if state is State.RETRYABLE and held.flags & HAS_NURSERY:
            reopen(tx, [outcome.id])
        if due <= tx.now:
            tx.queues.add(held.queue)
    return True


def suspend(tx: Transaction, outcome: Outcome, wait: Wait, *, held: _Held) -> None:
    """Park or suspend a job. A request to cancel takes effect now, unless it is parked: then its worker gets it."""
    over, until = tx.row(SQL["scopes/wait_over"], {"id": outcome.id, "now": tx.now, **_place(wait)}) or (
        1,
        None,
    )
    code = AVAILABLE if over else SUSPENDED
    ends = held.cancel_reason is not None and not wait.parked
    if ends:
        code = CODES[State.DISCARDED if held.flags & _DEADLINE_PASSED else State.CANCELLED]
    new = {
        "id": outcome.id,
        "lease": outcome.lease,
        "state": code,
        "parks": wait.parked,
        "began": outcome.began,
    }
    tx.run(SQL["scopes/suspend"], {**new, "now": tx.now, "finished_at": tx.now if ends else None})
    if ends:
        settle(tx, [outcome.id])
        return
    worker = held.worker if wait.parked else None
    row = {"id": outcome.id, "now": tx.now, "until": until, "worker": worker, **_place(wait)}
    tx.run(SQL["scopes/wait"], row)
    if over:
        tx.queues.add(held.queue)
    tx.control = tx.control or until is not None  # workers learn the new due time


def _place(wait: Wait) -> dict[str, Any]:
    return {"kind": wait.kind, "name": wait.name, "number": wait.number}


def _hold(tx: Transaction, job_id: int, *, until: int) -> None:
    """Let no job with the key of this one start before a time, or none of its queue, if it has no key."""
    for part in ("attempts/hold_queue", "attempts/hold_key"):
        tx.run(SQL[part], {"id": job_id, "now": tx.now, "until": until})


def _next_state(outcome: Outcome, held: _Held) -> State:
    """Return the next state; an operator's cancel request takes precedence over another attempt."""
    unfinished = outcome.event in {Transition.RETRY, Transition.SNOOZE, Transition.GIVE_BACK}
    asked = Transition.DISCARD if held.flags & _DEADLINE_PASSED else Transition.CANCEL
    event = asked if unfinished and held.cancel_reason is not None else outcome.event
    return transition(State.EXECUTING, event)


def _reason(outcome: Outcome, held: _Held) -> str | None:
    """Return the cancel reason: the attempt's message if it cancelled the job itself, or the operator's reason."""
    own = _said(outcome.message) if outcome.event is Transition.CANCEL else None
    return own or held.cancel_reason


def _next_due(tx: Transaction, outcome: Outcome, *, state: State, held: _Held) -> int:
    """Return when the job is due next; a job that is given back or final keeps its time."""
    if state not in {State.RETRYABLE, State.SCHEDULED}:
        return held.schedule_at
    if outcome.children and wait_for_children(tx, outcome.id, outcome.children):
        return FAR
    return later(tx.now, outcome.delay)


def _started_at(tx: Transaction, outcome: Outcome, held: _Held) -> int | None:
    """Return when the attempt started, as far as anybody knows; None if it has not."""
    known = held.started_at if outcome.began is None else outcome.began
    return None if outcome.end is None else min(tx.now if known is None else known, tx.now)


def _remember(tx: Transaction, outcome: Outcome, held: _Held, *, started_at: int | None) -> None:
    """Store the record of an attempt that has started."""
    if outcome.end is None:
        return
    attempt = (held.attempt, outcome.end.value, started_at, tx.now, held.worker)
    error = (_said(outcome.error_type), _said(outcome.message), _said(outcome.traceback))
    record_attempt(tx, JobRef(outcome.id, outcome.lease), (*attempt, *error))


def _said(text: str | None) -> str | None:
    return None if text is None else storable(text)


def record_attempt(tx: Transaction, ref: JobRef, values: Sequence[Any]) -> None:
    """Store (number, end, started_at, finished_at, worker, error_type, message, traceback) of an attempt."""
    tx.run(SQL["attempts/record"], (*ref, *values))
    tx.run(SQL["attempts/record_trim"], {"id": ref.id})


def show_started(tx: Transaction, starts: Sequence[Start]) -> None:
    """Make claimed jobs executing; see `AttemptStore.show_started`."""
    tx.run(SQL["attempts/show_started"], {"starts": dumps(list(starts)), "now": tx.now})


def release_unknown(tx: Transaction, worker: str, *, queue: str, known: Sequence[JobRef]) -> int:
    """Give back jobs leased to a worker that does not know of them; see `AttemptStore.release_unknown`."""
    leased = tx.array(SQL["attempts/release_unknown"], {"worker": worker, "queue": queue})
    known_refs = set(known)
    lost = [JobRef(*ref) for ref in leased if JobRef(*ref) not in known_refs]
    for ref in lost:
        _end(tx, Outcome(ref.id, ref.lease, Transition.GIVE_BACK, end=None, spent=False))
    if lost:
        tx.run(SQL["attempts/release_unknown_forget"], (dumps([ref.id for ref in lost]),))
    return len(lost)
