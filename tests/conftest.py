"""Set up the test run: fixtures for everybody, and what Hypothesis may do."""

import os

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support")

pytest_plugins = ["pytester", "tests.support.fixtures"]

# No deadlines: how long an example takes is the machine's affair. In CI the examples are the same each time,
# so that a change is blamed only for what it broke; elsewhere each run looks somewhere else.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.register_profile("thorough", deadline=None, max_examples=2_000)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
