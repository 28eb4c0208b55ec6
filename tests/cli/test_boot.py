"""Tests of worker processes that die. They are restarted if they were up; otherwise their parent gives up."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from tests.cli.test_processes import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result
    from tests.support.postgres import Cluster

    Start = Callable[..., subprocess.Popen[str]]
    Command = Callable[..., Result]

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.unmeasured]

GAVE_UP = "jobrt: gave up after 5 tries: worker process "


def up(parent: subprocess.Popen[str]) -> psutil.Process:
    """Wait until another process is up, and return it."""
    line = until(parent.stderr, "INFO worker process ")
    return psutil.Process(int(line.partition("worker process ")[2].removesuffix(" is up\n")))


def ended(parent: subprocess.Popen[str], status: int) -> list[str]:
    """Wait for the end of a process and return the rest of its standard error."""
    _, err = parent.communicate(timeout=150)
    assert parent.returncode == status, err
    assert "Traceback" not in err
    return err.splitlines()


@pytest.fixture
def few_rights(
    private_postgres: Cluster, jobrt_command: Command, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """URL of a migrated database, as a user who has rights on all tables but the worker table."""
    server = private_postgres.server
    url = server.create_database("jobs")
    monkeypatch.setenv("JOBRT_URL", url)
    assert jobrt_command("migrate").status == 0
    server.execute("create role few login")
    server.execute("grant usage on schema jobrt to few", url=url)
    server.execute("grant all on all tables in schema jobrt to few", url=url)
    server.execute("grant all on all sequences in schema jobrt to few", url=url)
    server.execute("revoke all on jobrt.worker from few", url=url)
    monkeypatch.setenv("JOBRT_URL", url.replace("postgres@", "few@"))
    return url


def test_processes_that_the_database_refuses_end_their_parent(few_rights: str, start: Start) -> None:
    """Each process is tried five times, with one line per try. The last line contains the database's error."""
    *before, last = ended(start("worker", "--processes", "2"), 1)
    assert last.startswith(GAVE_UP)
    assert "as few: permission denied for table worker; this call needs the grants of a worker" in last
    assert last.endswith("fix the cause and restart")
    assert all("permission denied for table worker" in line for line in before)
    assert 5 <= len(before) <= 10


def test_rights_can_be_granted_during_retries(
    few_rights: str, private_postgres: Cluster, start: Start
) -> None:
    """A successful start resets the count of failures, and the processes can be stopped."""
    parent = start("worker", "--processes", "2")
    until(parent.stderr, "failed to start")
    private_postgres.server.execute("grant all on jobrt.worker to few", url=few_rights)
    up(parent)
    parent.send_signal(signal.SIGTERM)
    ended(parent, 0)


def test_a_stop_is_obeyed_between_two_tries(few_rights: str, start: Start) -> None:
    """A stop between two tries succeeds without an error."""
    parent = start("worker", "--processes", "2")
    until(parent.stderr, "failed to start")
    parent.send_signal(signal.SIGINT)
    assert not any("gave up" in line for line in ended(parent, 0))


def test_giving_up_lets_the_other_processes_finish(
    postgres_url: str, start: Start, jobrt_command: Command, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a process cannot be restarted because the schema is newer now, a running job still has its grace period."""
    monkeypatch.setenv("JOBRT_URL", postgres_url)
    assert jobrt_command("migrate").status == 0
    assert jobrt_command("enqueue", "wait_for", f"path={shop}/go").status == 0
    parent = start("worker", "--processes", "2")
    processes = {up(parent), up(parent)}
    until(parent.stdout, "begun")
    (busy,) = (process for process in processes if f" {process.pid}\n" in (shop / "go.begun").read_text())
    with psycopg.connect(postgres_url) as conn:
        conn.execute("insert into jobrt.migration (name) values ('9999_later')")
    (processes - {busy}).pop().kill()
    until(parent.stderr, "is stopping; running jobs: 1")
    (shop / "go").touch()
    last = ended(parent, 1)[-1]
    assert last.startswith(GAVE_UP)
    assert "9999_later" in last
    with psycopg.connect(postgres_url) as conn:
        conn.execute("delete from jobrt.migration where name = '9999_later'")
    (job,) = json.loads(jobrt_command("jobs", "--json").out)
    assert (job["state"], job["attempt"]) == ("completed", 1)


@pytest.mark.parametrize(
    ("deployed", "message"),
    [
        ("import nowhere", "cannot import shop: ModuleNotFoundError: No module named 'nowhere'"),
        ("import os; os._exit(7)", "it exited with status 7"),
        ("import os; os.abort()", "it was killed by SIGABRT"),
    ],
    ids=["error", "status", "signal"],
)
def test_an_application_that_broke_since_the_start_ends_the_parent(
    shop: Path, start: Start, deployed: str, message: str
) -> None:
    """When a process dies, the error says why its successors do not start, or how they ended."""
    parent = start("worker", "--processes", "2")
    up(parent)
    victim = up(parent)
    (shop / "shop.py").write_text(deployed, encoding="utf-8")
    victim.kill()
    last = ended(parent, 1)[-1]
    assert last.startswith(GAVE_UP)
    assert message in last


def test_processes_that_were_up_are_started_again_however_often_they_die(shop: Path, start: Start) -> None:
    """After a sixth death within half a minute, the parent waits ten seconds but does not give up.

    On a slow machine, six deaths take longer than that.
    """
    began = time.monotonic()
    parent = start("worker", "--processes", "2")
    up(parent)
    victim = up(parent)
    for _ in range(5):
        victim.kill()
        assert "was killed by SIGKILL; restarting in" in until(parent.stderr, str(victim.pid))
        victim = up(parent)
    victim.kill()
    line = until(parent.stderr, str(victim.pid))
    assert "restarted too often, next restart in 10 s" in line or time.monotonic() - began > 30
    parent.send_signal(signal.SIGTERM)
    ended(parent, 0)


def test_a_process_without_a_parent_prints_its_error(shop: Path) -> None:
    """A process whose parent has died prints its error itself."""
    ours, theirs = socket.socketpair()
    ours.close()
    command = [sys.executable, "-m", "jobrt", "worker", "--queue=nowhere", "--child"]
    with theirs:
        orphan = subprocess.run(command, stdin=theirs, capture_output=True, text=True, check=False)
    assert (orphan.returncode, orphan.stderr.count("\n")) == (1, 1)
    assert orphan.stderr.startswith("jobrt: no queue 'nowhere'")
