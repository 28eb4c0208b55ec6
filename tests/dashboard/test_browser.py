"""Runner for the tests with a real browser, in a separate process.

Playwright keeps an asyncio loop running in the thread of the tests. If a test has imported trio-asyncio, Playwright
uses its loop. Either would break all later tests in the same process.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.chromium import find_chromium

TESTS = Path(__file__).with_name("in_a_browser.py")


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(
    find_chromium() is None, reason="chromium is not installed here: apt-get install chromium"
)
def test_the_pages_in_a_real_browser() -> None:
    """All tests in `in_a_browser.py` pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", str(TESTS)]
    done = subprocess.run(
        command, cwd=TESTS.parents[2], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr
