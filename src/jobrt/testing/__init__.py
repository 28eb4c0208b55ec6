"""Test programs that use jobrt: a fresh in-memory app, run what is due, assert what was enqueued.

All of it works under `trio.testing.MockClock`, scheduled jobs and timeouts included: the in-memory database
runs in the Trio thread and its clock follows Trio's.
"""

from jobrt.testing.enqueued import assert_enqueued, refute_enqueued
from jobrt.testing.fresh import drain, open_app, perform, set_clock

__all__ = ["assert_enqueued", "drain", "open_app", "perform", "refute_enqueued", "set_clock"]
