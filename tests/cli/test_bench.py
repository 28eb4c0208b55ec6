"""`bench`: figures for people and programs, and nothing left behind, however it ends."""

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
    """Measure for a moment only."""
    monkeypatch.setattr(measure, "_ONE_BY_ONE_SECONDS", 0.1)
    monkeypatch.setattr(measure, "_STARTS", 10)


def left_behind(url: str) -> list[str]:
    """Return what is in a database, or in the folder of a file."""
    if url.startswith("sqlite"):
        return sorted(one.name for one in Path(url.removeprefix("sqlite:///")).parent.glob("jobrt_bench*"))
    with psycopg.connect(url) as conn:
        return [name for (name,) in conn.execute("select nspname from pg_namespace where nspname ~ '^jobrt'")]


@pytest.mark.usefixtures("short")
def test_it_measures_and_leaves_nothing(database_url: str, jobrt_command: Command) -> None:
    """As JSON and as lines; what it did is said with what it was done on."""
    done = jobrt_command("--url", database_url, "bench", "--jobs", "300", "--json")
    assert done.status == 0, done.err
    figures = json.loads(done.out)
    about = figures.pop("about")
    assert about["synchronous_commit" if database_url.startswith("postgres") else "synchronous"] in {
        "on",
        "FULL",
    }
    assert figures.pop("jobs") == 300
    assert len(figures) == 7
    assert all(one > 0 for one in figures.values())
    assert figures["start_p50_ms"] <= figures["start_p95_ms"] <= figures["start_p99_ms"]
    assert left_behind(database_url) == []


@pytest.mark.usefixtures("short")
def test_lines_are_for_people(
    sqlite_url: str, jobrt_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is switched off elsewhere is not: nothing would run."""
    monkeypatch.setenv("JOBRT_DISABLED", "worker")
    out = jobrt_command("--url", sqlite_url, "bench", "--jobs", "100").out.splitlines()
    assert out[0] == "what\tfigure"
    assert [line.split("\t")[0] for line in out[2:4]] == ["enqueued one by one", "enqueued in bulk, 100"]


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(
    database_url: str, start: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    """In the middle: something was made, and is removed."""
    process = start("--url", database_url, "bench")
    assert process.stderr is not None
    while "one by one" not in process.stderr.readline():
        assert process.poll() is None
    assert left_behind(database_url) != []
    process.send_signal(number)
    out, err = process.communicate(timeout=50)
    assert (process.returncode, out) == (128 + number, "")
    assert err.splitlines()[-1] == "interrupted; all data of the measurement is removed"
    assert left_behind(database_url) == []


def take_the_jobs_away(url: str) -> None:
    """Give their table another name, which needs one lock only and so cannot end in a deadlock."""
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
def test_a_fault_ends_it(database_url: str, start: Callable[..., subprocess.Popen[str]], part: str) -> None:
    """A worker waits until its database is right again; who measures is told, in one line, and nothing is left."""
    process = start("--url", database_url, "bench", "--jobs", "20000")
    assert process.stderr is not None
    while process.stderr.readline() != f"measuring: {part}\n":
        assert process.poll() is None
    take_the_jobs_away(database_url)
    out, err = process.communicate(timeout=50)
    assert (process.returncode, out) == (1, "")
    assert "run `python -m jobrt migrate`" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert left_behind(database_url) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:///:memory:", "a database in memory is on no disk: name a file, sqlite:///FILE"),
        ("sqlite:///no/jobs.db", "no: cannot make a folder in it: No such file or directory"),
    ],
)
def test_where_it_cannot_be(shop: Path, jobrt_command: Command, url: str, said: str) -> None:
    """One line and a status."""
    done = jobrt_command("--url", url, "bench")
    assert (done.status, done.out) == (1, "")
    assert done.err.splitlines()[-1].endswith(said)


def test_without_the_right_to_make_a_schema(private_postgres: Cluster, jobrt_command: Command) -> None:
    """Who may not says so before anything is measured."""
    server = private_postgres.server
    server.execute("create role weak login")
    url = server.create_database("jobs")
    done = jobrt_command("--url", url.replace("postgres@", "weak@"), "bench")
    assert done.status == 1
    assert done.err.splitlines()[-1].endswith("permission denied for database jobs")


async def test_what_cannot_be_removed_is_named(private_postgres: Cluster) -> None:
    """With the statement that does it."""
    url = private_postgres.server.url("postgres")
    await trio.to_thread.run_sync(private_postgres.stop)
    with pytest.raises(StorageError, match='remove it with: drop schema if exists "x" cascade'):
        await drop_schema(url, "x", seconds=5)
