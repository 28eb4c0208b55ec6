"""Identity of children: under which name a nursery knows what it is asked for. See ``design/scopes.md``."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable

import attrs

from jobrt._core.job import NewJob
from jobrt._core.scopes import Member
from jobrt.errors import InvalidJob, NurseryChanged


@attrs.define(eq=False)
class Roll:
    """The members of a nursery, and those that this run has asked for.

    A child's identity is its key; without one, its job name, its payload, and how many equal ones were asked for
    before. It is computed once, before the child is stored, and found again by later runs.

    Args:
        label: nursery and job, for messages.
        sealed: the body has ended in an earlier run: only stored members can be asked for.
        members: those that are stored.

    """

    label: str
    sealed: bool
    _stored: dict[str, Member] = attrs.Factory(dict)
    _unclaimed: dict[str, deque[Member]] = attrs.Factory(dict)
    _claimed: set[str] = attrs.Factory(set[str])
    _keys: dict[str, tuple[str, str]] = attrs.Factory(dict)
    _equal: dict[str, int] = attrs.Factory(dict[str, int])

    def add(self, members: Iterable[Member]) -> None:
        """Add stored members, in their order."""
        for member in members:
            self._stored[member.identity] = member
            self._unclaimed.setdefault(member.name, deque()).append(member)

    def identity(self, job: NewJob, key: str | None) -> str:
        """Return the identity of a child that this run asks for.

        Raises:
            InvalidJob: the key was used before in this run, for another job.

        """
        if key is None:
            content = f"{job.name}:{hashlib.sha256(job.args.encode()).hexdigest()[:32]}"
            number = self._equal.get(content, 0)
            self._equal[content] = number + 1
            return f"{content}:{number}"
        known = self._keys.setdefault(key, (job.name, job.args))
        if known != (job.name, job.args):
            raise InvalidJob(
                f"{self.label}: the key {key!r} is used for two different jobs: give each its own"
            )
        return f"key:{key}"

    def find(self, identity: str, job: NewJob) -> Member | None:
        """Return the stored member that a child is, or None if it is to be added.

        Raises:
            NurseryChanged: the nursery is sealed and has no such member, or it is another job.

        """
        member = self._stored.get(identity)
        if member is None and self.sealed:
            member = self._next(job.name)
            if member is None:
                raise NurseryChanged(
                    f"{self.label}: a run before this one has ended its body, and has not asked for this {job.name}."
                    " Let each run ask for the same children, or give them keys"
                )
        if member is None:
            return None
        if member.name != job.name:
            raise NurseryChanged(f"{self.label}: {identity!r} is a {member.name} and not a {job.name}")
        self._claimed.add(member.identity)
        return member

    def _next(self, name: str) -> Member | None:
        """Return the first member of a job name that this run has not asked for."""
        waiting = self._unclaimed.get(name, deque())
        while waiting and waiting[0].identity in self._claimed:
            waiting.popleft()
        return waiting[0] if waiting else None
