"""Model of a storage in plain Python: a dict of jobs, changed only by the transition table.

Time is a number. Delays and steps of time are multiples of fifty seconds that never meet (see `test_machine`), so that
the real clock of a database, which goes on by milliseconds, decides nothing that the model would decide otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

import attrs

from jobrt._core.states import FINAL, HELD, UNSTARTED, End, State, Transition, transition

if TYPE_CHECKING:
    from datetime import timedelta

    from jobrt._core.job import Claimed, NewJob, Outcome, Start
    from jobrt._core.keep import PruneRule
    from jobrt._core.limits import Demand
    from jobrt._core.unique import UniqueKey

__all__ = ["Model", "ModelJob"]


def _seconds(delay: timedelta | None) -> float:
    return 0.0 if delay is None else delay.total_seconds()


@attrs.define(eq=False)
class ModelJob:
    """A job in the model."""

    id: int
    name: str
    queue: str
    priority: int
    max_attempts: int | None
    digest: str | None
    created: float
    due: float
    state: State
    attempt: int = 0
    worker: str | None = None
    lease: int | None = None
    landed: int | None = None
    """The lease whose outcome was the last change."""
    ended: set[int] = attrs.field(factory=set)
    """All leases whose outcomes were written."""
    asked: bool = False
    cancel_reason: str | None = None
    finished: float | None = None
    ends: list[tuple[int, End]] = attrs.field(factory=list)
    started: bool = False
    """Whether the last attempt, as far as anybody has told, has started."""

    def at(self, now: float) -> State:
        """Return the state that a reader sees at that time."""
        if self.state is State.SCHEDULED and self.due <= now:
            return transition(self.state, Transition.FALL_DUE)
        return self.state

    def claimable(self, now: float) -> bool:
        """Return whether a worker may claim it."""
        return self.state in UNSTARTED and self.due <= now

    def put_off(self, due: float, now: float) -> None:
        """Change when a waiting job is due."""
        was = self.at(now)
        self.due = due
        if due > now:
            self.state = transition(was, Transition.POSTPONE)
        elif was is not State.RETRYABLE:
            self.state = State.AVAILABLE

    def end_attempt(self, event: Transition, end: End | None, now: float) -> None:
        """Leave `executing`, or `claimed`, by an event, with a record of the attempt if there was one."""
        if end is not None and self.state is State.CLAIMED:
            self.state = transition(self.state, Transition.START)
        self.state = transition(self.state, event)
        if end is not None:
            self.ends.append((self.attempt, end))
        self.lease, self.asked = None, False
        if self.state in FINAL:
            self.finished = now


@attrs.define(eq=False)
class Model:
    """All jobs, the queues that are paused, and the time."""

    jobs: dict[int, ModelJob] = attrs.field(factory=dict)
    paused: set[str] = attrs.field(factory=set)
    now: float = 0.0

    def seen(self) -> dict[int, tuple[object, ...]]:
        """Return what a storage must show of each job."""
        return {
            one.id: (
                one.name,
                one.at(self.now),
                one.queue,
                one.priority,
                one.attempt,
                one.max_attempts,
                one.worker,
                one.cancel_reason,
                tuple(one.ends),
                one.started,
            )
            for one in self.jobs.values()
        }

    # -------------------------------------------------------------- enqueue

    def equal(self, key: UniqueKey) -> set[int]:
        """Return the jobs that count as duplicates of a new one with this key."""
        oldest = self.now - _seconds(key.within) if key.within else float("-inf")
        return {
            one.id
            for one in self.jobs.values()
            if one.digest == key.digest and one.at(self.now) in key.states and one.created > oldest
        }

    def insert(self, id: int, new: NewJob) -> None:
        """Store a new job."""
        due = self.now + _seconds(new.delay)
        self.jobs[id] = ModelJob(
            id=id,
            name=new.name,
            queue=new.queue,
            priority=new.priority,
            max_attempts=new.max_attempts,
            digest=new.unique.digest if new.unique else None,
            created=self.now,
            due=due,
            state=State.SCHEDULED if due > self.now else State.AVAILABLE,
        )

    def replace(self, id: int, new: NewJob) -> None:
        """Change the stored job as the new job's rule says."""
        found, rule = self.jobs[id], new.unique.replace if new.unique else None
        if rule is None or found.at(self.now) not in rule.when:
            return
        if "priority" in rule.fields:
            found.priority = new.priority
        if "schedule_at" in rule.fields:
            found.put_off(self.now + _seconds(new.delay), self.now)

    # -------------------------------------------------------------- attempts

    def due(self, demand: Demand, *, taken: Collection[int] = ()) -> list[int]:
        """Return the jobs a claim must return, in order; `taken` are those of its first statement if it ran two."""
        if demand.queue in self.paused:
            return []
        here = [one for one in self.jobs.values() if one.queue == demand.queue and one.claimable(self.now)]
        here.sort(key=lambda one: (-one.priority, one.due, one.id))
        left = dict.fromkeys(demand.names, len(here)) | dict(demand.capped)
        found: set[int] = set()
        for one in sorted(here, key=lambda one: one.id not in taken):
            if left.get(one.name, 0) > 0 and len(found) < demand.limit:
                left[one.name] -= 1
                found.add(one.id)
        return [one.id for one in here if one.id in found]

    def claim(self, claimed: Claimed, worker: str) -> None:
        """Lease a job to a worker."""
        one = self.jobs[claimed.id]
        one.state = transition(one.at(self.now), Transition.CLAIM)
        one.started = False
        if claimed.started_at is not None:
            self._start(one)
        one.attempt += 1
        one.worker, one.lease, one.landed = worker, claimed.lease, None

    def _start(self, one: ModelJob) -> None:
        one.state, one.started = transition(one.state, Transition.START), True

    def show(self, starts: Iterable[Start]) -> None:
        """Start claimed jobs, if the lease is still theirs."""
        for start in starts:
            one = self.jobs.get(start.id)
            if one is not None and one.lease == start.lease and one.state is State.CLAIMED:
                self._start(one)

    def finish(self, outcome: Outcome) -> bool | None:
        """End an attempt; say whether the outcome must be refused, or None if it may be.

        The outcome of an attempt that ended before its job went on was written; it need not be known any more.
        """
        one = self.jobs.get(outcome.id)
        if one is None or one.lease != outcome.lease:
            if one is None or outcome.lease not in one.ended:
                return True
            return False if one.landed == outcome.lease else None
        event = outcome.event
        if one.asked and event in {Transition.RETRY, Transition.SNOOZE, Transition.GIVE_BACK}:
            event = Transition.CANCEL
        elif event is Transition.CANCEL:
            one.cancel_reason = outcome.message
        elif event is Transition.COMPLETE or event is Transition.DISCARD:
            one.cancel_reason = None
        one.end_attempt(event, outcome.end, self.now)
        one.started = outcome.end is not None
        one.landed = outcome.lease
        one.ended.add(outcome.lease)
        if not outcome.spent:
            one.attempt -= 1
        if one.state in {State.RETRYABLE, State.SCHEDULED}:
            one.due = self.now + outcome.delay
        return False

    def rescue(self, worker: str) -> dict[int, State]:
        """End what a dead worker was running."""
        found = [one for one in self.jobs.values() if one.lease is not None and one.worker == worker]
        for one in found:
            used_up = one.max_attempts is not None and one.attempt >= one.max_attempts
            event = Transition.CANCEL if one.asked else Transition.DISCARD if used_up else Transition.RETRY
            one.end_attempt(event, End.CRASHED, self.now)
        return {one.id: one.state for one in found}

    # -------------------------------------------------------------- manage

    def _each(self, ids: Iterable[int], allowed: Callable[[ModelJob], bool]) -> list[ModelJob]:
        return [self.jobs[id] for id in ids if id in self.jobs and allowed(self.jobs[id])]

    def cancel(self, ids: Iterable[int], reason: str) -> tuple[int, int]:
        """Cancel waiting jobs, ask for running ones."""
        waiting = self._each(ids, lambda one: one.state in UNSTARTED)
        running = self._each(ids, lambda one: one.state in HELD and not one.asked)
        for one in waiting:
            one.state = transition(one.at(self.now), Transition.CANCEL)
            one.cancel_reason, one.finished, one.landed = reason, self.now, None
        for one in running:
            one.asked, one.cancel_reason = True, reason
        return len(waiting), len(running)

    def rerun(self, ids: Iterable[int]) -> int:
        """Make final jobs available."""
        found = self._each(ids, lambda one: one.state in FINAL)
        for one in found:
            one.state = transition(one.state, Transition.RERUN)
            one.due, one.finished, one.cancel_reason, one.landed = self.now, None, None, None
            if one.max_attempts is not None and one.attempt >= one.max_attempts:
                one.max_attempts = one.attempt + 1
        return len(found)

    def update(self, ids: Iterable[int], *, priority: int | None, delay: float | None) -> int:
        """Change waiting jobs."""
        found = self._each(ids, lambda one: one.state in UNSTARTED)
        for one in found:
            if priority is not None:
                one.priority = priority
            if delay is not None:
                one.put_off(self.now + delay, self.now)
        return len(found)

    def delete(self, ids: Iterable[int]) -> int:
        """Remove jobs."""
        found = self._each(ids, lambda _one: True)
        for one in found:
            del self.jobs[one.id]
        return len(found)

    def prune(self, rule: PruneRule) -> int:
        """Remove final jobs as a rule says; `PruneRule.removes` in numbers."""
        covered = [
            one for one in self.jobs.values() if rule.covers(one.state, name=one.name, queue=one.queue)
        ]
        covered.sort(key=lambda one: (one.finished or 0.0, one.id), reverse=True)
        gone: list[int] = []
        for at, one in enumerate(covered):
            newer = sum(other.name == one.name for other in covered[:at])
            old = rule.age is None or (one.finished or 0.0) < self.now - _seconds(rule.age)
            if old and newer >= rule.keep_at_least:
                gone.append(one.id)
        return self.delete(gone)
