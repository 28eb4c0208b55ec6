"""Tests of `stats` and of changing cron entries from the shell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result


def test_stats_count_by_period_and_job(shop: Path, jobrt_command: Callable[..., Result]) -> None:
    """Statistics are lines or JSON. Failed attempts and dead letters are counted separately."""
    assert jobrt_command("stats").out.startswith("queue\tjob\tperiod\tenqueued\tcompleted")
    for arguments in (("hello", "name=ada"), ("hello", "name=bob"), ("fail",)):
        assert jobrt_command("enqueue", *arguments).status == 0
    assert jobrt_command("worker", "--drain").status == 0
    lines = [line.split("\t") for line in jobrt_command("stats").out.splitlines()]
    assert ["default", "hello", "all time", "2", "2", "0", "0", "0"] in [line[:8] for line in lines]
    assert ["mail", "fail", "all time", "1", "0", "1", "1", "0"] in [line[:8] for line in lines]
    (_, hello) = sorted(json.loads(jobrt_command("stats", "--json").out), key=lambda job: job["name"])
    assert sum(hello["month"]["histogram"]) == 2


def test_a_cron_entry_is_changed(shop: Path, jobrt_command: Callable[..., Result]) -> None:
    """An entry can get another schedule or an interval. An invalid change is refused in one line."""
    assert jobrt_command("cron").status == 0
    assert jobrt_command("cron", "set", "nightly", "--schedule", "0 4 * * *").status == 0
    assert "0 4 * * * Europe/Berlin" in jobrt_command("cron").out
    assert jobrt_command("cron", "set", "nightly", "--every", "2h", "--missed", "skip").status == 0
    assert "every 2:00:00" in jobrt_command("cron").out
    wrong = jobrt_command("cron", "set", "nightly", "--schedule", "61 * * * *")
    assert (wrong.status, len(wrong.err.splitlines())) == (1, 1)
    assert "minute" in wrong.err
    unknown = jobrt_command("cron", "set", "weekly", "--every", "1d")
    assert (unknown.status, unknown.err.splitlines()) == (1, ["jobrt: there is no cron entry 'weekly'"])
    assert jobrt_command("cron", "set", "nightly").status == 2
