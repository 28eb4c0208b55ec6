"""Questions of an observer, such as the dashboard, beyond those of `Client`. Their cost is bounded."""

from datetime import datetime

from jobrt._client.client import Client
from jobrt._core.stats import Ended


async def ended(
    client: Client, since: datetime, until: datetime, *, step: int, limit: int, deleted: bool = False
) -> Ended:
    """Return what ended in a range of time: `ObservedJobs.ended`."""
    jobs = client._storage.jobs  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - part of the client
    return await jobs.ended(since, until, step=step, limit=limit, deleted=deleted)
