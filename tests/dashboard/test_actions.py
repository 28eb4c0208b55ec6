"""What the buttons do, on both engines: as our own pages press them."""

from __future__ import annotations

import html
import re

import pytest

import jobrt
from tests.dashboard.serving import Board, serve, shop, value


async def scheduled(board: Board, count: int = 1) -> list[int]:
    """Enqueue jobs for later and return their ids."""
    options = [value(board.app, "hello").with_options(schedule_in=3600) for _ in range(count)]
    return [one.id for one in await board.jobs.enqueue_many(options)]


async def test_a_job_is_cancelled_with_a_reason_and_run_again(database_url: str) -> None:
    """From its page, which is where one is led afterwards, so that reloading repeats nothing."""
    async with serve(shop(database_url)) as board:
        (job,) = await scheduled(board)
        cancelled = await board.post("/jobs/change", id=job, action="cancel", reason="not now", page="job")
        assert (await board.jobs.get(job)).cancel_reason == "not now"
        assert await board.state(job) == "cancelled"
        again = await board.post("/jobs/change", id=job, action="rerun", page="job")
        assert await board.state(job) == "available"
        twice = await board.post("/jobs/change", id=job, action="rerun", page="job")
    assert [(one.status, one.headers.get("location")) for one in (cancelled, again)] == [
        (303, f"/jobs/{job}")
    ] * 2
    assert twice.status == 409
    assert "only a job that has ended can be run again" in twice.text


async def test_deleting_is_confirmed_on_a_page(database_url: str) -> None:
    """It names the job, and holds the button that deletes it."""
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


async def test_several_that_are_ticked(database_url: str) -> None:
    """The preview shows the first five and how many more; the action is done to those ids."""
    async with serve(shop(database_url)) as board:
        ids = await scheduled(board, 8)
        ticked = "&".join(f"id={one}" for one in ids[:7])
        preview = await board.get(f"/jobs/confirm?action=cancel&{ticked}")
        done = await board.post("/jobs/change", id=ids[:7], action="cancel")
        states = [await board.state(one) for one in ids]
    assert "Cancel 7 jobs?" in preview.text
    assert "and 2 more" in preview.text
    assert done.headers["location"] == "/jobs?done=cancel&count=7"
    assert states == ["cancelled"] * 7 + ["scheduled"]


async def test_all_that_match(database_url: str) -> None:
    """The preview counts them; what matches is judged again when it is done, and no other job is touched."""
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
        assert {await board.state(one) for one in [*ids, *late]} == {"cancelled"}
        rerun = await board.post("/jobs/change", state="cancelled", action="rerun")
        deleted = await board.post("/jobs/change", name="hello", action="delete")
        assert [one.name for one in await board.jobs.query()] == ["fail"]
    assert "Cancel 60 jobs?" in preview.text
    hidden = re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', preview.text)
    assert hidden == [("state", "scheduled"), ("name", "hello")]
    assert done.headers["location"] == "/jobs?state=scheduled&name=hello&done=cancel&count=61"
    assert rerun.headers["location"].endswith("count=61")
    assert deleted.headers["location"].endswith("count=61")


async def test_those_that_refuse_are_named(database_url: str) -> None:
    """The others are done; why not these is said, each in a line."""
    async with serve(shop(database_url)) as board:
        first, second = await scheduled(board, 2)
        await board.jobs.cancel(first)
        partly = await board.post("/jobs/change", id=[first, second, 99], action="cancel")
        assert await board.state(second) == "cancelled"
        missing = await board.post("/jobs/change", id=99, action="delete")
    assert (partly.status, missing.status) == (409, 404)
    assert "1 job done; these were not:" in partly.text
    assert "there is nothing to cancel" in partly.text
    assert "there is no job 99" in partly.text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"action": "cancel"}, "no job is chosen: tick some, or set a filter"),
        ({"action": "explode", "id": 1}, "action is 'explode': use cancel, rerun, delete"),
        ({"id": 1}, "action is ''"),
        ({"action": "cancel", "id": 1, "state": "scheduled"}, "not both"),
        ({"action": "delete", "stat": "completed"}, "there is no filter 'stat'"),
        ({"action": "delete", "id": "1 or 1"}, "id is '1 or 1'"),
    ],
)
async def test_what_is_not_clear_is_not_done(database_url: str, fields: dict[str, str], said: str) -> None:
    """Neither by a preview nor by a button: 400, and every job stays."""
    async with serve(shop(database_url)) as board:
        await scheduled(board)
        query = "&".join(f"{key}={one}".replace(" ", "+") for key, one in fields.items())
        preview = await board.get(f"/jobs/confirm?{query}")
        done = await board.post("/jobs/change", **fields)
        assert await board.jobs.count(jobrt.where.state("scheduled")) == 1
    assert (preview.status, done.status) == (400, 400)
    assert said in html.unescape(preview.text)
    assert said in html.unescape(done.text)


async def test_queues_are_paused_resumed_and_scaled(database_url: str) -> None:
    """By name, whatever the name is; an empty number is what the app says."""
    name = "a b/ü&c"

    async def status(board: Board) -> tuple[bool, int | None]:
        (one,) = await board.jobs.queues()
        assert one.name == name
        return one.paused, one.concurrency

    async with serve(shop(database_url)) as board:
        paused = await board.post("/queues/change", queue=name, action="pause")
        assert await status(board) == (True, None)
        await board.post("/queues/change", queue=name, action="resume")
        await board.post("/queues/change", queue=name, action="scale", concurrency=3)
        assert await status(board) == (False, 3)
        shown = await board.get("/")
        await board.post("/queues/change", queue=name, action="scale", concurrency="")
        assert [one.concurrency for one in await board.jobs.queues()] in ([], [None])
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
    """By name; one that is not there is a 404."""
    app = shop(database_url)
    app.cron("0 3 * * *", value(app, "hello"), name="nightly")
    async with serve(app) as board:
        await app.declare_crons()
        paused = await board.post("/cron/change", name="nightly", action="pause")
        assert [one.paused for one in await board.jobs.crons()] == [True]
        shown = await board.get("/cron")
        await board.post("/cron/change", name="nightly", action="resume")
        assert [one.paused for one in await board.jobs.crons()] == [False]
        assert (await board.post("/cron/change", name="weekly", action="pause")).status == 404
        assert (await board.post("/cron/change", name="nightly", action="burn")).status == 400
    assert (paused.status, paused.headers["location"]) == (303, "/cron")
    assert ">paused<" in shown.text


async def test_a_form_that_is_too_large_or_none_is_refused(sqlite_url: str) -> None:
    """413 and 400; a look is no way to change anything: 405."""
    async with serve(shop(sqlite_url)) as board:
        (job,) = await scheduled(board)
        large = await board.post("/jobs/change", id=job, action="delete", reason="x" * 300_000)
        many = await board.post("/jobs/change", id=[job] * 10_001, action="delete")
        looked = await board.get(f"/jobs/change?id={job}&action=delete")
        assert await board.state(job) == "scheduled"
    assert (large.status, many.status, looked.status) == (413, 400, 405)


async def test_read_only_has_no_buttons_and_refuses_them(database_url: str) -> None:
    """403, whatever page the button was on; everything is still shown."""
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
        assert not any(one.paused for one in [*await board.jobs.queues(), *await board.jobs.crons()])
    assert [one.status for one in (*pages, *refused)] == [200] * 5 + [403] * 4
    for page in pages:
        assert 'method="post"' not in page.text
        assert 'name="action"' not in page.text
        assert "read-only" in page.text
