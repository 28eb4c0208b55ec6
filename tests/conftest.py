"""Fixtures for all tests, and settings of Hypothesis."""

import os

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support")

pytest_plugins = ["pytester", "tests.support.fixtures"]

# No deadlines: the duration of an example depends on the machine. In CI the examples are the same in each run, so
# that a failure is caused by the change. Elsewhere each run tries other examples.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.register_profile("thorough", deadline=None, max_examples=2_000)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
