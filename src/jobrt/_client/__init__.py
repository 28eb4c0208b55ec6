"""Client of an app, for example in a web server. It does not depend on workers.

::

    client     Client: every operation
    handle     Handle: one job
    waiting    tasks that wait for jobs
    totals     counts by hour, day and month
"""

from jobrt._client.client import Client, open_client
from jobrt._client.handle import Handle
from jobrt._client.totals import Counts, JobTotals

__all__ = ["Client", "Counts", "Handle", "JobTotals", "open_client"]
