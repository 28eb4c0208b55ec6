"""Damage of single rows, as a faulty disk leaves it: the server cannot read a text."""

from __future__ import annotations

import random
import string
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.conformance.build import add, ask, job

if TYPE_CHECKING:
    from jobrt._storage.contract import Storage

ALPHABET = string.ascii_letters + string.digits


def lose_large_texts(admin: psycopg.Connection[Any]) -> None:
    """Remove the pieces of all large texts of jobs, but not what refers to them."""
    try:
        admin.execute("create extension pg_surgery")
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("pg_surgery is not installed")
    found = admin.execute(
        "select reltoastrelid::regclass::text from pg_class where oid = 'jobrt.job'::regclass"
    )
    ((pieces,),) = found.fetchall()
    admin.execute(f"select heap_force_kill(%s::regclass, array(select ctid from {pieces}))", (pieces,))


@pytest.mark.parametrize("limits", [{}, {"cluster_limit": 50}], ids=["without limits", "with a limit"])
async def test_a_job_whose_payload_cannot_be_read_does_not_stop_the_queue(
    storage: Storage, admin: psycopg.Connection[Any], limits: dict[str, int]
) -> None:
    """It is set aside with the error of the server, and the others are claimed."""
    text = "".join(random.Random(1).choices(ALPHABET, k=50_000))
    first, damaged, last = await add(storage, job(), job(args={"text": text}), job())
    lose_large_texts(admin)
    exchange = await storage.attempts.exchange((), ask(**limits))
    assert [one.id for one in exchange.jobs] == [first, last]
    ((refused, doing, error),) = storage.aside.take()
    assert (refused, doing) == (damaged, "claim")
    assert "missing chunk number 0" in error
