"""The log of `worker`: the application's logging is left alone, and without one there is a usual log."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Command = Callable[..., Result]

NOTES = """
import logging
import jobrt
{set_up}
app = jobrt.App()


@app.job(max_attempts=1)
async def note(ctx):
    logging.getLogger("shop").info("sold")
    raise ValueError("one\\x1b[2J\\n2026-01-01 00:00:00,000 INFO forged")
"""


@pytest.fixture
def worker(shop: Path, jobrt_command: Command) -> Callable[..., list[str]]:
    """Return a function that runs a failing job and returns the lines of the log; `set_up` is the app's code."""

    def run(set_up: str, *options: str) -> list[str]:
        (shop / "shop.py").write_text(NOTES.format(set_up=set_up), encoding="utf-8")
        assert jobrt_command("enqueue", "note").status == 0
        sys.modules.pop("shop")  # its code sets up logging when the worker imports it
        done = jobrt_command("worker", "--drain", *options)
        assert done.status == 0, done.err
        return done.err.splitlines()

    return run


def test_without_logging_of_the_application_its_records_are_shown(worker: Callable[..., list[str]]) -> None:
    """INFO records of jobs are lines of the same format. A traceback is indented below its line."""
    lines = worker("")
    records = [line for line in lines if not line.startswith("    ")]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ", line) for line in records)
    assert any(line.endswith("INFO shop: sold") for line in records)
    (failed,) = [line for line in records if "discarded" in line]
    assert failed.endswith(r"ValueError: one\x1b[2J\n2026-01-01 00:00:00,000 INFO forged")
    assert "    2026-01-01 00:00:00,000 INFO forged" in lines
    assert not any("\x1b" in line for line in lines)


def test_json_is_one_object_a_record(worker: Callable[..., list[str]]) -> None:
    """Records of jobs and tracebacks included."""
    lines = [json.loads(line) for line in worker("", "--log-format", "json")]
    assert ("shop", "sold") in {(line["logger"], line["message"]) for line in lines}
    (failed,) = [line for line in lines if line.get("event") == "JobEnded"]
    assert failed["traceback"].endswith("INFO forged\n")


def test_logging_of_the_application_is_left_alone(worker: Callable[..., list[str]]) -> None:
    """Every record is written once, in the application's format. An option that has no effect is named."""
    lines = worker('logging.basicConfig(level="INFO", format="MINE %(message)s")', "--log-format", "json")
    assert "MINE sold" in lines
    assert len([line for line in lines if "is up" in line]) == 1
    assert not [line for line in lines if not line.startswith(("MINE ", "    "))]
    assert any("--log-format has no effect" in line for line in lines)


@pytest.mark.parametrize(
    ("set_up", "options", "shown"),
    [
        ('logging.basicConfig(level="CRITICAL")', (), False),
        ('logging.getLogger().setLevel("ERROR")', (), False),
        ("logging.getLogger().addHandler(logging.NullHandler())", (), True),
        ("", ("--quiet",), False),
        ('logging.basicConfig(level="CRITICAL")', ("--verbose",), True),
    ],
    ids=["its handler", "its level", "a null handler", "--quiet", "--verbose"],
)
def test_levels_hold(
    worker: Callable[..., list[str]], set_up: str, options: tuple[str, ...], *, shown: bool
) -> None:
    """INFO records of jobrt are shown if the level allows it; what is typed goes before the application's level."""
    assert any("is up" in line for line in worker(set_up, *options)) is shown
