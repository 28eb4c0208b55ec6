"""Families that are ended, deleted and pruned."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from jobrt._core import where
from jobrt._core.job import Claimed
from jobrt._core.keep import PruneRule
from jobrt._core.scopes import AncestorEnded, Child
from jobrt._core.states import State
from jobrt._storage.contract import Storage
from tests.conformance.build import claim, complete, job, ref, start

EVERYTHING = where.everything()


@attrs.frozen
class Family:
    """A running job, its running child, and the child's running child."""

    parent: Claimed
    child: Claimed
    grandchild: Claimed


async def _family(storage: Storage) -> Family:
    generations = [await start(storage, job("parent"))]
    for name in ("child", "grandchild"):
        await storage.scopes.open(ref(generations[-1]), "children", on_failure="cancel", seconds=None)
        await storage.scopes.enqueue(ref(generations[-1]), "children", [Child("only", job(name))])
        generations += await claim(storage, name)
    return Family(*generations)


async def _left(storage: Storage) -> set[str]:
    return {one.name for one in await storage.jobs.query(EVERYTHING)}


async def test_a_job_with_living_descendants_is_not_deleted(storage: Storage) -> None:
    """Neither while it runs, nor while it is closing."""
    family = await _family(storage)
    assert await storage.jobs.delete(where.id(family.parent.id)) == 0
    await complete(storage, family.parent)
    assert await storage.jobs.delete(where.id(family.parent.id)) == 0
    assert await _left(storage) == {"parent", "child", "grandchild"}


async def test_a_job_takes_its_family_with_it(storage: Storage) -> None:
    """All descendants, when none of them is alive; others stay."""
    family, other = await _family(storage), await _family(storage)
    for one in (family.grandchild, family.child, family.parent):
        await complete(storage, one)
    assert await storage.jobs.delete(where.id(family.parent.id)) == 3
    assert {one.id for one in await storage.jobs.query(EVERYTHING)} == {
        one.id for one in (other.parent, other.child, other.grandchild)
    }


async def test_nothing_is_pruned_before_its_parent(storage: Storage) -> None:
    """A rule for the names of descendants leaves them alone; the parent's end takes all."""
    family = await _family(storage)
    rules: list[Any] = [PruneRule(state=State.COMPLETED, only=(name,)) for name in ("child", "grandchild")]
    await complete(storage, family.grandchild)
    await complete(storage, family.child)
    assert await storage.jobs.prune(rules) == 0
    await complete(storage, family.parent)
    assert await storage.jobs.prune(rules) == 0
    assert await storage.jobs.prune([PruneRule(state=State.COMPLETED, only=("parent",))]) == 3
    assert await _left(storage) == set()


async def test_a_job_under_an_ended_ancestor_gets_no_children(storage: Storage) -> None:
    """Its attempt learns that it is not another worker that has taken the job."""
    family = await _family(storage)
    await storage.scopes.open(ref(family.grandchild), "children", on_failure="cancel", seconds=None)
    await complete(storage, family.parent)
    with pytest.raises(AncestorEnded, match="is being ended"):
        await storage.scopes.enqueue(ref(family.grandchild), "children", [Child("only", job("late"))])
    assert await _left(storage) == {"parent", "child", "grandchild"}
