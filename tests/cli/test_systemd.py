"""Tests of what a worker tells its service manager, with a real datagram socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from jobrt.cli.probing import Viewers, show_worker
from jobrt.cli.systemd import ServiceManager
from jobrt.testing import open_app
from tests.cli.test_processes import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Start = Callable[..., subprocess.Popen[str]]

PATIENCE = 120


class Manager:
    """Service manager: a datagram socket, and the messages that it has received."""

    def __init__(self, address: str) -> None:
        self.address = address.replace("\0", "@")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(PATIENCE)
        self.messages: list[str] = []

    def until(self, wanted: str) -> list[str]:
        """Receive messages until one begins with a text, and return those before it."""
        before: list[str] = []
        while not (message := self.socket.recv(4096).decode()).startswith(wanted):
            before.append(message)
        self.messages = [*before, message]
        return before

    def received(self) -> list[str]:
        """Return the messages that have arrived."""
        messages: list[str] = []
        self.socket.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                messages.append(self.socket.recv(4096).decode())
        return messages


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A service manager that starts the processes of the test."""
    found = Manager(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", found.address)
    with found.socket:
        yield found


@pytest.mark.skipif(sys.platform != "linux", reason="sockets without a file are Linux's")
def test_a_socket_may_be_without_a_file() -> None:
    """Its name begins with an at sign."""
    manager = Manager(f"\0jobrt-{uuid.uuid4()}")
    with manager.socket:
        ServiceManager(manager.address).send("READY=1", "STATUS=up")
        manager.until("READY=1\nSTATUS=up")


@pytest.mark.process
def test_a_worker_says_when_it_is_ready_and_when_it_stops(shop: Path, start: Start, manager: Manager) -> None:
    """In between it tells its status. Without WATCHDOG_USEC it feeds no watchdog."""
    worker = start("worker")
    manager.until("READY=1")
    until(worker.stderr, "is up")
    while "0 running jobs, 6 slots" not in manager.messages[-1]:
        manager.until("STATUS=")
        assert "WATCHDOG=1" not in manager.messages
    worker.send_signal(signal.SIGTERM)
    manager.until("STOPPING=1")
    assert worker.wait(PATIENCE) == 0


@pytest.mark.process
@pytest.mark.slow
def test_a_watchdog_is_fed_while_the_loop_turns(
    shop: Path, start: Start, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At half of its time. A process that is frozen sends nothing, as one with a blocked loop."""
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    worker = start("worker")
    manager.until("READY=1")
    for _ in range(3):
        manager.until("WATCHDOG=1")
    worker.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, worker.pid, os.WSTOPPED)
    manager.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        while True:
            manager.until("WATCHDOG=1")
    worker.send_signal(signal.SIGCONT)
    manager.socket.settimeout(PATIENCE)
    manager.until("WATCHDOG=1")


@pytest.mark.process
@pytest.mark.slow
def test_a_parent_is_ready_when_all_processes_are(
    shop: Path, start: Start, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the parent talks. It feeds the watchdog for all of them."""
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    parent = start("worker", "--processes", "2")
    assert not any("2 of 2" in message for message in manager.until("READY=1")[:-1])
    manager.until("STATUS=2 of 2 processes are up")
    manager.until("WATCHDOG=1")
    parent.send_signal(signal.SIGTERM)
    manager.until("STOPPING=1")
    assert parent.wait(PATIENCE) == 0


def test_the_manager_is_hidden_from_what_jobs_start(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its variables are taken out of the environment."""
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    found = ServiceManager.from_environment()
    assert found is not None
    assert (found.address, found.watchdog, found.interval) == (manager.address, 3.0, 1.0)
    program = "import os, json; print(json.dumps(dict(os.environ)))"
    seen = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(json.loads(seen.stdout))
    assert ServiceManager.from_environment() is None


@pytest.mark.parametrize(("pid", "usec"), [("1", "3000000"), ("", "soon"), ("", "0"), ("", "")])
def test_a_watchdog_of_another_process_is_not_fed(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, pid: str, usec: str
) -> None:
    """Nor one whose time cannot be read."""
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    found = ServiceManager.from_environment()
    assert found is not None
    assert found.watchdog == float("inf")


def test_an_address_of_another_kind_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as those of virtual machines."""
    monkeypatch.setenv("NOTIFY_SOCKET", "vsock:2:1234")
    assert ServiceManager.from_environment() is None


def test_a_manager_that_has_gone_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A worker does without it."""
    found = ServiceManager(str(tmp_path / "none"))
    found.send("READY=1")
    found.send("WATCHDOG=1")
    (record,) = caplog.records
    assert record.getMessage().startswith("the service manager cannot be told READY=1: ")


def test_what_was_not_taken_is_sent_again(tmp_path: Path) -> None:
    """Otherwise a manager whose queue was full for a moment would think that the worker never was ready."""
    found = ServiceManager(str(tmp_path / "notify"))
    found.send("STATUS=starting")
    found.send("READY=1")
    found.send("WATCHDOG=1")
    manager = Manager(found.address)
    with manager.socket:
        found.send("STATUS=up")
        manager.until("READY=1\nSTATUS=up")
        found.send("STATUS=busy")
        manager.until("STATUS=busy")


def test_a_status_is_one_line_and_sent_if_it_is_new(tmp_path: Path) -> None:
    """Texts of others cannot forge another assignment."""
    manager = Manager(str(tmp_path / "notify"))
    with manager.socket:
        found = ServiceManager(manager.address)
        for text in ("down: \nREADY=1\x1b", "down: \nREADY=1\x1b", "up"):
            found.tell_status(text)
        manager.until("STATUS=up")
    assert manager.messages == ["STATUS=down: READY=1\\x1b", "STATUS=up"]


async def test_an_actor_that_is_down_feeds_no_watchdog(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """The status says which. The manager restarts the process when its time is over."""
    manager = Manager(str(tmp_path / "notify"))

    async def crash() -> None:
        raise LookupError("no")

    with manager.socket:
        async with open_app(queues={"default": 3}) as (app, _), trio.open_nursery() as nursery:
            nursery.start_soon(
                show_worker, app, Viewers(manager=ServiceManager(manager.address, watchdog=10))
            )
            worker = await nursery.start(app.run_worker)
            await trio.sleep(6)
            assert "WATCHDOG=1" in manager.received()
            worker._actors.tree.add(crash, name="extra")
            with trio.fail_after(600):
                while not any("; extra is down: LookupError: no" in text for text in manager.received()):
                    await trio.sleep(5)
            await trio.sleep(20)
            assert manager.received() == []
            await worker.stop()
            nursery.cancel_scope.cancel()
