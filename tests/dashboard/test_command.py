"""Tests of `python -m jobrt dashboard`: its output, its exit, and its errors at startup."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import pytest

from tests.cli.conftest import jobrt_command, shop, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Command = Callable[..., Result]
    Start = Callable[..., subprocess.Popen[str]]

__all__ = ["jobrt_command", "shop", "start"]  # fixtures

pytestmark = pytest.mark.process


def address_of(process: subprocess.Popen[str]) -> str:
    """Return the address that the dashboard prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(r"dashboard at (http://\S+) \(press Ctrl-C to stop\)\n", line)
    assert found, line
    return found[1]


def read(url: str, **headers: str) -> tuple[int, str]:
    """Request a page."""
    with urlopen(Request(url, headers=headers), timeout=30) as answer:  # noqa: S310 - our own server
        return answer.status, answer.read().decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_its_address_and_stops_at_a_signal(
    start: Start, jobrt_command: Command, number: signal.Signals
) -> None:
    """The dashboard prints one line and exits with status 0. It needs no worker."""
    assert jobrt_command("enqueue", "hello", "name=ada").status == 0
    process = start("dashboard", "--port", "0")
    url = address_of(process)
    assert url.startswith("http://127.0.0.1:")
    assert "hello" in read(f"{url}/jobs")[1]
    process.send_signal(number)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 0


def test_a_signal_during_startup(start: Start) -> None:
    """A signal during startup stops the dashboard immediately."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        process = start("--url", f"postgresql://postgres@127.0.0.1:{port}/jobs", "dashboard", "--port", "0")
        silent.settimeout(30)
        connection, _ = silent.accept()
        process.terminate()
        assert process.communicate(timeout=30) == ("", "")
        connection.close()
    assert process.returncode == 0


def test_without_the_application(start: Start, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dashboard works with only a database URL."""
    monkeypatch.delenv("JOBRT_APP", raising=False)
    process = start("--url", f"sqlite:///{shop}/other.db", "dashboard", "--port", "0", "--read-only")
    status, text = read(address_of(process))
    assert (status, "read-only" in text) == (200, True)


def test_a_port_that_is_taken(jobrt_command: Command) -> None:
    """The error is one line that names the port and the remedy."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = jobrt_command("dashboard", "--port", str(port))
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"jobrt: cannot listen on 127.0.0.1, port {port}: ")
    assert done.err.endswith("; use another --host or --port\n")
    assert done.err.count("\n") == 1


def test_an_address_of_another_machine(jobrt_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the same for an address that is not this machine's, and for an unknown host name."""
    monkeypatch.setenv("JOBRT_DASHBOARD_PASSWORD", "x")
    for host in ("192.0.2.1", "no.such.host.invalid"):
        done = jobrt_command("dashboard", "--host", host, "--port", "0")
        assert done.status == 1
        assert done.err.startswith(f"jobrt: cannot listen on {host}, port 0: "), done.err


def test_an_unusable_database(
    jobrt_command: Command, new_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database without tables, or an unavailable one, is reported in one line with status 1."""
    unmigrated = jobrt_command("--url", new_postgres_url, "dashboard", "--port", "0")
    away = jobrt_command("--url", "postgresql://postgres@127.0.0.1:1/jobs", "dashboard", "--port", "0")
    assert (unmigrated.status, away.status) == (1, 1)
    assert " migrate`" in unmigrated.err
    assert "cannot connect" in away.err
    assert (unmigrated.err.count("\n"), away.err.count("\n")) == (1, 1)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "jobs.example.com"])  # noqa: S104 - that is what is refused
def test_other_machines_need_a_password(jobrt_command: Command, host: str) -> None:
    """Without a password, allowing other machines is refused. The error names the remedy."""
    done = jobrt_command("dashboard", "--host", host, "--port", "0")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"jobrt: --host {host} allows other machines to connect:"
        " set a password with JOBRT_DASHBOARD_PASSWORD or --password-file\n"
    )


def test_a_password_from_a_file(start: Start, shop: Path) -> None:
    """The password is the first line of the file, without the line break. Other machines may then connect."""
    (shop / "secret").write_text("sesame\nnot this\n")
    process = start("dashboard", "--host", "0.0.0.0", "--port", "0", "--password-file", "secret")  # noqa: S104 - it asks
    port = address_of(process).rpartition(":")[2]
    with pytest.raises(OSError, match="401"):
        read(f"http://127.0.0.1:{port}/")
    assert read(f"http://127.0.0.1:{port}/", Authorization="Basic YTpzZXNhbWU=")[0] == 200


def test_a_password_file_without_a_password(jobrt_command: Command, shop: Path) -> None:
    """A missing or empty password file is an error."""
    missing = jobrt_command("dashboard", "--port", "0", "--password-file", "nowhere")
    (shop / "empty").write_text("\n")
    empty = jobrt_command("dashboard", "--port", "0", "--password-file", "empty")
    assert (missing.status, empty.status) == (1, 1)
    assert "cannot read --password-file nowhere" in missing.err
    assert "its first line is empty" in empty.err


def run_python(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a new process."""
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("package", ["starlette", "jinja2", "hypercorn"])
def test_a_missing_package(shop: Path, package: str) -> None:
    """One line says what to install. A program that mounts the dashboard gets the same message."""
    hide = f"import sys; sys.modules[{package!r}] = None; "
    command = "from jobrt.cli import main; sys.exit(main(['dashboard', '--port', '0']))"
    done = run_python(hide + command, shop)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"jobrt: the dashboard needs {package}: pip install 'jobrt[dashboard]'\n"
    if package != "hypercorn":
        mounted = run_python(f"{hide} import jobrt.dashboard", shop)
        assert f"the dashboard needs {package}: pip install 'jobrt[dashboard]'" in mounted.stderr
