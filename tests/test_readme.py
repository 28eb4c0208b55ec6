"""Tests of the code and the commands in README.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import jobrt
from jobrt.testing import drain, open_app
from tests.support.pages import PageRunner, blocks, commands

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
POSTGRES = "postgresql://shop:secret@localhost/shop"

ENDS = {
    'return {"any"': ("completed", "{'any': 'JSON'}"),
    "return jobrt.Snooze": ("scheduled", "None"),
    "return jobrt.Throttle": ("scheduled", "None"),
    "return jobrt.Cancel": ("cancelled", "None"),
    "return jobrt.Discard": ("discarded", "None"),
    "return jobrt.After": ("scheduled", "None"),
    "raise OSError": ("retryable", "None"),
}
"""First words of the lines in "What a job can return", with the resulting state and result."""


@pytest.mark.process
@pytest.mark.slow
async def test_it_runs_from_top_to_bottom(tmp_path: Path, new_postgres_url: str) -> None:
    """The program and the commands work as they stand, on SQLite and then on PostgreSQL."""
    runner = PageRunner(ROOT / "README.md", tmp_path, replace={POSTGRES: new_postgres_url})
    with trio.fail_after(220):
        await runner.run()
    assert runner.variables["JOBRT_URL"] == new_postgres_url


def lines_of_returns() -> list[str]:
    """Return the lines of the block about what a job can return."""
    (text,) = [block.text for block in blocks(README) if block.language == "py"]
    return text.splitlines()


@pytest.mark.parametrize("line", lines_of_returns(), ids=lambda line: line.split("(")[0].split("{")[0])
async def test_a_job_may_do_what_it_says(autojump_clock: MockClock, line: str) -> None:
    """Each line, as the body of `run`, has the effect that its comment describes."""
    (expected,) = [end for start, end in ENDS.items() if line.startswith(start)]
    names: dict[str, Any] = {"jobrt": jobrt}
    exec(f"async def run(self, ctx):\n    {line}", names)  # noqa: S102 - this repository's own text
    job_class = type("Any", (jobrt.Job,), {"run": names["run"], "__module__": __name__})
    child_class = type("Child", (jobrt.Job,), {"run": names["run"], "__module__": __name__})
    async with open_app(jobs=[job_class, child_class]) as (app, jobs):
        names["children"] = [await jobs.enqueue(child_class(), schedule_in=3600)]
        handle = await jobs.enqueue(job_class())
        await drain(app)
        record = await jobs.get(handle.id)
    assert (str(record.state), str(record.result)) == expected


def test_commands_that_it_names_exist() -> None:
    """Each command in a console block, and each name in backquotes after the block, is one of `python -m jobrt`."""
    from jobrt.cli import cli

    lines = [
        command.line
        for block in blocks(README)
        if block.language == "console"
        for command in commands(block.text)
    ]
    names = {line.split()[3] for line in lines if line.startswith("python -m jobrt")}
    (listed,) = re.findall(r"(`show`.*?) show\s+and manage jobs", README, re.DOTALL)
    assert names | set(re.findall(r"`(\w+)`", listed)) <= set(cli.commands)


def test_links_lead_to_pages() -> None:
    """Each link into the project names a file."""
    targets = re.findall(r"\]\(((?!https?:)[^)#]+)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).is_file()] == []


def test_every_page_of_the_guide_is_linked() -> None:
    """A reader of the README finds each page."""
    pages = {page.name for page in (ROOT / "design" / "guide").glob("*.md")} - {"index.md"}
    assert [page for page in sorted(pages) if f"design/guide/{page}" not in README] == []


def test_its_lines_can_be_read_side_by_side_with_code() -> None:
    """Lines have at most 100 characters, except tables and commands that users copy."""
    long = [line for line in README.splitlines() if len(line) > 100]
    assert [line for line in long if not line.startswith(("python", "|"))] == []
