"""Client of an app, for example in a web server. It does not depend on workers.

::

    opening         a client for a block
    client          Client: every operation
    handle          Handle: one job
    waiting         tasks that wait for jobs
    asyncio_waiting the same for `jobrt.aio`
    totals          counts by hour, day and month
    observing       questions of the dashboard with a bounded cost
    unknown_queues  checks of queues that the app does not have
"""

from jobrt._client.client import Client
from jobrt._client.handle import Handle
from jobrt._client.opening import open_client
from jobrt._client.totals import Counts, JobTotals

__all__ = ["Client", "Counts", "Handle", "JobTotals", "open_client"]
