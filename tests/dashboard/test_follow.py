"""``/jobs/ID/follow``: updates of a job as server-sent events."""

from __future__ import annotations

import json
import re
from typing import Any

import h11
import pytest
import trio

import jobrt
from tests.dashboard.serving import IO_TIMEOUT, serve, value


def talking(url: str) -> jobrt.App:
    """Return an app with a job that emits two values, the second when the event is set."""
    app = jobrt.App(url, migrate=True, state=trio.Event())

    @app.job(max_attempts=1)
    async def talk(ctx: jobrt.Context) -> None:
        await ctx.emit({"text": "one\ntwo"})
        await ctx.state.wait()
        await ctx.emit(2)

    return app


def events(text: str) -> list[dict[str, Any]]:
    """Return the events of a stream, with their fields; the data as JSON."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append({**fields, "data": json.loads(fields["data"])})
    return found


async def test_a_job_as_events(database_url: str) -> None:
    """Each update is an event with its kind, and the cursor as its id; the stream ends with the job."""
    app = talking(database_url)
    async with serve(app) as board, trio.open_nursery() as nursery:
        handle = await board.jobs.enqueue(value(app, "talk"))
        worker = await nursery.start(app.run_worker)
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await board.get(f"/jobs/{handle.id}/follow"))

        nursery.start_soon(ask)
        async for update in handle.follow():
            if isinstance(update, jobrt.Emitted):
                app._state.set()
        await worker.stop()
    (answer,) = answers
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    found = [event for event in events(answer.text) if event["event"] == "emit"]
    assert [(event["id"], event["data"]["value"]) for event in found] == [
        ("1", {"text": "one\ntwo"}),
        ("2", 2),
    ]
    end = events(answer.text)[-1]
    assert (end["event"], end["data"]["state"]) == ("state", "completed")


async def test_going_on_behind_a_break(sqlite_url: str) -> None:
    """A browser gets what it has not seen. If there is nothing more to come, status 204 tells it to stop."""
    app = talking(sqlite_url)
    app._state.set()
    async with serve(app) as board:
        handle = await board.jobs.enqueue(value(app, "talk"))
        await app.drain()
        again = await board.get(f"/jobs/{handle.id}/follow", Last_Event_ID="1")
        assert [event["id"] for event in events(again.text)] == ["2", "2"]
        assert (await board.get(f"/jobs/{handle.id}/follow", Last_Event_ID="2")).status == 204
        assert (await board.get(f"/jobs/{handle.id}/follow?after=2")).status == 200


async def test_the_log_on_the_page(database_url: str) -> None:
    """It has the newest entries, and where the script goes on. A refresh by the script does not send them again."""
    app = jobrt.App(database_url, migrate=True)

    @app.job(max_attempts=1)
    async def talk(ctx: jobrt.Context) -> None:
        for number in range(1201):
            ctx.log.info("line %d", number)
        await ctx.emit({"<b>": 1}, key="markup")
        try:
            ctx.job.args["nothing"]
        except KeyError:
            ctx.log.exception("it failed")

    async with serve(app) as board:
        handle = await board.jobs.enqueue(value(app, "talk"))
        silent = (await board.get(f"/jobs/{handle.id}")).text
        await app.drain()
        text = (await board.get(f"/jobs/{handle.id}")).text
        refresh = (await board.get(f"/jobs/{handle.id}", X_Jobrt_Live="1")).text
    assert f'data-follow="/jobs/{handle.id}/follow" data-after="0" hidden>' in silent
    assert 'data-after="1203">' in text
    found = re.findall(r'<li class="(\w+) ?(\w*)"><time>[\d :-]*</time> <b>(\w*)</b> <span>(.*)</span>', text)
    assert len(found) == 200
    assert found[0] == ("log", "info", "info", "line 1003")
    assert found[-2:] == [
        ("emit", "", "markup", "{&#34;&lt;b&gt;&#34;:1}"),
        ("log", "error", "error", "it failed"),
    ]
    assert "KeyError: &#39;nothing&#39;" in text
    assert 'id="log"' not in refresh


@pytest.mark.parametrize(
    ("target", "status", "words"),
    [
        ("/jobs/77/follow", 404, "there is no job 77"),
        ("/jobs/1/follow?after=9", 400, "after is 9, but job 1 has 0 entries"),
        ("/jobs/1/follow?after=x", 400, "after is"),
        (f"/jobs/{10**30}/follow", 404, "no such page"),
    ],
)
async def test_what_cannot_be_followed(sqlite_url: str, target: str, status: int, words: str) -> None:
    """It has a status and a clear line, not a broken stream."""
    app = talking(sqlite_url)
    async with serve(app) as board:
        await board.jobs.enqueue(value(app, "talk"))
        answer = await board.get(target)
    assert answer.status == status
    assert words in answer.text


async def test_a_browser_that_leaves(sqlite_url: str) -> None:
    """Its follower is forgotten with the connection."""
    app = talking(sqlite_url)
    async with serve(app) as board:
        handle = await board.jobs.enqueue(value(app, "talk"))
        home = board.jobs._following
        assert home is not None
        async with await trio.open_tcp_stream("127.0.0.1", board.port) as stream:
            connection = h11.Connection(h11.CLIENT)
            headers = [("host", "127.0.0.1")]
            request = h11.Request(method="GET", target=f"/jobs/{handle.id}/follow", headers=headers)
            await stream.send_all(
                (connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b"")
            )
            assert b"200" in await stream.receive_some()
            assert len(home._followers) == 1
        with trio.fail_after(IO_TIMEOUT):
            while home._followers:
                await trio.sleep(0.01)
