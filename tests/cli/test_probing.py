"""Tests of real worker processes that are seen from outside: probes, metrics, health checks."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobrt.cli.health import _target
from jobrt.cli.probing import Address, parse_address
from jobrt.probes.server import bind
from tests.cli.test_processes import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Result

    Start = Callable[..., subprocess.Popen[str]]
    Command = Callable[..., Result]

PATIENCE = 120


def port_of(worker: subprocess.Popen[str]) -> int:
    """Return the port that a worker says it listens on."""
    found = re.search(r"http://127\.0\.0\.1:(\d+)", until(worker.stderr, "probes and metrics at"))
    assert found is not None
    return int(found[1])


def get(port: int, path: str) -> tuple[int, str]:
    """Return status and text of a response."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def wait_for(port: int, path: str, wanted: str) -> str:
    """Ask again and again until a text is in the answer, and return the answer; the test's time limit ends it."""
    while wanted not in (text := get(port, path)[1]):
        pass
    return text


def sums(text: str) -> dict[str, float]:
    """Return the sum of all samples of each name."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def can_unshare() -> bool:
    """Return whether this user can start a process with its own process ids, as a container has them."""
    probe = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    return (
        shutil.which("nsenter") is not None
        and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.process
def test_a_worker_answers_until_it_stops(shop: Path, start: Start, jobrt_command: Command) -> None:
    """It is ready when it is up, and tells the jobs that it has run. `health` asks it."""
    worker = start("worker", "--http", "127.0.0.1:0")
    port = port_of(worker)
    wait_for(port, "/readyz", "ok\n")
    jobrt_command("enqueue", "hello", "name=ada")
    jobrt_command("enqueue", "fail")
    wait_for(port, "/metrics", 'jobrt_attempts_total{end="failed",job="fail",queue="mail"} 1.0')
    text = wait_for(port, "/metrics", 'jobrt_attempts_total{end="finished",job="hello",queue="default"} 1.0')
    assert sums(text)["jobrt_slots"] == 6
    assert sums(text)["process_cpu_seconds_total"] > 0
    healthy = jobrt_command("health", "--url", f"http://127.0.0.1:{port}")
    assert (healthy.status, healthy.out) == (0, f"http://127.0.0.1:{port}/livez: ok\n")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
    sick = jobrt_command("health", "--url", f"http://127.0.0.1:{port}/readyz")
    assert (sick.status, sick.err.count("\n")) == (1, 1)
    assert "Connection refused" in sick.err


@pytest.mark.process
def test_a_worker_lives_while_it_waits_for_its_database(shop: Path, start: Start) -> None:
    """It listens before it tries the database, and is not ready."""
    with bind("127.0.0.1", 0) as closed:
        url = f"postgresql://127.0.0.1:{closed.getsockname()[1]}/none?connect_timeout=60"  # nobody answers there
        worker = start("--url", url, "worker", "--http", "127.0.0.1:0")
        port = port_of(worker)
        assert get(port, "/livez") == (200, "ok\n")
        assert get(port, "/readyz") == (503, "no worker runs in this process\n")


@pytest.mark.process
@pytest.mark.slow
def test_a_parent_speaks_for_its_processes(shop: Path, start: Start, jobrt_command: Command) -> None:
    """It is ready if all are, and dead if one of them is blocked, frozen or down."""
    parent = start("worker", "--http", "127.0.0.1:0", "--processes", "2")
    port = port_of(parent)
    wait_for(port, "/livez", "ok\n")  # its loop may be blocked at first, on a busy machine
    wait_for(port, "/readyz", "ok\n")
    for _ in range(6):
        jobrt_command("enqueue", "hello", "name=ada")
    while sums(text := get(port, "/metrics")[1]).get("jobrt_attempts_total", 0) < 6:
        pass
    found = sums(text)
    assert (found["jobrt_process_up"], found["jobrt_slots"], found["jobrt_queue_paused"]) == (2, 12, 0)
    first, *_ = workers = children(parent)
    first.suspend()
    wait_for(port, "/livez", "it does not answer: C code may keep Python's lock")
    first.kill()
    wait_for(port, "/readyz", "ok\n")
    assert sums(get(port, "/metrics")[1])["jobrt_process_restarts_total"] == 1
    again = children(parent)
    assert first not in again
    assert len(again) == len(workers) == 2
    directory = Path(socket_of(again[0])).parent
    assert directory.stat().st_mode & 0o777 == 0o700
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(PATIENCE) == 0
    assert not directory.exists()


def children(parent: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the worker processes of a parent."""
    return psutil.Process(parent.pid).children()


def socket_of(process: psutil.Process) -> str:
    """Return the path of the socket on which a worker process tells its report."""
    paths = [str(one.laddr) for one in process.net_connections("unix") if "jobrt-" in str(one.laddr)]
    return paths[0]


@pytest.mark.process
@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs namespaces of Linux, and root"
)
def test_a_worker_is_the_first_process_of_a_container(shop: Path, jobrt_command: Command) -> None:
    """As process 1 it runs jobs, passes its health check from inside, and ends at SIGTERM with status 0."""
    script = f'exec "{sys.executable}" -m jobrt worker --http 127.0.0.1:0 --processes 2'
    container = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        port = port_of(container)
        place = f"127.0.0.1:{port}"
        wait_for(port, "/readyz", "ok\n")
        jobrt_command("enqueue", "hello", "name=ada")
        while sums(get(port, "/metrics")[1]).get("jobrt_attempts_total", 0) < 1:
            pass
        check = [sys.executable, "-m", "jobrt", "health"]
        (first,) = psutil.Process(container.pid).children()
        inside = ["nsenter", "--target", str(first.pid), "--pid", "--mount", *check]
        done = subprocess.run(
            inside, env={**os.environ, "JOBRT_HTTP": place}, check=False, capture_output=True
        )
        assert (done.returncode, done.stdout.decode()) == (0, f"http://{place}/livez: ok\n")
        first.send_signal(signal.SIGTERM)
        assert container.wait(PATIENCE) == 0
    finally:
        container.kill()
        container.communicate()
    assert [job["state"] for job in json.loads(jobrt_command("jobs", "--json").out)] == ["completed"]


# ---------------------------------------------------------------------- one clear line


def test_a_port_in_use_is_one_line(shop: Path, jobrt_command: Command) -> None:
    """The worker does not start."""
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        done = jobrt_command("worker", "--http", f"127.0.0.1:{port}")
    reason = f"cannot listen on 127.0.0.1, port {port}: Address already in use; use another --http HOST:PORT"
    assert (done.status, done.err) == (1, f"jobrt: {reason}\n")


@pytest.mark.process
def test_without_the_extra_the_probes_work(shop: Path, start: Start) -> None:
    """The log says once what to install, and so does `/metrics`."""
    (shop / "prometheus_client.py").write_text("raise ModuleNotFoundError('none', name='prometheus_client')")
    worker = start("worker", "--http", "127.0.0.1:0")
    port = port_of(worker)
    missing = "metrics need prometheus_client: pip install 'jobrt[prometheus]'\n"
    assert until(worker.stderr, "WARNING").endswith(missing)
    wait_for(port, "/readyz", "ok\n")
    assert get(port, "/metrics") == (501, missing)


@pytest.mark.parametrize(
    "text",
    ["", "9464", ":9464", "host", "host:", "host:x", "host:65536", "::1:80", "[::1]", "http://a:1", "a:1\n"],
)
def test_an_odd_address_is_refused(shop: Path, jobrt_command: Command, text: str) -> None:
    """The message shows how to write it."""
    done = jobrt_command("worker", f"--http={text}")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "write it as 127.0.0.1:9464 or [::1]:9464" in done.err


def test_addresses() -> None:
    """A host is a name or an address, an IPv6 address is in brackets."""
    assert parse_address("0.0.0.0:0") == Address("0.0.0.0", 0)  # noqa: S104 - it is only parsed
    assert parse_address("[::1]:9464") == Address("::1", 9464)


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ("0.0.0.0:1", ("127.0.0.1", 1, "/livez")),
        ("[::]:2", ("::1", 2, "/livez")),
        ("worker:3", ("worker", 3, "/livez")),
    ],
)
def test_health_asks_the_worker_of_the_same_environment(
    monkeypatch: pytest.MonkeyPatch, given: str, target: Any
) -> None:
    """A worker that listens on all addresses is asked at this machine's own."""
    monkeypatch.setenv("JOBRT_HTTP", given)
    assert _target(None) == target
    assert _target("http://[::1]:5") == ("::1", 5, "/livez")
    assert _target("http://here/readyz") == ("here", 80, "/readyz")


@pytest.mark.parametrize(
    "url", ["", "localhost:1", "https://a", "http://", "http://a:x", "http://[", "http://a/\udce9"]
)
def test_health_refuses_odd_urls(jobrt_command: Command, url: str) -> None:
    """It is a usage error, and not an unhealthy worker."""
    done = jobrt_command("health", "--url", url)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "write it as http://127.0.0.1:9464/livez" in done.err


def test_health_needs_an_address(jobrt_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one there is no worker to ask."""
    monkeypatch.delenv("JOBRT_HTTP", raising=False)
    done = jobrt_command("health")
    assert done.status == 2
    assert "pass --url http://HOST:PORT, or set JOBRT_HTTP as for the worker" in done.err


def test_health_waits_for_a_limited_time(jobrt_command: Command) -> None:
    """A worker that does not answer is unhealthy."""
    with bind("127.0.0.1", 0) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = jobrt_command("health", "--url", url, "--seconds", "0.1")
    assert (done.status, done.err) == (1, f"jobrt: {url}/livez: no answer within 0.1 s\n")


def test_health_tells_the_problems(jobrt_command: Command) -> None:
    """All of them in one line."""
    answer = b"HTTP/1.0 503 No\r\n\r\nthe worker is stopping\nthe database is unavailable: no\x1b[31m\n"
    with bind("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = subprocess.Popen(
            [sys.executable, "-m", "jobrt", "health", "--url", url], stderr=subprocess.PIPE, text=True
        )
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            _, err = client.communicate(timeout=PATIENCE)
    line = f"jobrt: {url}/livez: the worker is stopping; the database is unavailable: no\\x1b[31m\n"
    assert (client.returncode, err) == (1, line)
