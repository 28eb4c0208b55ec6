"""Tests of the command line with a PostgreSQL server that is unavailable or set up wrongly."""

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
    """Return a function that runs each kind of command on a database and returns the last line of each."""

    def run(url: str) -> list[str]:
        errors = []
        for command in COMMANDS:
            done = jobrt_command("--url", url, *command)
            assert (done.status, done.out) == (1, ""), command
            *before, last = done.err.splitlines()
            assert last.startswith("jobrt: "), done.err
            assert all("retrying for 0.2 s" in line for line in before), done.err
            errors.append(last)
        return errors

    return run


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port that refuses connections: it is bound, but nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield int(probe.getsockname()[1])


# ---------------------------------------------------------------------- errors that waiting does not solve


def test_a_wrong_password_is_reported_in_one_line(private_postgres: Cluster, refused: Refused) -> None:
    """The line names the user and does not contain the password."""
    server = private_postgres.server
    server.execute("create role picky login password 'right'")
    rules = private_postgres.data / "pg_hba.conf"
    rules.write_text("host all picky 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
    server.execute("select pg_reload_conf()")
    for line in refused(f"postgresql://picky:wr0ng@127.0.0.1:{private_postgres.port}/postgres"):
        assert 'password authentication failed for user "picky"' in line
        assert "wr0ng" not in line
        assert "gave up" not in line


def test_an_unknown_database_is_reported_in_one_line(postgres_url: str, refused: Refused) -> None:
    """The command does not wait: the database will not appear by itself."""
    for line in refused(f"{postgres_url}_not"):
        assert "does not exist" in line
        assert "gave up" not in line


def test_an_unmigrated_schema_is_reported_in_one_line(new_postgres_url: str, refused: Refused) -> None:
    """The line contains the command that migrates the schema."""
    for line in refused(new_postgres_url):
        assert " migrate`" in line


def test_a_newer_schema_is_reported_in_one_line(postgres_url: str, refused: Refused) -> None:
    """The line says that the schema is newer and names the migration."""
    trio.run(jobrt.App(postgres_url).migrate)
    with psycopg.connect(postgres_url) as conn:
        conn.execute("insert into jobrt.migration (name) values ('9999_later')")
    for line in refused(postgres_url):
        assert "newer" in line
        assert "9999_later" in line


def test_missing_rights_are_reported_in_one_line(
    private_postgres: Cluster, refused: Refused, jobrt_command: Command
) -> None:
    """The line names the schema, or the table, that the user may not use."""
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


# ---------------------------------------------------------------------- errors that waiting may solve


def test_an_unreachable_server_is_reported_in_one_line(refused: Refused, dead_port: int) -> None:
    """The line names the host and port of a refused connection, or the unknown host."""
    for line in refused(f"postgresql://postgres@127.0.0.1:{dead_port}/jobs"):
        assert f"127.0.0.1:{dead_port}" in line
        assert "refused" in line
    for line in refused("postgresql://postgres@no-such-host.invalid/jobs"):
        assert "no-such-host.invalid" in line


def test_another_service_at_the_port_is_reported_in_one_line(refused: Refused) -> None:
    """A server that speaks another protocol is reported with its address."""

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
    """A server that is down, with a migrated database and one job. Commands use its URL."""
    monkeypatch.setenv("JOBRT_URL", private_postgres.server.create_database("jobs"))
    assert jobrt_command("migrate").status == 0
    assert jobrt_command("enqueue", "wait_for", f"path={shop}/go").status == 0
    private_postgres.stop()
    return private_postgres


@pytest.mark.process
@pytest.mark.parametrize("processes", [1, 2])
def test_a_worker_gives_up_after_the_wait(down: Cluster, start: Start, processes: int) -> None:
    """The first line has the address, the reason and the time limit. The last line says that the worker gave up."""
    worker = start("worker", "--wait", "0.3", "--processes", str(processes))
    out, err = worker.communicate(timeout=150)
    first, last = err.splitlines()
    address = f"PostgreSQL jobs at 127.0.0.1:{down.port} as postgres: Connection refused"
    assert f"the database cannot be used: cannot connect to {address}; retrying for 0.3 s" in first
    assert last == f"jobrt: cannot connect to {address}; gave up after 0.3 s"
    assert (worker.returncode, out) == (1, "")


@pytest.mark.process
@pytest.mark.parametrize("processes", [1, 2])
def test_without_a_wait_it_fails_immediately(down: Cluster, start: Start, processes: int) -> None:
    """With ``--wait 0`` there is only one line."""
    worker = start("worker", "--wait", "0", "--processes", str(processes))
    _, err = worker.communicate(timeout=150)
    assert err.count("\n") == 1
    assert err.rstrip().endswith("Connection refused")
    assert worker.returncode == 1


@pytest.mark.process
@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_ends_the_wait_at_once(down: Cluster, start: Start, processes: int) -> None:
    """The worker exits with status 0 and prints nothing more."""
    worker = start("worker", "--wait", "3600", "--processes", str(processes))
    until(worker.stderr, "retrying for 3600 s")
    worker.send_signal(signal.SIGTERM)
    _, err = worker.communicate(timeout=150)
    assert (worker.returncode, err) == (0, "")


@pytest.mark.process
@pytest.mark.slow
def test_a_worker_starts_when_its_server_comes(
    down: Cluster, start: Start, jobrt_command: Command, shop: Path
) -> None:
    """The worker starts when the server starts, and completes its job at SIGTERM."""
    worker = start("worker", "--wait", "50")
    until(worker.stderr, "retrying for 50 s")
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
    """A dead process's job runs again immediately, before its lease expires. The crash counts as an attempt."""
    parent = start("worker", "--processes", "2", "--wait", "50")
    until(parent.stderr, "retrying for 50 s")
    down.start()
    until(parent.stdout, "begun")
    (_, pid) = (shop / "go.begun").read_text().split()
    os.kill(int(pid), signal.SIGKILL)
    until(parent.stdout, "begun")
    down.stop()
    for child in psutil.Process(parent.pid).children():
        child.kill()  # the next processes must wait, without a limit of thirty seconds
    until(parent.stderr, "retrying")
    down.start()
    until(parent.stdout, "begun")
    (shop / "go").touch()
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(40) == 0
    (job,) = json.loads(jobrt_command("jobs", "--json").out)
    assert (job["state"], job["attempt"]) == ("completed", 3)
