"""A worker process ends in time, whatever its jobs do: real processes, real signals."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.cli.test_boot import ended
from tests.cli.test_processes import states, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Result

    Start = Callable[..., subprocess.Popen[str]]
    Command = Callable[..., Result]

pytestmark = [pytest.mark.process, pytest.mark.slow]

SHOP = '''
import atexit
import ctypes
import os
import re
import signal
import sys
import threading
import time
from contextlib import asynccontextmanager

import jobrt
import trio


@asynccontextmanager
async def state():
    async with trio.open_nursery() as nursery:
        await nursery.start(print_usr1)
        yield
        nursery.cancel_scope.cancel()


async def print_usr1(task_status):
    with trio.open_signal_receiver(signal.SIGUSR1) as signals:
        task_status.started()
        async for _ in signals:
            print("got SIGUSR1", flush=True)


app = jobrt.App(queues={"default": 4}, grace=0, lease=60, state=state)


def begun(ctx):
    print("begun", ctx.job.id, os.getpid(), flush=True)


@app.job
async def sleeps(ctx):
    begun(ctx)
    time.sleep(600)


@app.job
async def spins(ctx):
    begun(ctx)
    while True:
        pass


@app.job
async def waits_in_c(ctx):
    """Wait in a C function that releases Python's lock and looks at no signal."""
    begun(ctx)
    while True:
        ctypes.CDLL(None).sleep(600)


@app.job(run_in="thread")
def keeps_the_lock(ctx):
    """Stop every thread of the process."""
    begun(ctx)
    re.match("(a+)+$", "a" * 60 + "b")


@app.job(run_in="thread")
def never_returns(ctx):
    begun(ctx)
    time.sleep(600)


@app.job
async def leaves_a_thread(ctx):
    threading.Thread(target=time.sleep, args=(600,), name="exporter").start()


@app.job
async def leaves_an_exit_function(ctx):
    atexit.register(time.sleep, 600)


@app.job(max_attempts=1)
async def wait_for(ctx, path: str):
    begun(ctx)
    while not os.path.exists(path):
        await trio.sleep(0.01)
'''


@pytest.fixture(autouse=True)
def odd_shop(shop: Path) -> None:
    """Put the jobs of this file into ``shop:app``."""
    (shop / "shop.py").write_text(SHOP, encoding="utf-8")


@pytest.fixture
def busy(start: Start, jobrt_command: Command) -> Callable[..., subprocess.Popen[str]]:
    """Return a function that starts a worker and returns it when it runs the job."""

    def run(job: str, *options: str) -> subprocess.Popen[str]:
        assert jobrt_command("enqueue", *job.split()).status == 0
        worker = start("worker", *options)
        until(worker.stdout, "begun")
        return worker

    return run


@pytest.mark.parametrize("job", ["sleeps", "spins", "waits_in_c"])
def test_a_job_that_blocks_the_event_loop_does_not_keep_the_process(
    busy: Callable[..., subprocess.Popen[str]], job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process exits by itself. One line says why, and which jobs are left."""
    if job == "spins":  # beside its loop, coverage would need more than a second to save what it has measured
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    worker = busy(job)
    worker.send_signal(signal.SIGTERM)
    last = ended_badly(worker, 1)[-1]
    assert re.search(
        rf"exiting \d+\.\d s after the signal, because the event loop is blocked; .*: {job} 1$", last
    )


@pytest.mark.parametrize("count", [1, 3])
def test_a_job_that_stops_all_python_code_does_not_keep_the_process(
    busy: Callable[..., subprocess.Popen[str]], count: int
) -> None:
    """Its guard kills it: after its time, or at the third signal."""
    worker = busy("keeps_the_lock", *(["--grace=1000"] if count > 1 else []))
    for _ in range(count):
        deliver(worker, signal.SIGTERM)
    last = ended_badly(worker, -signal.SIGKILL)[-1]
    assert last.startswith(f"jobrt: killed worker process {worker.pid}, which did not end in time")


def test_a_third_signal_is_heard_while_the_loop_is_blocked(
    busy: Callable[..., subprocess.Popen[str]],
) -> None:
    """The process exits at once, however long the grace is."""
    worker = busy("sleeps", "--grace=1000")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        deliver(worker, number)
    assert "exiting at the third signal; " in ended_badly(worker, 1)[-1]


def test_a_thread_job_that_never_returns_does_not_keep_the_process(
    busy: Callable[..., subprocess.Popen[str]], jobrt_command: Command
) -> None:
    """The loop is not blocked, so that the job is given back."""
    worker = busy("never_returns")
    worker.send_signal(signal.SIGTERM)
    assert ended_badly(worker, 1)[-1].endswith(": never_returns 1")
    assert states(jobrt_command) == ["available"]


@pytest.mark.parametrize("options", [["--drain"], ["--drain", "--log-format=json"]])
def test_a_thread_that_a_job_left_does_not_keep_the_process(
    start: Start, jobrt_command: Command, options: list[str]
) -> None:
    """The worker has stopped in order, so the status is 0. Signals do not change it any more."""
    assert jobrt_command("enqueue", "leaves_a_thread").status == 0
    worker = start("worker", *options)
    until(worker.stderr, "has stopped")
    for _ in range(3):
        worker.send_signal(signal.SIGTERM)
    (last,) = ended(worker, 0)
    assert "exiting although threads are still running: exporter" in last


def test_an_exit_function_does_not_keep_the_process(start: Start, jobrt_command: Command) -> None:
    """Functions that run at the exit have some seconds."""
    assert jobrt_command("enqueue", "leaves_an_exit_function").status == 0
    worker = start("worker", "--drain", "--quiet")
    (last,) = ended(worker, 0)
    assert "functions that run at the exit have not returned" in last


def test_other_signals_reach_trio(start: Start) -> None:
    """An application may receive signals of its own, any number of them, and the worker still hears its own."""
    worker = start("worker")
    until(worker.stderr, "is up")
    for _ in range(400):  # more than the socket holds
        worker.send_signal(signal.SIGUSR1)
        assert "got SIGUSR1" in until(worker.stdout, "SIGUSR1")
    worker.send_signal(signal.SIGINT)
    ended(worker, 0)


# ---------------------------------------------------------------------- several processes


def test_a_signal_to_the_whole_group_counts_once(
    shop: Path, busy: Callable[..., subprocess.Popen[str]], jobrt_command: Command
) -> None:
    """A terminal and a service manager signal parent and children. Running jobs still have their grace."""
    worker = busy(f"wait_for path={shop}/go", "--processes=2", "--grace=1000")
    for process in family(worker):
        process.send_signal(signal.SIGINT)
    until(worker.stderr, "is stopping; running jobs: 1")
    (shop / "go").touch()
    ended(worker, 0)
    assert states(jobrt_command) == ["completed"]


def test_a_second_signal_ends_the_grace_of_all_processes(
    shop: Path, busy: Callable[..., subprocess.Popen[str]], jobrt_command: Command
) -> None:
    """It may come before the processes have seen the first."""
    worker = busy(f"wait_for path={shop}/never", "--processes=2", "--grace=1000")
    worker.send_signal(signal.SIGTERM)
    worker.send_signal(signal.SIGINT)
    ended(worker, 0)
    assert states(jobrt_command) == ["available"]


def test_processes_whose_parent_was_killed_stop(
    shop: Path, busy: Callable[..., subprocess.Popen[str]], jobrt_command: Command
) -> None:
    """A service manager starts a new parent, with processes of its own. The jobs of the old ones may finish."""
    worker = busy(f"wait_for path={shop}/go", "--processes=2", "--grace=1000")
    _, *processes = family(worker)
    worker.kill()
    until(worker.stderr, "is stopping; running jobs: 1")
    (shop / "go").touch()
    assert psutil.wait_procs(processes, timeout=150)[1] == []
    assert states(jobrt_command) == ["completed"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_parent_kills_processes_that_do_not_end(
    busy: Callable[..., subprocess.Popen[str]], jobrt_command: Command, count: int
) -> None:
    """Its jobs become available at once, unless the third signal ends the parent, too, or its own time is over."""
    worker = busy("keeps_the_lock", "--processes=2", *(["--grace=1000"] if count > 1 else []))
    _, *processes = family(worker)
    for _ in range(count):
        deliver(worker, signal.SIGTERM)
    lines = ended_badly(worker, 1)
    assert psutil.wait_procs(processes, timeout=150)[1] == []
    if count < 3:
        assert any(re.search(r"worker process \d+ did not end in time and is killed", line) for line in lines)
        if not any(
            "because the shutdown is not complete" in line for line in lines
        ):  # on a machine that is too busy
            assert states(jobrt_command) == ["retryable"]
    else:
        # The third may come while the exit functions run, which the second had begun.
        exits = [
            line for line in lines if re.search("exiting (at the third signal|although functions)", line)
        ]
        assert len(exits) == 1, lines


@pytest.mark.parametrize("left", [True, False], ids=["a thread is left", "none is left"])
@pytest.mark.parametrize(
    "error", ["", "SystemExit(3)", "BaseException('odd')"], ids=["returns", "exits", "raises"]
)
def test_python_is_not_taken_apart_beside_threads(tmp_path: Path, *, left: bool, error: str) -> None:
    """A daemon thread that runs meanwhile can crash the process. Exit functions and buffers are not forgotten."""
    program = tmp_path / "program.py"
    program.write_text(ENDING.format(left=left, raises=f"raise {error}" if error else ""), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=150, check=False
    )
    assert ("taken apart" in result.stdout) is not left
    assert "exit function" in result.stdout
    assert (result.returncode, "odd" in result.stderr) == {
        "": (0, False),
        "SystemExit(3)": (3, False),
        "BaseException('odd')": (1, True),
    }[error]


ENDING = """
import atexit, os, threading, time
from jobrt.cli.ending import run

class Last:
    def __del__(self, write=os.write):
        write(1, b"taken apart\\n")

last = Last()
atexit.register(print, "exit function")

def main():
    if {left}:
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    {raises}
    return 0

run(main)
"""


def test_several_processes_need_posix(jobrt_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows the option is refused in one line, which says what to do."""
    monkeypatch.setattr("jobrt.cli.worker._ON_POSIX", False)
    refused = jobrt_command("worker", "--processes", "2")
    assert refused.status == 2
    assert "--processes 2 needs POSIX" in refused.err


def deliver(worker: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal and wait until the process has got it: a second of its kind would be one with it before."""
    worker.send_signal(number)
    status = Path(f"/proc/{worker.pid}/status")
    if not status.exists():  # not Linux, or it has ended
        time.sleep(0.05)
        return
    while _is_pending(status, number):
        time.sleep(0.001)


def _is_pending(status: Path, number: signal.Signals) -> bool:
    try:
        found = re.search(r"^ShdPnd:\s*([0-9a-f]+)$", status.read_text(), re.MULTILINE)
    except OSError:  # it has ended
        return False
    return found is not None and bool(int(found[1], 16) >> (number - 1) & 1)


def family(worker: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return a parent and its worker processes, when both have started."""
    process = psutil.Process(worker.pid)
    while len(children := process.children()) < 2:
        time.sleep(0.01)
    for child in children:
        assert "--child" in child.cmdline()
    return [process, *children]


def ended_badly(worker: subprocess.Popen[str], status: int) -> list[str]:
    """Wait for the end of a process and return the lines of its standard error that it wrote itself."""
    _, err = worker.communicate(timeout=150)
    assert worker.returncode == status, err
    return [line for line in err.splitlines() if not line.startswith("    ")]
