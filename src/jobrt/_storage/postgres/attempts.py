"""Claim jobs and write what becomes of them: the calls that everything else waits for."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from datetime import UTC
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs
import psycopg
import trio

from jobrt._core.job import Claimed, JobRef
from jobrt._storage.contract import Exchange
from jobrt._storage.postgres import cluster
from jobrt._storage.postgres.claim import Reply, claim_values, exchange_statement, read_reply
from jobrt._storage.postgres.database import CALL_SECONDS, retried
from jobrt._storage.postgres.encode import clean, numbers, texts
from jobrt._storage.postgres.finish import await_children, ended_values, lock_families, refused_of
from jobrt._storage.postgres.rows import claimed_jobs
from jobrt._storage.postgres.session import Session
from jobrt._trio_psycopg.errors import translate
from jobrt._trio_psycopg.pool import call_deadline
from jobrt.errors import LeaseLost

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from jobrt._core.job import Outcome
    from jobrt._core.limits import Demand
    from jobrt._storage.postgres.database import Database
    from jobrt._storage.postgres.waker import Waker

__all__ = ["PostgresAttempts"]

_CLAIM_SECONDS: Final = 20.0
"""Seconds that a claim may take. One that takes longer has a wrong plan or a lock before it: better to try again."""


@attrs.define(eq=False)
class PostgresAttempts:
    """Claims, outcomes, and what attempts write in between."""

    database: Database
    waker: Waker

    # ------------------------------------------------------------------ claim and finish

    async def exchange(self, outcomes: Sequence[Outcome], demand: Demand) -> Exchange:
        """Write outcomes and claim; as `AttemptStore.exchange`."""
        if demand.empty:
            return Exchange(await self.finish(outcomes), ())
        if demand.clustered:
            return await retried(partial(self._exchange_in_turn, outcomes, demand))
        if any(one.children for one in outcomes):  # rare, and a transaction of several statements
            refused = await self.finish(outcomes)
            return attrs.evolve(await self.exchange((), demand), refused=refused)
        return await retried(partial(self._exchange, outcomes, demand))

    async def _exchange(self, outcomes: Sequence[Outcome], demand: Demand) -> Exchange:
        async with self.database.session(seconds=_CLAIM_SECONDS) as session:
            reply, repeat = await self._claim(session, outcomes, demand, every=False)
            refused = await refused_of(session, outcomes, landed=reply.landed)
            jobs, next_due = reply.jobs, reply.next_due
            if repeat:
                again, _ = await self._claim(session, (), _rest(demand, jobs), every=True)
                jobs = tuple(sorted([*jobs, *again.jobs], key=_order))
                next_due = again.next_due
        self.waker.due_again(reply.woken)
        return Exchange(refused, jobs, next_due)

    async def _claim(
        self, session: Session, outcomes: Sequence[Outcome], demand: Demand, *, every: bool
    ) -> tuple[Reply, bool]:
        """Run the statement; return its reply and whether to claim the rest once more, looking everywhere."""
        now = self.waker.marks.clock()
        mark = self.waker.marks.of(demand)
        full = every or mark.wants_full(now)
        if full:
            mark.forget(now)
        ended, values = ended_values(outcomes)
        statement = exchange_statement(session.schema, ended=ended, capped=bool(demand.capped), every=every)
        values |= claim_values(demand) | mark.start(full=full, every=every)
        rows = await session.run(statement, **values)
        reply = read_reply(rows, queue=demand.queue, ended=len(outcomes), marks=self.waker.marks)
        mark.learn(demand, reply, full=full, every=every, now=now)
        short = len(reply.jobs) < demand.limit
        return reply, short and not every and mark.repeat(reply, full=full)

    async def _exchange_in_turn(self, outcomes: Sequence[Outcome], demand: Demand) -> Exchange:
        """Do the same under limits over the cluster: what ends is counted out before what runs is counted."""
        refused: tuple[JobRef, ...] = ()
        woken: list[str] = []
        rows: list[tuple[Any, ...]] = []
        async with self.database.session() as session, session.conn.transaction():
            await cluster.take_turn(session, demand)
            if outcomes:
                refused, woken = await _write(session, outcomes)
            now = (await session.fetch("schema/now"))[0][0].replace(tzinfo=UTC)
            if ids := await cluster.choose(session, demand):
                rows = await cluster.take(session, demand, ids=ids, now=now)
            jobs = claimed_jobs(rows, queue=demand.queue, started_at=now)
            next_due = None
            if len(jobs) < demand.limit:
                due = await session.fetch("next_due", queues=texts([demand.queue]))
                next_due = due[0][1] if due else None
        self.waker.due_again(woken)
        return Exchange(refused, jobs, next_due)

    async def finish(self, outcomes: Sequence[Outcome]) -> tuple[JobRef, ...]:
        """Write outcomes; as `AttemptStore.finish`."""
        if not outcomes:
            await trio.lowlevel.checkpoint()
            return ()
        return await retried(partial(self._finish, outcomes))

    async def _finish(self, outcomes: Sequence[Outcome]) -> tuple[JobRef, ...]:
        async with self.database.session() as session:
            if any(one.children for one in outcomes):
                async with session.conn.transaction():
                    refused, woken = await _write(session, outcomes)
            else:
                refused, woken = await _write(session, outcomes)
        self.waker.due_again(woken)
        return refused

    async def release_unknown(self, worker: str, queue: str, known: Sequence[JobRef]) -> int:
        """Give back claims whose reply was lost; as `AttemptStore.release_unknown`."""
        rows = await self.database.fetch(
            "release_unknown",
            worker=worker,
            queue=queue,
            ids=numbers(ref.id for ref in known),
            leases=numbers(ref.lease for ref in known),
        )
        if rows:
            self.waker.due_again([queue])
        return len(rows)

    # ------------------------------------------------------------------ while it runs

    async def save(self, ref: JobRef, *, progress: str | None = None, saved: str | None = None) -> bool:
        """Store progress and checkpoint; as `AttemptStore.save`."""
        rows = await self.database.fetch(
            "save", id=str(ref.id), lease=str(ref.lease), progress=progress, saved=saved
        )
        return bool(rows)

    async def steps(self, ref: JobRef) -> Mapping[str, str]:
        """Return finished steps; as `AttemptStore.steps`."""
        return dict(await self.database.fetch("steps", id=str(ref.id)))

    async def save_step(self, ref: JobRef, name: str, value: str) -> bool:
        """Store a step; as `AttemptStore.save_step`."""
        rows = await self.database.fetch(
            "save_step", id=str(ref.id), lease=str(ref.lease), name=clean(name), value=value
        )
        return bool(rows)

    @asynccontextmanager
    async def transaction(self, ref: JobRef, outcome: Outcome) -> AsyncGenerator[Any]:
        """Open a transaction under the lease; as `AttemptStore.transaction`.

        The row is not locked meanwhile: neither a cancel request nor a rescue must wait for a job. The end is
        written under the lease, and if that is lost nothing is.
        """
        woken: list[str] = []
        ours = True  # errors of the block's own come out as they are
        async with self.database.plain.acquire() as conn:
            session = Session(conn, self.database.schema)
            try:
                async with conn.transaction():
                    with call_deadline(conn, CALL_SECONDS):
                        held = await session.fetch("held", id=str(ref.id), lease=str(ref.lease))
                    if not held:
                        raise LeaseLost(f"job {ref.id} is no longer leased as {ref.lease}: nothing was begun")
                    ours = False
                    yield conn
                    ours = True
                    with call_deadline(conn, CALL_SECONDS):
                        refused, woken = await _write(session, [outcome])
                    if refused:
                        raise LeaseLost(
                            f"job {ref.id} is no longer leased as {ref.lease}: all was rolled back"
                        )
            except psycopg.Error as error:
                if not ours:
                    raise
                raise translate(error, conn.where, lost=conn.closed) from error
        self.waker.due_again(woken)


def _rest(demand: Demand, jobs: Sequence[Claimed]) -> Demand:
    """Return what is still asked for when these jobs were claimed."""
    left = ((name, most - sum(job.name == name for job in jobs)) for name, most in demand.capped)
    return attrs.evolve(
        demand, limit=demand.limit - len(jobs), capped=tuple((name, most) for name, most in left if most > 0)
    )


def _order(job: Claimed) -> tuple[Any, ...]:
    return (-job.priority, job.schedule_at, job.id)


async def _write(session: Session, outcomes: Sequence[Outcome]) -> tuple[tuple[JobRef, ...], list[str]]:
    """Write outcomes; return the refused ones and the queues that have due jobs again."""
    await lock_families(session, outcomes)
    ended, values = ended_values(outcomes)
    rows = await session.run(session.schema.statement("finish", ended=ended), **values)
    number, landed, woken = rows[0]
    woken = [*(woken or ()), *await await_children(session, outcomes)]
    if number == len(outcomes):
        return (), woken
    return await refused_of(session, outcomes, landed=set(map(tuple, json.loads(landed or "[]")))), woken
