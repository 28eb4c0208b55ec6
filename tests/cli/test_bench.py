"""Tests of `bench`: its figures as text and JSON, and the removal of its data."""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import trio

from jobrt._bench import measure
from jobrt._bench.scratch_postgres import drop_schema
from jobrt.errors import StorageError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.cli.conftest import Result
    from tests.support.postgres import Cluster

    Command = Callable[..., Result]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short measurements."""
    monkeypatch.setattr(measure, "_ONE_BY_ONE_SECONDS", 0.1)
    monkeypatch.setattr(measure, "_STARTS", 10)


def left_behind(url: str) -> list[str]:
    """Return the schemas in a database, or the folders of benchmarks beside a file."""
    if url.startswith("sqlite"):
        return sorted(path.name for path in Path(url.removeprefix("sqlite:///")).parent.glob("jobrt_bench*"))
    with psycopg.connect(url) as conn:
        return [name for (name,) in conn.execute("select nspname from pg_namespace where nspname ~ '^jobrt'")]


@pytest.mark.usefixtures("short")
def test_it_measures_and_leaves_nothing(new_database_url: str, jobrt_command: Command) -> None:
    """The JSON output contains the figures and the properties of the machine and the database."""
    done = jobrt_command("--url", new_database_url, "bench", "--jobs", "300", "--json")
    assert done.status == 0, done.err
    figures = json.loads(done.out)
    about = figures.pop("about")
    assert about["synchronous_commit" if new_database_url.startswith("postgres") else "synchronous"] in {
        "on",
        "FULL",
    }
    assert figures.pop("jobs") == 300
    assert len(figures) == 7
    assert all(figure > 0 for figure in figures.values())
    assert figures["start_p50_ms"] <= figures["start_p95_ms"] <= figures["start_p99_ms"]
    assert left_behind(new_database_url) == []


@pytest.mark.usefixtures("short")
def test_it_prints_lines(sqlite_url: str, jobrt_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pipe, each figure is a line. JOBRT_DISABLED does not disable the measured worker."""
    monkeypatch.setenv("JOBRT_DISABLED", "worker")
    out = jobrt_command("--url", sqlite_url, "bench", "--jobs", "100").out.splitlines()
    assert out[0] == "what\tfigure"
    assert [line.split("\t")[0] for line in out[2:4]] == ["enqueued one by one", "enqueued in bulk, 100"]


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(
    new_database_url: str, start: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    """After a signal, the data is removed and the exit status contains the signal."""
    process = start("--url", new_database_url, "bench")
    assert process.stderr is not None
    while "one by one" not in process.stderr.readline():
        assert process.poll() is None
    assert left_behind(new_database_url) != []
    process.send_signal(number)
    out, err = process.communicate(timeout=150)
    assert (process.returncode, out) == (128 + number, "")
    assert err.splitlines()[-1] == "interrupted; all data of the measurement is removed"
    assert left_behind(new_database_url) == []


def rename_job_table(url: str) -> None:
    """Rename the table of jobs. This needs a single lock, so it cannot cause a deadlock."""
    (name,) = left_behind(url)
    if url.startswith("sqlite"):
        file = Path(url.removeprefix("sqlite:///")).parent / name / "jobs.db"
        with closing(sqlite3.connect(file, timeout=30)) as conn:
            conn.execute("alter table jobrt_job rename to gone")
        return
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f"alter table {name}.job rename to gone")


@pytest.mark.process
@pytest.mark.parametrize("part", ["one by one", "in bulk", "run", "starts"])
def test_an_error_ends_it(
    new_database_url: str, start: Callable[..., subprocess.Popen[str]], part: str
) -> None:
    """If a worker would wait for its database, `bench` fails with a line and removes its data."""
    process = start("--url", new_database_url, "bench", "--jobs", "20000")
    assert process.stderr is not None
    while process.stderr.readline() != f"measuring: {part}\n":
        assert process.poll() is None
    rename_job_table(new_database_url)
    out, err = process.communicate(timeout=150)
    assert (process.returncode, out) == (1, "")
    assert "migrate" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert left_behind(new_database_url) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///:memory:", "a database in memory is on no disk: name a file, sqlite:///FILE"),
        ("sqlite:///no/jobs.db", "no: cannot make a folder in it: No such file or directory"),
    ],
)
def test_an_unusable_database_is_refused(shop: Path, jobrt_command: Command, url: str, message: str) -> None:
    """The last line names the problem, and the exit status is 1."""
    done = jobrt_command("--url", url, "bench")
    assert (done.status, done.out) == (1, "")
    assert done.err.splitlines()[-1].endswith(message)


def test_a_user_without_the_right_to_create_a_schema_is_refused(
    private_postgres: Cluster, jobrt_command: Command
) -> None:
    """The error is reported before anything is measured."""
    server = private_postgres.server
    server.execute("create role weak login")
    url = server.create_database("jobs")
    done = jobrt_command("--url", url.replace("postgres@", "weak@"), "bench")
    assert done.status == 1
    assert "permission denied for database jobs" in done.err.splitlines()[-1]


async def test_data_that_cannot_be_removed_is_named(private_postgres: Cluster) -> None:
    """The error contains the statement that removes the schema."""
    url = private_postgres.server.url("postgres")
    await trio.to_thread.run_sync(private_postgres.stop)
    with pytest.raises(StorageError, match='remove it with: drop schema if exists "x" cascade'):
        await drop_schema(url, "x", seconds=5)
