"""Tests of `doctor` and of other commands that report a status."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trio

import jobrt
from jobrt._storage.contract import WorkerRow
from jobrt._views.findings import examine_worker
from jobrt._views.words import age
from jobrt.cli import output
from jobrt.cli.output import print_rows
from tests.support.worker_info import worker_info

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Command = Callable[..., Result]

QUIET: dict[str, Any] = {"queues": {"default": {"stuck": [], "concurrency": 1}}, "tree": {"children": []}}


def _row(*, beat: float = 0.0, alive: bool = True, **info: Any) -> WorkerRow:
    """Return a worker whose last heartbeat was `beat` seconds ago, with a lease of 30 s."""
    now = datetime.now(UTC)
    last = now - timedelta(seconds=beat)
    return WorkerRow(
        id="w1",
        started_at=now,
        beat_at=last,
        expires_at=last + timedelta(seconds=30),
        alive=alive,
        info=worker_info(**{**QUIET, **info}),
    )


@pytest.mark.parametrize(
    ("worker", "message"),
    [
        ({}, None),
        ({"alive": False}, "worker w1 is dead"),
        ({"outage": "no route"}, "cannot reach the database: no route"),
        ({"beat": 21}, "sent its last heartbeat 21.0 s ago"),
        (
            {"queues": {"default": {"stuck": [4, 5], "concurrency": 1}}},
            "stuck jobs in queue default: 4, 5; see its log",
        ),
        (
            {
                "tree": {
                    "children": [{"name": "cron", "state": "failed", "last_error": "boom", "nested": None}]
                }
            },
            "cron has failed: boom",
        ),
    ],
)
def test_problems_of_a_worker(worker: dict[str, Any], message: str | None) -> None:
    """Each problem is one finding. A healthy worker has none."""
    found = list(examine_worker(_row(**worker), datetime.now(UTC)))
    assert [finding.wrong for finding in found] == [True] * (message is not None)
    assert all(message in finding.text for finding in found if message)


def test_doctor_reports_an_unusable_database(jobrt_command: Command, shop: Path) -> None:
    """A database that cannot be used is a finding."""
    (shop / "shop.db").write_bytes(b"no database" * 200)
    found = jobrt_command("doctor")
    assert found.status == 1
    assert "!!  the database cannot be used: " in found.out


async def _leave_jobs(url: str) -> None:
    """Leave a paused queue with a due job, and a served queue with due jobs."""

    class Long(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            """Do nothing."""

    app = jobrt.App(url, jobs=[Long], queues={"default": 1, "mail": 1})
    async with app.open_client() as jobs, app.open_storage() as storage:
        await jobs.pause("mail")
        await jobs.enqueue(Long(), queue="mail")
        await jobs.enqueue_many([Long(), Long()])
        await storage.workers.register("w1", lease=600, info=worker_info(**QUIET))


def test_doctor_reports_why_due_jobs_wait(jobrt_command: Command, shop: Path) -> None:
    """A paused queue and an undefined job name are problems. Due jobs beside free slots are not."""
    trio.run(_leave_jobs, f"sqlite:///{shop}/shop.db")
    found = jobrt_command("doctor")
    assert found.status == 1
    assert "!!  queue mail is paused with 1 due job: resume it with `queues resume mail`\n" in found.out
    assert "ok  queue default: 2 due jobs, the oldest due for" in found.out
    assert "; 1 free slot\n" in found.out
    assert "jobs named 'Long' are waiting, but this application does not define them" in found.out


def test_migrations_of_sqlite_are_not_printed(jobrt_command: Command, shop: Path) -> None:
    """The usage error says when SQLite files are migrated."""
    refused = jobrt_command("migrate", "--sql")
    assert refused.status == 2
    assert "migrated when they are opened" in refused.err


def test_migrations_of_postgresql(
    jobrt_command: Command, shop: Path, new_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Migrations can be checked, printed and applied. Afterwards the schema is up to date."""
    monkeypatch.setenv("JOBRT_URL", new_postgres_url)
    before = jobrt_command("migrate", "--check")
    assert (before.status, before.out.splitlines()[0].split()[1:]) == (1, ["pending"])
    assert "create table" in jobrt_command("migrate", "--sql").out
    assert jobrt_command("migrate").out.startswith("applied 0001")
    assert jobrt_command("migrate", "--check").out == "up to date\n"


def test_the_manifest_as_tables(jobrt_command: Command, shop: Path) -> None:
    """The manifest lists the jobs, then the cron entries."""
    lines = [line.split("\t") for line in jobrt_command("manifest").out.splitlines()]
    assert ["fail", "mail", "0", "1"] in [line[:4] for line in lines]
    assert ["nightly", "hello"] in [line[:2] for line in lines]


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets a table without markup, or a text if there are no rows."""
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    print_rows(("id", "why"), [[1, None], [22, "[bold]"]], empty="no jobs")
    head, first, second = capsys.readouterr().out.splitlines()
    assert (head.split(), first.split(), second.split()) == (["id", "why"], ["1", "-"], ["22", "[bold]"])
    print_rows(("id",), [], empty="no jobs")
    assert capsys.readouterr().out == "no jobs\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.25, "250 ms"),
        (12.34, "12.3 s"),
        (61, "1 min 1 s"),
        (7260, "2 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_in_words(seconds: float | None, text: str) -> None:
    """A duration has at most two units."""
    assert age(seconds) == text


def test_the_grants_of_a_role_are_printed(jobrt_command: Command) -> None:
    """No database is needed. An odd argument is refused in one line that lists the kinds."""
    printed = jobrt_command("migrate", "--grants", "shop:reader")
    assert printed.status == 0
    assert 'grant select on all tables in schema "jobrt" to "shop";' in printed.out
    for odd in ("shop", "shop:", ":reader", "shop:boss"):
        refused = jobrt_command("migrate", "--grants", odd)
        assert refused.status == 2
        assert "is not ROLE:KIND: KIND is enqueuer, reader, worker" in refused.err
