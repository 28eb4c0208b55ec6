"""Tests of `top`: its tables, its keys, and a real terminal."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import jobrt
from jobrt._core.queues import QueueStatus
from jobrt._storage.contract import WorkerRow
from jobrt._views.status import QueueView
from jobrt.cli.top import Scene, View, draw, press
from jobrt.testing import open_app
from tests.support.worker_info import worker_info

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PATIENCE = 120


def view(name: str, **values: Any) -> QueueView:
    """Return a queue with a worker."""
    return QueueView(QueueStatus(name=name, **values), 1, 10)


def row(tree: dict[str, Any]) -> WorkerRow:
    """Return a worker that lives, with this supervision tree."""
    info = worker_info(queues={"mail": {"concurrency": 4}}, tree=tree)
    return WorkerRow(
        id="one", started_at=NOW - timedelta(hours=1), beat_at=NOW, expires_at=NOW, alive=True, info=info
    )


def printed(scene: Scene, shown: View, *, height: int | None = None, width: int = 120) -> list[str]:
    """Return the lines of a drawn scene."""
    out = StringIO()
    Console(file=out, width=width, markup=False, emoji=False).print(draw(scene, shown, height=height))
    return out.getvalue().splitlines()


def scene(*queues: QueueView, running: Any = (), workers: Any = (), problem: str = "") -> Scene:
    """Return a scene."""
    return Scene(now=NOW, queues=queues, running=running, workers=workers, problem=problem)


@pytest.fixture(scope="module")
def three_jobs() -> list[jobrt.JobRecord]:
    """The records of three running jobs."""
    return trio.run(running_jobs, 3)


async def running_jobs(count: int) -> list[jobrt.JobRecord]:
    """Return the records of running jobs, each started a second after the one before."""
    app = jobrt.App("sqlite:///:memory:", queues={"default": 200})

    @app.job
    async def wait(ctx: jobrt.Context, number: int) -> None:
        await trio.sleep_forever()

    async with open_app(app) as (here, jobs), trio.open_nursery() as nursery:
        worker = await nursery.start(here.run_worker)
        for number in range(count):
            await jobs.enqueue(wait.new(number=number))
        while len(found := await jobs.query(jobrt.where.state("executing"))) < count:
            await trio.sleep(0.01)
        await worker.stop(grace=0)
    return found


@pytest.mark.parametrize(
    ("order", "names"), [("name", "abc"), ("due", "cba"), ("oldest", "bca"), ("running", "acb")]
)
def test_queues_are_sorted(order: str, names: str) -> None:
    """By name, or the largest number first."""
    queues = [
        view("c", available=9, oldest_due=5.0, executing=2),
        view("a", available=0, executing=3),
        view("b", available=2, oldest_due=50.0, executing=1),
    ]
    lines = printed(scene(*queues), View(queues=order))
    assert "".join(line.split()[0] for line in lines[1:4]) == names


def test_jobs_are_sorted(three_jobs: list[jobrt.JobRecord]) -> None:
    """The one that has run longest comes first, unless another order is wanted."""
    later = three_jobs[::-1]
    for order in ("time", "name", "queue"):
        lines = printed(scene(running=later), View(jobs=order))
        assert [line.split()[0] for line in lines[3:6]] == ["1", "2", "3"]


def test_keys_change_the_view() -> None:
    """Each has its own effect, orders come one after the other, and other keys have none."""
    assert press(View(), "q") is None
    assert press(View(), "p") == press(View(), " ") == View(paused=True)
    assert press(View(paused=True), "p") == View()
    assert press(View(), "t") == View(tree=True)
    assert press(View(), "s") == View(queues="due")
    assert press(View(queues="running"), "s") == View()
    assert press(View(), "j") == View(jobs="name")
    assert press(View(), "\x00") == View()


def test_the_tree_is_folded_unless_something_is_wrong() -> None:
    """A healthy worker has two lines. With the key, all of its actors are shown."""
    healthy = row({"children": [{"name": "heartbeat"}, {"name": "cron"}]})
    sick = row(
        {
            "children": [
                {"name": "heartbeat"},
                {"name": "cron", "state": "waiting", "last_error": "OSError: no"},
            ]
        }
    )
    folded = "\n".join(printed(scene(workers=[healthy, sick]), View(), height=40))
    assert "heartbeat  " not in folded
    assert folded.count("cron") == 1
    assert "OSError: no" in folded
    assert "\n".join(printed(scene(workers=[healthy, sick]), View(tree=True), height=40)).count("─ cron") == 2


def test_the_bar_tells_what_holds_the_tables_back() -> None:
    """A pause, and a database that is away. Texts of others are printable."""
    (bar, *_) = printed(scene(problem="database unavailable: no\x1b[2J"), View(paused=True), height=20)
    assert bar.startswith(" database unavailable: no\\x1b[2J  paused ")
    assert "q quit" in printed(scene(), View(), height=20)[0]


@given(
    queues=st.integers(0, 60),
    jobs=st.integers(0, 3),
    copies=st.integers(1, 40),
    height=st.integers(20, 80),
    width=st.integers(40, 200),
)
def test_all_parts_fit_on_the_terminal(
    three_jobs: list[jobrt.JobRecord], queues: int, jobs: int, copies: int, height: int, width: int
) -> None:
    """Neither many queues nor many jobs push the workers off the screen, whatever its size."""
    many = [view(f"queue {number}") for number in range(queues)]
    whole = scene(
        *many, running=three_jobs[:jobs] * copies, workers=[row({"children": [{"name": "heartbeat"}]})]
    )
    lines = printed(whole, View(tree=True), height=height, width=width)
    assert len(lines) <= height
    assert any(line.startswith("one  alive") for line in lines)


# ---------------------------------------------------------------------- a real terminal


class Terminal:
    """Terminal in which a command runs."""

    def __init__(self, *arguments: str) -> None:
        import pty  # not on Windows

        self.descriptor, theirs = pty.openpty()
        self.resize(120, 40)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jobrt", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
            env={**os.environ, "TERM": "xterm"},
            start_new_session=True,
        )
        os.close(theirs)

    def resize(self, width: int, height: int) -> None:
        """Change the size, and tell the command."""
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        if hasattr(self, "process"):
            self.process.send_signal(signal.SIGWINCH)

    def press(self, key: str) -> None:
        """Press a key."""
        os.write(self.descriptor, key.encode())

    def until(self, wanted: str) -> str:
        """Read until a text is printed, and return everything up to it."""
        received = ""
        deadline = time.monotonic() + PATIENCE
        while wanted not in received:
            ready, _, _ = select.select([self.descriptor], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no {wanted!r} in {received!r}"
            received += os.read(self.descriptor, 65536).decode(errors="replace")
        return received

    def echoes(self) -> bool:
        """Return whether the terminal shows what is typed, as a shell wants it."""
        import termios

        return bool(termios.tcgetattr(self.descriptor)[3] & termios.ECHO)

    def close(self) -> None:
        """End the command."""
        self.process.kill()
        self.process.communicate()
        os.close(self.descriptor)


@pytest.fixture
def terminal(shop: Path) -> Iterator[Terminal]:
    """A terminal in which `top` runs."""
    with closing(Terminal("top", "--every", "0.1")) as found:
        yield found


@pytest.mark.process
@pytest.mark.skipif(os.name != "posix", reason="needs a terminal of POSIX")
def test_a_terminal_is_drawn_followed_and_left_as_it_was(terminal: Terminal) -> None:
    """Keys take effect at once, a new size as well, and after q the terminal echoes again."""
    terminal.until("q quit")
    assert not terminal.echoes()
    terminal.press("s")
    terminal.until("queues by due")
    terminal.press("p")
    terminal.until(" paused ")
    terminal.resize(50, 12)
    terminal.until("q quit")  # although it is paused
    terminal.press("\x1b[A")  # an arrow
    terminal.press("q")
    terminal.until("\x1b[?1049l")  # the screen is given back
    assert terminal.process.wait(PATIENCE) == 0
    assert terminal.echoes()


@pytest.mark.process
@pytest.mark.skipif(os.name != "posix", reason="needs a terminal of POSIX")
def test_ctrl_c_leaves_the_terminal_as_it_was(terminal: Terminal) -> None:
    """It is the same as q, but for the status."""
    terminal.until("q quit")
    terminal.process.send_signal(signal.SIGINT)
    terminal.until("\x1b[?1049l")
    assert terminal.process.wait(PATIENCE) == 130
    assert terminal.echoes()


@pytest.mark.process
@pytest.mark.skipif(os.name != "posix", reason="needs a terminal of POSIX")
def test_a_database_that_goes_away_is_told(shop: Path, terminal: Terminal) -> None:
    """The last tables stay, and it goes on when the database is back."""
    terminal.until("q quit")
    (shop / "shop.db").rename(shop / "away.db")
    terminal.until("database unavailable: ")
