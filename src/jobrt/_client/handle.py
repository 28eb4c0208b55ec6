"""Hold on to a job that was enqueued."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from jobrt._core.job import result_of
from jobrt.errors import JobNotFound

if TYPE_CHECKING:
    from jobrt._client.client import Client
    from jobrt._core.job import JobRecord

__all__ = ["Handle"]


@attrs.frozen
class Handle:
    """A job in the database.

    ``duplicate`` says that an equal job was there already (`Unique`); ``id`` is then that job's.
    """

    id: int
    duplicate: bool = False
    _client: Client | None = attrs.field(default=None, alias="client", repr=False, eq=False)

    async def wait(self) -> JobRecord:
        """Wait until the job is final and return its record.

        Raises:
            JobNotFound: the job was deleted meanwhile.

        """
        client = self._opened()
        await client.wait(self.id)
        return await client.get(self.id)

    async def result(self) -> Any:
        """Wait until the job is final and return what it returned.

        Raises:
            JobFailed: its attempts are used up.
            JobCancelled: it was cancelled.
            JobDiscarded: it gave itself up, or its RETRY predicate did.
            JobNotFound: it was deleted meanwhile.

        """
        return result_of(await self.wait())

    def _opened(self) -> Client:
        if self._client is None:
            msg = f"the handle of job {self.id} was not made by an open client"
            raise JobNotFound(msg)
        return self._client
