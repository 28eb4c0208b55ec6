"""Tests of access control: hosts, origins and passwords."""

from __future__ import annotations

import base64
import re

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import jobrt
import jobrt.dashboard
from jobrt.dashboard.guard import is_known_host, is_same_origin
from tests.dashboard.serving import Board, serve, serve_pages, shop, value


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True),
        ("localhost:8000", True),
        ("LOCALHOST:8000", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("192.168.0.7", True),
        ("jobs.example.com", True),
        ("jobs.example.com.:443", True),
        ("evil.example.com", False),
        ("localhost.evil.com", False),
        ("127.0.0.1.evil.com:8000", False),
        ("evil.com#localhost", False),
        ("[", False),
        ("", False),
        ("a b", False),
    ],
)
def test_known_hosts(host: str, known: bool) -> None:
    """IP addresses, localhost and the allowed names are known hosts. An attacker can use none of these."""
    assert is_known_host(host, frozenset({"jobs.example.com"})) is known


@pytest.mark.parametrize(
    ("headers", "same"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "http://evil.com"}, True),
        ({"sec-fetch-site": "same-site", "origin": "http://localhost:8000"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"origin": "http://localhost:8000"}, True),
        ({"origin": "https://localhost:8000"}, True),
        ({"origin": "http://localhost:8001"}, False),
        ({"origin": "http://evil.com"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://[x"}, False),
        ({}, False),
    ],
)
def test_our_own_pages(headers: dict[str, str], same: bool) -> None:
    """A request is trusted only if the browser reports our own origin."""
    assert is_same_origin({"host": "localhost:8000", **headers}) is same


async def test_an_unknown_host_name_is_refused(sqlite_url: str) -> None:
    """A site whose host name points to the dashboard cannot read its pages."""
    async with serve(shop(sqlite_url), hosts=["Jobs.example.com"]) as board:
        evil = await board.get("/jobs", host="evil.example.com:8000")
        none = await board.get("/", host="@")
        ours = await board.get("/jobs", host="jobs.example.com")
    assert (evil.status, none.status, ours.status) == (400, 400, 200)
    assert "the host name 'evil.example.com' is not allowed: allow it with --allow-host" in evil.text


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site", "origin": "http://evil.example.com"},
        {"sec-fetch-site": "", "origin": "http://evil.example.com"},
        {"sec-fetch-site": "", "origin": "null"},
        {"sec-fetch-site": "", "origin": ""},
    ],
)
async def test_forms_of_other_sites_are_refused(database_url: str, headers: dict[str, str]) -> None:
    """A form from another site gets status 403 and changes nothing."""
    app = shop(database_url)
    async with serve(app) as board:
        handle = await board.jobs.enqueue(value(app, "hello"))
        refused = await board.post("/jobs/change", headers=headers, id=handle.id, action="cancel")
        paused = await board.post("/queues/change", headers=headers, queue="default", action="pause")
        assert await board.state(handle.id) == "available"
        assert not any(queue.paused for queue in await board.jobs.queues())
    assert (refused.status, paused.status) == (403, 403)


async def test_a_password(sqlite_url: str) -> None:
    """Without the password, every request gets status 401. Any user name is accepted."""

    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    async with serve(shop(sqlite_url), password="sesame:1") as board:
        answers = [
            await board.get("/"),
            await board.get("/static/dashboard.js"),
            await board.get("/", authorization=basic("ada:wrong")),
            await board.get("/", authorization=basic("sesame:1")),
            await board.get("/", authorization="Basic !!!"),
            await board.get("/", authorization="Bearer sesame:1"),
            await board.post("/queues/change", queue="default", action="pause"),
        ]
        right = await board.get("/", authorization=basic("ada:sesame:1"))
        assert await board.jobs.queues() == []
    assert [answer.status for answer in answers] == [401] * 7
    assert answers[0].headers["www-authenticate"] == 'Basic realm="jobrt", charset="UTF-8"'
    assert right.status == 200


async def test_the_dashboard_can_be_mounted(database_url: str) -> None:
    """Each link, form and redirect stays below the mount path. The program keeps its other pages."""
    app = shop(database_url)
    async with app.open_client() as jobs:
        pages = Starlette(routes=[Mount("/ops/jobs & more", jobrt.dashboard.asgi(app, jobs))])
        async with serve_pages(pages) as port:
            board = Board(app, jobs, port, root="/ops/jobs%20%26%20more")
            handle = await jobs.enqueue(value(app, "hello"), schedule_in=60)
            texts = [
                (await board.get(path)).text
                for path in ("/", "/jobs?queue=default", f"/jobs/{handle.id}", "/cron")
            ]
            style = await board.get("/static/dashboard.css")
            done = await board.post("/jobs/change", id=handle.id, action="cancel", page="job")
            outside = await Board(app, jobs, port).get("/jobs")
    links = {link for text in texts for link in _links(text)}
    assert links
    assert [link for link in links if not link.startswith(("/ops/jobs%20%26%20more/", "#"))] == []
    assert (style.status, outside.status) == (200, 404)
    assert (done.status, done.headers["location"]) == (303, f"/ops/jobs%20%26%20more/jobs/{handle.id}")
    assert 'aria-current="page">Cron' in texts[3]


def _links(text: str) -> list[str]:
    return re.findall(r'(?:href|src|action)="([^"]*)"', text)
