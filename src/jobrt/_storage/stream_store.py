"""The role of a storage for streams: what running jobs log and emit, and those who follow them."""

from collections.abc import Sequence
from typing import Protocol

from jobrt._core.stream import Append, StreamPage


class StreamStore(Protocol):
    """Streams of jobs."""

    async def append(self, append: Append) -> bool:
        """Add entries to the stream of a job, numbered without holes; False if the lease is lost.

        A lease whose outcome is written is not lost until somebody else claims the job. The values are JSON texts in
        ASCII. An entry is left out if its key is in the stream already, or was. Of a batch that was appended before,
        nothing is stored. Then entries are deleted, the oldest first, until there are `ENTRIES_KEPT` at most, with
        `BYTES_KEPT` at most. Those who follow the job get a ``stream`` wake.
        """
        ...

    async def note(self, ids: Sequence[int], value: str) -> None:
        """Add an entry of the kind ``action`` to the stream of each of these jobs that there is.

        It needs no lease: it tells what somebody has done with the job. It is numbered and trimmed, and followers are
        woken, as by `append`.
        """
        ...

    async def read(self, job_id: int, after: int, *, wake: bool = False) -> StreamPage | None:
        """Return a job and its entries with numbers above `after`, in order, from one snapshot; None: no such job.

        `wake` also requests ``stream`` wakes for its entries, progress and changes of state, for as long as it is not
        final.
        """
        ...
