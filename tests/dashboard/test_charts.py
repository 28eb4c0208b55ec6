"""Tests of the charts: what they count, in steps of bounded cost, and how they are drawn."""

from __future__ import annotations

import math
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jobrt
from jobrt._core.stats import NOTHING, Ended, Slot, total
from jobrt.dashboard import history
from jobrt.dashboard.charts import charts_of, in_seconds, quantile
from jobrt.dashboard.history import _Series
from tests.dashboard.serving import Board, serve, shop, value

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
HOUR = 3600


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that have just ended are counted, however long that takes."""
    monkeypatch.setattr(history, "_SETTLED", timedelta(0))
    monkeypatch.setattr("jobrt.dashboard.chart_page._SECONDS", math.inf)


def cells(text: str) -> dict[str, list[str]]:
    """Return completed, failed, discarded and cancelled of each row of the comparison."""
    table = text[text.index("compared-title") : text.index("Numbers of the charts")]
    return {
        name: re.findall(r">([\d,]+)</td>", row)[:4]
        for name, row in re.findall(
            r'<th [^>]*scope="row"><a[^>]*>(.*?)</a></th>(.*?)</tr>', table, re.DOTALL
        )
    }


async def _work(board: Board) -> None:
    app = board.app
    await board.jobs.enqueue_many([value(app, "hello") for _ in range(3)] + [value(app, "fail")])
    await board.jobs.enqueue(value(app, "hello"), queue="slow", schedule_in=3600)
    await board.jobs.cancel(jobrt.where.queue("slow"))
    await app.drain()


@pytest.mark.parametrize("period", ["hour", "day", "week"])
async def test_the_charts_count_what_ended(database_url: str, period: str) -> None:
    """Completed, cancelled and discarded jobs and failed attempts, by queue and by job."""
    async with serve(shop(database_url)) as board:
        await _work(board)
        text = (await board.get(f"/charts?period={period}")).text
        jobs = (await board.get(f"/charts?period={period}&by=job")).text
        mail = (await board.get(f"/charts?period={period}&queue=mail")).text
    assert "3 completed, 1 cancelled" in text
    assert "1 failed attempts, 1 discarded jobs" in text
    assert cells(text) == {
        "default": ["3", "0", "0", "0"],
        "mail": ["0", "1", "1", "0"],
        "slow": ["0", "0", "0", "1"],
    }
    assert cells(jobs) == {"hello": ["3", "0", "0", "1"], "fail": ["0", "1", "1", "0"]}
    assert "0 completed, 0 cancelled" in mail
    assert cells(mail).keys() == {"mail"}
    assert "data-soon" not in text


async def test_new_ends_are_added(database_url: str) -> None:
    """The next request counts only what ended since. Deleted jobs stay in the counts."""
    async with serve(shop(database_url)) as board:
        await _work(board)
        first = (await board.get("/charts?period=day")).text
        await board.jobs.delete(jobrt.where.name("hello"))
        await _work(board)
        second = (await board.get("/charts?period=day")).text
        overview = (await board.get("/")).text
    assert "3 completed, 1 cancelled" in first
    assert "6 completed, 2 cancelled" in second
    assert "3 completed, 2 failed attempts" in overview  # by the minute, deleted jobs are not known


async def test_a_request_counts_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says how far back it has counted, and our script asks again until all is counted."""
    monkeypatch.setattr("jobrt.dashboard.chart_page._SECONDS", 0.0)
    monkeypatch.setattr("jobrt.dashboard.chart_page._SECONDS_MORE", 0.0)
    monkeypatch.setattr(history, "_WIDTH", timedelta(minutes=5))
    async with serve(shop("sqlite://:memory:")) as board:
        pages = [(await board.get("/charts", x_jobrt_live="1")).text for _ in range(8)]
    unfinished = ["data-soon" in page for page in pages]
    assert unfinished == sorted(unfinished, reverse=True)
    assert unfinished[0]
    assert not unfinished[-1]
    assert "Counted back to" in pages[0]
    assert '<rect class="missing"' in pages[0]
    assert '<rect class="missing"' not in pages[-1]


@pytest.mark.parametrize("query", ["period=year", "by=colour", "colour=red"])
async def test_a_wrong_parameter_is_named(query: str) -> None:
    """The error names the parameter and its values."""
    async with serve(shop("sqlite://:memory:")) as board:
        answer = await board.get(f"/charts?{query}")
    name = query.partition("=")[0]
    assert answer.status == 400
    assert name in answer.text
    assert "use " in answer.text


@given(
    ends=st.lists(st.integers(0, 3 * HOUR - 1).map(lambda ago: NOW - timedelta(seconds=ago)), max_size=60),
    limit=st.integers(1, 10),
    steps=st.lists(st.tuples(st.integers(0, 3 * HOUR), st.integers(1, 3)), min_size=1, max_size=8),
)
def test_every_end_is_counted_once(ends: list[datetime], limit: int, steps: list[tuple[int, int]]) -> None:
    """Whatever the limit of a question, the time between requests, and how much each of them counts."""
    series, start = _Series(60, 60), NOW - timedelta(hours=3)
    ask = partial(_count, ends, limit)
    now = start
    for seconds, questions in [*steps, (0, 100_000)]:
        now = min(now + timedelta(seconds=seconds), NOW)
        left = iter([False] * (questions - 1))
        _run(series.count(ask, now, lambda left=left: next(left, True)))
    begin = history._floor(now, 60) - timedelta(minutes=59)
    wanted = Counter(history._floor(end, 60) for end in ends if begin <= end < now)
    found = {start: total(list(groups.values())).completed for start, groups in series.counted.items()}
    assert found == wanted
    assert series.first <= begin


async def _count(ends: list[datetime], most: int, since: datetime, until: datetime, *, limit: int) -> Ended:
    """Count as a storage does, with a lower limit."""
    assert since < until
    found = Counter(history._floor(end, 60) for end in ends if since <= end < until)
    slots = [Slot(start, "q", "n", NOTHING._replace(completed=count)) for start, count in found.items()]
    return Ended(tuple(slots), more=found.total() > most and limit < history._BURST)


def _run(coroutine: object) -> None:
    """Run a coroutine that never waits."""
    with pytest.raises(StopIteration):
        coroutine.send(None)  # type: ignore[attr-defined]


def test_times_are_estimated_within_their_class() -> None:
    """A class is four times as wide as the one before, and jobs are spread evenly over it."""
    assert quantile((0,) * 12, 0.5) is None
    assert quantile((0, 8) + (0,) * 10, 0.5) == pytest.approx(0.002)
    assert quantile((5, 0, 5) + (0,) * 9, 0.5) == pytest.approx(0.001)
    assert quantile((0,) * 11 + (1,), 1.0) == pytest.approx(0.001 * 4**11)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0004, "400 µs"),
        (0.001, "1 ms"),
        (0.0351, "35.1 ms"),
        (1, "1 s"),
        (100, "100 s"),
        (600, "10 min"),
    ],
)
def test_times_are_written_shortly(seconds: float | None, text: str) -> None:
    """With three digits, as estimates are."""
    assert in_seconds(seconds) == text


def test_a_plot_has_a_round_scale_and_gaps() -> None:
    """The highest column fits, few failures are seen, and a line has gaps where nothing ended, lone dashes between."""
    fast, slow = (0, 4) + (0,) * 10, (0,) * 6 + (4,) + (0,) * 5
    slots = [
        NOTHING._replace(completed=900_000, failed=1, histogram=fast),
        NOTHING,
        NOTHING._replace(histogram=slow),
    ]
    throughput, failures, _wait, run = charts_of(slots)
    assert throughput.scale == ["1,000,000", "500,000", "0"]
    assert [(bar.y, bar.height) for bar in throughput.bars] == [(10.0, 90.0)]
    assert [bar.height for bar in failures.bars] == [50.0]
    assert run.scale == ["10 s", "1 s", "100 ms", "10 ms", "1 ms"]
    assert [line.path.count("M") for line in run.lines] == [2, 2]
    assert [line.path.count("h8") for line in run.lines] == [2, 2]
