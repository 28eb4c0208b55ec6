"""Fixtures that run commands: in this process, or in a new one where signals and crashes matter."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import attrs
import psutil
import pytest
import trio

import jobrt
from jobrt.cli import main
from tests.support.process_state import own_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SHOP = '''
import os
import time

import jobrt
import trio

app = jobrt.App(queues={"default": 4, "mail": 2}, grace=20, lease=6)


@app.job
async def hello(ctx, name: str, times: int = 1):
    return f"hello {name}" * times


@app.job(queue="mail", max_attempts=1)
async def fail(ctx):
    raise LookupError("no such address")


@app.job(max_attempts=3)
async def wait_for(ctx, path: str):
    """Record the start, then wait until a file exists."""
    with open(path + ".begun", "a") as file:
        file.write(f"{ctx.job.attempt} {os.getpid()}\\n")
    print("begun", ctx.job.id, flush=True)
    while not os.path.exists(path):
        await trio.sleep(0.01)
    return "seen"


@app.job(max_attempts=1)
async def stubborn(ctx):
    """Ignore every cancellation."""
    print("begun", ctx.job.id, flush=True)
    while True:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.05)


@app.job(max_attempts=1)
async def large(ctx):
    return "x" * 300_000


app.cron("0 3 * * *", hello.new(name="nightly"), name="nightly", timezone="Europe/Berlin")
'''


@attrs.frozen
class Result:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with the application ``shop:app``, which has its own database."""
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOBRT_APP", "shop:app")
    url = f"sqlite:///{tmp_path}/shop.db"
    monkeypatch.setenv("JOBRT_URL", url)
    trio.run(jobrt.App(url).migrate)  # commands that only look make no database
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


@pytest.fixture
def jobrt_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Return a function that runs a command in this process. Its output is formatted as for a pipe."""

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        with own_state():
            status = main(list(arguments))
        out, err = capsys.readouterr()
        return Result(status, out, err)

    return run


@pytest.fixture
def start(shop: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts a command in a new process. Processes still running at the end are killed."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobrt", *arguments],
            cwd=shop,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        kill(process.pid)
        process.communicate()  # returns when no process holds the pipes any more


def kill(pid: int) -> None:
    """Kill a process and its children."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.suspend()  # or it would replace the children that are killed
        for member in [*process.children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                member.kill()
