"""Tests of the probes as an ASGI application in a program of its own."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import trio
from starlette.applications import Starlette
from starlette.routing import Mount

import jobrt
from jobrt.probes.site import metrics_answer
from jobrt.testing import open_app
from tests.dashboard.serving import IO_TIMEOUT, ask, serve_pages


@pytest.mark.parametrize("prefix", ["", "/-"])
async def test_a_program_mounts_the_probes_of_its_worker(prefix: str) -> None:
    """They are served at any path, in the event loop of the worker."""
    with trio.fail_after(IO_TIMEOUT):
        async with open_app() as (app, _), trio.open_nursery() as nursery:
            site: Any = jobrt.probes.asgi(app)
            pages = Starlette(routes=[Mount(prefix, site)]) if prefix else site
            async with serve_pages(pages) as port:
                unready = await ask(port, "GET", f"{prefix}/readyz")
                worker = await nursery.start(app.run_worker)
                seen = [
                    await ask(port, "GET", f"{prefix}{path}") for path in ("/livez", "/readyz", "/metrics")
                ]
                lost, post = await ask(port, "GET", f"{prefix}/x"), await ask(port, "POST", f"{prefix}/livez")
                head = await ask(port, "HEAD", f"{prefix}/livez")
                await worker.stop()
    assert [one.status for one in (unready, *seen, lost, post, head)] == [503, 200, 200, 200, 404, 405, 200]
    assert 'jobrt_slots{queue="default"} 10.0' in seen[2].text
    assert (seen[0].text, head.text) == ("ok\n", "")


async def test_it_refuses_web_sockets() -> None:
    """A web socket is closed before it is open."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await jobrt.probes.asgi(jobrt.App("sqlite:///:memory:"))({"type": "websocket"}, trio.sleep_forever, send)
    assert sent == [{"type": "websocket.close"}]


def test_without_the_extra_metrics_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probes need nothing."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    answer = metrics_answer((), accept="")
    assert answer.status == 501
    assert answer.body == b"metrics need prometheus_client: pip install 'jobrt[prometheus]'\n"
