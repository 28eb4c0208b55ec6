"""What a real browser makes of the pages: they stay fresh by themselves, and nothing else gets at them.

`test_browser.py` runs these, in a process of their own.
"""

from __future__ import annotations

import json
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import attrs
import pytest

from tests.cli.conftest import jobrt_command, shop, start
from tests.dashboard.test_command import address_of
from tests.support.chromium import open_browser

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from playwright.sync_api import Browser, Page

    from tests.cli.conftest import Result

    Command = Callable[..., Result]
    Start = Callable[..., subprocess.Popen[str]]

__all__ = ["jobrt_command", "shop", "start"]  # fixtures


@attrs.frozen
class Looking:
    """A page of a browser at a dashboard, and the errors that its console shows."""

    page: Page
    url: str
    errors: list[str]
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser, for all tests here: each has a profile of its own in it."""
    with open_browser() as found:
        yield found


@pytest.fixture
def looking(browser: Browser, start: Start) -> Iterator[Looking]:
    """A browser that looks at the shop's dashboard."""
    process = start("dashboard", "--port", "0")
    url, errors = address_of(process), list[str]()
    with browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda one: errors.append(one.text) if one.type in {"error", "warning"} else None)
        page.on("pageerror", lambda one: errors.append(str(one)))
        yield Looking(page, url, errors, process)


def test_a_page_shows_a_job_end_without_being_loaded_again(looking: Looking, jobrt_command: Command) -> None:
    """What somebody has typed meanwhile stays, and so does what is unfolded."""
    assert jobrt_command("enqueue", "hello", "name=ada").status == 0
    page = looking.page
    page.goto(f"{looking.url}/jobs/1")
    page.evaluate("window.notLoadedAgain = true")
    assert page.locator("h1 .state").inner_text() == "available"
    assert jobrt_command("worker", "--drain", "--quiet").status == 0
    page.locator("h1 .state.completed").wait_for()
    assert "hello ada" in page.locator("main").inner_text()
    assert page.evaluate("window.notLoadedAgain") is True
    assert looking.errors == []


def test_what_is_ticked_stays_ticked_when_jobs_come_in(looking: Looking, jobrt_command: Command) -> None:
    """And what is done to ticked jobs is done to those."""
    for name in ("ada", "bob"):
        assert jobrt_command("enqueue", "hello", f"name={name}", "--in", "1h").status == 0
    page = looking.page
    page.goto(f"{looking.url}/jobs")
    page.get_by_label("Job 1", exact=True).check()
    assert jobrt_command("enqueue", "hello", "name=eve").status == 0
    page.get_by_label("Job 3", exact=True).wait_for()
    assert page.get_by_label("Job 1", exact=True).is_checked()
    assert page.get_by_text("With 1 ticked:").is_visible()
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete 1 job").click()
    page.get_by_text("1 job deleted").wait_for()
    assert sorted(page.locator("input[name=id]").evaluate_all("all => all.map(one => one.value)")) == [
        "2",
        "3",
    ]
    assert looking.errors == []


def test_what_somebody_types_marks_or_presses_is_not_replaced(
    looking: Looking, jobrt_command: Command
) -> None:
    """The rest of the page goes on; so does this part, when they are done."""
    assert jobrt_command("enqueue", "hello", "name=ada", "--in", "1h").status == 0
    page = looking.page
    page.goto(f"{looking.url}/jobs/1")
    page.get_by_placeholder("reason").fill("wrong")
    assert jobrt_command("cancel", "1").status == 0
    for _ in range(2):
        page.wait_for_event("response", lambda answer: answer.url.endswith("/jobs/1"))
    assert page.get_by_placeholder("reason").input_value() == "wrong"
    page.locator("body").click()
    page.locator("h1 .state.cancelled").wait_for()
    page.get_by_role("button", name="Run again").hover()
    page.mouse.down()
    assert jobrt_command("rerun", "1").status == 0
    page.wait_for_event("response", lambda answer: answer.url.endswith("/jobs/1"))
    assert page.get_by_role("button", name="Run again").is_visible()
    page.mouse.move(0, 0)
    page.mouse.up()
    page.locator("h1 .state.available").wait_for()
    assert looking.errors == []


def test_a_button_pauses_a_queue(looking: Looking, jobrt_command: Command) -> None:
    """And the page says so."""
    assert jobrt_command("enqueue", "fail").status == 0
    looking.page.goto(looking.url)
    looking.page.get_by_role("button", name="Pause mail").click()
    looking.page.get_by_role("button", name="Resume mail").wait_for()
    assert json.loads(jobrt_command("queues", "--json").out)[0]["paused"] is True
    assert looking.errors == []


def test_all_pages_obey_their_own_policy(looking: Looking, jobrt_command: Command) -> None:
    """Nothing in them is blocked, nothing fails, with and without jobs, and without JavaScript they show the same."""
    assert jobrt_command("enqueue", "hello", "name=<script>alert(1)</script>").status == 0
    for path in ("/", "/jobs", "/jobs/1", "/workers", "/cron", "/jobs/confirm?action=delete&id=1"):
        looking.page.goto(looking.url + path)
        assert looking.page.locator("h1, h2").count() > 0
    assert looking.errors == []
    looking.page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.x = 1'}))"
    )
    assert looking.page.evaluate("window.x") is None
    assert "Content Security Policy" in looking.errors[0]


def test_another_site_cannot_press_a_button(looking: Looking, jobrt_command: Command) -> None:
    """Its form is sent by the operator's browser, and refused."""
    assert jobrt_command("enqueue", "hello", "name=ada", "--in", "1h").status == 0
    form = f"""<form method=post action="{looking.url}/jobs/change"><input name=id value=1>
        <button name=action value=delete>Win a prize</button></form>"""
    with other_site(form) as url:
        looking.page.goto(url)
        with looking.page.expect_response("**/jobs/change") as answer:
            looking.page.get_by_role("button").click()
        assert answer.value.status == 403
    assert "nothing was done" in looking.page.content()
    assert jobrt_command("show", "1").status == 0


def test_a_page_says_that_the_server_is_away_and_goes_on_when_it_is_back(
    looking: Looking, start: Start, jobrt_command: Command
) -> None:
    """What it showed stays, and is said to be old."""
    page = looking.page
    page.goto(f"{looking.url}/jobs")
    looking.process.terminate()
    page.get_by_text("The server does not answer.").wait_for()
    assert page.get_by_text("No job matches.").is_visible()
    assert jobrt_command("enqueue", "hello", "name=ada").status == 0
    address_of(start("dashboard", "--port", looking.url.rpartition(":")[2]))
    page.get_by_label("Job 1", exact=True).wait_for()
    assert page.locator("#connection").is_hidden()


@contextmanager
def other_site(text: str) -> Generator[str]:
    """Serve one page from another origin, for the time of the block; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield f"http://localhost:{server.server_port}/"
        finally:
            server.shutdown()
            serving.join()
