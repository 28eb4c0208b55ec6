"""Tests that lists and previews look at a bounded number of jobs, whatever the filter, and say so."""

from __future__ import annotations

import html
import random
import re
from typing import TYPE_CHECKING, Any

import pytest

import jobrt
from jobrt._core.walks import walk_of
from jobrt._core.where import And, In
from jobrt._storage.postgres.jobs import PostgresJobs
from jobrt._storage.sqlite.jobs import SqliteJobs
from tests.bench.pages import drawn
from tests.dashboard.serving import Board, serve, shop, value
from tests.dashboard.test_pages import rows

if TYPE_CHECKING:
    from jobrt._core.walks import Look
    from jobrt._core.where import Where

SCAN, PREVIEW = 30, 20
PAGES = 40


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that look at few jobs."""
    monkeypatch.setattr("jobrt.dashboard.pages.SEARCHED", SCAN)
    monkeypatch.setattr("jobrt.dashboard.pages._NUMBER_SCAN", SCAN)
    monkeypatch.setattr("jobrt.dashboard.actions.SEARCHED", SCAN)
    monkeypatch.setattr("jobrt.dashboard.actions.PREVIEWED", PREVIEW)


@pytest.fixture
def looked_at(small: None, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of jobs that each call on the storage has looked at; there must be no others but small ones."""
    found: list[int] = []
    for kind in (PostgresJobs, SqliteJobs):
        _spy(monkeypatch, kind, found)
    return found


def _spy(monkeypatch: pytest.MonkeyPatch, kind: type[Any], found: list[int]) -> None:
    look, query, count, count_each = kind.look, kind.query, kind.count, kind.count_each

    async def spied_look(self: Any, where: Where, *args: Any, **options: Any) -> Look:
        seen: Look = await look(self, where, *args, **options)
        found.append(seen.looked_at)
        return seen

    async def spied_query(self: Any, where: Where, **options: Any) -> Any:
        assert isinstance(where, In)
        assert where.column == "id"
        return await query(self, where, **options)

    async def spied_count(self: Any, where: Where, *, limit: int | None = None) -> int:
        _check_counted(where, limit)
        return int(await count(self, where, limit=limit))

    async def spied_count_each(self: Any, wheres: list[Where], *, limit: int) -> Any:
        for where in wheres:
            _check_counted(where, limit)
        return await count_each(self, wheres, limit=limit)

    monkeypatch.setattr(kind, "look", spied_look)
    monkeypatch.setattr(kind, "query", spied_query)
    monkeypatch.setattr(kind, "count", spied_count)
    monkeypatch.setattr(kind, "count_each", spied_count_each)


def _check_counted(where: Where, limit: int | None) -> None:
    """An index has exactly the jobs that are counted, and the count has a limit."""
    assert limit is not None
    assert walk_of(where, newest=True).covers
    assert isinstance(where, And | In)


async def _fill(board: Board) -> None:
    """Store three hundred jobs in several states, of two queues and names."""
    app, jobs = board.app, board.jobs
    for queue, name in (("q0", "hello"), ("q1", "fail"), ("q0", "fail")):
        await jobs.enqueue_many([value(app, name).with_options(queue=queue) for _ in range(60)])
    await jobs.cancel(jobrt.where.queue("q1"))
    later = [
        value(app, "hello").with_options(queue="q1", schedule_in=3600, priority=n % 3) for n in range(120)
    ]
    await jobs.enqueue_many(later)


async def test_a_page_looks_at_few_jobs_under_any_filter(database_url: str, looked_at: list[int]) -> None:
    """All that it reads are looks of bounded size, counts that an index has, and the jobs that it shows."""
    draw = random.Random(5)
    async with serve(shop(database_url)) as board:
        await _fill(board)
        for _ in range(PAGES):
            target = drawn(draw)
            looked_at.clear()
            page = await board.get(target)
            assert page.status == 200, target
            # A list, and its number; or a preview, with four looks; each a little more for each list that is merged.
            assert sum(looked_at) <= max(2 * (SCAN + 60), 8 * (PREVIEW + 60)), target
            assert max(looked_at, default=0) <= SCAN + 60, target
            if "No job matches." in page.text:
                assert 'rel="next"' not in page.text, target


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_pages_lead_to_the_last_job_that_matches(
    database_url: str, looked_at: list[int], order: str
) -> None:
    """A page without a job says that there may be others, and its link goes on."""
    app = shop(database_url)
    async with serve(app) as board:
        first = await board.jobs.enqueue(value(app, "hello"), tags=("rare",))
        await _fill(board)
        last = await board.jobs.enqueue(value(app, "hello"), tags=("rare",))
        seen: list[str] = []
        target: str | None = f"/jobs?tag=rare&order={order}"
        pages = 0
        while target is not None:
            text = html.unescape((await board.get(target)).text)
            seen, pages = seen + rows(text), pages + 1
            link = re.search(r'rel="next" href="([^"]+)">([^<]+)', text)
            if link is not None:
                assert link[2].startswith("Look at older jobs" if order == "newest" else "Look at newer jobs")
                assert f"Looked at {SCAN} jobs, the last of which is job" in text
                assert "No job matches" not in text
            target = link[1] if link else None
    ids = [str(last.id), str(first.id)]
    assert seen == (ids if order == "newest" else ids[::-1])
    assert pages == 11


async def test_the_oldest_waiting_jobs_are_those_that_are_due_first(
    database_url: str, looked_at: list[int]
) -> None:
    """They come first though they were enqueued last, behind final jobs in any number."""
    app = shop(database_url)
    async with serve(app) as board:
        await _fill(board)
        late, soon = [
            await board.jobs.enqueue(value(app, "hello"), schedule_in=hours * 3600) for hours in (9, 0.5)
        ]
        oldest = rows((await board.get("/jobs?state=scheduled&order=oldest")).text)
        newest = rows((await board.get("/jobs?state=scheduled")).text)
    assert oldest[0] == str(soon.id)
    assert newest[0] == str(late.id)


async def test_a_preview_says_that_there_may_be_more(database_url: str, small: None) -> None:
    """The action is on all jobs that match, and the button says so."""
    app = shop(database_url)
    async with serve(app) as board:
        await board.jobs.enqueue_many([value(app, "hello").with_options(tags=("rare",)) for _ in range(3)])
        await _fill(board)
        text = html.unescape((await board.get("/jobs/confirm?action=cancel&tag=rare")).text)
        done = await board.post("/jobs/change", action="cancel", tag="rare")
    assert "<h1>Cancel all jobs that match?</h1>" in text
    assert "None of the jobs looked at matches" in text
    assert "The action goes through all jobs." in text
    assert ">Cancel all jobs that match</button>" in text
    assert done.headers["location"].endswith("count=3")


async def test_a_page_after_a_job_that_has_left_the_list(database_url: str) -> None:
    """A link with an id alone, as earlier versions made it, gets one clear line if the job is not there."""
    app = shop(database_url)
    async with serve(app) as board:
        await board.jobs.enqueue_many([value(app, "hello") for _ in range(3)])
        await board.jobs.cancel(jobrt.where.name("hello"))
        there = await board.get("/jobs?state=cancelled&after=2")
        gone = await board.get("/jobs?state=cancelled&after=77")
        odd = await board.get("/jobs?state=cancelled&after=2.x")
    assert rows(there.text) == ["1"]
    assert (gone.status, odd.status) == (400, 400)
    assert "after is 77: this job is not in the list any more" in gone.text
    assert "after is '2.x': use a whole number above zero" in html.unescape(odd.text)
