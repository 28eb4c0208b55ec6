"""Hold on to a job that was enqueued."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from jobrt._core.states import State
from jobrt.errors import JobCancelled, JobDiscarded, JobFailed, JobNotFound

if TYPE_CHECKING:
    from jobrt._client.client import Client
    from jobrt._core.job import JobRecord

__all__ = ["Handle", "unsuccessful"]


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
        record = await self.wait()
        if record.state is State.COMPLETED:
            return record.result
        raise unsuccessful(record)

    def _opened(self) -> Client:
        if self._client is None:
            msg = f"the handle of job {self.id} was not made by an open client"
            raise JobNotFound(msg)
        return self._client


def unsuccessful(record: JobRecord) -> JobFailed | JobCancelled | JobDiscarded:
    """Return the exception for a job that ended without a result."""
    last = record.attempts[-1] if record.attempts else None
    what = f"job {record.id} ({record.name})"
    if record.state is State.CANCELLED:
        return JobCancelled(f"{what} was cancelled: {record.cancel_reason or 'no reason given'}", record)
    said = f"{last.error_type or last.end}: {last.message}" if last is not None else "no attempt was made"
    if record.max_attempts is not None and record.attempt >= record.max_attempts:
        return JobFailed(
            f"{what} failed in all of its {record.attempt} attempts, at last with {said}", record
        )
    return JobDiscarded(f"{what} was discarded after {record.attempt} attempts: {said}", record)
