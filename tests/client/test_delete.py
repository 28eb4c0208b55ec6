"""Deleting all jobs that match a filter, in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import jobrt
from jobrt import aio, where
from jobrt._storage.postgres.jobs import PostgresJobs
from jobrt._storage.sqlite.jobs import SqliteJobs
from tests.support.in_asyncio import in_asyncio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jobrt._core.walks import Look


class Nothing(jobrt.Job):
    """Job of no effect."""

    async def run(self, ctx: jobrt.Context) -> None:
        pass


def _spied(look: Callable[..., Awaitable[Look]], looked_at: list[int]) -> Callable[..., Awaitable[Look]]:
    async def spy(*args: Any, **options: Any) -> Look:
        found = await look(*args, **options)
        looked_at.append(found.looked_at)
        return found

    return spy


async def test_each_batch_goes_on_behind_the_last_one(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that do not match are looked at once. From the beginning each time, many of them would take hours."""
    monkeypatch.setattr("jobrt._client.client.BATCH", 8)
    monkeypatch.setattr("jobrt._client.client._BATCH", 2)
    looked_at: list[int] = []
    for kind in (PostgresJobs, SqliteJobs):
        monkeypatch.setattr(kind, "look", _spied(kind.look, looked_at))
    async with jobrt.App(database_url, jobs=[Nothing], migrate=True).open_client() as jobs:
        await jobs.enqueue_many(
            Nothing().with_options(tags=("old",) if n % 5 == 0 else ()) for n in range(40)
        )
        assert await jobs.delete(where.tagged_any(["old"])) == 8
        assert sum(looked_at) == 40
        assert await jobs.count() == 32
        assert await jobs.delete(where.tagged_any(["old"])) == 0
        assert await jobs.delete(where.state("available") & where.name("nothing")) == 0
        assert await jobs.delete(where.state("available", "scheduled", "retryable")) == 32


async def test_an_asyncio_program_deletes_what_matches(database_url: str) -> None:
    """It has the same batches."""

    async def program() -> None:
        async with aio.Client(database_url, jobs=[Nothing]) as client:
            assert await client.delete(where.tagged_any(["old"])) == 2

    async with jobrt.App(database_url, jobs=[Nothing], migrate=True).open_client() as jobs:
        await jobs.enqueue_many(
            Nothing().with_options(tags=("old",) if n % 5 == 0 else ()) for n in range(10)
        )
        await in_asyncio(program, "asyncio")
        assert await jobs.count() == 8
