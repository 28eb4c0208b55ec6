"""`JobStore.search`: a text in the name, payload and errors of jobs, at a bounded cost."""

from __future__ import annotations

import pytest

from jobrt._core import where
from jobrt._core.search import Search, needle
from jobrt._core.states import Transition
from jobrt._storage.contract import Storage
from tests.conformance.build import add, claim, end, job


async def _search(
    storage: Storage, text: str, *, scan: int = 100, limit: int = 100, after: int | None = None
) -> Search:
    return await storage.jobs.search(where.everything(), needle(text), scan=scan, limit=limit, after=after)


@pytest.fixture
async def ids(storage: Storage) -> list[int]:
    """Jobs with different texts, two of which have failed."""
    found = await add(
        storage,
        job("SendMail", {"to": "Ada@example.com"}),
        job("resize", {"path": 'caf\u00e9 "100%_".png'}),
        job("send", {"to": "bob"}),
        job("send", {"to": "eve"}),
        job("large", {"text": "x" * 9000 + "needle"}),
    )
    bob, eve = await claim(storage)
    failed = [(bob, "ConnectionError", "no route to mail.example.com"), (eve, "OSError", "disk full")]
    for claimed, error_type, message in failed:
        outcome = end(claimed, Transition.RETRY, delay=3600.0, error_type=error_type, message=message)
        await storage.attempts.finish([outcome])
    return found


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("sendmail", [0]),
        ("SEND", [3, 2, 0]),
        ("ada@EXAMPLE", [0]),
        ("caf\u00e9", [1]),
        ('"100%_"', [1]),
        ("%", [1]),
        ("oserror", [3]),
        ("mail", [2, 0]),
        ("no route", [2]),
        ("xxx", [4]),
        ("needle", []),
        ("nowhere", []),
    ],
)
async def test_a_text_is_found(storage: Storage, ids: list[int], text: str, places: list[int]) -> None:
    """In any case of letters, without wildcards, in the beginning of a payload; newest first."""
    assert await _search(storage, text) == Search(tuple(ids[place] for place in places), None)


async def test_only_jobs_that_match_are_searched(storage: Storage, ids: list[int]) -> None:
    """A filter applies before the number of jobs that are looked at."""
    found = await storage.jobs.search(where.name("send"), needle("e"), scan=2, limit=9)
    assert found == Search((ids[3], ids[2]), ids[2])


async def test_a_search_goes_on(storage: Storage, ids: list[int]) -> None:
    """It ends with the limit, or when enough jobs were looked at, and says where to go on."""
    first = await _search(storage, "send", limit=1)
    assert first == Search((ids[3],), ids[3])
    assert await _search(storage, "send", scan=2, after=first.after) == Search((ids[2],), ids[1])
    assert await _search(storage, "send", scan=2, after=ids[1]) == Search((ids[0],), None)
