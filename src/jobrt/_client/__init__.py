"""Client of an app, for example in a web server. It does not depend on workers.

::

    opening         a client for a block
    client          Client: enqueue, query and manage jobs
    operating       its base: queues, workers, cron entries, statistics
    enqueuer        how it stores jobs: hooks, checks, events
    handle          Handle: one job
    waiting         tasks that wait for jobs
    asyncio_waiting the same for `jobrt.aio`
    totals          counts by hour, day and month
    observing       questions of the dashboard with a bounded cost
    unknown_queues  checks of queues that the app does not have
"""

from jobrt._client.client import Client, enqueuer_of
from jobrt._client.enqueuer import Enqueuer
from jobrt._client.handle import Handle
from jobrt._client.opening import open_client
from jobrt._client.totals import Counts, JobTotals

__all__ = ["Client", "Counts", "Enqueuer", "Handle", "JobTotals", "enqueuer_of", "open_client"]
