"""Versions of payloads: they are stored, and claims leave alone what their worker cannot read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobrt._core import where
from jobrt._core.job import NewJob
from jobrt._core.states import End, State, Transition
from jobrt._core.unique import Replace, Unique, unique_key
from tests.conformance.build import add, ask, claim, end, job, look
from tests.conformance.drive import drive, wait

if TYPE_CHECKING:
    from jobrt._storage.contract import Storage

LIMITS: list[dict[str, Any]] = [{}, {"cluster_limit": 100}, {"key": "name", "per_key": 100}]


def fits(**names: tuple[int, int]) -> str:
    """Return what a worker can read: for each name the highest version, and the shape of its class."""
    return json.dumps(names)


async def set_aside(storage: Storage, shape: int, new: NewJob | None = None) -> int:
    """Insert a job that a class of this shape could not read."""
    (id,) = await add(storage, new or job())
    (claimed,) = await claim(storage, "send", fits=fits(send=(9, shape + 1)))
    assert (
        await storage.attempts.finish([end(claimed, Transition.SNOOZE, end=End.UNDECODABLE, unfit=shape)])
        == ()
    )
    return id


@pytest.mark.parametrize("number", [1, 3, 600])
async def test_a_version_is_stored_with_its_job(storage: Storage, number: int) -> None:
    """However many are enqueued at once: the record and the claim have it; without one it is the first."""
    ids = await add(storage, *[job(version=5 if n % 2 else None) for n in range(1, number + 1)])
    expected = [5 if n % 2 else None for n in range(1, number + 1)]
    assert [(await look(storage, id)).version for id in ids[:3]] == [found or 1 for found in expected[:3]]
    claimed = await claim(storage, "send", fits=fits(send=(5, 0)))
    assert [one.version for one in claimed] == expected


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("capped", [False, True])
async def test_a_newer_version_is_left_alone(storage: Storage, limits: dict[str, Any], capped: bool) -> None:
    """By claims of every kind, as an unknown name is; a worker that knows the version gets it, in order."""
    versions = [3, None, 2, 1, 4, 3]
    ids = await add(storage, *[job(version=version) for version in versions])
    how: dict[str, Any] = {**limits}
    if capped:
        how["capped"] = (("send", 50),)
    names = () if capped else ("send",)
    old = await claim(storage, *names, fits=fits(send=(2, 0)), **how)
    assert [one.id for one in old] == [ids[1], ids[2], ids[3]]
    assert await claim(storage, *names, fits=fits(other=(9, 0)), **how) == ()
    record = await look(storage, ids[0])
    assert (record.state, record.attempt, record.attempts) == (State.AVAILABLE, 0, ())
    new = await claim(storage, *names, fits=fits(send=(4, 0)), **how)
    assert [one.id for one in new] == [ids[0], ids[4], ids[5]]


@pytest.mark.parametrize("limits", LIMITS)
async def test_what_was_unfit_for_a_shape_is_left_alone_by_it(
    storage: Storage, limits: dict[str, Any]
) -> None:
    """Only by it: a class of any other shape may be able to read the job, which is due at once."""
    id = await set_aside(storage, 7, job(version=2))
    assert await claim(storage, "send", fits=fits(send=(2, 7)), **limits) == ()
    assert await claim(storage, "send", fits=fits(send=(1, 8)), **limits) == ()
    (claimed,) = await claim(storage, "send", fits=fits(send=(2, 8)), **limits)
    assert (claimed.id, claimed.attempt, claimed.version) == (id, 1, 2)
    assert [record.end for record in claimed.attempts] == [End.UNDECODABLE]


async def test_jobs_that_are_left_alone_hide_no_others(storage: Storage) -> None:
    """However many stand at the head of the queue."""
    await add(storage, *[job(version=2, priority=1) for _ in range(1200)])
    ids = await add(storage, job(), job(priority=2))
    claimed = await claim(storage, "send", limit=2, fits=fits(send=(1, 0)))
    assert [one.id for one in claimed] == ids[::-1]


async def test_another_payload_may_be_readable(storage: Storage) -> None:
    """An update of the payload, by id or by a uniqueness rule, sets its version and lets every class try."""
    id = await set_aside(storage, 7, job(version=2))
    await storage.jobs.update(where.id(id), {"args": '{"a":1}', "version": None})
    (claimed,) = await claim(storage, "send", fits=fits(send=(1, 7)))
    assert (claimed.id, claimed.args, claimed.version) == (id, '{"a":1}', None)

    rule = Unique(key="k", on_conflict=Replace("args"))
    key = unique_key(rule, name="send", queue="default", args="{}", metadata={})
    id = await set_aside(storage, 7, job(version=2, unique=key))
    ((found, duplicate),) = await storage.jobs.insert([job(args={"a": 2}, version=3, unique=key)])
    assert (found, duplicate) == (id, True)
    assert (await look(storage, id)).version == 3
    (claimed,) = await claim(storage, "send", fits=fits(send=(3, 7)))
    assert json.loads(claimed.args) == {"a": 2}


async def test_duplicates_of_a_batch_replace_the_version_too(storage: Storage) -> None:
    """The payload that is stored in the end is the one whose version is stored."""
    rule = Unique(key="k", on_conflict=Replace("args"))
    key = unique_key(rule, name="send", queue="default", args="{}", metadata={})
    first, second = await storage.jobs.insert([job(unique=key), job(args={"a": 2}, version=3, unique=key)])
    assert first.id == second.id
    record = await look(storage, first.id)
    assert (record.args, record.version) == ({"a": 2}, 3)


@pytest.mark.parametrize("limits", LIMITS)
async def test_aliases_share_the_number_of_a_capped_name(storage: Storage, limits: dict[str, Any]) -> None:
    """The first jobs of any of the names are claimed, in order, up to the number; other names are not affected."""
    names = ["old", "send", "old", "older", "free", "send", "free"]
    ids = await add(storage, *map(job, names))
    how: dict[str, Any] = {"capped": (("send", 3),), "aliases": {"old": "send", "older": "send"}, **limits}
    assert [one.id for one in await claim(storage, "free", **how)] == [*ids[:3], ids[4], ids[6]]
    assert [one.id for one in await claim(storage, **how)] == [ids[3], ids[5]]


@pytest.mark.parametrize("name", ['q"uote', "sl\\ash", "it's", "dollar $1 :name", "ö😀", "{name}"])
async def test_any_name_can_have_versions(storage: Storage, name: str) -> None:
    """What a worker can read is sent as JSON."""
    ids = await add(storage, job(name, version=2), job(name, version=3))
    assert [one.id for one in await claim(storage, name, fits=fits(**{name: (2, 5)}))] == ids[:1]


async def test_a_claim_is_what_a_plain_rule_says(storage: Storage) -> None:
    """A job is claimed if the worker has its name and a version that is not lower; without one it has the first."""

    async def check(stored: list[tuple[str, int | None]], known: dict[str, int]) -> None:
        await storage.jobs.delete(where.everything())
        ids = await add(storage, *[job(name, version=version) for name, version in stored])
        pairs = zip(ids, stored, strict=True)
        right = [id for id, (name, version) in pairs if known.get(name, 1) >= (version or 1)]
        text = fits(**{name: (version, 0) for name, version in known.items()})
        exchange = await storage.attempts.exchange((), ask("a", "b", fits=text))
        assert [one.id for one in exchange.jobs] == right

    @settings(max_examples=20, deadline=None)
    @given(
        st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([None, 1, 2, 3])), max_size=8),
        st.dictionaries(st.sampled_from("ab"), st.integers(1, 3)),
    )
    def run(stored: list[tuple[str, int | None]], known: dict[str, int]) -> None:
        wait(check, stored, known)

    await drive(run)
