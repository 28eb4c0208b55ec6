"""Handles: what `enqueue` returns, to wait for one job and its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

import attrs

from jobrt._core.job import result_of
from jobrt.errors import JobNotFound

if TYPE_CHECKING:
    from jobrt._records import JobRecord


ResultT_co = TypeVar("ResultT_co", covariant=True)


class _Client(Protocol):
    """What a handle asks of the client that made it."""

    async def wait(self, job_id: int) -> None: ...
    async def get(self, job_id: int) -> JobRecord: ...


@attrs.frozen
class Handle(Generic[ResultT_co]):
    """A job in the database; the type parameter is the type of its result.

    ``id`` is the job's. ``duplicate`` is true if an equal job was there already (`Unique`); ``id`` is then that job's.
    """

    id: int
    duplicate: bool = False
    _client: _Client | None = attrs.field(default=None, alias="client", repr=False, eq=False)

    async def wait(self) -> JobRecord:
        """Wait until the job is final and return its record.

        Raises:
            JobNotFound: the job was deleted meanwhile.

        """
        client = self._opened()
        await client.wait(self.id)
        return await client.get(self.id)

    async def result(self) -> ResultT_co:
        """Wait until the job is final and return what its `run` returned.

        The value has been stored as JSON: a tuple comes back as a list, and an enum's member as its value.

        Raises:
            JobFailed: its attempts are used up.
            JobCancelled: it was cancelled.
            JobDiscarded: it returned `Discard`, or its RETRY predicate refused another attempt.
            JobNotFound: it was deleted meanwhile.

        """
        return cast("ResultT_co", result_of(await self.wait()))

    def _opened(self) -> _Client:
        if self._client is None:
            raise JobNotFound(f"the handle of job {self.id} was not made by an open client")
        return self._client
