"""Client: what a program needs to enqueue jobs and to look at them, a web server for example. It knows no workers.

::

    open       opens a client            client     Client: every operation
    handle     Handle: one job           waiting    who waits for which job        totals     counts by hour, day, month
    arguments  what the methods are given, checked
"""

from jobrt._client.client import Client
from jobrt._client.handle import Handle
from jobrt._client.open import open_client
from jobrt._client.totals import Counts, JobTotals

__all__ = ["Client", "Counts", "Handle", "JobTotals", "open_client"]
