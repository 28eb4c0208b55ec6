"""Property tests: no request makes a page fail, whatever it contains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

import jobrt
import jobrt.dashboard
from tests.dashboard.serving import shop, value

if TYPE_CHECKING:
    from starlette.types import Message

PATHS = ["/", "/jobs", "/jobs/confirm", "/workers", "/cron", "/jobs/1"]
PATHS += ["/jobs/change", "/queues/change", "/cron/change"]
KEYS = "state queue name tag worker args meta since before order after done count id action reason page concurrency"
DIGITS = "9" * 5000
HOSTILE = [
    DIGITS,
    "-1",
    "0",
    "nan",
    "inf",
    "\x00",
    "\x1b[2J",
    "a=\ud800",
    'a="\\ud800"',
    "a=" + "[" * 3000,
    "²",
    "x" * 3000,
]
HOSTILE += [f"a={DIGITS}", "1e999d", "999999999w", "9999-12-31", "0001-01-01T00:00+14:00"]
HOSTILE += ["x" * 3000, "pause", "scale", "cancel", "delete"]
VALUES = st.sampled_from(HOSTILE) | st.text(max_size=20)


async def call(pages: Any, method: str, path: str, *, query: bytes = b"", body: bytes = b"") -> int:
    """Call the ASGI application as a server would, and return the status of the response."""
    headers = [(b"host", b"localhost"), (b"sec-fetch-site", b"same-origin")]
    statuses: list[int] = []
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            await trio.sleep_forever()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {"type": "http", "http_version": "1.1", "method": method, "scheme": "http", "path": path}
    scope |= {
        "raw_path": b"",
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
    }
    await pages(scope, receive, send)
    (status,) = statuses
    return status


@settings(max_examples=150, deadline=None)
@given(
    path=st.sampled_from(PATHS)
    | st.builds("/jobs/{}".format, VALUES)
    | st.text(max_size=10).map("/{}".format),
    pairs=st.lists(st.tuples(st.sampled_from(KEYS.split()) | st.text(max_size=5), VALUES), max_size=5),
    raw=st.binary(max_size=30),
    post=st.booleans(),
)
def test_no_request_makes_a_page_fail(
    path: str, pairs: list[tuple[str, str]], raw: bytes, *, post: bool
) -> None:
    """The status is never one of a failure of the server: odd input is answered with what is wrong with it."""
    fields = urlencode(pairs, errors="surrogatepass").encode()

    async def main() -> int:
        app = shop("sqlite:///:memory:")
        async with app.open_client() as jobs:
            await jobs.enqueue(value(app, "hello"))
            pages = jobrt.dashboard.asgi(app, jobs)
            if post:
                return await call(pages, "POST", path, body=fields + raw)
            return await call(pages, "GET", path, query=fields + raw)

    assert trio.run(main) < 500
