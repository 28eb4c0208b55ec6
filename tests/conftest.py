"""Fixtures for all tests, and settings of Hypothesis."""

import os
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from coverage import Coverage
from hypothesis import settings

pytest.register_assert_rewrite("tests.support")

pytest_plugins = ["pytester", "tests.support.fixtures"]

# No deadlines: the duration of an example depends on the machine. In CI the examples are the same in each run, so
# that a failure is caused by the change. Elsewhere each run tries other examples.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.register_profile("thorough", deadline=None, max_examples=2_000)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run the test, without measuring coverage if it is marked `unmeasured`, or if Hypothesis runs it."""
    if item.get_closest_marker("unmeasured") is None and not _runs_many_examples(item):
        return (yield)
    with unmeasured():
        return (yield)


def _runs_many_examples(item: pytest.Item) -> bool:
    return getattr(getattr(item, "obj", None), "is_hypothesis_test", False)


@contextmanager
def unmeasured() -> Generator[None]:
    """Measure no coverage meanwhile, neither here nor in processes that are started: that takes half as long again.

    Threads that Trio keeps for later stay unmeasured then. So tests that alternate with others should be measured.
    """
    measuring = Coverage.current()
    settings_of_processes = os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    if measuring is not None:
        measuring.stop()
    try:
        yield
    finally:
        if settings_of_processes is not None:
            os.environ["COVERAGE_PROCESS_CONFIG"] = settings_of_processes
        if measuring is not None:
            measuring.start()
