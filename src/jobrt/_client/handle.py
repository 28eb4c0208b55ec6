"""Handles of jobs, which `enqueue` returns."""

from typing import Any, Generic, Protocol, TypeVar, cast

import attrs

from jobrt._core.job import result_of
from jobrt._records import JobRecord
from jobrt.errors import JobNotFound

ResultT_co = TypeVar("ResultT_co", covariant=True)


class _Client(Protocol):
    """Interface of the client that created a handle."""

    async def wait(self, job_id: int) -> None: ...
    async def get(self, job_id: int) -> JobRecord: ...
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

    def _opened(self) -> _Client:
        if self._client is None:
            raise JobNotFound(f"the handle of job {self.id} was not made by an open client")
        return self._client
