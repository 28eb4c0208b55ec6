"""Tools for the tests of programs that use jobrt.

`open_app` opens a fresh app in memory. `drain` runs what is due, `perform` one job value. `assert_enqueued` and
`refute_enqueued` check what was enqueued, `assert_none_failed` that no job failed.

All of them work under `trio.testing.MockClock`, also with scheduled jobs and timeouts: the database in memory runs in
Trio's thread, and its clock follows Trio's. `jobrt.testing.plugin` offers an app and a client as pytest fixtures.
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
