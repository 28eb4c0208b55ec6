"""Tests of the pages in a real browser: they refresh themselves, and other sites cannot use them.

`test_browser.py` runs these tests in a separate process.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

import jobrt
import jobrt.blocking
from tests.cli.conftest import jobrt_command, shop, start
from tests.dashboard.test_command import address_of
from tests.support.chromium import open_browser

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from tests.cli.conftest import Result

    Command = Callable[..., Result]
    Start = Callable[..., subprocess.Popen[str]]

__all__ = ["jobrt_command", "shop", "start"]  # fixtures


@attrs.frozen
class Viewer:
    """A browser page that shows a dashboard, and the errors in its console."""

    page: Page
    url: str
    errors: list[str]
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for all tests of this module. Each test has its own profile."""
    with open_browser() as found:
        yield found


@pytest.fixture
def viewer(browser: Browser, start: Start) -> Iterator[Viewer]:
    """A browser that shows the shop's dashboard."""
    process = start("dashboard", "--port", "0")
    url, errors = address_of(process), list[str]()
    with browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on(
            "console", lambda line: errors.append(line.text) if line.type in {"error", "warning"} else None
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield Viewer(page, url, errors, process)


def test_a_page_refreshes_without_a_reload(viewer: Viewer, jobrt_command: Command) -> None:
    """The page shows the job's new state without a reload."""
    assert jobrt_command("enqueue", "hello", "name=ada").status == 0
    page = viewer.page
    page.goto(f"{viewer.url}/jobs/1")
    page.evaluate("window.notLoadedAgain = true")
    assert page.locator("h1 .state").inner_text() == "available"
    assert jobrt_command("worker", "--drain", "--quiet").status == 0
    page.locator("h1 .state.completed").wait_for()
    assert "hello ada" in page.locator("main").inner_text()
    assert page.evaluate("window.notLoadedAgain") is True
    assert viewer.errors == []


def test_selected_jobs_stay_selected_when_new_jobs_arrive(viewer: Viewer, jobrt_command: Command) -> None:
    """The selection survives a refresh, and an action applies to the selected jobs."""
    for name in ("ada", "bob"):
        assert jobrt_command("enqueue", "hello", f"name={name}", "--in", "1h").status == 0
    page = viewer.page
    page.goto(f"{viewer.url}/jobs")
    page.get_by_label("Job 1", exact=True).check()
    assert jobrt_command("enqueue", "hello", "name=eve").status == 0
    page.get_by_label("Job 3", exact=True).wait_for()
    assert page.get_by_label("Job 1", exact=True).is_checked()
    assert page.get_by_text("Selected jobs (1):").is_visible()
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete 1 job").click()
    page.get_by_text("1 job deleted").wait_for()
    assert sorted(page.locator("input[name=id]").evaluate_all("boxes => boxes.map(box => box.value)")) == [
        "2",
        "3",
    ]
    assert viewer.errors == []


def test_parts_in_use_are_not_replaced(viewer: Viewer, jobrt_command: Command) -> None:
    """A part that is in use is not refreshed until the user is done. Other parts are."""
    assert jobrt_command("enqueue", "hello", "name=ada", "--in", "1h").status == 0
    page = viewer.page
    page.goto(f"{viewer.url}/jobs/1")
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
    assert viewer.errors == []


def test_a_button_pauses_a_queue(viewer: Viewer, jobrt_command: Command) -> None:
    """The page shows the new state of the queue."""
    assert jobrt_command("enqueue", "fail").status == 0
    viewer.page.goto(viewer.url)
    viewer.page.get_by_role("button", name="Pause mail").click()
    viewer.page.get_by_role("button", name="Resume mail").wait_for()
    assert json.loads(jobrt_command("queues", "--json").out)[0]["paused"] is True
    assert viewer.errors == []


def test_all_pages_obey_their_security_policy(viewer: Viewer, jobrt_command: Command) -> None:
    """The content security policy blocks nothing on our pages, and blocks scripts that are added to them."""
    assert jobrt_command("enqueue", "hello", "name=<script>alert(1)</script>").status == 0
    for path in ("/", "/jobs", "/jobs/1", "/charts", "/workers", "/cron", "/jobs/confirm?action=delete&id=1"):
        viewer.page.goto(viewer.url + path)
        assert viewer.page.locator("h1, h2").count() > 0
    assert viewer.errors == []
    viewer.page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.x = 1'}))"
    )
    assert viewer.page.evaluate("window.x") is None
    assert "Content Security Policy" in viewer.errors[0]


def test_the_pages_are_accessible(viewer: Viewer, jobrt_command: Command) -> None:
    """axe-core finds nothing serious, in light and dark, wide and on a phone. No page is wider than its window."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    assert jobrt_command("enqueue", "fail").status == 0
    assert jobrt_command("worker", "--drain", "--quiet").status == 0
    assert jobrt_command("enqueue", "hello", "name=ada", "--in", "1h").status == 0
    assert jobrt_command("enqueue", "hello", "name=bob").status == 0
    assert jobrt_command("queues", "pause", "mail", "--reason", "the relay is moved").status == 0
    assert jobrt_command("cron", "pause", "nightly", "--reason", "holidays").status == 0
    viewer.page.goto(f"{viewer.url}/jobs/3")
    viewer.page.get_by_role("button", name="Cancel").click()
    viewer.page.get_by_text("cancelled job 3").first.wait_for()
    paths = (
        "/",
        "/jobs?text=ada",
        "/jobs/1",
        "/jobs/2",
        "/jobs/3",
        "/charts?by=job",
        "/workers",
        "/cron",
        "/actions",
    )
    looks = [
        ("light", 1280, {}),
        ("dark", 390, {"runOnly": ["color-contrast", "scrollable-region-focusable"]}),
    ]
    serious: list[str] = []
    for path in (*paths, "/jobs/confirm?action=delete&id=2"):
        viewer.page.goto(viewer.url + path)
        for scheme, width, options in looks:
            viewer.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            viewer.page.set_viewport_size({"width": width, "height": 800})
            found = (
                axe.Axe()
                .run(viewer.page, options={"resultTypes": ["violations"], **options})
                .response["violations"]
            )
            serious += [
                f"{path} {scheme}: {each['id']}: {each['nodes'][0]['html']}"
                for each in found
                if each["impact"] in {"serious", "critical"}
            ]
            assert viewer.page.evaluate("document.documentElement.scrollWidth") <= width, path
    assert serious == []


def test_a_keyboard_is_enough(viewer: Viewer, jobrt_command: Command) -> None:
    """The first stop skips to the content. A job is edited with keys alone, and focus survives a refresh."""
    assert jobrt_command("enqueue", "hello", "name=ada", "--in", "1h").status == 0
    page = viewer.page
    page.goto(f"{viewer.url}/jobs/1")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    page.locator("summary", has_text="Change priority").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("7")
    page.keyboard.press("Enter")
    page.get_by_text("changed job 1: priority 7").first.wait_for()
    page.locator("#cancel").focus()
    assert jobrt_command("update", "1", "--priority", "8").status == 0
    page.get_by_text("8", exact=True).wait_for()
    assert page.evaluate("document.activeElement.id") == "cancel"
    assert viewer.errors == []


def test_a_progress_bar_moves(viewer: Viewer, jobrt_command: Command, shop: Path) -> None:
    """It goes from the old value to the new one in small steps."""
    assert jobrt_command("enqueue", "hello", "name=ada", "--in", "1h").status == 0
    with closing(sqlite3.connect(shop / "shop.db")) as database, database:
        database.execute(
            "INSERT INTO jobrt_detail (job_id, progress) VALUES (1, ?)", ['{"done": 1, "total": 9}']
        )
    page = viewer.page
    page.goto(f"{viewer.url}/jobs/1")
    assert page.locator("progress").evaluate("bar => bar.value") == 1
    page.evaluate("""() => {
        window.seen = new Set();
        const look = () => {
            seen.add(document.querySelector("progress").value);
            requestAnimationFrame(look);
        };
        look();
    }""")
    with closing(sqlite3.connect(shop / "shop.db")) as database, database:
        database.execute("UPDATE jobrt_detail SET progress = ?", ['{"done": 8, "total": 9}'])
    page.locator("progress[value='8']").wait_for()
    assert page.evaluate("[...seen].filter((value) => value > 1 && value < 8).length") > 1
    assert viewer.errors == []


def talking(shop: Path, go_on: threading.Semaphore) -> jobrt.App:
    """Return an app with a job that says something each time when it may go on."""
    app = jobrt.App(f"sqlite:///{shop}/shop.db", migrate=True)

    @app.job(max_attempts=1)
    async def talk(ctx: jobrt.Context) -> None:
        ctx.log.info("attempt %d begins", ctx.job.attempt)
        for number in (1, 2):
            await trio.to_thread.run_sync(go_on.acquire)
            await ctx.emit({"<b>": number})
            ctx.progress(number, 2, f"part {number}")
        await trio.to_thread.run_sync(go_on.acquire)
        ctx.log.warning("done")

    return app


def watch(page: Page, app: jobrt.App, go_on: threading.Semaphore) -> None:
    """Run the job to its end, and see what it says while it runs."""
    running = threading.Thread(target=trio.run, args=[app.drain])
    running.start()
    try:
        page.locator("#log li").filter(has_text="attempt 1 begins").wait_for()
        go_on.release()
        page.locator("#log li").filter(has_text='{"<b>":1}').wait_for()
        page.locator("#progress .note", has_text="part 1").wait_for()
        go_on.release()
        page.locator("#progress .note", has_text="part 2").wait_for()
    finally:
        go_on.release(9)
        running.join()


def test_the_log_of_a_job_moves(viewer: Viewer, shop: Path) -> None:
    """Lines, values and progress appear as the job gives them, and its end; a job that runs again goes on."""
    go_on = threading.Semaphore(0)
    app = talking(shop, go_on)

    async def run_again() -> None:
        async with app.open_client() as jobs:
            await jobs.rerun(1)
        await app.drain()

    with jobrt.blocking.Client(app.url) as jobs:
        jobs.enqueue(app.registry.get("talk").decode({}))
    page, lines = viewer.page, viewer.page.locator("#log li")
    page.goto(f"{viewer.url}/jobs/1")
    page.evaluate("window.notLoadedAgain = true")
    watch(page, app, go_on)
    lines.nth(3).filter(has_text="warning done").wait_for()
    page.locator("h1 .state.completed").wait_for()
    trio.run(run_again)
    lines.nth(7).filter(has_text="done").wait_for()
    assert page.evaluate("window.notLoadedAgain") is True
    shown = lines.all_inner_texts()
    page.reload()
    assert lines.all_inner_texts() == shown
    assert viewer.errors == []


def test_another_site_cannot_submit_a_form(viewer: Viewer, jobrt_command: Command) -> None:
    """A form on another site, sent by the operator's browser, is refused."""
    assert jobrt_command("enqueue", "hello", "name=ada", "--in", "1h").status == 0
    form = f"""<form method=post action="{viewer.url}/jobs/change"><input name=id value=1>
        <button name=action value=delete>Win a prize</button></form>"""
    with other_site(form) as url:
        viewer.page.goto(url)
        with viewer.page.expect_response("**/jobs/change") as answer:
            viewer.page.get_by_role("button").click()
        assert answer.value.status == 403
    assert "nothing was changed" in viewer.page.content()
    assert jobrt_command("show", "1").status == 0


def test_a_page_reports_an_unavailable_server_and_recovers(
    viewer: Viewer, start: Start, jobrt_command: Command
) -> None:
    """The page keeps its content, says that it is old, and refreshes when the server is back."""
    page = viewer.page
    page.goto(f"{viewer.url}/jobs")
    viewer.process.terminate()
    page.get_by_text("The server does not respond.").wait_for()
    assert page.get_by_text("No job matches.").is_visible()
    assert jobrt_command("enqueue", "hello", "name=ada").status == 0
    address_of(start("dashboard", "--port", viewer.url.rpartition(":")[2]))
    page.get_by_label("Job 1", exact=True).wait_for()
    assert page.locator("#connection").is_hidden()


@contextmanager
def other_site(text: str) -> Generator[str]:
    """Serve one page from another origin during the block, and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield f"http://localhost:{server.server_port}/"
        finally:
            server.shutdown()
            serving.join()
