"""Which jobs of a batch are new, compared with stored jobs and with earlier jobs of the batch."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

import attrs

from jobrt._core.job import NewJob
from jobrt._core.states import State
from jobrt._core.unique import UniqueKey


@attrs.frozen
class Place:
    """Result for one job of the input: the id of a stored job, or an index into the new ones."""

    id: int | None = None
    new: int = 0
    duplicate: bool = False


@attrs.define
class Stored:
    """A stored job whose digest is in the batch; its state is the one after the replacements so far."""

    id: int
    digest: str
    state: State = attrs.field(converter=State)
    age: float
    """Seconds since it was created."""


def repeats(jobs: Iterable[NewJob]) -> bool:
    """Return whether two unique jobs may be duplicates of each other. If not, and none is stored, all are new."""
    digests = [job.unique.digest for job in jobs if job.unique is not None]
    return len({*digests}) < len(digests)


@attrs.define
class Batch:
    """Plan for a batch of jobs, built in input order; `now` is the database's time.

    Of several duplicates, the newest counts: a job of this batch, else the stored one with the highest id.
    """

    _stored: dict[str, list[Stored]]
    _now: datetime
    new: list[NewJob] = attrs.field(init=False, factory=list)
    places: list[Place] = attrs.field(init=False, factory=list)
    replaced: list[tuple[int, NewJob, tuple[str, ...]]] = attrs.field(init=False, factory=list)
    """(id, new job, fields) of the stored jobs to change, in order."""
    _by_digest: dict[str, list[int]] = attrs.field(init=False, factory=dict)

    @classmethod
    def of(cls, stored: Iterable[Stored], *, now: datetime) -> Batch:
        """Start with the stored jobs, in any order."""
        by_digest: dict[str, list[Stored]] = {}
        for job in sorted(stored, key=attrgetter("id"), reverse=True):
            by_digest.setdefault(job.digest, []).append(job)
        return cls(by_digest, now)

    def add(self, job: NewJob) -> None:
        """Add the next job of the input."""
        rule = job.unique
        if rule is None:
            self._append(job)
        elif (index := self._find_new(rule)) is not None:
            self.places.append(Place(new=index, duplicate=True))
            self._replace_new(index, job, rule)
        elif (found := self._find_stored(rule)) is not None:
            self.places.append(Place(id=found.id, duplicate=True))
            self._replace_stored(found, job, rule)
        else:
            self._by_digest.setdefault(rule.digest, []).append(len(self.new))
            self._append(job)

    def _append(self, job: NewJob) -> None:
        self.places.append(Place(new=len(self.new)))
        self.new.append(job)

    def _find_stored(self, rule: UniqueKey) -> Stored | None:
        for job in self._stored.get(rule.digest, ()):
            if rule.matches(job.state, job.age):
                return job
        return None

    def _find_new(self, rule: UniqueKey) -> int | None:
        for index in reversed(self._by_digest.get(rule.digest, ())):
            if rule.matches(self._state_of(self.new[index]), 0.0):
                return index
        return None

    def _replace_stored(self, found: Stored, job: NewJob, rule: UniqueKey) -> None:
        if not (fields := rule.replaced(found.state)):
            return
        self.replaced.append((found.id, job, fields))
        if "schedule_at" in fields and found.state is not State.RETRYABLE:
            found.state = self._state_of(job)

    def _replace_new(self, index: int, job: NewJob, rule: UniqueKey) -> None:
        old = self.new[index]
        changes: dict[str, Any] = {name: getattr(job, name) for name in rule.replaced(self._state_of(old))}
        if "schedule_at" in changes:
            changes["delay"] = job.delay
        if "args" in changes:
            changes["version"] = job.version
        self.new[index] = old._replace(**changes)

    def _state_of(self, job: NewJob) -> State:
        delay = job.delay or timedelta(0)
        later = delay > timedelta(0) if job.schedule_at is None else job.schedule_at > self._now
        return State.SCHEDULED if later else State.AVAILABLE
