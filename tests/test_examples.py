"""Every program in `examples/` runs as its first lines say, and ends by itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
SAID = {
    "app_state.py": "pool is closed after 4 uses",
    "asyncio_library.py": "you said: hello",
    "by_the_clock.py": "each tick was one job: True",
    "dashboard.py": "welcome to the shop\nthe dashboard's title: Job 1 greet · jobrt",
    "embedded.py": "HELLO!\nWORLD!\nworker: running, 0 restarts",
    "fan_out_fan_in.py": "{'failed': {'4': 'nothing to count'}, 'words': 6}\nattempts used by the parent: 1",
    "guest_mode.py": "total: 90",
    "index_tree.py": 'indexed: {"files": ',
    "jobs_that_enqueue.py": "adding Adding 3 completed, 3 failed attempts\nshowing Showing 3 completed, 0 failed",
    "long_job.py": "20 files, 800 words, attempt 1",
    "managing_jobs.py": "simple job running with 'repaired'\nthere is no job 12345",
    "payments.py": "payments after the failure: []\nreceipt for user 1\npayments: [(1, 1999)]\nbooked at attempt 2",
    "resize_images.py": "6 done",
    "send_email.py": "sent 'Welcome!' to ada@example.com\ndelivered at attempt 2",
    "supervised_services.py": "server: stopped, 0 restarts",
    "testing_jobs.py": "test_a_reminder_is_polite passed",
    "two_apps.py": "order 2 is kept, because: order of shop job 3",
    "web_server.py": "'result': {'customer': 'ada', 'total': 1999}}\nstopped; outcomes written: 1",
}


def test_there_are_examples() -> None:
    """Each example says something that is looked for, and nothing is looked for that is gone."""
    assert {path.name for path in EXAMPLES} == SAID.keys()


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path: Path, tmp_path: Path) -> None:
    """It ends well within a minute, without a word to stderr, and says what it is there to show."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert SAID[path.name] in done.stdout
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 100, "an example is read in one go"
