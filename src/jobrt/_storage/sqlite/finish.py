"""Outcomes of attempts: the new state of their jobs, and the attempt records."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from jobrt._core.job import JobRef, Outcome, Start, Wait
from jobrt._core.states import FINAL, End, State, Transition, transition
from jobrt._core.text import storable
from jobrt._storage.apart import Refused
from jobrt._storage.sqlite.dependencies import wait_for_children
from jobrt._storage.sqlite.family import HAS_NURSERY, close_as, has_living_children, reopen, settle
from jobrt._storage.sqlite.rows import FAR, dumps, later
from jobrt._storage.sqlite.savepoints import Apart
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
    return (*refused, *_end_all(tx, others))


def _complete(tx: Transaction, outcomes: Mapping[int, Outcome]) -> list[JobRef]:
    """Complete jobs whose attempts ended cleanly, one statement per claim, and return the refused ones."""
    starts: dict[int, dict[int, int | None]] = {}
    for job_id, outcome in outcomes.items():
        starts.setdefault(outcome.lease, {})[job_id] = outcome.began
    written = sum(_write_clean(tx, lease, jobs) for lease, jobs in starts.items())
    landed: Iterable[int] = outcomes
    over = list(outcomes)
    if written < len(outcomes):
        refs = dumps({job_id: outcome.lease for job_id, outcome in outcomes.items()})
        landed = set(tx.array(SQL["attempts/finish_landed"], {"refs": refs, "end": End.FINISHED}))
        over = tx.array(SQL["attempts/finish_over"], {"ids": dumps(list(landed))})
    results = [
        (ended.id, ended.lease, ended.result) for ended in outcomes.values() if ended.result is not None
    ]
    if results:
        tx.run(SQL["attempts/finish_result"], {"results": dumps(results)})
    _unpark(tx, [job_id for job_id in over if outcomes[job_id].was_parked])
    settle(tx, over)
    return [JobRef(ended.id, ended.lease) for ended in outcomes.values() if ended.id not in landed]


def _write_clean(tx: Transaction, lease: int, starts: Mapping[int, int | None]) -> int:
    """Complete jobs of one claim, and return how many."""
    values = {"now": tx.now, "lease": lease, "starts": dumps(starts)}
    written = tx.run(SQL["attempts/finish_clean"], values)
    if written < len(starts):
        written += tx.run(SQL["attempts/finish_clean_rest"], values)
    return written


class _Held(NamedTuple):
    """Stored values of a job whose attempt ends."""

    queue: str
    attempt: int
    schedule_at: int
    started_at: int | None
    worker: str
    cancel_reason: str | None
    flags: int
    code: int


class _Ending(NamedTuple):
    """An outcome that is more than a clean end, and what it makes of its job."""

    outcome: Outcome
    held: _Held
    state: State
    due: int
    started_at: int | None


def _end_all(tx: Transaction, outcomes: Sequence[Outcome]) -> list[JobRef]:
    """Write outcomes that are more than clean ends, and return the refused ones."""
    if not outcomes:
        return []
    first: dict[int, Outcome] = {}
    others = [outcome for outcome in outcomes if first.setdefault(outcome.id, outcome) is not outcome]
    refs = dumps({outcome.id: outcome.lease for outcome in first.values()})
    held = {row[0]: _Held(*row[1:]) for row in tx.array(SQL["attempts/finish_owned"], {"refs": refs})}
    back = [
        id
        for id, outcome in first.items()
        if outcome.end is None and id in held and held[id].cancel_reason is None
    ]
    parked = _park_again(tx, back) if back else frozenset[int]()
    endings: list[_Ending] = []
    for id, outcome in first.items():
        if id in held and outcome.wait is not None:
            suspend(tx, outcome, outcome.wait, held=held[id])
        elif id in held and id not in parked:
            endings.append(_ending(tx, outcome, held[id]))
    if endings:
        _write(tx, endings)
    missing = [outcome for id, outcome in first.items() if id not in held]
    refused = [JobRef(outcome.id, outcome.lease) for outcome in missing if not _has_landed(tx, outcome)]
    return refused + _end_all(tx, others)


def _ending(tx: Transaction, outcome: Outcome, held: _Held) -> _Ending:
    if outcome.event is Transition.CANCEL and held.cancel_reason is None:
        tx.own_cancels.add(outcome.id)
    state = _next_state(outcome, held)
    due = _next_due(tx, outcome, state=state, held=held)
    return _Ending(outcome, held, state, due, _started_at(tx, outcome, held))


def _has_landed(tx: Transaction, outcome: Outcome) -> bool:
    refs = dumps({outcome.id: outcome.lease})
    return bool(tx.array(SQL["attempts/finish_landed"], {"refs": refs, "end": outcome.end}))


def _write(tx: Transaction, endings: Sequence[_Ending]) -> None:
    """Write the ends of attempts: their jobs, results and records, and whom they release."""
    tx.run(SQL["attempts/finish_jobs"], {"jobs": dumps([_job_values(tx, ending) for ending in endings])})
    outcomes = [ending.outcome for ending in endings]
    results = [(each.id, each.lease, each.result) for each in outcomes if each.result is not None]
    if results:
        tx.run(SQL["attempts/finish_result"], {"results": dumps(results)})
    record_attempts(tx, [_record(tx, ending) for ending in endings if ending.outcome.end is not None])
    for outcome in outcomes:
        if outcome.hold is not None:
            _hold(tx, outcome.id, until=later(tx.now, outcome.hold))
    final = [ending.outcome.id for ending in endings if ending.state in FINAL]
    if final:
        settle(tx, final)
    again = [ending for ending in endings if ending.state not in FINAL]
    _unpark(
        tx,
        [ending.outcome.id for ending in endings if ending.state not in FINAL or ending.outcome.was_parked],
    )
    for ending in again:
        _go_on(tx, ending)
    tx.news += [ending.outcome.id for ending in endings]


def _unpark(tx: Transaction, ids: Sequence[int]) -> None:
    """Note that the attempts of jobs have ended: whoever claims one next has not parked it."""
    if ids:
        tx.run(SQL["scopes/unpark"], {"ids": dumps(ids)})


def _go_on(tx: Transaction, ending: _Ending) -> None:
    """Wake the queue of a job that is due again. After a failed attempt, living children are ended before."""
    id, state = ending.outcome.id, ending.state
    if state is State.RETRYABLE and ending.held.flags & HAS_NURSERY:
        if has_living_children(tx, id):
            close_as(tx, {id: CODES[state]})
            return
        reopen(tx, [id])
    if ending.due <= tx.now:
        tx.queues.add(ending.held.queue)


def _job_values(tx: Transaction, ending: _Ending) -> tuple[Any, ...]:
    """Return the values of finish_jobs.sql for a job."""
    outcome, held, state = ending.outcome, ending.held, ending.state
    return (
        outcome.id,
        outcome.lease,
        CODES[state],
        held.attempt if outcome.spent else held.attempt - 1,
        ending.due,
        ending.started_at,
        int(outcome.end is not None),
        tx.now if state in FINAL else None,
        _reason(outcome, held) if state is State.CANCELLED else None,
        outcome.unfit,
    )


def suspend(tx: Transaction, outcome: Outcome, wait: Wait, *, held: _Held) -> None:
    """Park or suspend a job. A request to cancel takes effect now, unless it is parked: then its worker gets it."""
    place = {"id": outcome.id, "now": tx.now, "bodies": dumps(wait.bodies), **_place(wait)}
    over, until = tx.row(SQL["scopes/wait_over"], place) or (1, None)
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


def _record(tx: Transaction, ending: _Ending) -> tuple[Any, ...]:
    """Return the record of an attempt that has started, as `record_attempts` takes it."""
    outcome, held = ending.outcome, ending.held
    assert outcome.end is not None  # noqa: S101 - for the type checkers; `_write` has checked it
    attempt = (held.attempt, outcome.end.value, ending.started_at, tx.now, held.worker)
    error = (_said(outcome.error_type), _said(outcome.message), _said(outcome.traceback))
    return (outcome.id, outcome.lease, *attempt, *error)


def _said(text: str | None) -> str | None:
    return None if text is None else storable(text)


def record_attempts(tx: Transaction, records: Sequence[tuple[Any, ...]]) -> None:
    """Store attempts.

    Each is (job, lease, number, end, started_at, finished_at, worker, error_type, message, traceback).
    """
    if records:
        tx.run(SQL["attempts/record"], {"records": dumps(records)})
        tx.run(SQL["attempts/record_trim"], {"ids": dumps([record[0] for record in records])})


def show_started(tx: Transaction, starts: Sequence[Start]) -> list[Refused]:
    """Make claimed jobs executing, and return those that are refused; see `AttemptStore.show_started`."""
    apart = Apart(tx, "start")
    apart(starts, partial(_show_started, tx), job=attrgetter("id"))
    return apart.refused


def _show_started(tx: Transaction, starts: Sequence[Start]) -> None:
    tx.run(SQL["attempts/show_started"], {"starts": dumps(list(starts)), "now": tx.now})
    tx.news += [start.id for start in starts]


def release_unknown(
    tx: Transaction, worker: str, *, queue: str, known: Sequence[JobRef]
) -> tuple[int, list[Refused]]:
    """Give back jobs leased to a worker that does not know of them, and return how many, and those that are refused.

    See `AttemptStore.release_unknown`.
    """
    leased = tx.array(SQL["attempts/release_unknown"], {"worker": worker, "queue": queue})
    known_refs = set(known)
    lost = [JobRef(*ref) for ref in leased if JobRef(*ref) not in known_refs]
    apart = Apart(tx, "release")
    released = apart(lost, partial(_release, tx), job=attrgetter("id"))
    return sum(released), apart.refused


def _release(tx: Transaction, lost: Sequence[JobRef]) -> int:
    parked = _park_again(tx, [ref.id for ref in lost])
    others = [ref for ref in lost if ref.id not in parked]
    _end_all(tx, [Outcome(*ref, Transition.GIVE_BACK, end=None, spent=False) for ref in others])
    tx.run(SQL["attempts/release_unknown_forget"], (dumps([ref.id for ref in others]),))
    return len(lost)


def _park_again(tx: Transaction, ids: Sequence[int]) -> frozenset[int]:
    """Give back the claimed jobs that their worker has parked, which stay its own; return their ids."""
    rows = tx.rows(SQL["scopes/park_again"], {"ids": dumps(ids), "now": tx.now, "available": AVAILABLE})
    tx.queues.update(queue for _, queue in rows)
    return frozenset(id for id, _ in rows)
