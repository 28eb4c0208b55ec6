"""The `follow` command: what happens to a job, line by line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

import jobrt
from tests.cli.conftest import Result

Command = Callable[..., Result]


class Speak(jobrt.Job):
    """Job that says something of each kind."""

    MAX_ATTEMPTS = 1

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.log.info("begin \x1b[31m\n2030-01-01 forged")
        await ctx.emit({"ü": 1}, key="first")
        ctx.progress(1, 4, "a quarter")
        ctx.log.error("no", exc_info=OSError("broken"))


def spoken(shop: Path) -> int:
    """Run the job in the shop's database, and return its id."""

    async def run() -> int:
        app = jobrt.App(f"sqlite:///{shop}/shop.db", jobs=[Speak])
        async with app.open_client() as jobs:
            handle = await jobs.enqueue(Speak())
            await app.drain()
        return handle.id

    return trio.run(run)


def test_lines_for_people(shop: Path, jobrt_command: Command) -> None:
    """One for each update; no text of a job can begin a line, or reach the terminal as it is."""
    found = jobrt_command("follow", str(spoken(shop)))
    assert (found.status, found.err) == (0, "")
    begin, forged, value, error, traceback, progress, end = found.out.splitlines()
    assert begin[8:] == " INFO begin \\x1b[31m"
    assert forged == "    2030-01-01 forged"
    assert value[8:] == ' first = {"ü": 1}'
    assert (error[8:], traceback) == (" ERROR no", "    OSError: broken")
    assert progress == "progress 1 of 4 a quarter"
    assert end == "completed, attempt 1"


def test_lines_for_programs(shop: Path, jobrt_command: Command) -> None:
    """One JSON object per line; the cursor of one goes on behind it."""
    job_id = str(spoken(shop))
    lines = [json.loads(line) for line in jobrt_command("follow", job_id, "--json").out.splitlines()]
    assert [(line["kind"], line["cursor"]) for line in lines] == [
        *(("log", 1), ("emit", 2), ("log", 3)),
        *(("progress", 3), ("state", 3)),
    ]
    again = jobrt_command("follow", job_id, "--json", "--after", str(lines[1]["cursor"]))
    assert [json.loads(line) for line in again.out.splitlines()] == lines[2:]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["77"], "there is no job 77"),
        (["1", "--after", "9"], "after is 9, but job 1 has 3 entries: use 0, or the cursor of an update"),
        (["x"], "'x' is not a valid"),
        (["1", "--after", "-1"], "-1"),
    ],
)
def test_what_cannot_be_followed(
    arguments: list[str], words: str, shop: Path, jobrt_command: Command
) -> None:
    """Each has one line, and a status that is not zero."""
    spoken(shop)
    found = jobrt_command("follow", *arguments)
    assert found.status != 0
    assert len(found.err.splitlines()) == 1
    assert words in found.err


@pytest.mark.process
def test_a_job_that_has_not_begun(shop: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """Lines appear while the job runs elsewhere, and the command ends with the job."""

    async def main() -> None:
        app = jobrt.App(f"sqlite:///{shop}/shop.db", jobs=[Speak])
        async with app.open_client() as jobs:
            handle = await jobs.enqueue(Speak())
            process = start("follow", str(handle.id))
            assert process.stdout is not None
            assert await trio.to_thread.run_sync(process.stdout.readline) == "available\n"
            await app.drain()
            out, err = await trio.to_thread.run_sync(process.communicate)
        assert (process.returncode, err) == (0, "")
        assert "begin" in out
        assert out.endswith("completed, attempt 1\n")

    trio.run(main)
