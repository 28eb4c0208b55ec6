"""Test of the long job in `examples/index_tree.py`: cancelled, interrupted by a deployment, killed, and completed."""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.test_processes import until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.cli.conftest import Result

    Start = Callable[..., subprocess.Popen[str]]
    Command = Callable[..., Result]

pytestmark = [pytest.mark.process, pytest.mark.slow]

FILES = 8
DEPLOYED = f'''
import os
import sys
import time

sys.path.insert(0, {str(Path(__file__).parents[2] / "examples")!r})
import index_tree
import jobrt
import trio

index_tree.FILES_AT_ONCE = 1
queue = jobrt.Queue(1, poll_interval=float(os.environ["POLL"]))
app = jobrt.App(jobs=[index_tree.IndexTree], queues={{"default": queue}}, grace=20, lease=6, migrate=True)


def note(word, what):
    with open(word, "a") as file:
        file.write(f"{{what}} {{os.getpid()}} {{time.monotonic()}}\\n")


def noted(function):
    """Record the start and the end of a function, and wait in between while the test holds it."""

    def run(*args):
        what = args[1] if function.__name__ == "index_part" else function.__name__
        note("begun", what)
        print("begins", what, flush=True)
        while os.path.exists(f"hold.{{what}}"):
            trio.from_thread.check_cancelled()
            time.sleep(0.005)
        value = function(*args)
        note("done", what)
        return value

    return run


for name in ("list_files", "index_part", "merge"):
    setattr(index_tree, name, noted(getattr(index_tree, name)))
'''


@pytest.fixture
def deployed(shop: Path, monkeypatch: pytest.MonkeyPatch, database_url: str) -> Path:
    """A current directory with the application and a tree to index.

    On PostgreSQL, queues are polled once a minute, so a worker that takes over a job sooner was woken up. SQLite cannot
    wake up other processes; there, queues are polled once a second.
    """
    (shop / "deployed.py").write_text(DEPLOYED, encoding="utf-8")
    for module in ("deployed", "index_tree"):  # commands in this process import them again for each database
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setenv("JOBRT_APP", "deployed:app")
    monkeypatch.setenv("JOBRT_URL", database_url)
    monkeypatch.setenv("POLL", "1" if database_url.startswith("sqlite") else "60")
    (shop / "tree" / "below").mkdir(parents=True)
    for number in range(FILES):
        folder = shop / "tree" / ("below" if number % 2 else "")
        (folder / f"{number}.txt").write_text(
            f"Words, many WORDS; word{number} " + ascii_lowercase[: 2 + number]
        )
    return shop


def read_by_hand(tree: Path) -> dict[str, list[int]]:
    """Return the index of a tree, computed in another way."""
    index: dict[str, list[int]] = {}
    for number, name in enumerate(sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.txt"))):
        letters = (char if char in ascii_lowercase else " " for char in (tree / name).read_text().lower())
        for word in {word for word in "".join(letters).split() if len(word) > 2}:
            index.setdefault(word, []).append(number)
    return index


def record(command: Command) -> dict[str, Any]:
    """Return the record of the job."""
    found: dict[str, Any] = json.loads(command("show", "1", "--json").out)
    return found


def cancel_and_rerun(first: subprocess.Popen[str], command: Command) -> None:
    """Cancel the job during its third part, and run it again."""
    until(first.stdout, "begins 2")
    assert command("cancel", "1", "--reason", "not now").out.startswith("1 job")
    until(first.stderr, "cancelled after")
    cancelled = record(command)
    assert (cancelled["state"], cancelled["saved"], cancelled["cancel_reason"]) == ("cancelled", 2, "not now")
    assert command("rerun", "1").out.startswith("1 job")
    until(first.stdout, "begins 2")


def deploy_over(first: subprocess.Popen[str], second: subprocess.Popen[str], folder: Path) -> None:
    """Stop the first worker once the second is up. The job snoozes at its next checkpoint."""
    until(second.stderr, "is up")
    (folder / "hold.2").unlink()
    until(first.stdout, "begins 4")
    first.send_signal(signal.SIGTERM)
    until(first.stderr, "is stopping")
    (folder / "hold.4").unlink()
    assert first.wait(30) == 0
    until(second.stdout, "begins 6")


def kill_and_cut(second: subprocess.Popen[str], start: Start) -> subprocess.Popen[str]:
    """Kill the second worker, stop the third without a grace period, and return the fourth."""
    third = start("worker", "--grace", "0")
    until(third.stderr, "is up")
    second.kill()
    until(third.stdout, "begins 6")
    fourth = start("worker")
    until(fourth.stderr, "is up")
    third.send_signal(signal.SIGTERM)
    until(fourth.stdout, "begins 6")
    assert third.wait(30) == 0
    return fourth


def test_a_long_job_survives_interruptions(deployed: Path, start: Start, jobrt_command: Command) -> None:
    """The job continues from its checkpoint after each interruption, and no step runs twice."""
    for part in (2, 4, 6):
        (deployed / f"hold.{part}").touch()
    (deployed / "out").mkdir()
    arguments = ("IndexTree", f"folder={deployed}/tree", f"out={deployed}/out")
    assert start("enqueue", *arguments).wait(30) == 0
    first = start("worker")
    cancel_and_rerun(first, jobrt_command)
    second = start("worker")
    deploy_over(first, second, deployed)
    fourth = kill_and_cut(second, start)
    (deployed / "hold.6").unlink()
    until(fourth.stdout, "begins merge")
    fourth.send_signal(signal.SIGTERM)
    assert fourth.wait(30) == 0
    ended = record(jobrt_command)
    ends = [attempt["end"] for attempt in ended["attempts"]]
    assert ends == ["cancelled", "snoozed", "crashed", "interrupted", "finished"]
    assert (ended["state"], ended["attempt"]) == ("completed", 3), (
        "the cancelled, the crashed and the last attempt count"
    )
    assert json.loads((deployed / "out" / "index.json").read_text()) == read_by_hand(deployed / "tree")
    done = Counter(line.split()[0] for line in (deployed / "done").read_text().splitlines())
    assert done == Counter(["list_files", *map(str, range(FILES)), "merge"]), "each once"
