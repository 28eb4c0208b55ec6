"""Tools for the tests of programs that use jobrt.

`open_app` opens an app on a fresh in-memory database. `drain` runs all due jobs, and `perform` runs a single job value.
`assert_enqueued` and `refute_enqueued` check which jobs were enqueued. `assert_none_failed` checks that no job failed.

All of them work under `trio.testing.MockClock`, even with scheduled jobs and timeouts: the in-memory database runs in
Trio's thread, and its clock follows Trio's. `jobrt.testing.plugin` provides an app and a client as pytest fixtures.
"""

from jobrt.testing.enqueued import assert_enqueued, assert_none_failed, refute_enqueued
from jobrt.testing.fresh import drain, open_app, perform, set_clock

__all__ = [
    "assert_enqueued",
    "assert_none_failed",
    "drain",
    "open_app",
    "perform",
    "refute_enqueued",
    "set_clock",
]
