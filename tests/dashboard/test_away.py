"""Tests with a database that is unavailable or slow, and with clients that disconnect."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

import psycopg
import pytest
import trio
import trio.testing

from tests.dashboard.serving import IO_TIMEOUT, serve, shop, value

if TYPE_CHECKING:
    from tests.support.postgres import Cluster, Server


LOCK = "lock table jobrt.job in access exclusive mode"
"""It waits for transactions that only the event loop can end, so it is executed in a thread."""


async def test_pages_report_an_unavailable_database_and_recover(private_postgres: Cluster) -> None:
    """The status is 503. The page reloads itself, and the script gets one line. Actions change nothing."""
    app = shop(private_postgres.server.create_database("jobs"))
    async with serve(app) as board:
        assert (await board.get("/")).status == 200
        await trio.to_thread.run_sync(private_postgres.stop)
        page = await board.get("/")
        part = await board.get("/workers", x_jobrt_live="1")
        press = await board.post("/queues/change", queue="default", action="pause")
        await trio.to_thread.run_sync(private_postgres.start)
        while (again := await board.get("/")).status == 503:
            await trio.sleep(0.05)
        assert await board.jobs.queues() == []
    assert (page.status, part.status, press.status, again.status) == (503, 503, 503, 200)
    assert "the database is unavailable: " in html.unescape(page.text)
    assert '<meta http-equiv="refresh" content="5">' in page.text
    assert part.headers["content-type"] == "text/plain; charset=utf-8"
    assert part.text.startswith("the database is unavailable: ")


async def test_a_slow_query_times_out(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says how to narrow the filter. The server keeps serving other requests."""
    monkeypatch.setattr("jobrt.dashboard.site._VIEW_SECONDS", 0.3)
    app = shop(postgres_url)
    async with serve(app) as board:
        with psycopg.connect(postgres_url) as conn:
            await trio.to_thread.run_sync(conn.execute, LOCK)
            page = await board.get("/jobs?args=a%3Db")
            conn.rollback()
        monkeypatch.setattr("jobrt.dashboard.site._VIEW_SECONDS", IO_TIMEOUT)
        again = await board.get("/jobs")
    assert (page.status, again.status) == (503, 200)
    assert "this took longer than" in page.text


async def test_a_disconnect_cancels_the_query(
    postgres_url: str, postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query for a page is cancelled immediately. An action is completed."""
    monkeypatch.setattr(
        "jobrt.dashboard.site._VIEW_SECONDS", math.inf
    )  # so the time limit is not what ends the query
    name = postgres_url.rpartition("/")[2].partition("?")[0]

    async def waiting() -> int:
        sql = f"select count(*) from pg_stat_activity where datname = '{name}' and wait_event_type = 'Lock'"
        ((number,),) = await trio.to_thread.run_sync(postgres_server.execute, sql)
        return int(number)

    async def until(number: int) -> None:
        while await waiting() != number:
            await trio.sleep(0.02)

    app = shop(postgres_url)
    async with serve(app) as board:
        handle = await board.jobs.enqueue(value(app, "hello"))
        with psycopg.connect(postgres_url) as conn:
            await trio.to_thread.run_sync(conn.execute, LOCK)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(board.get, "/jobs")
                await until(1)
                nursery.cancel_scope.cancel()
            await until(0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_press, board, handle.id)
                await until(1)
                nursery.cancel_scope.cancel()
            await trio.testing.wait_all_tasks_blocked(0.05)
            conn.rollback()
        while await board.state(handle.id) != "cancelled":
            await trio.sleep(0.01)


async def _press(board: object, job_id: int) -> None:
    await board.post("/jobs/change", id=job_id, action="cancel")  # type: ignore[attr-defined]
