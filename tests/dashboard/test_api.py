"""Tests of ``/api/…``: the same JSON as the commands print, read-only, behind the same guard."""

from __future__ import annotations

import json
from typing import Any

import pytest

import jobrt
from jobrt._views.as_json import jsonable
from tests.dashboard.serving import Board, serve, shop, value


async def fetched(board: Board, target: str) -> Any:
    """Return the JSON at an address."""
    answer = await board.get(target)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer.text
    return json.loads(answer.text)


async def test_it_sends_what_the_commands_print(database_url: str) -> None:
    """Each address has the records of its command."""
    app = shop(database_url)
    app.cron("0 3 * * *", value(app, "hello"), name="nightly")
    async with serve(app) as board:
        await app.declare_crons()
        await board.jobs.enqueue_many([value(app, "hello"), value(app, "fail")])
        await app.drain()
        jobs = board.jobs
        assert await fetched(board, "/api/jobs") == jsonable(await jobs.query())
        assert await fetched(board, "/api/jobs/1") == jsonable(await jobs.get(1))
        assert await fetched(board, "/api/queues?exact=1") == jsonable(await jobs.queues())
        assert await fetched(board, "/api/queues") == jsonable(await jobs.queues(limit=10_000))
        assert await fetched(board, "/api/workers") == jsonable(await jobs.workers())
        assert await fetched(board, "/api/cron") == jsonable(await jobs.crons())
        assert await fetched(board, "/api/stats") == jsonable(await jobs.totals())
        assert await fetched(board, "/api/stats?since=1h") == jsonable(await jobs.totals())
        findings = await fetched(board, "/api/doctor")
    assert findings[0]["wrong"] is True
    assert "no worker is alive" in findings[0]["text"]


async def test_jobs_are_selected_as_on_the_command_line(database_url: str) -> None:
    """Filters, order, limit, the place to go on and the count are parameters."""
    app = shop(database_url)
    async with serve(app) as board:
        await board.jobs.enqueue_many([value(app, "hello") for _ in range(4)] + [value(app, "fail")])
        first = await fetched(board, "/api/jobs?name=hello&limit=2&order_by=id")
        others = await fetched(board, f"/api/jobs?name=hello&order_by=id&after={first[-1]['id']}")
        count = await fetched(board, "/api/jobs?name=hello&count=1")
    assert [job["id"] for job in first] == [1, 2]
    assert [job["id"] for job in others] == [3, 4]
    assert count == 4


async def test_jobs_are_looked_at_page_by_page(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page says how many jobs it has looked at, and where to go on."""
    monkeypatch.setattr("jobrt.dashboard.api.SEARCHED", 3)
    app = shop(database_url)
    async with serve(app) as board:
        await board.jobs.enqueue(value(app, "hello", name="ada"), tags=("rare",))
        await board.jobs.enqueue_many([value(app, "hello") for _ in range(4)])
        first = await fetched(board, "/api/jobs?tag=rare&look=newest")
        second = await fetched(board, f"/api/jobs?tag=rare&look=newest&after={first['after']}")
        oldest = await fetched(board, "/api/jobs?look=oldest&limit=2")
        text = await fetched(board, "/api/jobs?look=newest&text=ada&after=2")
        (whole,) = await fetched(board, "/api/jobs?tag=rare")
    assert first == {"jobs": [], "looked_at": 3, "after": "3"}
    assert second == {"jobs": [whole], "looked_at": 2, "after": None}
    assert ([job["id"] for job in oldest["jobs"]], oldest["after"]) == ([1, 2], "2")
    assert text["jobs"] == [whole]


@pytest.mark.parametrize(
    ("target", "status", "error"),
    [
        ("/api/jobs?look=1", 400, "look is '1': use newest or oldest"),
        (
            "/api/jobs?look=newest&order_by=id",
            400,
            "look and order_by cannot be combined: leave one of them out",
        ),
        ("/api/jobs?look=newest&after=x", 400, "after is 'x': use a whole number above zero"),
        ("/api/jobs?text=x", 400, "add look=newest"),
        ("/api/jobs/77", 404, "there is no job 77"),
        ("/api/jobs?colour=red", 400, "unknown filter 'colour'"),
        ("/api/jobs?limit=1001", 400, "use at most 1000, and after=ID for the next jobs"),
        ("/api/jobs?order_by=colour", 400, "order_by is 'colour'"),
        ("/api/queues?limit=3", 400, "unknown parameter 'limit': use exact"),
        ("/api/stats?since=soon", 400, "'soon' is not a duration"),
        ("/api/nothing", 404, "there is no such page"),
    ],
)
async def test_an_error_is_json(target: str, status: int, error: str) -> None:
    """The status is that of the page, and the text names the parameter and the remedy."""
    async with serve(shop("sqlite://:memory:")) as board:
        answer = await board.get(target)
    assert answer.status == status
    assert error in json.loads(answer.text)["error"]


async def test_it_changes_nothing() -> None:
    """There are no other methods than GET and HEAD."""
    async with serve(shop("sqlite://:memory:")) as board:
        handle = await board.jobs.enqueue(value(board.app, "hello"))
        answer = await board.post(f"/api/jobs/{handle.id}", action="cancel")
        assert await board.state(handle.id) == "available"
    assert answer.status == 405
    assert json.loads(answer.text) == {"error": "Method Not Allowed"}


async def test_it_has_the_guard_of_the_pages() -> None:
    """A password is required as for the pages, and other names of the host are refused."""
    async with serve(shop("sqlite://:memory:"), password="secret", read_only=True) as board:
        assert (await board.get("/api/jobs")).status == 401
        assert (await board.get("/api/jobs", authorization="Basic eDpzZWNyZXQ=")).status == 200
        assert (await board.get("/api/jobs", host="evil.example")).status == 400


async def test_texts_of_jobs_are_escaped() -> None:
    """What a job says cannot end the JSON, and odd characters arrive."""
    app = jobrt.App("sqlite://:memory:", queues={"default": 1})

    @app.job(max_attempts=1)
    async def odd(ctx: jobrt.Context) -> None:
        raise ValueError('\u2028"\x1b\U0001f600')

    async with serve(app) as board:
        await board.jobs.enqueue(odd.new())
        await app.drain()
        job = await fetched(board, "/api/jobs/1")
    assert job["attempts"][0]["message"] == '\u2028"\x1b\U0001f600'
