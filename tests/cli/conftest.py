"""Run commands: in this process where that is the same, in a real one where signals and deaths matter."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import attrs
import psutil
import pytest

from jobrt.cli import main

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
    """Write that it began, then wait until a file is there."""
    with open(path + ".begun", "a") as file:
        file.write(f"{ctx.job.attempt} {os.getpid()}\\n")
    print("begun", ctx.job.id, flush=True)
    while not os.path.exists(path):
        await trio.sleep(0.01)
    return "seen"


@app.job(max_attempts=1)
async def stubborn(ctx):
    """Swallow every cancellation."""
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
    """What a command did."""

    status: int
    out: str
    err: str


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a folder with an application, ``shop:app``, on a database of its own."""
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOBRT_APP", "shop:app")
    monkeypatch.setenv("JOBRT_URL", f"sqlite:///{tmp_path}/shop.db")
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


@pytest.fixture
def jobrt_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Return a function that runs a command in this process, its output being a pipe's."""

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        logger = logging.getLogger("jobrt")
        handlers = logger.handlers[:]
        try:
            status = main(list(arguments))
        finally:
            logger.handlers[:] = handlers  # a worker's would write to this test's stderr for ever
        out, err = capsys.readouterr()
        return Result(status, out, err)

    return run


@pytest.fixture
def start(shop: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts a command as a process; what still runs at the end is killed."""
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
        process.communicate()  # returns when all who could write to it have gone


def kill(pid: int) -> None:
    """Kill a process and those that it started, which nobody else would end."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.suspend()  # or it would start others for those that are killed
        for one in [*process.children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
