"""Attempts in PostgreSQL: claims, outcomes, and what running jobs save."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import attrs
import psycopg
import trio

from jobrt._core.job import Claimed, JobRef, Outcome, Save, Start
from jobrt._core.limits import Demand
from jobrt._core.looks import Look
from jobrt._core.sweeps import Sweep, gave_back
from jobrt._storage.apart import Aside, of_a_row
from jobrt._storage.beats import Beats
from jobrt._storage.contract import Exchange
from jobrt._storage.postgres import parts
from jobrt._storage.postgres.claim import Reply, Watermark, claim_values, exchange_statement, read_reply
from jobrt._storage.postgres.database import CALL_SECONDS, Database, retried
from jobrt._storage.postgres.encode import microseconds, numbers, texts
from jobrt._storage.postgres.finish import ended_values, needs_statements, refused_of, write
from jobrt._storage.postgres.limited_claim import limited_exchange
from jobrt._storage.postgres.refused import find_refused, without_jobs
from jobrt._storage.postgres.session import Session
from jobrt._storage.postgres.waker import Waker
from jobrt._storage.together import Together
from jobrt._trio_psycopg.errors import is_stale, translate
from jobrt._trio_psycopg.pool import call_deadline
from jobrt.errors import LeaseLost, StorageUnavailable

_CLAIM_SECONDS: Final = 20.0
"""Seconds that a claim may take. A longer one has a bad plan or waits for a lock, so it is better to try again."""


@attrs.frozen
class PostgresAttempts:
    """Implementation of `AttemptStore`."""

    _database: Database
    _waker: Waker
    _beats: Beats
    _aside: Aside
    _looks: dict[str, Look] = attrs.field(factory=dict[str, Look], init=False)
    """What claims of limited queues remember."""
    _together: Together[Save, bool] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_together", Together(self._save_all, self._save_one))

    # ------------------------------------------------------------------ claim and finish

    async def exchange(self, outcomes: Sequence[Outcome], demand: Demand) -> Exchange:
        if demand.empty:
            return Exchange(await self.finish(outcomes), ())
        if needs_statements(outcomes):
            refused = await self.finish(outcomes)
            return attrs.evolve(await self.exchange((), demand), refused=refused)
        call = partial(self._exchange_limited if demand.clustered else self._exchange, outcomes, demand)
        without = self._aside.but("claim")
        try:
            return await (without_jobs(self._database, without, call) if without else retried(call))
        except Exception as error:
            if outcomes or not of_a_row(error):  # with outcomes, one of them may be the cause
                raise
            if not (found := await find_refused(self._database, self._aside, demand)):
                raise
        exchange = await without_jobs(self._database, [*without, *found], call)
        return attrs.evolve(exchange, cut=True)  # there may be more to claim

    async def _exchange(self, outcomes: Sequence[Outcome], demand: Demand) -> Exchange:
        watermark, clock = self._waker.watermarks.of(demand), self._waker.watermarks.clock
        began = clock()
        try:
            return await self._exchange_once(outcomes, demand, watermark)
        except StorageUnavailable:
            watermark.too_slow = watermark.too_slow or clock() - began >= _CLAIM_SECONDS
            raise

    async def _exchange_once(
        self, outcomes: Sequence[Outcome], demand: Demand, watermark: Watermark
    ) -> Exchange:
        async with self._database.session(seconds=_CLAIM_SECONDS) as session:
            if watermark.too_slow:
                await parts.begin(session, demand, watermark)
            elif not watermark.probed:
                await parts.probe(session, demand, watermark)
            if watermark.sweep is not None:
                return await self._exchange_in_parts(session, outcomes, demand)
            reply, incomplete = await self._claim(session, outcomes, demand, all_priorities=False)
            refused = await refused_of(session, outcomes, landed=reply.landed)
            jobs, last = reply.jobs, reply
            if incomplete:
                last, _ = await self._claim(session, (), _remaining(demand, jobs), all_priorities=True)
                jobs = tuple(sorted([*jobs, *last.jobs], key=_order))
            watermark.too_slow = watermark.cost > parts.SLOW
        self._waker.due_again(reply.woken)
        next_due = None if last.cut else last.next_due
        return Exchange(refused, jobs, next_due, microseconds(last.now), last.cut)

    async def _exchange_in_parts(
        self, session: Session, outcomes: Sequence[Outcome], demand: Demand
    ) -> Exchange:
        """Exchange, and claim new and older jobs by themselves: these take turns."""
        watermarks, since = self._waker.watermarks, self._beats.since(demand.worker)
        watermark = watermarks.of(demand)
        now, sweep, old = watermarks.clock(), watermark.sweep or Sweep(), None
        if gave_back(outcomes):
            sweep = sweep.again()
        swept: Sweep | None = sweep
        refused: tuple[JobRef, ...] = ()
        if sweep.old_first:
            # Outcomes first: a deadlock repeats the call, and must not lose the jobs of a claim.
            if outcomes:
                refused, woken = await write(session, outcomes)
                self._waker.due_again(woken)
            outcomes = ()
            old, swept = await parts.claim_old(
                session, demand, sweep, now=now, since=since, watermarks=watermarks
            )
        rest = demand if old is None else parts.rest_of(demand, old.jobs)
        new, _ = await self._claim(session, outcomes, rest, all_priorities=False, in_parts=True)
        if not sweep.old_first:
            refused = await refused_of(session, outcomes, landed=new.landed)
            rest = parts.rest_of(demand, new.jobs)
            old, swept = await parts.claim_old(
                session, rest, sweep, now=now, since=since, watermarks=watermarks
            )
        watermark.sweep = None if swept is None else swept.turned()
        self._waker.due_again(new.woken)
        jobs = new.jobs if old is None else tuple(sorted([*old.jobs, *new.jobs], key=_order))
        waits = [new.next_due, None if swept is None else max(swept.next_at - now, 0.0)]
        due = min((wait for wait in waits if wait is not None), default=None)
        held_back = swept is not None and swept.hurries and not jobs
        cut = new.cut or (old is not None and old.cut) or bool(new.found) or swept is None
        return Exchange(refused, jobs, None if cut else due, microseconds(new.now), cut, held_back)

    async def _claim(
        self,
        session: Session,
        outcomes: Sequence[Outcome],
        demand: Demand,
        *,
        all_priorities: bool,
        in_parts: bool = False,
    ) -> tuple[Reply, bool]:
        """Run the statement; return its reply, and whether to claim the rest from `all_priorities` (see claim.py).

        `in_parts`: from the watermark only (see parts.py).
        """
        now = self._waker.watermarks.clock()
        watermark = self._waker.watermarks.of(demand)
        full = not in_parts and (all_priorities or watermark.needs_full(now))
        requested = full and watermark.take_request()
        if full:
            watermark.forget(now)
        ended, values = ended_values(outcomes)
        statement = exchange_statement(
            session.schema, ended=ended, capped=bool(demand.capped), all_priorities=all_priorities
        )
        values |= claim_values(demand, self._beats.since(demand.worker))
        values |= watermark.start(full=full, all_priorities=all_priorities)
        try:
            rows = await session.run(statement, **values)
        except BaseException:
            watermark.full_requested = watermark.full_requested or requested
            raise
        reply = read_reply(rows, demand, ended=len(outcomes), watermarks=self._waker.watermarks)
        watermark.learn(demand, reply, full=full, all_priorities=all_priorities, now=now)
        short = not in_parts and len(reply.jobs) < demand.limit and not reply.cut
        repeat = short and not all_priorities and watermark.repeat(reply, full=full)
        if (
            short and (left := watermark.requested_in(now)) is not None
        ):  # the wake-up that asked for it comes only once
            reply = attrs.evolve(
                reply, next_due=left if reply.next_due is None else min(left, reply.next_due)
            )
        return reply, repeat

    async def _exchange_limited(self, outcomes: Sequence[Outcome], demand: Demand) -> Exchange:
        """Exchange under limits for the whole cluster."""
        look = self._looks.get(demand.queue, Look())
        async with self._database.session(seconds=_CLAIM_SECONDS) as session:
            exchange, woken, look = await limited_exchange(
                session,
                outcomes,
                demand,
                look=look,
                since=self._beats.since(demand.worker),
                aside=self._aside,
            )
        if self._looks.get(demand.queue, Look()).path != look.path:
            self._waker.keys.forget()
        self._looks[demand.queue] = look
        self._waker.due_again(woken)
        return exchange

    async def finish(self, outcomes: Sequence[Outcome]) -> tuple[JobRef, ...]:
        if not outcomes:
            await trio.lowlevel.checkpoint()
            return ()
        refused = await retried(partial(self._finish, outcomes))
        if gave_back(outcomes):
            self._waker.watermarks.look_again()
        return refused

    async def _finish(self, outcomes: Sequence[Outcome]) -> tuple[JobRef, ...]:
        async with self._database.session() as session:
            if needs_statements(outcomes):
                async with session.conn.transaction():
                    refused, woken = await write(session, outcomes)
            else:
                refused, woken = await write(session, outcomes)
        self._waker.due_again(woken)
        return refused

    async def show_started(self, starts: Sequence[Start]) -> None:
        starts = sorted(starts)

        async def show(ids: Sequence[int]) -> None:
            part = frozenset(ids)
            shown = [start for start in starts if start.id in part]
            await self._database.fetch(
                "attempts/show_started",
                ids=numbers(start.id for start in shown),
                leases=numbers(start.lease for start in shown),
                began=numbers(start.began for start in shown),
            )

        await self._aside.apart("start", sorted({start.id for start in starts}), show)

    async def release_unknown(self, worker: str, queue: str, known: Sequence[JobRef]) -> int:
        rows = await self._database.fetch(
            "attempts/release_unknown_find",
            worker=worker,
            queue=queue,
            ids=numbers(ref.id for ref in known),
            leases=numbers(ref.lease for ref in known),
        )
        leases: dict[int, int] = dict(rows)

        async def release(ids: Sequence[int]) -> int:
            refs = {"ids": numbers(ids), "leases": numbers(leases[job_id] for job_id in ids)}
            return len(await self._database.fetch("attempts/release_unknown", worker=worker, **refs))

        released = sum(await self._aside.apart("release", list(leases), release))
        if released:
            self._waker.watermarks.look_again()
            self._waker.due_again([queue])
        return released

    # ------------------------------------------------------------------ running jobs

    async def save(
        self, ref: JobRef, *, progress: str | None = None, saved: str | None = None, forget: bool = False
    ) -> bool:
        save = Save(*ref, progress=progress, saved=saved)
        if not forget:
            return await self._together(save)
        return await retried(partial(self._save_and_forget, save))

    async def _save_and_forget(self, save: Save) -> bool:
        async with self._database.session() as session, session.conn.transaction():
            if not await _stored(session, [save], skip=""):
                return False
            await session.fetch("attempts/forget", id=str(save.id))
        return True

    async def steps(self, ref: JobRef) -> Mapping[str, str]:
        return dict(await self._database.fetch("attempts/steps", id=str(ref.id)))

    async def save_step(self, ref: JobRef, name: str, value: str) -> bool:
        return await self._together(Save(*ref, step=name, value=value))

    async def _save_all(self, saves: Sequence[Save]) -> list[bool | None]:
        """Store what jobs save, but of those only whose rows are leased and not locked."""
        stored = await retried(partial(self._stored_alone, saves, skip="skip locked"))
        return [True if number in stored else None for number in range(1, len(saves) + 1)]

    async def _save_one(self, save: Save) -> bool:
        return bool(await retried(partial(self._stored_alone, [save], skip="")))

    async def _stored_alone(self, saves: Sequence[Save], *, skip: str) -> set[int]:
        async with self._database.session() as session:
            return await _stored(session, saves, skip=skip)

    @asynccontextmanager
    async def transaction(self, ref: JobRef, outcome: Outcome) -> AsyncGenerator[Any]:
        # The row is not locked meanwhile: neither a cancel request nor a rescue must wait for a job. The outcome is
        # written under the lease. If the lease is lost, everything is rolled back.
        woken: list[str] = []
        in_block = False  # errors of the caller's block are raised unchanged
        async with self._database.plain.acquire() as conn:
            # A prepared statement may be stale, and at the end of the block it is too late to try again.
            session = Session(conn, self._database.schema, prepare=False)
            try:
                async with conn.transaction():
                    with call_deadline(conn, CALL_SECONDS):
                        held = await session.fetch(
                            "attempts/transaction_held", id=str(ref.id), lease=str(ref.lease)
                        )
                    if not held:
                        raise LeaseLost(
                            f"job {ref.id} is no longer leased as {ref.lease}: the transaction was not started"
                        )
                    in_block = True
                    yield conn
                    in_block = False
                    with call_deadline(conn, CALL_SECONDS):
                        refused, woken = await write(session, [outcome])
                    if refused:
                        raise LeaseLost(
                            f"job {ref.id} is no longer leased as {ref.lease}: the transaction was rolled back"
                        )
            except psycopg.Error as error:
                conn.stale = is_stale(error)
                if in_block:
                    raise
                raise translate(error, conn.where, lost=conn.closed) from error
        self._waker.due_again(woken)


def _remaining(demand: Demand, jobs: Sequence[Claimed]) -> Demand:
    """Return the part of a demand that remains after these jobs were claimed."""
    members = {name: demand.members(name) for name, _ in demand.capped}
    left = ((name, cap - sum(job.name in members[name] for job in jobs)) for name, cap in demand.capped)
    capped = tuple((name, cap) for name, cap in left if cap > 0)
    free_slots = max(demand.starting - len(jobs), 0)
    return attrs.evolve(demand, limit=demand.limit - len(jobs), capped=capped, free_slots=free_slots)


def _order(job: Claimed) -> tuple[Any, ...]:
    return (-job.priority, job.schedule_at, job.id)


async def _stored(session: Session, saves: Sequence[Save], *, skip: str) -> set[int]:
    """Store what jobs save, and return which of them, counted from 1."""
    rows = await session.run(
        session.schema.statement("attempts/save", skip=skip),
        ids=numbers([save.id for save in saves]),
        leases=numbers([save.lease for save in saves]),
        progress=texts([save.progress for save in saves]),
        saved=texts([save.saved for save in saves]),
        steps=texts([save.step for save in saves]),
        results=texts([save.value for save in saves]),
    )
    return {row[0] for row in rows}
