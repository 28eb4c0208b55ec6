"""Tests that no text of a row acts on the terminal of the person who looks at it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jobrt
from jobrt._core.job import NewJob, Outcome
from jobrt._core.limits import Demand
from jobrt._core.states import End, Transition
from jobrt._storage.contract import CronRow, Storage
from jobrt.cli import output, workers
from tests.support.worker_info import worker_info

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Command = Callable[..., Result]

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal may act on; tabs and line breaks are checked by their number."""

PIECES = (
    "\x1b]0;title\x07",
    "\x1b[2J",
    "\x9b31m",
    "\r",
    "\n",
    "\t",
    "\u202e",
    "\u2028",
    "[red]",
    "[/]",
    ":smile:",
    "a",
    "é",
    "\\",
    '"',
)
texts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join)
COMMANDS = (
    ("jobs",),
    ("jobs", "--json"),
    ("show", "1"),
    ("show", "1", "--json"),
    ("show", "2"),
    ("queues",),
    ("queues", "--json"),
    ("workers",),
    ("workers", "--tree"),
    ("workers", "--json"),
    ("top", "--once"),
    ("cron",),
    ("cron", "--json"),
    ("stats",),
    ("doctor",),
    ("doctor", "--json"),
)


async def _leave_rows(url: str, text: str) -> None:
    """Leave two jobs, a worker and a cron entry with a hostile text wherever one can be."""
    app = jobrt.App(url)
    async with app.open_storage() as storage:
        await storage.schema.migrate()
        new = NewJob(
            name=text,
            queue=text,
            args=json.dumps({text: text}),
            metadata=json.dumps({text: text}),
            tags=(text,),
            context=text,
        )
        await storage.jobs.insert([new, new])
        child = {"name": text, "state": "failed", "last_error": text, "nested": None}
        notice = {"what": text, "job": 1, "name": text, "seconds": 7.2, "ago": 3.0, "at": text}
        info: dict[str, Any] = {"outage": text, "notices": [notice], "tree": {"children": [child]}}
        info["queues"] = {text: {"concurrency": 2, "key": text, "per_key": 1, "claim_error": text}}
        await storage.workers.register(text, lease=600, info=worker_info(**info))
        await _fail_first(storage, text)
        await storage.crons.put(CronRow(name=text, spec={"job": text}))


async def _fail_first(storage: Storage, text: str) -> None:
    (job,) = (await storage.attempts.exchange((), Demand(text, text, 1, (text,)))).jobs
    failed = Outcome(
        job.id, job.lease, Transition.RETRY, End.FAILED, error_type=text, message=text, traceback=text
    )
    await storage.attempts.finish([failed])


@given(texts)
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("terminal", [False, True])
def test_no_text_of_a_row_acts_on_the_terminal(
    jobrt_command: Command, tmp_path: Path, terminal: bool, text: str
) -> None:
    """Control characters are shown as escapes, line breaks do not make lines, and markup is printed as it is."""
    file = tmp_path / "hostile.db"
    for path in tmp_path.glob("hostile.db*"):
        path.unlink()
    trio.run(_leave_rows, f"sqlite:///{file}", text)
    with pytest.MonkeyPatch.context() as patch:
        for module in (output, workers):
            patch.setattr(module, "on_terminal", lambda: terminal)
        for command in COMMANDS:
            done = jobrt_command("--url", f"sqlite:///{file}", *command)
            printed = done.out + done.err
            assert not UNSAFE.search(printed), (command, printed)
            assert "Traceback" not in printed
            if "--json" in command:
                json.loads(done.out)
            elif command == ("jobs",) and not terminal:
                lines = done.out.splitlines()
                assert [line.count("\t") for line in lines] == [lines[0].count("\t")] * 3


def test_markup_is_printed_as_it_is(jobrt_command: Command, tmp_path: Path) -> None:
    """Brackets and colons of a name mean nothing."""
    url = f"sqlite:///{tmp_path}/markup.db"
    trio.run(_leave_rows, url, "[red]x[/] :smile:")
    for command in (("show", "1"), ("jobs",), ("top", "--once")):
        assert "[red]x[/] :smile:" in jobrt_command("--url", url, *command).out


def test_a_lone_surrogate_can_be_printed(jobrt_command: Command, shop: Path) -> None:
    """A file name that is not UTF-8 is an argument, a path and a message like any other."""
    name = "caf\udce9.db"
    missing = jobrt_command("--url", f"sqlite:///{shop}/{name}", "doctor")
    assert (missing.status, missing.out.count("\n")) == (1, 1)
    assert "caf\\udce9.db" in missing.out
    assert jobrt_command("--url", f"sqlite:///{shop}/{name}", "migrate").status == 0
    assert (shop / name).exists()
    assert jobrt_command("--url", f"sqlite:///{shop}/{name}", "doctor", "--json").status == 1
