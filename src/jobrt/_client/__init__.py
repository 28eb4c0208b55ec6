"""Put jobs in and look at them: what a web process imports. Knows nothing of workers."""

from jobrt._client.client import Client
from jobrt._client.handle import Handle
from jobrt._client.totals import Counts, JobTotals

__all__ = ["Client", "Counts", "Handle", "JobTotals"]
