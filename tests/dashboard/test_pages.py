"""Tests of the pages on both engines, through a server and a socket."""

from __future__ import annotations

import html
import re
from datetime import timedelta

import pytest
import trio

import jobrt
from jobrt._core.worker_info import WorkerInfo
from tests.conformance.build import ask as demand
from tests.dashboard.serving import Board, serve, shop, value
from tests.support.worker_info import worker_info

EVIL = "<script>alert('x')</script>\"&"


def rows(text: str) -> list[str]:
    """Return the ids of the listed jobs, in order."""
    return re.findall(r'name="id" value="(\d+)"', text)


async def running(board: Board, nursery: trio.Nursery) -> jobrt.Worker:
    """Start a worker and wait until the job `wait` runs and its progress is stored."""
    worker: jobrt.Worker = await nursery.start(board.app.run_worker)
    handle = await board.jobs.enqueue(value(board.app, "wait"))
    while (await board.jobs.get(handle.id)).progress is None:
        await trio.sleep(0.01)
    return worker


async def test_the_overview_of_an_empty_database(database_url: str) -> None:
    """Without workers and jobs, the overview says what is missing."""
    async with serve(shop(database_url)) as board:
        page = await board.get("/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "no worker is alive: start a worker with `python -m jobrt --app MODULE:ATTR worker`" in page.text
    assert "No queue has jobs" in page.text
    assert "No job is running." in page.text


async def test_the_overview_of_jobs(database_url: str) -> None:
    """The overview shows totals by state, queues, running jobs with their progress, and findings."""
    app = shop(database_url)
    async with serve(app) as board, trio.open_nursery() as nursery:
        await board.jobs.enqueue_many([value(app, "hello") for _ in range(3)])
        await board.jobs.enqueue(value(app, "fail"))
        await app.drain()
        await board.jobs.pause("mail")
        await board.jobs.enqueue(value(app, "fail"))
        await board.jobs.enqueue(value(app, "hello"), schedule_in=3600)
        worker = await running(board, nursery)
        text = (await board.get("/")).text
        await worker.stop(grace=0)
    totals = {state: number for number, state in re.findall(r"<b>([\d,+]+)</b> <span>(\w+)</span>", text)}
    assert totals == {
        "scheduled": "1",
        "available": "1",
        "claimed": "0",
        "executing": "1",
        "retryable": "0",
        "suspended": "0",
        "closing": "0",
        "completed": "3",
        "cancelled": "0",
        "discarded": "1",
    }
    assert "queue mail is paused with 1 due job:" in html.unescape(text)
    assert "Resume<span" in text
    assert '<progress max="4' in text
    assert "nearly" in text
    assert "1 of 4" in text


async def test_counts_stop_at_ten_thousand(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A larger count is shown as the limit and a plus sign."""
    for module in ("jobrt._views.findings", "jobrt.dashboard.pages", "jobrt.dashboard.render"):
        monkeypatch.setattr(f"{module}.COUNT_LIMIT", 3)
    app = shop(database_url)
    async with serve(app) as board:
        await board.jobs.enqueue_many([value(app, "hello") for _ in range(5)])
        await board.jobs.enqueue_many([value(app, "fail") for _ in range(4)])
        await board.jobs.cancel(jobrt.where.name("fail"))
        text = (await board.get("/")).text
    assert "<b>3+</b> <span>available" in text
    assert "<b>3+</b> <span>cancelled" in text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "654321"),
        ("order=oldest", "123456"),
        ("state=scheduled", "5"),
        ("state=scheduled&state=cancelled", "65"),
        ("queue=mail", "4"),
        ("queue=mail&queue=other", "42"),
        ("name=fail", "4"),
        ("tag=a", "32"),
        ("tag=a&tag=b", "3"),
        ("worker=nobody", ""),
        ("args=name%3Dada", "1"),
        ("args=name%3D%22ada%22&state=available", "1"),
        ("meta=n%3D7", "3"),
        ("since=1h", "654321"),
        ("before=2990-01-01T00:00", "654321"),
        ("before=1h", ""),
        ("since=2020-01-01T00:00:00%2B02:00&queue=other", "2"),
    ],
)
async def test_the_url_selects_jobs(database_url: str, query: str, found: str) -> None:
    """The URL takes the options of `jobs` by the same names. All of them must match."""
    app = shop(database_url)
    async with serve(app) as board:
        await _enqueue_six(board)
        page = await board.get(f"/jobs?{query}" if query else "/jobs")
    assert (page.status, "".join(rows(page.text))) == (200, found)


async def _enqueue_six(board: Board) -> None:
    app, jobs = board.app, board.jobs
    await jobs.enqueue(value(app, "hello", name="ada"))
    await jobs.enqueue(value(app, "hello"), queue="other", tags=("a",))
    await jobs.enqueue(value(app, "hello"), tags=("a", "b"), metadata={"n": 7})
    await jobs.enqueue(value(app, "fail"))
    await jobs.enqueue(value(app, "hello"), schedule_in=timedelta(hours=1))
    await jobs.cancel((await jobs.enqueue(value(app, "hello"))).id)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("stat=done", "unknown filter 'stat': use state, queue"),
        ("state=done", "scheduled, available"),
        ("args=name", "args 'name' is malformed: write FIELD=VALUE"),
        ("id=7", "unknown filter 'id'"),
        ("since=yesterday", "'yesterday' is not a duration"),
        ("since=1h&since=2h", "since is given twice"),
        ("after=x", "after is 'x': use a whole number above zero"),
        ("after=" + "9" * 30, "use a whole number above zero"),
        ("order=best", "order is 'best': use newest or oldest"),
    ],
)
async def test_an_invalid_filter_is_refused(database_url: str, query: str, message: str) -> None:
    """The status is 400. Ignoring the filter would show, or delete, too much."""
    async with serve(shop(database_url)) as board:
        page = await board.get(f"/jobs?{query}")
    assert page.status == 400
    assert message in html.unescape(page.text)


@pytest.mark.parametrize(
    "query",
    [
        "name=%00",
        "name=%ff%fe",
        "tag=%F0%9F%98%80",
        "args=n%3D1e999",
        "args=n%3DNaN",
        "args=a.b.c%3D%00",
        "args=%3D",
        "args=..%3D1",
        "meta=a%3D" + "[" * 20_000,
        "since=999999999d",
        "since=-999999999d",
        "since=1e300",
        "since=nan",
        "since=0001-01-01",
        "before=9999-12-31T23:59:59-14:00",
        "after=9223372036854775807",
        "order=oldest&after=1",
        "done=delete&count=" + "9" * 5000,
        "done=delete&count=%C2%B2",
    ],
)
async def test_any_url_gets_a_response(database_url: str, query: str) -> None:
    """Any query gets a page or an error with status 400, never a status 500."""
    async with serve(shop(database_url)) as board:
        page = await board.get(f"/jobs?{query}")
        preview = await board.get(f"/jobs/confirm?action=delete&state=available&{query}")
    assert {page.status, preview.status} <= {200, 400}, page.text


async def test_a_bug_gets_status_500(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in a page does not affect the next request."""

    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("jobrt.dashboard.pages.worker_condition", fail)
    app = shop(sqlite_url)
    async with serve(app) as board, app.open_storage() as storage:
        await storage.workers.register("w1", lease=60, info=WorkerInfo())
        broken, next_one = await board.get("/workers"), await board.get("/cron")
    assert (broken.status, next_one.status) == (500, 200)
    assert "secret" not in broken.text


async def test_empty_form_fields_are_removed_from_the_url(sqlite_url: str) -> None:
    """The redirect keeps the other fields."""
    async with serve(shop(sqlite_url)) as board:
        page = await board.get("/jobs?state=available&queue=&name=a+b&since=")
        bare = await board.get("/jobs?queue=")
    assert (page.status, page.headers["location"]) == (303, "/jobs?state=available&name=a+b")
    assert (bare.status, bare.headers["location"]) == (303, "/jobs")


async def test_jobs_come_in_pages(database_url: str) -> None:
    """A page has fifty jobs. The next page continues after its last job, also if new jobs were enqueued."""
    app = shop(database_url)
    async with serve(app) as board:
        await board.jobs.enqueue_many([value(app, "hello") for _ in range(120)])
        target: str | None = "/jobs?name=hello"
        seen: list[str] = []
        while target is not None:
            page = (await board.get(target)).text
            seen += rows(page)
            await board.jobs.enqueue(value(app, "hello"))
            following = re.search(r'rel="next" href="([^"]+)"', page)
            target = html.unescape(following[1]) if following else None
    assert seen == [str(number) for number in range(120, 0, -1)]


async def test_a_job_with_all_its_attempts(database_url: str) -> None:
    """The page shows options, payload, result, and each attempt with its error and traceback."""
    app = shop(database_url)
    async with serve(app) as board:
        handle = await board.jobs.enqueue(
            value(app, "fail"), tags=("red",), metadata={"n": 1}, context="somebody asked", priority=4
        )
        await app.drain()
        failed = html.unescape((await board.get(f"/jobs/{handle.id}")).text)
        done = await board.jobs.enqueue(value(app, "hello", name="ada"))
        await app.drain()
        completed = html.unescape((await board.get(f"/jobs/{done.id}")).text)
    for text in (
        "discarded",
        "somebody asked",
        ">red<",
        '"n": 1',
        "<dd>4</dd>",
        "LookupError",
        "Traceback (most",
    ):
        assert text in failed
    assert "raise LookupError(text)" in failed
    assert "hello ada" in completed
    assert ">finished<" in completed


async def test_a_running_job_that_is_being_cancelled(database_url: str) -> None:
    """The page shows the phase that the worker reports, and the reason."""
    app = shop(database_url)
    async with serve(app) as board:
        handle = await board.jobs.enqueue(value(app, "wait"))
        async with app.open_storage() as storage:
            await storage.workers.register("w1", lease=600, info=_cancelling({}))
            await storage.attempts.exchange([], demand("wait", worker="w1", limit=1))
            await board.jobs.cancel(handle.id, "wrong customer")
            page = html.unescape((await board.get(f"/jobs/{handle.id}")).text)
            await storage.workers.beat("w1", lease=600, info=_cancelling({str(handle.id): "cleaning"}))
            later = html.unescape((await board.get(f"/jobs/{handle.id}")).text)
            overview = html.unescape((await board.get("/")).text)
    assert "requested; the worker has not confirmed it yet" in page
    assert "wrong customer" in page
    assert "Cancelling: cleaning up" in later
    assert "cancelling: cleaning up" in overview


def _cancelling(phases: dict[str, str]) -> WorkerInfo:
    """Return the heartbeat information of a worker that is cancelling jobs."""
    return worker_info(queues={"default": {"cancelling": phases, "concurrency": 4}})


async def test_workers_with_their_trees(database_url: str) -> None:
    """Each child is below its parent, with the restarts, errors and notices of the last heartbeat."""
    app = shop(database_url)
    async with serve(app) as board, trio.open_nursery() as nursery:
        worker: jobrt.Worker = await nursery.start(app.run_worker)
        text = (await board.get("/workers")).text
        info = worker.info().to_dict()
        info["tree"]["children"][0] |= {"last_error": f"OSError: {EVIL}", "restarts": 2, "recent_restarts": 1}
        info["notices"] = [
            {"what": "slow", "job": 7, "name": EVIL, "seconds": 99, "at": "shop.py:1", "ago": 3}
        ]
        await worker.stop()  # or it would rescue the jobs of the dead worker and remove its row
        async with app.open_storage() as storage:
            await storage.workers.register("other.1", lease=-1, info=worker_info(**info))
        dead = (await board.get("/workers")).text
    folded = re.findall(r'<details id="tree-[^"]*-queues-(\w+)"( open)?>', text)
    assert folded == [("default", ""), ("mail", "")]
    assert text.count('<span class="name">fetcher</span>') == 2
    assert "alive" in text
    assert "dead, its jobs await rescue" in dead
    assert "2 (1 recent)" in dead
    assert "has run for at least 99 s, far longer than usual" in dead
    assert EVIL not in dead


async def test_cron_entries_with_their_ticks(database_url: str) -> None:
    """The page shows the next ticks, and names declared entries that are not stored. It does not store them."""
    app = shop(database_url)
    app.cron("0 3 * * *", value(app, "hello"), name="nightly", timezone="Europe/Berlin")
    async with serve(app) as board:
        before = (await board.get("/cron")).text
        assert await board.jobs.crons() == []
        await app.declare_crons()
        page = (await board.get("/cron")).text
    assert "not stored yet" in before
    assert "nightly" in before
    assert "0 3 * * * Europe/Berlin" in page
    assert re.search(r"\d{4}-\d\d-\d\d 0[12]:00:00", page)
    assert "not stored yet" not in page


async def test_missing_things_get_status_404(database_url: str) -> None:
    """An unknown job, page or file gets status 404 with a message."""
    async with serve(shop(database_url)) as board:
        answers = [
            await board.get(path) for path in ("/jobs/77", "/nowhere", "/static/secret.txt", "/jobs/x")
        ]
    assert [answer.status for answer in answers] == [404] * 4
    assert "there is no job 77" in answers[0].text
    assert "there is no such page" in answers[1].text


async def test_values_from_the_database_are_escaped(database_url: str) -> None:
    """No value from the database or the URL becomes HTML."""
    app = jobrt.App(database_url, queues={EVIL: 1}, name="w<script>", migrate=True)

    @app.job(name=EVIL, queue=EVIL, max_attempts=1)
    async def bad(ctx: jobrt.Context, text: str) -> None:
        raise RuntimeError(text)

    @app.job(name=f"good{EVIL}", queue=EVIL)
    async def good(ctx: jobrt.Context, text: str) -> str:
        ctx.progress(1, 2, text)
        await ctx.checkpoint(text)
        return text

    app.cron("0 3 * * *", bad.new(EVIL), name=EVIL)
    async with serve(app) as board, trio.open_nursery() as nursery:
        options = {"tags": (EVIL,), "metadata": {EVIL: EVIL}, "context": EVIL}
        failed = await board.jobs.enqueue(bad.new(EVIL), **options)
        passed = await board.jobs.enqueue(good.new(EVIL), **options)
        worker: jobrt.Worker = await nursery.start(app.run_worker)
        await failed.wait()
        await passed.wait()
        cancelled = await board.jobs.enqueue(bad.new(EVIL), schedule_in=60)
        await board.jobs.cancel(cancelled.id, EVIL)
        targets = [
            "/",
            "/jobs",
            "/workers",
            "/cron",
            "/jobs?name=%3Cscript%3E",
            f"/jobs/confirm?action=delete&id={failed.id}",
        ]
        targets += [f"/jobs/{handle.id}" for handle in (failed, passed, cancelled)]
        targets += [
            "/jobs?%3Cscript%3E=1",
            "/jobs?state=%3Cscript%3E",
            "/jobs/confirm?action=%3Cscript%3E&id=1",
        ]
        texts = {target: (await board.get(target)).text for target in targets}
        await worker.stop()
    for target, text in texts.items():
        assert "<script>" not in text, target
        assert "&lt;script&gt;" in text, target


async def test_pages_have_no_external_or_inline_resources(sqlite_url: str) -> None:
    """Pages use only our three static files, and the content security policy forbids the rest."""
    async with serve(shop(sqlite_url)) as board:
        pages = [await board.get(path) for path in ("/", "/jobs", "/workers", "/cron", "/nowhere")]
        links = set(re.findall(r'(?:src|href)="([^"]*static[^"]*)"', pages[0].text))
        files = [await board.get(html.unescape(link)) for link in sorted(links)]
    for page in pages:
        assert not re.search(r"<style|style=|\son\w+=|<script>|https?://|javascript:", page.text)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-content-type-options"] == "nosniff"
    assert [(file.status, file.headers["content-type"].partition(";")[0]) for file in files] == [
        (200, "text/css"),
        (200, "text/javascript"),
        (200, "image/svg+xml"),
    ]
    assert all("immutable" in file.headers["cache-control"] for file in files)


async def test_the_script_gets_only_the_live_parts(sqlite_url: str) -> None:
    """The script requests the page's own URL. It gets an error as a line of text."""
    async with serve(shop(sqlite_url)) as board:
        parts = await board.get("/jobs", x_jobrt_live="1")
        problem = await board.get("/jobs?x=1", x_jobrt_live="1")
    assert "data-live" in parts.text
    assert "<html" not in parts.text
    assert "<form" not in parts.text
    assert (problem.status, problem.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert problem.text.startswith("unknown filter 'x'")


async def test_a_text_is_searched_in_steps(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says how far it has searched, and a link goes on. Filters apply."""
    monkeypatch.setattr("jobrt.dashboard.pages.SEARCHED", 2)
    app = shop(database_url)
    async with serve(app) as board:
        await board.jobs.enqueue_many(
            [value(app, "hello", name=name) for name in ("ada", "bob", "eve", "joe")]
        )
        first = (await board.get("/jobs?text=ADA&queue=default")).text
        link = html.unescape(re.findall(r'rel="next" href="([^"]+)"', first)[0])
        second = (await board.get(link)).text
        found = (await board.get("/jobs?text=joe")).text
        refused = await board.get("/jobs?text=ada&order=oldest")
        long = await board.get("/jobs?text=" + "x" * 201)
    assert "None of the 2 jobs looked at has this text. Others may." in first
    assert "Looked at 2 jobs, the last of which is job 3." in first
    assert "Look at older jobs" in first
    assert "All with this text among the newest 2:" in first
    assert "All with this text among the 2 jobs after job 3:" in second
    assert re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', second) == [
        ("queue", "default"),
        ("text", "ADA"),
        ("after", "3"),
    ]
    assert link == "/jobs?queue=default&text=ADA&after=3"
    assert rows(second) == ["1"]
    assert rows(found) == ["4"]
    assert (refused.status, long.status) == (400, 400)


async def test_the_actions_on_all_say_how_many(database_url: str) -> None:
    """All pages count, not only the one that is shown."""
    app = shop(database_url)
    async with serve(app) as board:
        await board.jobs.enqueue_many([value(app, "hello") for _ in range(60)] + [value(app, "fail")])
        many = (await board.get("/jobs?name=hello")).text
        last = (await board.get("/jobs?name=hello&after=11")).text
        one = (await board.get("/jobs?name=fail")).text
    assert "All 60 that match:" in many
    assert "All 60 that match:" in last
    assert "All 1 that match:" in one
