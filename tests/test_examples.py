"""Tests that every program in `examples/` runs as its docstring describes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unmeasured

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
OUTPUT = {
    "actor.py": "ada: 0\nbalances: 100 70\nno worker; the account is suspended\nada: 70\nclosed with 75",
    "album.py": "{'ada.txt': 3, 'bob.txt': 2, 'cat.txt': 'UnicodeDecodeError', 'dan.txt': 1}\n"
    "attempts used by the album: 1",
    "app_state.py": "pool is closed after 4 uses",
    "asyncio_library.py": "you sent: hello",
    "by_the_clock.py": "each tick was one job: True",
    "crawler.py": "the time was over\nthere were pages: True\npages that are not over: 0",
    "dashboard.py": "welcome to the shop\nthe dashboard's title: Job 1 greet · jobrt",
    "embedded.py": "HELLO!\nWORLD!\nworker: running, 0 restarts",
    "error_reports.py": "'seven' [attempt 1, file seven.txt, job parse, queue import]\n"
    "LookupError: nothing was imported [attempt 1, job check, queue import]",
    "fastapi_app.py": "answered: {'receipt': 'ada pays 1999'}\njobs: 1",
    "guest_mode.py": "total: 90",
    "index_tree.py": 'indexed: {"files": ',
    "jobs_that_enqueue.py": "adding Adding 3 completed, 3 failed attempts\nshowing Showing 3 completed, 0 failed",
    "log_context.py": "rendering welcome [render 2, queue mail, attempt 1, trace ",
    "long_job.py": "20 files, 800 words, attempt 1",
    "managing_jobs.py": "simple job running with 'repaired'\nthere is no job 12345",
    "payments.py": "payments after the failure: []\nreceipt for user 1\npayments: [(1, 1999)]\nbooked at attempt 2",
    "process_job.py": "after the stop: available with a checkpoint: True\nprimes: 9592 in attempt 1\n"
    "cancelled: that takes too long; its last number is kept: True",
    "progress_in_the_browser.py": "4 {'month': 'June', 'total': 3000}\n5 done\nthe stream has ended",
    "publication.py": "'poem' is out\nday 1: what about 'novel'?\nthe novel waits for a decision\n"
    "the novel was refused: too long",
    "resize_images.py": "6 done",
    "send_email.py": "sent 'Welcome!' to ada@example.com\ndelivered in attempt 2",
    "structured_logs.py": '"name": "ship", "order": 2, "queue": "orders"}\n{"event": "done", "level": "info"}',
    "supervised_services.py": "server: stopped, 0 restarts",
    "testing_jobs.py": "test_a_reminder_is_polite passed",
    "two_apps.py": "order 2 is stored; context: order of shop job 3",
    "web_server.py": "'result': {'customer': 'ada', 'total': 1999}}\nstopped; outcomes written: 1",
}

EXPECTED = re.compile(": attempt |blocks the event loop|is stuck")
"""Lines of a log that are no failure: on a busy machine, an import in a job may take seconds."""


def test_there_are_examples() -> None:
    """The expected outputs are those of the existing examples."""
    assert {path.name for path in EXAMPLES} == OUTPUT.keys()


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path: Path, tmp_path: Path) -> None:
    """An example ends within a minute and prints the expected output, and logs only attempts that failed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    logged = [line for line in done.stderr.splitlines() if not line.startswith(" ")]  # without tracebacks
    assert (done.returncode, [line for line in logged if not EXPECTED.search(line)]) == (0, [])
    assert OUTPUT[path.name] in done.stdout
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 100, "an example must be short"
