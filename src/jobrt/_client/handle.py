"""Handles of jobs, which `enqueue` returns."""

from collections.abc import AsyncIterator
from typing import Any, Generic, Protocol, TypeVar, cast

import attrs

from jobrt._core.job import result_of
from jobrt._core.updates import Update
from jobrt._records import JobRecord
from jobrt.errors import JobNotFound

ResultT_co = TypeVar("ResultT_co", covariant=True)


class _Client(Protocol):
    """Interface of the client that created a handle."""

    async def wait(self, job_id: int) -> None: ...
    async def get(self, job_id: int) -> JobRecord: ...
    def follow(self, job_id: int, *, after: int = 0) -> AsyncIterator[Update]: ...
    async def send(self, job_id: int, name: str, value: Any = None, *, key: str | None = None) -> bool: ...


@attrs.frozen
class Handle(Generic[ResultT_co]):
    """Handle of a job; the type parameter is the type of its result.

    ``duplicate`` is true if an equal job already existed (`Unique`). Then ``id`` is the id of that job.
    """

    id: int
    duplicate: bool = False
    _client: _Client | None = attrs.field(default=None, alias="client", repr=False, eq=False)

    async def wait(self) -> JobRecord:
        """Wait until the job is final, and return its record; raise `JobNotFound` if the job was deleted."""
        client = self._opened()
        await client.wait(self.id)
        return await client.get(self.id)

    async def result(self) -> ResultT_co:
        """Wait until the job is final, and return what its `run` returned.

        The value has been stored as JSON, so a tuple is returned as a list.

        Raises:
            JobFailed: all attempts were used.
            JobCancelled: the job was cancelled.
            JobDiscarded: the job returned `Discard`, or its RETRY predicate refused a retry.
            JobNotFound: the job was deleted.

        """
        return cast("ResultT_co", result_of(await self.wait()))

    async def send(self, name: str, value: Any = None, *, key: str | None = None) -> bool:
        """Send a message to the job, which gets it by ``ctx.receive(name)``; see `Client.send`."""
        return await self._opened().send(self.id, name, value, key=key)

    def follow(self, after: int = 0) -> AsyncIterator[Update]:
        """Return an iterator over what happens to the job: ``async for update in handle.follow(): …``.

        The updates are changes of its state, its progress, its log lines and the values that it emits. The iterator
        ends with the job. Entries are numbered from 1, without holes. A `Gap` stands for those that are not kept any
        more: the newest 1,000 of a job are, with 256 KiB at most.

        Args:
            after: ``cursor`` of the last update that is known already, from any client; 0 for all entries.

        Raises:
            InvalidFilter: `after` is no number, or, from the iterator, larger than the job's newest entry.
            JobNotFound: from the iterator: there is no such job, or it was deleted meanwhile.

        """
        return self._opened().follow(self.id, after=after)

    def _opened(self) -> _Client:
        if self._client is None:
            raise JobNotFound(f"the handle of job {self.id} was not made by an open client")
        return self._client
