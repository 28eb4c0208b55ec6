"""Commands beside rows whose payloads cannot be decoded, or are large."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Command = Callable[..., Result]


@pytest.fixture
def stored(shop: Path, jobrt_command: Command) -> Path:
    """The application with jobs of `hello` that no worker of jobrt would have stored."""
    assert jobrt_command("migrate").status == 0
    rows = [b"nope", b'{"name": "\xff"}', b'{"name": "a", "cc": "b"}', b'{"name": 7}', b'{"name": "c"}']
    with closing(sqlite3.connect(shop / "shop.db", isolation_level=None)) as conn:
        for row in rows:
            conn.execute(
                "INSERT INTO jobrt_job (state, queue, name, priority, schedule_at, created_at, args)"
                " VALUES (1, 'default', 'hello', 0, 1, 1, CAST(? AS TEXT))",
                (row,),
            )
    return shop


def test_doctor_names_jobs_that_cannot_be_decoded(stored: Path, jobrt_command: Command) -> None:
    """It says how many there are, why, and what becomes of them or can be done."""
    result = jobrt_command("doctor")
    assert result.status == 1
    assert "2 jobs of hello cannot be decoded, such as job 1" in result.out
    assert "they are discarded when they are due" in result.out
    assert "such as job 3 (hello.cc: is not a field of the class)" in result.out
    assert "add fields that were removed to REMOVED" in result.out
    assert "such as job 4 (hello.name: expected str, got int 7)" in result.out
    assert "such as job 5" not in result.out


def test_every_command_works_beside_such_jobs(stored: Path, jobrt_command: Command) -> None:
    """They can be listed, shown, cancelled, run again and deleted."""
    for arguments in (
        ["jobs"],
        ["jobs", "--json"],
        *(["show", str(job)] for job in range(1, 6)),
        ["queues"],
        ["cancel", "1", "2"],
        ["rerun", "1", "2"],
        ["prune"],
        ["delete", "1", "2", "3"],
    ):
        result = jobrt_command(*arguments)
        assert result.status == 0, (arguments, result)
