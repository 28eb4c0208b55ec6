"""Tests of the server in threads: it answers whatever the event loop and other clients do."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

import jobrt
from jobrt.errors import JobrtError
from jobrt.probes import server
from jobrt.probes.loop import LoopSource
from jobrt.probes.report import Report, Reporter
from jobrt.probes.server import bind, respond_from, serving, url_of
from jobrt.testing import open_app
from tests.probes.asking import IO_TIMEOUT, get, probed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.postgres import Cluster


class Nap(jobrt.Job):
    """Job that ends at once."""

    async def run(self, ctx: jobrt.Context) -> None:
        pass


async def test_a_worker_lives_and_is_ready_from_its_start_to_its_stop() -> None:
    """Before and after it lives, but it is not ready: a stop is no reason to kill it."""
    async with open_app(jobs=[Nap]) as (app, jobs), probed(app) as port, trio.open_nursery() as nursery:
        ask = partial(trio.to_thread.run_sync, get, port)
        before = [await ask("/livez"), await ask("/readyz")]
        worker = await nursery.start(app.run_worker)
        await (await jobs.enqueue(Nap())).wait()
        during = [await ask("/livez"), await ask("/readyz")]
        metrics = await ask("/metrics")
        worker.begin_stop()
        stopping = await ask("/livez")
        await worker.stopped.wait()
        after = [await ask("/livez"), await ask("/readyz")]
    assert [seen.status for seen in (*before, *during, stopping, *after)] == [
        200,
        503,
        200,
        200,
        200,
        200,
        503,
    ]
    assert (during[0].text, before[1].text) == ("ok\n", "no worker runs in this process\n")
    assert metrics.headers["content-type"].startswith("text/plain; version=")
    assert "jobrt_attempts" in {family.name for family in text_string_to_metric_families(metrics.text)}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_a_blocked_loop_is_told(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread answers for it, within a second and with the reason. Later the worker lives again."""
    monkeypatch.setattr("jobrt.probes.loop.ANSWER_SECONDS", 0.1)
    async with open_app(jobs=[Nap]) as (app, _), probed(app) as port:
        with ThreadPoolExecutor(1) as threads:
            blocked = threads.submit(get, port, path).result()  # nothing else runs in this loop meanwhile
        again = await trio.to_thread.run_sync(get, port, "/livez")
    assert (blocked.status, again.status) == (503, 200)
    assert blocked.text == "the event loop did not answer within 0.1 s: it is blocked\n"


def test_a_loop_that_has_ended_is_dead() -> None:
    """The server may outlive it for a moment."""

    async def make() -> LoopSource:
        return LoopSource(Reporter(jobrt.App("sqlite:///:memory:")))

    source = trio.run(make)
    assert source.ask(metrics=False).health.dead == ("the event loop has ended",)
    assert source.ask(metrics=True).health.dead == ("the event loop has ended",)


async def test_an_error_in_a_report_ends_no_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the worker counts as dead: nobody can tell that it lives."""
    async with open_app(jobs=[Nap]) as (app, _), probed(app) as port:
        ask = partial(trio.to_thread.run_sync, get, port)
        monkeypatch.setattr(Reporter, "health", _broken)
        seen = [await ask("/livez"), await ask("/metrics")]
        monkeypatch.undo()
        monkeypatch.setattr(Reporter, "_count", _broken)
        metrics = await ask("/metrics")
        alive = await ask("/livez")
    assert [one.status for one in (*seen, metrics, alive)] == [503, 503, 503, 200]
    assert {record.exc_info is not None for record in caplog.records} == {True}


def _broken(self: object) -> Report:
    raise LookupError("broken")


async def test_a_database_away_makes_a_worker_unready_and_not_dead(private_postgres: Cluster) -> None:
    """Probes ask nothing of it. When it is back, the worker is ready again by itself."""
    url = private_postgres.server.create_database("jobs")
    app = jobrt.App(url, jobs=[Nap], migrate=True)
    async with probed(app) as port, trio.open_nursery() as nursery:
        worker = await nursery.start(app.run_worker)
        ask = partial(trio.to_thread.run_sync, get, port)
        assert (await ask("/readyz")).status == 200
        await trio.to_thread.run_sync(private_postgres.stop)
        while (away := await ask("/readyz")).status == 200:
            await trio.sleep(0.05)
        alive, metrics = await ask("/livez"), await ask("/metrics")
        await trio.to_thread.run_sync(private_postgres.start)
        while (await ask("/readyz")).status == 503:
            await trio.sleep(0.05)
        await worker.stop()
    assert (alive.status, metrics.status) == (200, 200)
    assert away.text.startswith("the database is unavailable: ")
    assert "\njobrt_database_up 0.0\n" in metrics.text


# ---------------------------------------------------------------------- clients


class Alive:
    """Process that always lives."""

    def ask(self, *, metrics: bool) -> Report:
        """Return a report without problems."""
        return Report()


@pytest.fixture
def site() -> Iterator[int]:
    """Port of a server whose process always lives, without an event loop."""
    listener = bind("127.0.0.1", 0)
    with serving(listener, respond_from(Alive())):
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/livez?verbose=1", 200),
        ("HEAD", "/livez", 200),
        ("GET", "/", 404),
        ("GET", "/%1b[31m", 404),
        ("GET", "//[", 404),
        ("POST", "/livez", 501),
        ("GET", "/" + "x" * 70_000, 414),
    ],
)
def test_a_request_has_one_clear_answer(site: int, method: str, path: str, status: int) -> None:
    """It is plain text in one line. Only GET and HEAD are answered."""
    seen = get(site, path, method=method)
    assert seen.status == status
    assert seen.headers["content-type"] == "text/plain; charset=utf-8"
    assert seen.text.count("\n") == (method != "HEAD")


@pytest.mark.parametrize(
    "sent", [b"", b"\r\n", b"\x16\x03\x01\x00\xa5" * 40, b"GET /livez", b"GET /livez HTTP/9.9\r\n\r\n"]
)
def test_what_is_no_request_harms_nobody(site: int, sent: bytes) -> None:
    """The connection is closed, and the next client gets its answer."""
    with socket.create_connection(("127.0.0.1", site), IO_TIMEOUT) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass
    assert get(site, "/livez").text == "ok\n"


def test_a_crowd_of_silent_clients_does_not_silence_a_probe(site: int) -> None:
    """The oldest connections are closed, and their threads end."""
    with ExitStack() as crowd:
        clients = [
            crowd.enter_context(socket.create_connection(("127.0.0.1", site), IO_TIMEOUT))
            for _ in range(server._MOST_CONNECTIONS * 2)
        ]
        assert get(site, "/livez").status == 200
        for oldest in clients[: server._MOST_CONNECTIONS]:
            assert oldest.recv(1) == b""
        limit = time.monotonic() + IO_TIMEOUT
        while _probe_threads() > server._MOST_CONNECTIONS and time.monotonic() < limit:
            time.sleep(0.01)  # they run in this process, and end in their own time
        assert _probe_threads() <= server._MOST_CONNECTIONS


def _probe_threads() -> int:
    return [thread.name for thread in threading.enumerate()].count("jobrt probe")


def test_a_silent_client_is_left(site: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is closed after some seconds."""
    monkeypatch.setattr(server, "_SILENCE", 0.05)
    with socket.create_connection(("127.0.0.1", site), IO_TIMEOUT) as connection:
        assert connection.recv(1) == b""


def test_after_the_block_nobody_listens() -> None:
    """The port is free for the next worker."""
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    with serving(listener, respond_from(Alive())):
        get(port, "/livez")
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "jobrt probes"] or [None]
    if thread is not None:
        thread.join(IO_TIMEOUT)
    with (
        pytest.raises(ConnectionRefusedError),
        closing(http.client.HTTPConnection("127.0.0.1", port)) as connection,
    ):
        connection.request("GET", "/livez")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_does_not_hold_the_port() -> None:
    """A job may fork, and its process may outlive the worker."""
    listener = bind("127.0.0.1", 0)
    with serving(listener, respond_from(Alive())):
        pid = os.fork()
        if not pid:
            os._exit(listener.fileno() + 1)  # it is -1 when it is closed
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert get(listener.getsockname()[1], "/livez").status == 200
    assert status == 0


def test_a_port_in_use_is_one_line() -> None:
    """It names the host, the port, what is wrong, and the remedy."""
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(JobrtError) as raised:
            bind("127.0.0.1", port)
    message = f"cannot listen on 127.0.0.1, port {port}: Address already in use; use another --http HOST:PORT"
    assert str(raised.value) == message


def test_a_host_that_does_not_exist_is_one_line() -> None:
    """The reason is the resolver's."""
    with pytest.raises(
        JobrtError, match=r"cannot listen on no\.such\.host\.invalid, port 1: .+; use another"
    ):
        bind("no.such.host.invalid", 1)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
def test_both_families_are_served_at_the_unspecified_address() -> None:
    """A URL has brackets around an IPv6 address."""
    with bind("::", 0) as listener:
        assert url_of(listener) == f"http://[::]:{listener.getsockname()[1]}"
        socket.create_connection(("127.0.0.1", listener.getsockname()[1]), IO_TIMEOUT).close()
