"""Tests of the actions on both engines, with forms as our own pages send them."""

from __future__ import annotations

import base64
import html
import json
import re

import pytest

import jobrt
from tests.dashboard.serving import Board, serve, shop, value


async def scheduled(board: Board, count: int = 1) -> list[int]:
    """Enqueue scheduled jobs and return their ids."""
    options = [value(board.app, "hello").with_options(schedule_in=3600) for _ in range(count)]
    return [handle.id for handle in await board.jobs.enqueue_many(options)]


async def test_a_job_is_cancelled_with_a_reason_and_run_again(database_url: str) -> None:
    """The action redirects to the job's page, so a reload does not repeat it."""
    async with serve(shop(database_url)) as board:
        (job,) = await scheduled(board)
        cancelled = await board.post("/jobs/change", id=job, action="cancel", reason="not now", page="job")
        assert (await board.jobs.get(job)).cancel_reason == "not now"
        assert await board.state(job) == "cancelled"
        again = await board.post("/jobs/change", id=job, action="rerun", page="job")
        assert await board.state(job) == "available"
        twice = await board.post("/jobs/change", id=job, action="rerun", page="job")
    assert [(answer.status, answer.headers.get("location")) for answer in (cancelled, again)] == [
        (303, f"/jobs/{job}")
    ] * 2
    assert twice.status == 409
    assert "only a job that has ended can be run again" in twice.text


async def test_deleting_is_confirmed_on_a_page(database_url: str) -> None:
    """The page shows the job and the button that deletes it."""
    async with serve(shop(database_url)) as board:
        (job,) = await scheduled(board)
        preview = await board.get(f"/jobs/confirm?action=delete&id={job}")
        assert await board.state(job) == "scheduled"
        deleted = await board.post("/jobs/change", id=job, action="delete")
        after = await board.get(deleted.headers["location"])
        with pytest.raises(jobrt.JobNotFound):
            await board.jobs.get(job)
    assert "Delete 1 job?" in preview.text
    assert f'<input type="hidden" name="id" value="{job}">' in preview.text
    assert deleted.headers["location"] == "/jobs?done=delete&count=1"
    assert "1 job deleted" in after.text


async def test_an_action_applies_to_selected_jobs(database_url: str) -> None:
    """The preview shows five jobs and the number of others. The action applies to the selected ids."""
    async with serve(shop(database_url)) as board:
        ids = await scheduled(board, 8)
        selected = "&".join(f"id={job_id}" for job_id in ids[:7])
        preview = await board.get(f"/jobs/confirm?action=cancel&{selected}")
        done = await board.post("/jobs/change", id=ids[:7], action="cancel")
        states = [await board.state(job_id) for job_id in ids]
    assert "Cancel 7 jobs?" in preview.text
    assert "and 2 more" in preview.text
    assert done.headers["location"] == "/jobs?done=cancel&count=7"
    assert states == ["cancelled"] * 7 + ["scheduled"]


async def test_an_action_applies_to_all_matching_jobs(database_url: str) -> None:
    """The preview counts the matching jobs. The action applies to the jobs that match when it runs."""
    app = shop(database_url)
    async with serve(app) as board:
        ids = await scheduled(board, 60)
        other = await board.jobs.enqueue(value(app, "fail"))
        preview = await board.get("/jobs/confirm?action=cancel&name=hello&state=scheduled")
        late = await scheduled(board)
        done = await board.post(
            "/jobs/change", name="hello", state="scheduled", action="cancel", reason="all"
        )
        assert await board.state(other.id) == "available"
        assert {await board.state(job_id) for job_id in [*ids, *late]} == {"cancelled"}
        rerun = await board.post("/jobs/change", state="cancelled", action="rerun")
        deleted = await board.post("/jobs/change", name="hello", action="delete")
        assert [job.name for job in await board.jobs.query()] == ["fail"]
    assert "Cancel 60 jobs?" in preview.text
    hidden = re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', preview.text)
    assert hidden == [("state", "scheduled"), ("name", "hello")]
    assert done.headers["location"] == "/jobs?state=scheduled&name=hello&done=cancel&count=61"
    assert rerun.headers["location"].endswith("count=61")
    assert deleted.headers["location"].endswith("count=61")


async def test_an_action_applies_to_all_jobs_that_a_search_finds(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The preview names how far it has searched. Exactly the jobs that it has found are changed."""
    monkeypatch.setattr("jobrt.dashboard.actions.SEARCHED", 3)
    app = shop(database_url)
    async with serve(app) as board:
        names = ("eve", "ada", "eve", "eve")
        await board.jobs.enqueue_many([value(app, "hello", name=name) for name in names])
        preview = html.unescape((await board.get("/jobs/confirm?action=cancel&text=EVE&queue=default")).text)
        older = html.unescape((await board.get("/jobs/confirm?action=cancel&text=eve&after=2")).text)
        nothing = await board.get("/jobs/confirm?action=cancel&text=nobody")
        await board.jobs.enqueue(value(app, "hello", name="eve"))
        fields = re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', preview)
        form = {key: [each for name, each in fields if name == key] for key, _ in fields}
        await board.jobs.cancel(4)
        done = await board.post("/jobs/change", action="cancel", reason="spam", **form)
        states = [await board.state(number) for number in (1, 2, 3, 4, 5)]
        empty = await board.post("/jobs/change", action="cancel", text="eve")
        both = await board.get("/jobs/confirm?action=cancel&text=eve&id=1")
        log = (await board.get("/actions")).text
    assert "Cancel 2 jobs?" in preview
    assert "3 jobs were searched. Jobs after job 2 may have this text, too; they will not change." in preview
    assert form == {"queue": ["default"], "text": ["EVE"], "id": ["4", "3"]}
    assert "Cancel 1 job?" in older
    assert "may have this text" not in older
    assert "No job matches." in nothing.text
    assert states == ["available", "available", "cancelled", "cancelled", "available"]
    assert done.headers["location"] == "/jobs?queue=default&text=EVE&done=cancel&count=1"
    assert (empty.status, both.status) == (400, 400)
    assert "cancelled 1 job with text=EVE, queue=default" in log


async def test_refused_jobs_are_named(database_url: str) -> None:
    """Other jobs are changed. Each refusal is a line with its reason."""
    async with serve(shop(database_url)) as board:
        first, second = await scheduled(board, 2)
        await board.jobs.cancel(first)
        partly = await board.post("/jobs/change", id=[first, second, 99], action="cancel")
        assert await board.state(second) == "cancelled"
        missing = await board.post("/jobs/change", id=99, action="delete")
    assert (partly.status, missing.status) == (409, 404)
    assert "1 job cancelled. These jobs were refused:" in partly.text
    assert "there is nothing to cancel" in partly.text
    assert "there is no job 99" in partly.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"action": "cancel"}, "no jobs are selected: select some, or set a filter"),
        ({"action": "explode", "id": 1}, "unknown action 'explode': use cancel, rerun, delete"),
        ({"id": 1}, "unknown action ''"),
        ({"action": "cancel", "id": 1, "state": "scheduled"}, "not both"),
        ({"action": "delete", "stat": "completed"}, "unknown filter 'stat'"),
        ({"action": "delete", "id": "1 or 1"}, "id is '1 or 1'"),
    ],
)
async def test_an_unclear_request_changes_nothing(
    database_url: str, fields: dict[str, str], message: str
) -> None:
    """An unclear request gets status 400 and changes nothing."""
    async with serve(shop(database_url)) as board:
        await scheduled(board)
        query = "&".join(f"{key}={text}".replace(" ", "+") for key, text in fields.items())
        preview = await board.get(f"/jobs/confirm?{query}")
        done = await board.post("/jobs/change", **fields)
        assert await board.jobs.count(jobrt.where.state("scheduled")) == 1
    assert (preview.status, done.status) == (400, 400)
    assert message in html.unescape(preview.text)
    assert message in html.unescape(done.text)


async def test_queues_are_paused_resumed_and_scaled(database_url: str) -> None:
    """Any queue name works. An empty number restores the application's concurrency."""
    name = "a b/ü&c"

    async def status(board: Board) -> tuple[bool, int | None]:
        (queue,) = await board.jobs.queues()
        assert queue.name == name
        return queue.paused, queue.concurrency

    async with serve(shop(database_url)) as board:
        paused = await board.post("/queues/change", queue=name, action="pause")
        assert await status(board) == (True, None)
        await board.post("/queues/change", queue=name, action="resume")
        await board.post("/queues/change", queue=name, action="scale", concurrency=3)
        assert await status(board) == (False, 3)
        shown = await board.get("/")
        await board.post("/queues/change", queue=name, action="scale", concurrency="")
        assert [queue.concurrency for queue in await board.jobs.queues()] in ([], [None])
        for fields in (
            {"queue": name, "action": "scale", "concurrency": "0"},
            {"queue": name, "action": "scale", "concurrency": "many"},
            {"queue": name, "action": "burn"},
            {"queue": "", "action": "pause"},
        ):
            assert (await board.post("/queues/change", **fields)).status == 400, fields
    assert (paused.status, paused.headers["location"]) == (303, "/#queues")
    assert "scaled to 3" in shown.text


async def test_cron_entries_are_paused_and_resumed(database_url: str) -> None:
    """Entries are paused and resumed by name. An unknown name gets status 404."""
    app = shop(database_url)
    app.cron("0 3 * * *", value(app, "hello"), name="nightly")
    async with serve(app) as board:
        await app.declare_crons()
        paused = await board.post("/cron/change", name="nightly", action="pause")
        assert [entry.paused for entry in await board.jobs.crons()] == [True]
        shown = await board.get("/cron")
        await board.post("/cron/change", name="nightly", action="resume")
        assert [entry.paused for entry in await board.jobs.crons()] == [False]
        assert (await board.post("/cron/change", name="weekly", action="pause")).status == 404
        assert (await board.post("/cron/change", name="nightly", action="burn")).status == 400
    assert (paused.status, paused.headers["location"]) == (303, "/cron")
    assert ">paused<" in shown.text


async def test_an_invalid_form_is_refused(sqlite_url: str) -> None:
    """A form that is too large gets status 413, a malformed one 400. A GET request gets 405."""
    async with serve(shop(sqlite_url)) as board:
        (job,) = await scheduled(board)
        large = await board.post("/jobs/change", id=job, action="delete", reason="x" * 300_000)
        many = await board.post("/jobs/change", id=[job] * 10_001, action="delete")
        looked = await board.get(f"/jobs/change?id={job}&action=delete")
        assert await board.state(job) == "scheduled"
    assert (large.status, many.status, looked.status) == (413, 400, 405)


async def test_read_only_has_no_buttons_and_refuses_them(database_url: str) -> None:
    """Every action gets status 403. All pages are still shown."""
    app = shop(database_url)
    app.cron("0 3 * * *", value(app, "hello"), name="nightly")
    async with serve(app, read_only=True) as board:
        await app.declare_crons()
        (job,) = await scheduled(board)
        pages = [
            await board.get(path) for path in ("/", "/jobs", "/jobs?state=scheduled", f"/jobs/{job}", "/cron")
        ]
        refused = [
            await board.post("/jobs/change", id=job, action="cancel"),
            await board.post("/queues/change", queue="default", action="pause"),
            await board.post("/cron/change", name="nightly", action="pause"),
            await board.get(f"/jobs/confirm?action=delete&id={job}"),
        ]
        assert await board.state(job) == "scheduled"
        assert not any(row.paused for row in [*await board.jobs.queues(), *await board.jobs.crons()])
    assert [answer.status for answer in (*pages, *refused)] == [200] * 5 + [403] * 4
    for page in pages:
        assert 'method="post"' not in page.text
        assert 'name="action"' not in page.text
        assert "read-only" in page.text


async def test_a_preview_says_what_does_not_change(database_url: str) -> None:
    """It counts the jobs that the action changes, those of them that run, and the others."""
    app = shop(database_url)
    async with serve(app) as board:
        ids = await scheduled(board, 4)
        await board.jobs.cancel(jobrt.where.id_in(ids[:3]))
        cancel = html.unescape((await board.get("/jobs/confirm?action=cancel&name=hello")).text)
        rerun = html.unescape((await board.get("/jobs/confirm?action=rerun&name=hello")).text)
        nothing = html.unescape((await board.get("/jobs/confirm?action=cancel&state=cancelled")).text)
    assert "Cancel 1 job?" in cancel
    assert "3 other matching jobs will not change: finished already" in cancel
    assert "Rerun 3 jobs?" in rerun
    assert "1 other matching job will not change: not finished" in rerun
    assert "None of the 3 matching jobs can change: all have finished" in nothing
    assert "Cancel 0 jobs</button>" not in nothing


async def test_a_waiting_job_gets_another_priority_and_time(database_url: str) -> None:
    """A time is a duration from now, or a moment. Empty fields stay as they are."""
    async with serve(shop(database_url)) as board:
        (job,) = await scheduled(board)
        before = await board.jobs.get(job)
        done = await board.post("/jobs/edit", id=job, priority="-3", due="", reason="not urgent")
        first = await board.jobs.get(job)
        await board.post("/jobs/edit", id=job, due="2990-01-01T00:00")
        second = await board.jobs.get(job)
        await board.post("/jobs/edit", id=job, due="0s")
        assert await board.state(job) == "available"
        page = (await board.get(f"/jobs/{job}")).text
    assert (done.status, done.headers["location"]) == (303, f"/jobs/{job}")
    assert (first.priority, first.schedule_at) == (-3, before.schedule_at)
    assert (second.priority, second.schedule_at.isoformat()) == (-3, "2990-01-01T00:00:00+00:00")
    assert "127.0.0.1 changed job" in page
    assert "priority -3: not urgent" in page


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"priority": "high"}, 400, "priority is 'high': use a whole number"),
        ({"priority": "9999999999"}, 400, "priority"),
        ({"due": "soon"}, 400, "'soon' is not a duration"),
        ({"due": "-5m"}, 400, "schedule_in"),
        ({}, 400, "nothing to change"),
        ({"id": "77", "priority": "1"}, 404, "there is no job 77"),
        ({"id": "x", "priority": "1"}, 400, "id is 'x'"),
    ],
)
async def test_a_wrong_change_is_refused(fields: dict[str, str], status: int, message: str) -> None:
    """The error names the field, and nothing changes."""
    async with serve(shop("sqlite://:memory:")) as board:
        (job,) = await scheduled(board)
        before = await board.jobs.get(job)
        answer = await board.post("/jobs/edit", **{"id": str(job), **fields})
        assert await board.jobs.get(job) == before
        await board.jobs.cancel(job)
        late = await board.post("/jobs/edit", id=job, priority="1")
    assert answer.status == status
    assert message in html.unescape(answer.text)
    assert late.status == 409


async def test_a_cron_entry_runs_now(database_url: str) -> None:
    """Its job is enqueued once, and the ticks stay as they are."""
    app = shop(database_url)
    app.cron("0 3 * * *", value(app, "hello", name="night"), name="nightly")
    async with serve(app) as board:
        await app.declare_crons()
        before = await board.jobs.crons()
        done = await board.post("/cron/change", name="nightly", action="run")
        (job,) = await board.jobs.query()
        assert await board.jobs.crons() == before
        assert (await board.post("/cron/change", name="weekly", action="run")).status == 404
    assert (done.status, done.headers["location"]) == (303, f"/jobs/{job.id}")
    assert (job.name, job.args, job.state) == ("hello", {"name": "night"}, "available")
    assert job.context == "cron nightly, run by an operator"


async def test_a_cron_entry_of_another_application_does_not_run(sqlite_url: str) -> None:
    """The error says that the dashboard needs the application."""
    app = shop(sqlite_url)
    app.cron("0 3 * * *", value(app, "hello"), name="nightly")
    await app.declare_crons()
    async with serve(jobrt.App(sqlite_url)) as board:
        answer = await board.post("/cron/change", name="nightly", action="run")
        assert await board.jobs.query() == []
    assert answer.status == 409
    assert "start the dashboard with the application" in html.unescape(answer.text)


async def test_actions_are_logged_and_shown(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Who, what and why are a line in the log, and on the page of actions."""
    caplog.set_level("INFO", "jobrt.dashboard")
    ada = {"authorization": "Basic " + base64.b64encode(b"ada:secret").decode()}
    async with serve(shop(database_url), password="secret") as board:
        one, other = await scheduled(board, 2)
        await board.post("/jobs/change", headers=ada, id=one, action="cancel", reason="no <b>", page="job")
        await board.post("/jobs/change", headers=ada, name="hello", action="delete", reason="old\nnews")
        await board.post("/jobs/change", headers=ada, id=[one, other], action="rerun")
        await board.post("/queues/change", headers=ada, queue="mail", action="scale", concurrency="4")
        refused = await board.post("/jobs/change", headers=ada, id=other, action="cancel", page="job")
        page = (await board.get("/actions", **ada)).text
    assert refused.status == 404
    assert [record.getMessage() for record in caplog.records if record.levelname == "INFO"] == [
        f"ada (127.0.0.1) cancelled job {one}: no <b>",
        r"ada (127.0.0.1) deleted 2 jobs with name=hello: old\nnews",
        "ada (127.0.0.1) scaled queue mail to 4",
    ]
    assert [html.unescape(text) for text in re.findall(r'<th scope="row">(?:<a[^>]*>)?([^<]*)', page)] == [
        "scaled queue mail to 4",
        "deleted 2 jobs with name=hello",
        f"cancelled job {one}",
    ]
    assert "<b>" not in page


async def test_actions_stay_with_their_jobs(database_url: str) -> None:
    """Another dashboard shows them, and whoever follows a job gets them, of actions on a filter too."""
    app = shop(database_url)
    async with serve(app) as board:
        ids = await scheduled(board, 3)
        ended, one, two = ids
        await board.jobs.cancel(ended)
        await board.post("/jobs/edit", id=one, priority="3", reason="ur <b>")
        await board.post("/jobs/change", id=ids, action="cancel", reason="by id")
        await board.post("/jobs/change", name="hello", action="rerun", reason="all")
        await board.post("/jobs/change", id=one, action="delete")
    async with serve(app) as other:
        page = html.unescape((await other.get(f"/jobs/{two}")).text)
        listed = html.unescape((await other.get("/actions")).text)
        await other.jobs.cancel(jobrt.where.everything())
        found = {
            job: [(update.who, update.what, update.why) async for update in other.jobs.follow(job)
                  if isinstance(update, jobrt.OperatorAction)]
            for job in (ended, two)
        }  # fmt: skip
    assert f"127.0.0.1 cancelled 2 of the jobs {ended}, {one}, {two}: by id" in page
    assert '<li class="action "><time>' in page
    assert f">deleted job {one}<" in listed
    assert f'<a href="/jobs/{one}">changed job {one}: priority 3</a>' in listed
    assert found == {
        ended: [("127.0.0.1", "set to run again: 3 jobs with name=hello", "all")],
        two: [
            ("127.0.0.1", f"cancelled 2 of the jobs {ended}, {one}, {two}", "by id"),
            ("127.0.0.1", "set to run again: 3 jobs with name=hello", "all"),
        ],
    }


async def test_queues_and_cron_entries_show_who_changed_them(database_url: str) -> None:
    """On the overview, the page of cron entries, a page of their own and for programs, in another dashboard too."""
    app = shop(database_url)
    app.cron("0 3 * * *", value(app, "hello"), name="nightly")
    async with serve(app) as board:
        await app.declare_crons()
        nobody = await board.get("/actions")
        await board.post("/queues/change", queue="mail", action="pause", reason="relay <b> down")
        await board.post("/cron/change", name="nightly", action="pause", reason="moving")
        await board.post("/cron/change", name="nightly", action="run")
        await board.jobs.scale("other", 3, by="deploy", reason="sale")
    async with serve(app) as board:
        overview, crons, of_queue, of_cron = [
            html.unescape((await board.get(path)).text)
            for path in ("/", "/cron", "/actions?queue=mail", "/actions?cron=nightly")
        ]
        found = json.loads((await board.get("/api/actions?limit=3")).text)
        of_other = json.loads((await board.get("/api/actions?queue=other")).text)
        wrong = [
            await board.get(path)
            for path in ("/actions?name=x", "/actions?queue=a&cron=b", "/api/actions?limit=0")
        ]
    assert "No action is kept." in nobody.text
    assert re.search(r">127\.0\.0\.1, [^<]+ ago</a> <span[^>]*>relay <b> down<", overview)
    assert re.search(r">deploy, [^<]+ ago</a> <span[^>]*>sale<", overview)
    assert re.search(r">127\.0\.0\.1, [^<]+ ago</a>", crons)
    assert (of_queue.count("paused queue mail"), of_cron.count("cron entry nightly</th>")) == (1, 1)
    assert re.search(r'<th scope="row">ran cron entry nightly as job \d+</th>', of_cron)
    assert [(one["subject"], one["name"]) for one in found] == [
        ("queue", "other"),
        ("cron", "nightly"),
        ("cron", "nightly"),
    ]
    assert [(one["who"], one["what"], one["why"]) for one in of_other] == [
        ("deploy", "scaled queue other to 3", "sale")
    ]
    assert [answer.status for answer in wrong] == [400, 400, 400]


async def test_an_action_that_cannot_be_noted_is_done(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has it, and why its jobs do not."""
    caplog.set_level("INFO", "jobrt.dashboard")

    async def refuse(*_: object) -> None:
        raise jobrt.StorageError("no permission")

    async with serve(shop(sqlite_url)) as board:
        (job,) = await scheduled(board)
        monkeypatch.setattr(type(board.jobs._storage.streams), "note", refuse)
        done = await board.post("/jobs/change", id=job, action="cancel", page="job")
        assert await board.state(job) == "cancelled"
    assert done.status == 303
    assert [record.getMessage() for record in caplog.records] == [
        f"127.0.0.1 cancelled job {job}",
        "the action is not stored: no permission",
    ]
