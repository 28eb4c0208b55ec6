"""Tests of commands as parts of a pipeline, and of what other users of the machine can read."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Command = Callable[..., Result]

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs",),
        ("jobs", "--json"),
        ("queues",),
        ("workers",),
        ("top", "--once"),
        ("doctor",),
        ("manifest",),
        ("enqueue", "hello", "name=x"),
        ("--help",),
        ("jobs", "--help"),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("shop")
def test_a_reader_that_is_gone_is_no_error(arguments: tuple[str, ...]) -> None:
    """As with other programs, the command ends with status 0 or 141 and prints no error."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "jobrt", *arguments], stdout=writing, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.usefixtures("shop")
def test_an_error_without_a_reader_keeps_its_status() -> None:
    """If standard error is closed as well, the status still tells of the failure or of the closed pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, "-m", "jobrt", "show", "77"]
        done = subprocess.run(command, stdout=writing, stderr=writing, check=False)
    finally:
        os.close(writing)
    assert done.returncode in {0, 1}


@pytest.mark.usefixtures("shop")
def test_a_terminal_without_unicode_gets_escapes() -> None:
    """Characters that the encoding of the output lacks are written as escapes."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for arguments in (("enqueue", "hello", "name=é"), ("jobs",), ("show", "1")):
        command = [sys.executable, "-m", "jobrt", *arguments]
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\xe9" in done.stdout


def test_the_url_is_not_in_the_arguments_of_worker_processes(
    start: Callable[..., subprocess.Popen[str]], shop: Path
) -> None:
    """Other users can read arguments, so child processes get ``--url`` in their environment; they use it."""
    worker = start("--url", f"sqlite:///{shop}/S3cr1t.db", "worker", "--processes", "2")
    assert worker.stderr is not None
    up = 0
    for line in worker.stderr:
        up += line.endswith(" is up\n")
        if up == 2:
            break
    children = psutil.Process(worker.pid).children(recursive=True)
    assert len(children) >= 2
    assert [child for child in children if "S3cr1t" in " ".join(child.cmdline())] == []
    assert (shop / "S3cr1t.db").exists()
    worker.terminate()
    assert worker.wait(50) == 0
