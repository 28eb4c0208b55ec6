"""Test programs that use jobrt: a fresh in-memory app, run what is due, assert what was enqueued.

All of it works under `trio.testing.MockClock`, scheduled jobs and timeouts included: the in-memory database
runs in the Trio thread and its clock follows Trio's. `jobrt.testing.plugin` has the same as pytest fixtures.
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
