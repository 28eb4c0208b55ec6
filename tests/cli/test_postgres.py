"""The command line on a PostgreSQL server that is not there, or not as it should be."""

from __future__ import annotations

import json
import os
import signal
import socket
import socketserver
import threading
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest
import trio

import jobrt
from tests.cli.test_processes import until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Result
    from tests.support.postgres import Cluster

    Start = Callable[..., subprocess.Popen[str]]
    Command = Callable[..., Result]
    Refused = Callable[[str], list[str]]

COMMANDS = (
    ["jobs"],
    ["queues"],
    ["enqueue", "hello", "name=x"],
    ["worker", "--wait", "0.2"],
    ["worker", "--processes", "2", "--wait", "0.2"],
)


@pytest.fixture
def refused(shop: Path, jobrt_command: Command) -> Refused:
    """Return a function that tries each kind of command on a database, and gives what it said in the end."""

    def run(url: str) -> list[str]:
        said = []
        for command in COMMANDS:
            done = jobrt_command("--url", url, *command)
            assert (done.status, done.out) == (1, ""), command
            *before, last = done.err.splitlines()
            assert last.startswith("jobrt: "), done.err
            assert all("trying again for 0.2 s" in line for line in before), done.err
            said.append(last)
        return said

    return run


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port that refuses connections: bound, and nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield int(probe.getsockname()[1])


# ---------------------------------------------------------------------- what no waiting will mend


def test_a_wrong_password_is_said_in_one_line(private_postgres: Cluster, refused: Refused) -> None:
    """With who tried to log in where, and without the password."""
    server = private_postgres.server
    server.execute("create role picky login password 'right'")
    rules = private_postgres.data / "pg_hba.conf"
    rules.write_text("host all picky 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
    server.execute("select pg_reload_conf()")
    for line in refused(f"postgresql://picky:wr0ng@127.0.0.1:{private_postgres.port}/postgres"):
        assert 'password authentication failed for user "picky"' in line
        assert "wr0ng" not in line
        assert "gave up" not in line


def test_an_unknown_database_is_said_in_one_line(postgres_url: str, refused: Refused) -> None:
    """At once: it will not come by itself."""
    for line in refused(f"{postgres_url}_not"):
        assert "does not exist" in line
        assert "gave up" not in line


def test_an_unmigrated_schema_is_said_in_one_line(postgres_url: str, refused: Refused) -> None:
    """With the command that mends it."""
    for line in refused(postgres_url):
        assert "run `python -m jobrt migrate`" in line


def test_a_newer_schema_is_said_in_one_line(postgres_url: str, refused: Refused) -> None:
    """Nothing is touched; the remedy is a newer jobrt."""
    trio.run(jobrt.App(postgres_url).migrate)
    with psycopg.connect(postgres_url) as conn:
        conn.execute("insert into jobrt.migration (name) values ('9999_later')")
    for line in refused(postgres_url):
        assert "newer" in line
        assert "9999_later" in line


def test_missing_rights_are_said_in_one_line(
    private_postgres: Cluster, refused: Refused, jobrt_command: Command
) -> None:
    """With the schema that the user may not use; with the table, where only the first look is allowed."""
    server = private_postgres.server
    url = server.create_database("jobs")
    server.execute("create role nobody login")
    trio.run(jobrt.App(url).migrate)
    theirs = url.replace("postgres@", "nobody@")
    for line in refused(theirs):
        assert "permission denied for schema jobrt" in line
    server.execute("grant usage on schema jobrt to nobody", url=url)
    server.execute("grant select on jobrt.migration to nobody", url=url)
    worker = jobrt_command("--url", theirs, "worker")
    assert worker.status == 1
    assert "permission denied for table worker" in worker.err.splitlines()[-1]
    assert "Traceback" not in worker.err


# ---------------------------------------------------------------------- what waiting may mend


def test_an_unreachable_server_is_said_in_one_line(refused: Refused, dead_port: int) -> None:
    """With host and port: a refused connection, and a name that nobody knows."""
    for line in refused(f"postgresql://postgres@127.0.0.1:{dead_port}/jobs"):
        assert f"127.0.0.1:{dead_port}" in line
        assert "refused" in line
    for line in refused("postgresql://postgres@no-such-host.invalid/jobs"):
        assert "no-such-host.invalid" in line


def test_another_service_at_the_port_is_said_in_one_line(refused: Refused) -> None:
    """One that says what a PostgreSQL would not."""

    class Stranger(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(100)
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            port = server.server_address[1]
            for line in refused(f"postgresql://postgres@127.0.0.1:{port}/jobs"):
                assert f"127.0.0.1:{port}" in line
                assert "received invalid response" in line
        finally:
            server.shutdown()


# ---------------------------------------------------------------------- workers that wait


@pytest.fixture
def down(
    private_postgres: Cluster, jobrt_command: Command, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> Cluster:
    """A server with a migrated database, whose URL commands are given, and one job; and it is down."""
    monkeypatch.setenv("JOBRT_URL", private_postgres.server.create_database("jobs"))
    assert jobrt_command("migrate").status == 0
    assert jobrt_command("enqueue", "wait_for", f"path={shop}/go").status == 0
    private_postgres.stop()
    return private_postgres


@pytest.mark.process
@pytest.mark.parametrize("processes", [1, 2])
def test_a_worker_gives_up_after_the_wait(down: Cluster, start: Start, processes: int) -> None:
    """One line when it begins to wait, with address, reason and patience; one when that is over; status 1."""
    worker = start("worker", "--wait", "0.3", "--processes", str(processes))
    out, err = worker.communicate(timeout=50)
    first, last = err.splitlines()
    address = f"PostgreSQL jobs at 127.0.0.1:{down.port} as postgres: Connection refused"
    assert f"the database cannot be used: cannot connect to {address}; trying again for 0.3 s" in first
    assert last == f"jobrt: cannot connect to {address}; gave up after 0.3 s"
    assert (worker.returncode, out) == (1, "")


@pytest.mark.process
@pytest.mark.parametrize("processes", [1, 2])
def test_without_a_wait_it_fails_at_once(down: Cluster, start: Start, processes: int) -> None:
    """One line only."""
    worker = start("worker", "--wait", "0", "--processes", str(processes))
    _, err = worker.communicate(timeout=50)
    assert err.count("\n") == 1
    assert err.rstrip().endswith("Connection refused")
    assert worker.returncode == 1


@pytest.mark.process
@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_ends_the_wait_at_once(down: Cluster, start: Start, processes: int) -> None:
    """Cleanly: there is nothing to tell and nothing left."""
    worker = start("worker", "--wait", "3600", "--processes", str(processes))
    until(worker.stderr, "trying again for 3600 s")
    worker.send_signal(signal.SIGTERM)
    _, err = worker.communicate(timeout=50)
    assert (worker.returncode, err) == (0, "")


@pytest.mark.process
@pytest.mark.slow
def test_a_worker_starts_when_its_server_comes(
    down: Cluster, start: Start, jobrt_command: Command, shop: Path
) -> None:
    """And from then on outlives it, however short its patience at the start was."""
    worker = start("worker", "--wait", "50")
    until(worker.stderr, "trying again for 50 s")
    down.start()
    until(worker.stdout, "begun")
    (shop / "go").touch()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert [job["state"] for job in json.loads(jobrt_command("jobs", "--json").out)] == ["completed"]


@pytest.mark.process
@pytest.mark.slow
def test_processes_start_when_their_server_comes_and_again_when_they_die(
    down: Cluster, start: Start, jobrt_command: Command, shop: Path
) -> None:
    """The dead one's job runs elsewhere at once, though its lease has not ended; the crash is on record."""
    parent = start("worker", "--processes", "2", "--wait", "50")
    until(parent.stderr, "trying again for 50 s")
    down.start()
    until(parent.stdout, "begun")
    (_, pid) = (shop / "go.begun").read_text().split()
    os.kill(int(pid), signal.SIGKILL)
    until(parent.stdout, "begun")
    down.stop()
    for child in psutil.Process(parent.pid).children():
        child.kill()  # whoever is started now must wait, and not for thirty seconds only
    until(parent.stderr, "trying again")
    down.start()
    until(parent.stdout, "begun")
    (shop / "go").touch()
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(40) == 0
    (job,) = json.loads(jobrt_command("jobs", "--json").out)
    assert (job["state"], job["attempt"]) == ("completed", 3)
