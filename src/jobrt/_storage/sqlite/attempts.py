"""Attempts in SQLite: claims, outcomes, and what running jobs save."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import attrs

from jobrt._core.job import JobRef, Outcome, Save, Start
from jobrt._core.limits import Demand
from jobrt._core.looks import Look
from jobrt._core.sweeps import gave_back
from jobrt._storage.apart import Aside, Refused, of_a_row
from jobrt._storage.beats import Beats
from jobrt._storage.contract import Exchange
from jobrt._storage.sqlite.async_connection import AsyncConnection
from jobrt._storage.sqlite.claim import PAGE, claim, lease_rows, next_due
from jobrt._storage.sqlite.database import Database
from jobrt._storage.sqlite.finish import finish, release_unknown, show_started
from jobrt._storage.sqlite.limited_claim import choose, chosen_rows
from jobrt._storage.sqlite.savepoints import Apart
from jobrt._storage.sqlite.scan import Passed
from jobrt._storage.sqlite.transaction import SQL, Transaction
from jobrt.errors import LeaseLost

_SMALLEST_PAGE: Final = 16
"""Jobs that a claim looks at in one go at least: so many of the usual limit of payloads are affordable."""


@attrs.frozen
class SqliteAttempts:
    """Implementation of `AttemptStore`."""

    _database: Database
    _beats: Beats
    _aside: Aside
    _pages: dict[str, int] = attrs.field(factory=dict[str, int], init=False)
    """Jobs that a claim looks at in one go, for queues in which jobs are so large that the last claim was cut."""
    _looks: dict[str, Look] = attrs.field(factory=dict[str, Look], init=False)
    """What claims of limited queues remember."""
    _passed: dict[tuple[Any, ...], Passed] = attrs.field(factory=dict[tuple[Any, ...], Passed], init=False)
    """What claims remember that could not look at all due jobs, by queue and names."""

    async def exchange(self, outcomes: Sequence[Outcome], demand: Demand) -> Exchange:
        registered = self._database.registered
        if registered is not None and demand.worker not in registered:
            # Others would take its jobs for those of a dead worker.
            demand = attrs.evolve(demand, limit=0)
        if without := self._aside.but("claim"):
            demand = attrs.evolve(demand, without=frozenset(without))
        try:
            exchange, _ = await self._exchange(outcomes, demand)
        except Exception as error:
            if outcomes or not of_a_row(error):  # with outcomes, one of them may be the cause
                raise
            exchange, refused = await self._exchange((), demand, apart=True)
            self._aside.put(refused)
            exchange = attrs.evolve(exchange, cut=True)  # there may be more to claim
        return exchange

    async def _exchange(
        self, outcomes: Sequence[Outcome], demand: Demand, *, apart: bool = False
    ) -> tuple[Exchange, Sequence[Refused]]:
        """Exchange, `apart` without the jobs that the database refuses to change, which are returned."""
        since = self._beats.since(demand.worker)
        if demand.clustered:
            look = self._looks.get(demand.queue, Look())
            limited = partial(
                _exchange_limited, outcomes=outcomes, demand=demand, look=look, since=since, apart=apart
            )
            exchange, refused, look = await self._database.write(limited, shared=True)
            self._looks[demand.queue] = look
            return exchange, refused
        page = self._pages.get(demand.queue, PAGE)
        asked = (demand.queue, demand.names, *(name for name, _ in demand.capped))
        passed = self._passed.get(asked)
        call = partial(
            _exchange, outcomes=outcomes, demand=demand, page=page, since=since, passed=passed, apart=apart
        )
        exchange, refused, remembered = await self._database.write(call, shared=True)
        if remembered is not None:
            self._passed[asked] = remembered
        elif passed is not None:
            self._passed.pop(asked, None)
        if exchange.cut:
            self._pages[demand.queue] = min(max(2 * len(exchange.jobs), _SMALLEST_PAGE), PAGE)
        elif page < PAGE:
            self._pages.pop(demand.queue, None)
        return exchange, refused

    async def finish(self, outcomes: Sequence[Outcome]) -> tuple[JobRef, ...]:
        refused = await self._database.write(partial(finish, outcomes=outcomes), shared=True)
        if self._passed and gave_back(outcomes):
            self._look_again()
        return refused

    def _look_again(self) -> None:
        for asked, passed in self._passed.items():
            self._passed[asked] = passed.again()

    async def show_started(self, starts: Sequence[Start]) -> None:
        call = partial(show_started, starts=starts)
        self._aside.put(await self._database.write(call, shared=True))

    async def release_unknown(self, worker: str, queue: str, known: Sequence[JobRef]) -> int:
        call = partial(release_unknown, worker=worker, queue=queue, known=known)
        released, refused = await self._database.write(call)
        self._aside.put(refused)
        if released:
            self._look_again()
        return released

    async def save(
        self, ref: JobRef, *, progress: str | None = None, saved: str | None = None, forget: bool = False
    ) -> bool:
        save = Save(*ref, progress=progress, saved=saved)
        return await self._database.write(partial(_save, save=save, forget=forget), shared=True)

    async def steps(self, ref: JobRef) -> Mapping[str, str]:
        return await self._database.read(partial(_steps, ref=ref))

    async def save_step(self, ref: JobRef, name: str, value: str) -> bool:
        save = Save(*ref, step=name, value=value)
        return await self._database.write(partial(_save, save=save), shared=True)

    @asynccontextmanager
    async def transaction(self, ref: JobRef, outcome: Outcome) -> AsyncGenerator[AsyncConnection]:
        def enter(tx: Transaction) -> None:
            if not _held(tx, ref):
                raise _lost(ref)

        def leave(tx: Transaction) -> None:
            if finish(tx, [outcome]):
                raise _lost(ref)

        async with self._database.hold(enter, leave) as connection:
            yield connection


def _exchange(
    tx: Transaction,
    *,
    outcomes: Sequence[Outcome],
    demand: Demand,
    page: int,
    since: int | None,
    passed: Passed | None,
    apart: bool,
) -> tuple[Exchange, Sequence[Refused], Passed | None]:
    refused = finish(tx, outcomes) if outcomes else ()
    parts = Apart(tx, "claim") if apart else None
    if passed is not None and gave_back(outcomes):
        passed = passed.again()
    jobs, cut, passed = claim(tx, demand, page=page, since=since, passed=passed, apart=parts)
    short = not demand.empty and not cut and len(jobs) < demand.limit
    due, held_back = next_due(tx, demand.queue) if short else None, False
    if passed is not None and short:
        wait = passed.waits(tx.now)
        due = wait if due is None else min(due, wait)
        held_back = passed.sweep.hurries and not jobs
    exchange = Exchange(refused, jobs, due, tx.now, cut, held_back)
    return exchange, () if parts is None else parts.refused, passed


def _exchange_limited(
    tx: Transaction,
    *,
    outcomes: Sequence[Outcome],
    demand: Demand,
    look: Look,
    since: int | None,
    apart: bool,
) -> tuple[Exchange, Sequence[Refused], Look]:
    refused = finish(tx, outcomes) if outcomes else ()
    parts = Apart(tx, "claim") if apart else None
    choice = choose(tx, demand, look, since=since, apart=parts)
    rows = chosen_rows(tx, choice.ids) if choice.ids else ()
    if choice.at_once is not None and choice.at_once < demand.starting:
        demand = attrs.evolve(demand, free_slots=choice.at_once)
    jobs, cut = lease_rows(tx, demand, rows, cut=False, starts=choice.starts, apart=parts)
    waits = [] if choice.wait is None else [choice.wait / 1e6]
    if (
        not demand.empty
        and not cut
        and len(jobs) < demand.limit
        and (due := next_due(tx, demand.queue)) is not None
    ):
        waits.append(due)
    exchange = Exchange(refused, jobs, min(waits, default=None), tx.now, cut, choice.held_back, choice.keys)
    return exchange, () if parts is None else parts.refused, choice.look


def _save(tx: Transaction, save: Save, *, forget: bool = False) -> bool:
    """Store what a job saves, and forget what it has decided so far; False if its lease is lost."""
    values = save._asdict()
    if not tx.run(SQL["attempts/save_flag"], values):
        return False
    tx.run(SQL["attempts/save" if save.step is None else "attempts/save_step"], values)
    if forget:
        tx.run(SQL["scopes/forget_answers"], {"id": save.id})
        tx.run(SQL["scopes/forget_steps"], {"id": save.id})
    if save.progress is not None:
        tx.news.append(save.id)
    return True


def _steps(tx: Transaction, ref: JobRef) -> dict[str, str]:
    found: dict[str, str] = json.loads(tx.value(SQL["attempts/steps"], (ref.id,)))
    return found


def _held(tx: Transaction, ref: JobRef) -> bool:
    return bool(tx.value(SQL["attempts/held"], ref._asdict()))


def _lost(ref: JobRef) -> LeaseLost:
    return LeaseLost(
        f"job {ref.id} no longer belongs to this attempt: it was rescued, cancelled or deleted meanwhile"
    )
