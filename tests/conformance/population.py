"""Jobs in every combination that maintenance may meet: how they are held, what they wait for, what is to end them."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import attrs

from jobrt._core import where
from jobrt._core.job import Claimed, Wait
from jobrt._core.scopes import Child
from jobrt._core.states import State, Transition
from jobrt._core.unique import UniqueKey
from jobrt._core.worker_info import WorkerInfo
from tests.conformance.build import add, claim, end, job, ref, start

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from jobrt._core.job import NewJob, Outcome
    from jobrt._storage.contract import Storage

__all__ = ["HELD", "LIVING", "PASSED", "Case", "Population", "cases", "populate"]

LIVING, DEAD = "living", "dead"
LEASE = 30.0
PASSED = 100.0
"""Seconds after which the dead worker's lease has ended, and each deadline, expiry and limited wait."""

HELD = ("waiting", "scheduled", "claimed", "executing", "retryable", "suspended", "parked", "woken")
WAITS = ("message", "patience", "sleep", "children")
STOPS = ("", "cancel", "parent", "late", "expired")
FAMILIES = ("alone", "nursery", "child", "running")

_NEVER_RAN = frozenset({"waiting", "scheduled", "claimed"})
_WAITS = frozenset({"suspended", "parked", "woken"})


@attrs.frozen
class Case:
    """One job.

    ``held``: ``woken`` is parked, and due because a message came. ``wait``: ``message`` for ever, ``patience`` with a
    limit. ``stop``: by an operator, because its parent's nursery ends, its deadline has passed, or its expiry.
    ``family``: without a nursery, with an empty one, with a child that waits, or with one that a living worker runs.
    """

    held: str
    wait: str
    stop: str
    family: str
    worker: str
    parent: bool

    @property
    def queue(self) -> str:
        """The queue from which its worker claims it."""
        return "idle" if self.held in {"waiting", "scheduled"} else f"{self.held}-{self.worker}"


def cases(*, all_of_them: bool) -> Iterator[Case]:
    """Yield cases: every combination, or every one of a dead worker, and a few of a living one, parents in turn."""
    combinations = itertools.product(HELD, WAITS, STOPS, FAMILIES, (LIVING, DEAD), (False, True))
    for number, values in enumerate(combinations):
        case = Case(*values)
        if case.held not in _WAITS and case.wait != WAITS[0]:
            continue
        if case.held == "woken" and case.wait not in {"message", "patience"}:
            continue
        if case.held in _NEVER_RAN and case.family != "alone":
            continue
        if case.wait == "children" and case.family == "alone":
            continue
        if case.stop == "parent" and not case.parent:
            continue
        if not all_of_them and case.stop != "parent":
            turn = sum(map(len, (case.held, case.wait, case.stop, case.family))) + number // 4
            if case.parent != bool(turn % 2) or (case.worker == LIVING and turn % 5):
                continue
        yield case


@attrs.define
class Population:
    """Jobs of all cases by id, and what is needed to go on with them."""

    cases: dict[int, Case]
    held: dict[int, Claimed]
    """Claims by the living worker, of cases and of their children."""


async def populate(storage: Storage, wanted: Sequence[Case], *, bad: Container[int] = ()) -> Population:
    """Make one job for each case, with its family, and one that waits for all of them.

    Those at the places `bad` are named so.
    """
    await storage.workers.register(LIVING, lease=1e6, info=WorkerInfo())
    await storage.workers.register(DEAD, lease=LEASE, info=WorkerInfo())
    ids, parents = await _insert(storage, wanted, bad)
    found = dict(zip(ids, wanted, strict=True))
    claimed = await _claim_all(storage, wanted)
    held = {one.id: one for one in claimed.values() if found[one.id].worker == LIVING}
    for job_id, one in claimed.items():
        await _have_family(storage, one, found[job_id])
    running = await claim(storage, "child", queue="kin", worker=LIVING)
    held |= {one.id: one for one in (*running, *parents.values())}
    await _move(storage, claimed, found)
    await storage.scopes.seal(ref(parents["ended"]), "n", end="cancelled")
    cancelled = [job_id for job_id, case in found.items() if case.stop == "cancel"]
    await storage.jobs.cancel(where.id_in(cancelled), "enough")
    await storage.jobs.await_final(list(found))
    waits_for_all = await start(storage, job("last", queue="last"), worker=LIVING)
    await storage.attempts.finish([end(waits_for_all, Transition.SNOOZE, children=tuple(found))])
    return Population(found, held)


async def _insert(
    storage: Storage, wanted: Sequence[Case], bad: Container[int]
) -> tuple[list[int], dict[str, Claimed]]:
    """Insert the jobs; return their ids, and their parents by name."""
    ids: dict[int, int] = {}
    parents: dict[str, Claimed] = {}
    for name in ("", "going", "ended"):
        chosen = [number for number, case in enumerate(wanted) if _parent_of(case) == name]
        new = [_new(number, wanted[number], name="bad" if number in bad else "case") for number in chosen]
        if not name:
            inserted = await add(storage, *new)
        else:
            parents[name] = parent = await start(storage, job(name, queue="parents"), worker=LIVING)
            await storage.scopes.open(ref(parent), "n", on_failure="continue", seconds=None)
            children = [Child(str(number), one) for number, one in zip(chosen, new, strict=True)]
            inserted = [one.id for one in await storage.scopes.enqueue(ref(parent), "n", children)]
        ids |= dict(zip(chosen, inserted, strict=True))
    return [ids[number] for number in range(len(wanted))], parents


def _parent_of(case: Case) -> str:
    if not case.parent:
        return ""
    return "ended" if case.stop == "parent" else "going"


def _new(number: int, case: Case, *, name: str) -> NewJob:
    options: dict[str, Any] = {"queue": case.queue}
    if case.held == "scheduled":
        options["delay"] = timedelta(days=9)
    minute = timedelta(seconds=60) - options.get("delay", timedelta())
    if case.stop == "late":
        options["deadline"] = minute
    elif case.stop == "expired":
        options["expires"] = minute
    unique = UniqueKey(f"{number:032x}", None, frozenset({State.AVAILABLE, State.EXECUTING}), None)
    return job(name, unique=unique, **options)


async def _claim_all(storage: Storage, wanted: Sequence[Case]) -> dict[int, Claimed]:
    claimed: dict[int, Claimed] = {}
    for queue, worker, held in sorted({(case.queue, case.worker, case.held) for case in wanted}):
        if queue != "idle":
            ahead = {"free_slots": 0} if held == "claimed" else {}
            claimed |= {
                one.id: one
                for one in await claim(storage, "case", "bad", queue=queue, worker=worker, **ahead)
            }
    return claimed


async def _have_family(storage: Storage, one: Claimed, case: Case) -> None:
    if case.family == "alone":
        return
    await storage.scopes.open(ref(one), "mine", on_failure="cancel", seconds=None)
    if case.family != "nursery":
        queue = "kin" if case.family == "running" else "idle"
        await storage.scopes.enqueue(ref(one), "mine", [Child("a", job("child", queue=queue))])


async def _move(storage: Storage, claimed: dict[int, Claimed], found: dict[int, Case]) -> None:
    """Bring each claimed job into its state."""
    outcomes = []
    for job_id, one in claimed.items():
        case = found[job_id]
        if case.held == "retryable":
            outcomes.append(end(one, Transition.RETRY, message="again"))
        elif case.held in _WAITS:
            outcomes.append(await _suspend(storage, one, case))
    assert await storage.attempts.finish(outcomes) == ()
    for job_id, case in found.items():
        if case.held == "woken":
            await storage.scopes.send(job_id, "x", "1")


async def _suspend(storage: Storage, one: Claimed, case: Case) -> Outcome:
    kind = "message" if case.wait == "patience" else case.wait
    name = {"message": "x", "sleep": "s", "children": "mine"}[kind]
    if kind == "message":
        await storage.scopes.receive(ref(one), name, 0, within=60 if case.wait == "patience" else None)
    elif kind == "sleep":
        await storage.scopes.sleep(ref(one), name, seconds=60)
    else:
        await storage.scopes.seal(ref(one), name)
    return end(one, Transition.SUSPEND, wait=Wait(kind, name, parked=case.held != "suspended"))
