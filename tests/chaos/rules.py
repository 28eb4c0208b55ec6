"""Checks of the changes of all jobs, in the order in which the database made them.

transitions   a change is not in the table of states, or does not keep lease and number of the attempt as it should
rescues       a job was taken from a worker that was alive
attempts      a job has more attempts than it may have, or was discarded with attempts left
limits        more jobs at once than a queue, a key, the cluster or a name allow
unique        two unfinished jobs with one key
order         a job was claimed although a better one had been waiting
cron          a tick with two jobs, or without one
cancellation  a job ran on after a cancel request, or would run again
transactions  rows of a job that did not complete, or none of one that did
children      a job continued before the last job for which it waits
families      see `tests.chaos.families`
messages      a message was received twice, or by another job than it was sent to
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import attrs

from jobrt._core.states import FINAL, HELD, INCOMPLETE, TRANSITIONS, UNSTARTED, State, Transition
from tests.chaos.families import families, messages
from tests.chaos.history import FAMILY, PASSES, SHIELDED, WAITING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.chaos.history import Change, Fault, History

__all__ = ["RULES", "Limits", "check_changes"]

TOLD = 4.0
"""Seconds that a job may run after its cancel request: the lease, after which it is fenced if no heartbeat could tell
the worker, and one more."""
WAITED = 1.0
"""Seconds that a better job must have been waiting, and must wait on, so that no lock can explain it."""

_HELD = {state.value for state in HELD}
_WAITING = {state.value for state in UNSTARTED}
_INCOMPLETE = {state.value for state in INCOMPLETE}


@attrs.frozen
class Limits:
    """Limits of the application."""

    queues: dict[str, int] = attrs.Factory(dict)
    """For each queue, the number of jobs that a worker runs at once."""
    cluster: dict[str, int] = attrs.Factory(dict)
    keys: dict[str, str] = attrs.Factory(dict)
    """For each queue with one job per key, the field of its arguments."""
    names: dict[str, int] = attrs.Factory(dict)


def allowed_pairs() -> frozenset[tuple[str | None, str | None]]:
    """Return which states may follow each other in a row: a claim may include the start, an outcome implies it."""
    pairs = {
        (before.value, after.value)
        for (before, event), after in TRANSITIONS.items()
        if event is not Transition.RERUN  # nobody asks for one here
    }
    claimed, executing = State.CLAIMED.value, State.EXECUTING.value
    pairs |= {(before, executing) for before, after in pairs if after == claimed}
    pairs |= {(claimed, after) for before, after in pairs if before == executing}
    pairs |= {(state.value, state.value) for state in State if state not in FINAL}
    return frozenset(pairs | {(None, "available"), (None, "scheduled")})


_ALLOWED = allowed_pairs()
_UNSPENT = {
    TRANSITIONS[State.EXECUTING, Transition.SNOOZE],
    TRANSITIONS[State.EXECUTING, Transition.GIVE_BACK],
}
"""States after which the ended attempt does not count."""


# ---------------------------------------------------------------------- single changes


def transitions(history: History, _limits: Limits) -> Iterator[str]:
    """Check each change against the table of states, and what it does to lease and attempt."""
    leases: defaultdict[int, set[int]] = defaultdict(set)
    for change in history.changes:
        what = f"job {change.job} ({change.name}): {change.before} to {change.after}"
        if change.name in WAITING or (change.name in FAMILY and change.before in FINAL):
            continue  # `tests.chaos.families` checks it; a child may be run again by its parent
        if change.before == change.after == "cancelled" and change.lease is None:
            continue  # SQLite clears the lease in a second step when a worker that does not know a job releases it
        if (change.before, change.after) not in _ALLOWED:
            yield f"{what} is not in the table of transitions"
        elif change.before is None:
            continue
        elif change.before in _WAITING and change.after in _HELD:
            if change.lease is None or change.lease <= 0 or change.lease in leases[change.job]:
                yield f"{what}: the lease {change.lease} is not new"
            if change.attempt != (change.attempt_before or 0) + 1:
                yield f"{what}: attempt {change.attempt_before} became {change.attempt}"
            leases[change.job].add(change.lease or 0)
        elif change.before in _HELD:
            yield from _of_held(change, what)


def _of_held(change: Change, what: str) -> Iterator[str]:
    """Check a change of a job that a worker held."""
    old, new = change.lease_before, change.lease
    before, after = change.attempt_before or 0, change.attempt
    if change.after in _HELD:
        if old != new or after != before:
            yield f"{what}: lease {old} and attempt {before} became {new} and {after}"
        return
    if new is not None and new != -(old or 0):
        yield f"{what}: lease {old} became {new}"
    spent = {before - 1} if change.after in _UNSPENT else {before}
    if change.after == "cancelled":  # in place of any of them
        spent = {before, before - 1}
    if after not in spent:
        yield f"{what}: attempt {before} became {after}"


def rescues(history: History, _limits: Limits) -> Iterator[str]:
    """Check that only dead workers lose their jobs: a rescue clears the lease."""
    for change in history.changes:
        rescued = (
            change.before in _HELD and change.lease is None and change.after not in {*_HELD, "available"}
        )
        if rescued and change.alive:
            yield f"job {change.job} was rescued as {change.after}, but its worker {change.worker} was alive"


def attempts(history: History, _limits: Limits) -> Iterator[str]:
    """Check MAX_ATTEMPTS: crashes count as well."""
    for change in history.changes:
        most = change.max_attempts
        if most is not None and change.after in _HELD and (change.attempt or 0) > most:
            yield f"job {change.job} is in attempt {change.attempt} of {most}"
        ended = change.before in _HELD and change.after == "discarded" and change.name not in FAMILY
        if ended and change.attempt != most:
            yield f"job {change.job} was discarded after attempt {change.attempt} of {most}"
    for job, row in history.rows.items():
        counted = sum(end in {"failed", "crashed", "timed_out"} for end in row.ends.values())
        if row.max_attempts is not None and counted > row.max_attempts:
            yield f"job {job} failed {counted} times, of {row.max_attempts}"


def transactions(history: History, _limits: Limits) -> Iterator[str]:
    """Check that each completed job has written its row once, and no other job has."""
    if not history.finished:
        return
    written = Counter(history.written)
    for job, row in history.rows.items():
        once = int(row.name == "Exact" and row.state == "completed")
        if written[job] != once:
            yield f"job {job} ({row.name}) is {row.state} and has written {written[job]} rows"


# ---------------------------------------------------------------------- several jobs


def limits(history: History, limits: Limits) -> Iterator[str]:
    """Check limits of the cluster and of keys by the claims, and those of a worker by its bodies.

    A worker that has all slots of a limit may claim more jobs for them ahead.
    """
    held: dict[int, tuple[str, str | None, str]] = {}
    for change in _ends_first(history.changes):
        if change.after in _HELD and change.before not in _HELD:
            queue = change.queue or ""
            key = json.loads(change.args or "{}").get(limits.keys[queue]) if queue in limits.keys else None
            held[change.job] = queue, key, change.worker or f"of job {change.job}"
            workers = [worker for of, _, worker in held.values() if of == queue]
            number = len(workers)
            if number > limits.cluster.get(queue, number) and len(set(workers)) > 1:
                yield f"job {change.job}: {number} jobs of the queue {queue} at once, of {limits.cluster[queue]}"
            of_key = [worker for *place, worker in held.values() if place == [queue, key]]
            if key is not None and len(of_key) > 1 and len(set(of_key)) > 1:
                yield f"job {change.job}: {len(of_key)} jobs of the queue {queue} with the key {key} at once"
        elif change.after not in _HELD:
            held.pop(change.job, None)
    yield from _limits_of_workers(history, limits)


def _ends_first(changes: Sequence[Change]) -> list[Change]:
    """Return changes in order, but those by which a transaction ends attempts before its claims."""
    first: dict[int, int] = {}
    for change in changes:
        if change.tx is not None:
            first.setdefault(change.tx, change.seq)

    def place(change: Change) -> tuple[int, int]:
        ends = change.after not in _HELD and change.tx is not None
        return (first[change.tx] - 1 if ends and change.tx is not None else change.seq), change.seq

    return sorted(changes, key=place)


def _limits_of_workers(history: History, limits: Limits) -> Iterator[str]:
    most = limits.queues | limits.names
    running: defaultdict[tuple[int, str], set[tuple[int, int]]] = defaultdict(set)
    for line in history.lines:
        for what in (line.name, line.queue):
            bodies = running[line.pid, what]
            if line.what == "begin":
                bodies.add((line.job, line.lease))
                if len(bodies) > most.get(what, len(bodies)):
                    yield f"process {line.pid} runs {len(bodies)} jobs of {what} at once, of {most[what]}"
            elif line.what != "tick":
                bodies.discard((line.job, line.lease))


def unique(history: History, _limits: Limits) -> Iterator[str]:
    """Check that there is only one unfinished job for each key of `Single`."""
    unfinished: defaultdict[str, set[int]] = defaultdict(set)
    for change in history.changes:
        if change.name != "Single":
            continue
        jobs = unfinished[json.loads(change.args or "{}").get("who", "")]
        if change.after in _INCOMPLETE:
            jobs.add(change.job)
            if len(jobs) > 1 and change.before is None:
                yield f"job {change.job} is the same as {sorted(jobs - {change.job})}, which is not finished"
        else:
            jobs.discard(change.job)


def order(history: History, limits: Limits) -> Iterator[str]:
    """Check priority, due time and id in queues with one slot."""
    for queue in [name for name, slots in limits.queues.items() if slots == 1]:
        changes = [change for change in history.changes if change.queue == queue]
        following: dict[int, float] = {}
        until: dict[int, float] = {}
        for change in reversed(changes):
            until[change.seq] = following.get(change.job, float("inf"))
            following[change.job] = change.at
        yield from _order(history, changes, until)


def _order(history: History, changes: list[Change], until: dict[int, float]) -> Iterator[str]:
    waiting: dict[int, Change] = {}
    for change in changes:
        waiting.pop(change.job, None)
        if change.after in _WAITING:
            waiting[change.job] = change
        elif (
            change.before in _WAITING and change.after in _HELD and not _disturbed(history.faults, change.at)
        ):
            mine = _place(change)
            better = [
                other.job
                for other in waiting.values()
                if _place(other) < mine
                and max(other.due, other.at) < change.at - WAITED
                and until[other.seq] > change.at + WAITED
            ]
            if better:
                yield f"job {change.job} with priority {change.priority} was claimed, but {better} were waiting"


def _place(change: Change) -> tuple[int, float, int]:
    return -change.priority, change.due, change.job


def _disturbed(faults: Sequence[Fault], at: float) -> bool:
    """Return whether the database had a fault around this time: a claim may have been rolled back."""
    return any(not fault.pid and fault.at - 2 * WAITED < at < fault.end + 2 * WAITED for fault in faults)


def cron(history: History, _limits: Limits) -> Iterator[str]:
    """Check that each tick has one job; the entry ticks every second, and no tick is left out."""
    contexts = [
        change.context for change in history.changes if change.before is None and change.name == "Tick"
    ]
    for context, number in Counter(contexts).items():
        if number > 1:
            yield f"{context} has {number} jobs"
    ticks = sorted(datetime.fromisoformat((context or "").split(" ")[-1]) for context in set(contexts))
    for one, other in pairwise(ticks):
        if (other - one).total_seconds() > 1:
            yield f"cron: after the tick of {one} came only that of {other}"


# ---------------------------------------------------------------------- jobs and bodies


def cancellation(history: History, _limits: Limits) -> Iterator[str]:
    """Check that a cancelled job does not run again, and that a running one is told."""
    bodies = history.bodies()
    asked: dict[tuple[int, int], float] = {}
    for change in history.changes:
        if change.cancel and change.before in _HELD:
            if change.after in _HELD:
                asked.setdefault(change.ref, change.at)
            elif change.after in _WAITING and change.name not in WAITING:
                yield f"job {change.job} has a cancel request, but became {change.after}"
        elif change.cancel and change.after in _HELD:
            yield f"job {change.job} has a cancel request, but was claimed when it was {change.before}"
    for (job, lease), at in asked.items():
        ran_until = [line.at for line in bodies.get(job, {}).get(lease, []) if line.name not in SHIELDED][
            :-PASSES
        ]
        if ran_until and ran_until[-1] > at + TOLD:
            yield f"job {job} ran for {ran_until[-1] - at:.1f} s under lease {lease} after its cancel request"


def children(history: History, _limits: Limits) -> Iterator[str]:
    """Check that a job continues only when all jobs for which it waits are final."""
    waits = {(line.job, line.lease): line.note for line in history.lines if line.what == "waits"}
    waiting: dict[int, list[int]] = {}
    unfinished: set[int] = set()
    for change in history.changes:
        if change.after in _INCOMPLETE:
            unfinished.add(change.job)
        else:
            unfinished.discard(change.job)
        if change.before in _HELD and change.after == "scheduled" and change.ref in waits:
            waiting[change.job] = waits[change.ref]
        elif change.after in _HELD:
            missing = sorted(unfinished.intersection(waiting.pop(change.job, ())))
            if missing:
                yield f"job {change.job} continued, but {missing}, for which it waits, were not final"


RULES: dict[str, Callable[[History, Limits], Iterator[str]]] = {
    rule.__name__: rule
    for rule in (
        transitions,
        rescues,
        attempts,
        limits,
        unique,
        order,
        cron,
        cancellation,
        transactions,
        children,
        families,
        messages,
    )
}


def check_changes(history: History, limits: Limits) -> dict[str, list[str]]:
    """Return the violations by rule."""
    return {name: list(rule(history, limits)) for name, rule in RULES.items()}
