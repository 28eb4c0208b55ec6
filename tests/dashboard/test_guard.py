"""Tests of access control: hosts, origins and passwords."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.routing import Mount

import jobrt
import jobrt.dashboard
from jobrt.dashboard.guard import has_password, is_known_host, is_same_origin
from jobrt.dashboard.logins import FailedLogins
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


@pytest.mark.parametrize(
    ("origin", "scheme", "forwarded", "same"),
    [
        ("https://jobs", "https", "", True),
        ("http://jobs", "https", "", False),
        ("http://jobs", "http", "https", False),
        ("https://jobs", "http", "https", True),
        ("https://jobs", "http", "", True),  # a proxy that adds TLS and does not say so
        ("ftp://jobs", "http", "", False),
    ],
)
def test_a_page_without_tls_is_another_site(origin: str, scheme: str, forwarded: str, same: bool) -> None:
    """Where the dashboard is served with TLS, a page of the same host that came without is not trusted."""
    headers = {"host": "jobs", "origin": origin, "x-forwarded-proto": forwarded}
    assert is_same_origin(headers, scheme) is same


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


def basic(text: str) -> str:
    """Return an Authorization header."""
    return "Basic " + base64.b64encode(text.encode()).decode()


async def test_failed_logins_are_slowed_down_and_logged(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """After three failures in a row the next login is not looked at for a while, not even a right one."""
    async with serve(shop(sqlite_url), password="sesame") as board:
        failed = [await board.get("/", authorization=basic(f"ada:no{number}")) for number in range(4)]
        asked = await board.get("/")
        blocked = await board.get("/", authorization=basic("ada:sesame"))
    assert [answer.status for answer in failed] == [401] * 4
    assert (asked.status, blocked.status) == (401, 429)
    assert 1 <= int(blocked.headers["retry-after"]) <= 30
    lines = [record.getMessage() for record in caplog.records if record.name == "jobrt.dashboard"]
    assert lines[-1].startswith("failed login from 127.0.0.1 (4 in a row; the next is refused for 1 s)")
    assert not any("no3" in line for line in lines)


def test_the_wait_of_an_address() -> None:
    """It doubles up to half a minute, ends with a success, and concerns one address or IPv6 network only."""
    now = [0.0]
    logins = FailedLogins(clock=lambda: now[0])
    waits = []
    for _ in range(10):
        logins.note_failure("192.0.2.1")
        waits.append(logins.seconds_to_wait("192.0.2.1"))
    assert waits == [0, 0, 0, 1, 2, 4, 8, 16, 30, 30]
    assert logins.seconds_to_wait("192.0.2.2") == 0
    now[0] += 30
    assert logins.seconds_to_wait("192.0.2.1") == 0
    logins.note_success("192.0.2.1")
    logins.note_failure("192.0.2.1")
    assert logins.seconds_to_wait("192.0.2.1") == 0
    for number in range(4):
        logins.note_failure(f"2001:db8::{number}")
    assert logins.seconds_to_wait("2001:db8::ffff") == 1
    for number in range(1100):
        logins.note_failure(f"10.0.{number // 256}.{number % 256}")
    assert logins.seconds_to_wait("2001:db8::1") == 0  # forgotten: the number of addresses is bounded


async def test_a_password(sqlite_url: str) -> None:
    """Without the password, every request gets status 401. Any user name is accepted."""
    async with serve(shop(sqlite_url), password="sesame:1") as board:
        answers = [
            await board.get("/"),
            await board.get("/static/dashboard.js"),
            await board.get("/", authorization=basic("ada:wrong")),
            await board.post("/queues/change", queue="default", action="pause"),
        ]
        right = await board.get("/", authorization=basic("ada:sesame:1"))
        assert await board.jobs.queues() == []
    assert [answer.status for answer in answers] == [401] * 4
    assert answers[0].headers["www-authenticate"] == 'Basic realm="jobrt", charset="UTF-8"'
    assert right.status == 200


@given(
    st.binary(max_size=20)
    | st.sampled_from([b"Basic", b"Bearer c2VzYW1lOjE=", b"Basic \xff\xfe", b"Basic !!!"])
)
def test_odd_credentials_are_wrong_ones(value: bytes) -> None:
    """No header but one with the password lets anybody in, and none raises."""
    headers = [(b"authorization", value), (b"authorization", b"Basic " + value)]
    for header in headers:
        assert not has_password(Headers(raw=[header]), "sesame:1")


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
