"""`JobStore.look`: lists at a bounded cost, and a text in the name, payload and errors of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobrt._core import where
from jobrt._core.search import needle
from jobrt._core.states import ALL, FINAL, UNSTARTED, State, Transition
from jobrt._core.walks import Look, Place, walk_of
from jobrt._core.where import Where, matches
from jobrt._storage.contract import Storage
from tests.conformance.build import add, claim, end, job
from tests.conformance.drive import drive, wait
from tests.conformance.filters import filters, populate

if TYPE_CHECKING:
    from jobrt._core.job import JobRecord
    from tests.conformance.harness import Engine

EXAMPLES = {"memory": 200, "sqlite": 20, "postgres": 40}
_SETS = [
    set(FINAL),
    {State.COMPLETED},
    set(UNSTARTED),
    {State.AVAILABLE},
    {State.SCHEDULED},
    {State.EXECUTING},
]


async def _all_pages(storage: Storage, filter: Where, *, newest: bool, scan: int, limit: int) -> list[int]:
    """Return the ids of all pages of a list, each of which looks at few jobs and gets further."""
    walk, after, found = walk_of(filter, newest=newest), None, list[int]()
    kinds = 3 * 10  # states and names, or queues and priorities, in the population
    while True:
        page = await storage.jobs.look(filter, walk, scan=scan, limit=limit, after=after)
        assert len(page.ids) <= min(limit, page.looked_at)
        assert page.looked_at <= scan + kinds
        found += page.ids
        if page.after is None:
            return found
        assert page.looked_at > 0
        assert page.after != after
        after = page.after


def _in_order(found: list[JobRecord], filter: Where, *, newest: bool) -> list[int]:
    """Return the ids in the order of the walk for a filter."""
    by = walk_of(filter, newest=newest).by

    def place(one: JobRecord) -> Any:
        return one.finished_at if by == "ends" else one.schedule_at if by == "due" else None, one.id

    timed = by in {"ends", "due"}
    return [one.id for one in sorted(found, key=place if timed else lambda one: one.id, reverse=newest)]


@pytest.mark.slow
async def test_all_pages_together_are_what_matches(engine: Engine) -> None:
    """Each job that matches is on one page, in order, however little a page looks at."""
    storage = engine.storage
    await populate(engine)
    population = await storage.jobs.query(where.everything(), order_by="id")
    now = await storage.schema.now()
    states = st.one_of(st.none(), st.sampled_from(_SETS), st.sets(st.sampled_from(sorted(ALL))))
    queues = st.lists(st.sampled_from(sorted({one.queue for one in population})), max_size=2)
    names = st.lists(st.sampled_from(sorted({one.name for one in population})), max_size=2)

    @settings(max_examples=EXAMPLES[engine.name], suppress_health_check=list(HealthCheck))
    @given(
        st.one_of(st.just(where.everything()), filters(population)),
        states,
        queues,
        names,
        st.booleans(),
        st.sampled_from([1, 3, 10, 200]),
        st.sampled_from([1, 3, 50]),
    )
    def check(
        filter: Where,
        states: set[State] | None,
        queues: list[str],
        names: list[str],
        newest: bool,
        scan: int,
        limit: int,
    ) -> None:
        parts = [filter]
        parts += [] if states is None else [where.state(*states)]
        parts += [where.Or(tuple(map(where.queue, queues)))] if queues else []
        parts += [where.Or(tuple(map(where.name, names)))] if names else []
        whole = where.And(tuple(parts))
        wanted = [one for one in population if matches(whole, one, now=now)]
        found = wait(_all_pages, storage, whole, newest=newest, scan=scan, limit=limit)
        assert found == _in_order(wanted, whole, newest=newest)

    await drive(check)


async def test_a_list_goes_on_when_its_last_job_is_gone(storage: Storage) -> None:
    """The place where a page has ended is a time and an id, not a job."""
    ids = await add(storage, *(job() for _ in range(6)))
    await storage.jobs.cancel(where.everything(), "")
    filter = where.state("cancelled")
    walk = walk_of(filter, newest=True)
    first = await storage.jobs.look(filter, walk, scan=3, limit=2)
    assert first.ids == (ids[5], ids[4])
    await storage.jobs.delete(where.id(ids[4]))
    assert first.after is not None
    second = await storage.jobs.look(filter, walk, scan=9, limit=9, after=first.after)
    assert second == Look((ids[3], ids[2], ids[1], ids[0]), None, 4)


async def test_jobs_that_few_match_are_behind_many(storage: Storage) -> None:
    """A page that has found nothing says where to go on."""
    (wanted,) = await add(storage, job(tags=("rare",)))
    await add(storage, *(job() for _ in range(20)))
    filter = where.tagged_all(["rare"])
    walk = walk_of(filter, newest=True)
    first = await storage.jobs.look(filter, walk, scan=15, limit=5)
    assert first == Look((), Place(wanted + 6), 15)
    second = await storage.jobs.look(filter, walk, scan=15, limit=5, after=first.after)
    assert second == Look((wanted,), None, 6)


async def test_waiting_jobs_of_more_priorities_than_lists(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are looked at by their ids."""
    for engine in ("sqlite", "postgres"):
        monkeypatch.setattr(f"jobrt._storage.{engine}.look.MOST_KINDS", 3)
    ids = await add(storage, *(job(priority=n) for n in range(5)))
    filter = where.state("available")
    found = await _all_pages(storage, filter, newest=True, scan=2, limit=2)
    assert found == ids[::-1]
    some = filter & where.queue("default")
    assert await _all_pages(storage, some, newest=False, scan=2, limit=2) == ids


async def _search(
    storage: Storage,
    text: str,
    *,
    scan: int = 100,
    limit: int = 100,
    after: Place | None = None,
    filter: Where | None = None,
) -> Look:
    wanted = where.everything() if filter is None else filter
    walk = walk_of(wanted, newest=True)
    return await storage.jobs.look(wanted, walk, scan=scan, limit=limit, after=after, needle=needle(text))


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
    assert await _search(storage, text) == Look(tuple(ids[place] for place in places), None, 5)


async def test_only_jobs_that_match_are_searched(storage: Storage, ids: list[int]) -> None:
    """A filter and a text apply together."""
    found = await _search(storage, "e", filter=where.name("send"))
    assert found.ids == (ids[3], ids[2])


async def test_final_jobs_are_searched_alone(storage: Storage, ids: list[int]) -> None:
    """Those in other states are not looked at, however many there are."""
    await storage.jobs.cancel(where.id(ids[0]), "")
    await add(storage, *(job("ada") for _ in range(20)))
    assert await _search(storage, "ada", scan=5, filter=where.state("cancelled")) == Look((ids[0],), None, 1)


async def test_a_search_goes_on(storage: Storage, ids: list[int]) -> None:
    """It ends with the limit, or when enough jobs were looked at, and says where to go on."""
    first = await _search(storage, "send", limit=1)
    assert first == Look((ids[3],), Place(ids[3]), 2)
    assert await _search(storage, "send", scan=2, after=first.after) == Look((ids[2],), Place(ids[1]), 2)
    assert await _search(storage, "send", scan=2, after=Place(ids[1])) == Look((ids[0],), None, 1)
