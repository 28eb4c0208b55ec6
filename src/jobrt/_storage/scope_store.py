"""The role of a storage for families of jobs, their messages and waits (``design/scopes.md``)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol

from jobrt._core.job import JobRef
from jobrt._core.scopes import Answer, Child, Member, NurseryRow, Tended
from jobrt._storage.values import Inserted


class ScopeStore(Protocol):
    """Families of jobs, their messages and waits.

    Methods with a `ref` raise `LeaseLost` if the attempt does not hold its job under that lease any more.
    """

    async def open(
        self, ref: JobRef, name: str, *, on_failure: Literal["cancel", "continue"], seconds: float | None
    ) -> NurseryRow:
        """Create a nursery of a running job, or return the stored one.

        Its deadline is `seconds` after its creation. An aborted nursery without living members is opened again: open,
        not sealed, retried.
        """
        ...

    async def members(
        self, ref: JobRef, name: str, *, after: str = "", limit: int = 1000
    ) -> tuple[Member, ...]:
        """Return members in the order of their identities, after `after`. Their numbers tell which came first."""
        ...

    async def enqueue(
        self, ref: JobRef, name: str, children: Sequence[Child], *, fresh: bool = False
    ) -> tuple[Inserted, ...]:
        """Add children to a nursery, in one transaction, and return the result for each.

        A child whose identity is stored already is not added. One that is unique and has a duplicate outside of the
        nursery is noted, but is no member. A rerun makes a final member available, with a fresh count of attempts.
        With `fresh` the caller knows that no identity is stored. They are not looked up; if one is stored all the
        same, the call fails, and nothing is added.

        Raises:
            LeaseLost: also if an ancestor is over, or being ended. Nothing is added.
            JobStateError: the nursery is not open. Nothing is added.

        """
        ...

    async def seal(
        self, ref: JobRef, name: str, *, end: Literal["cancelled", "aborted"] | None = None, reason: str = ""
    ) -> NurseryRow:
        """Note that the body of a nursery has ended, and with `end` cancel its members, if it is open.

        With `end` a nursery that is not sealed stays so.
        """
        ...

    async def failures(self, ref: JobRef, name: str, *, limit: int = 100) -> tuple[int, ...]:
        """Return the ids of the members that failed, in the order of their numbers."""
        ...

    async def receive(self, ref: JobRef, name: str, number: int, *, within: float | None) -> Answer:
        """Take the next message of a name, or return how this wait ended before.

        `number` counts the waits of that name since the last `forget`, from 0. The first call for a number decides its
        limit: `within` seconds from now. An answer is stored before it is returned.
        """
        ...

    async def sleep(
        self, ref: JobRef, name: str, *, seconds: float | None = None, at: datetime | None = None
    ) -> float:
        """Return how many seconds of a sleep are left; 0 or less if it is over. The first call decides its end."""
        ...

    async def send(self, job_id: int, name: str, value: str, *, key: str | None = None) -> bool:
        """Send a message (JSON text) to a job and wake it if it waits for one; False if `key` was sent before.

        Raises:
            JobNotFound: there is no such job.
            JobStateError: the job is final or closing.

        """
        ...

    async def tend(self, *, limit: int = 1000) -> Tended:
        """Do what is due for scopes, in one transaction, for at most `limit` jobs.

        Members of nurseries that are ending are cancelled, or told. Waits whose time is over end. Deadlines that have
        passed take effect: those of jobs, of nurseries, and expiries. Any number of workers may call it at once.
        """
        ...
