"""Durable scopes in PostgreSQL: nurseries, messages, sleeps, deadlines. See ``design/scopes.md``."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Final, Literal, TypeVar

import attrs

from jobrt._core.job import JobRef
from jobrt._core.scopes import Answer, Child, Member, NurseryRow, NurseryState, Tended
from jobrt._storage.apart import Aside
from jobrt._storage.contract import Inserted
from jobrt._storage.postgres.children import Alike, alike, enqueue_alike, refusal
from jobrt._storage.postgres.database import Database, retried
from jobrt._storage.postgres.encode import boolean, instant, numbers, seconds, texts
from jobrt._storage.postgres.insert import Wake, insert_steps
from jobrt._storage.postgres.keys import KnownKeys
from jobrt._storage.postgres.messages import sending, sent
from jobrt._storage.postgres.names import Run
from jobrt._storage.postgres.rows import Row
from jobrt._storage.postgres.session import Session
from jobrt._storage.postgres.steps import drive
from jobrt._storage.postgres.tend import tend
from jobrt._storage.postgres.waker import Waker
from jobrt.errors import LeaseLost

T = TypeVar("T")

HAS_PARENT: Final = 8


@attrs.frozen
class PostgresScopes:
    """Implementation of `ScopeStore`."""

    _database: Database
    _waker: Waker
    _aside: Aside

    # ------------------------------------------------------------------ nurseries

    async def open(
        self, ref: JobRef, name: str, *, on_failure: Literal["cancel", "continue"], seconds: float | None
    ) -> NurseryRow:
        rows = await self._database.fetch(
            "scopes/open",
            id=str(ref.id),
            lease=str(ref.lease),
            name=name,
            cancels=boolean(on_failure == "cancel"),
            seconds=None if seconds is None else str(seconds),
        )
        row = _nursery(rows, ref)
        if seconds is not None:
            self._waker.control()  # workers learn the new due time
        return row

    async def members(
        self, ref: JobRef, name: str, *, after: str = "", limit: int = 1000
    ) -> tuple[Member, ...]:
        rows = await self._database.fetch(
            "scopes/members", id=str(ref.id), name=name, after=after, limit=str(limit)
        )
        return tuple(Member(*row) for row in rows)

    async def enqueue(
        self, ref: JobRef, name: str, children: Sequence[Child], *, fresh: bool = False
    ) -> tuple[Inserted, ...]:
        with self._waker.insert() as wake:
            inserted, queues = await self._add(ref, name, children, fresh=fresh, wake=wake)
        self._waker.watermarks.request_full()  # the place of the parent lies below the watermark
        self._waker.due_again(queues)
        return inserted

    async def seal(
        self, ref: JobRef, name: str, *, end: Literal["cancelled", "aborted"] | None = None, reason: str = ""
    ) -> NurseryRow:
        rows = await self._database.fetch(
            "scopes/seal", id=str(ref.id), lease=str(ref.lease), name=name, ended=end, reason=reason
        )
        return _nursery(rows, ref)

    async def failures(self, ref: JobRef, name: str, *, limit: int = 100) -> tuple[int, ...]:
        rows = await self._database.fetch("scopes/failures", id=str(ref.id), name=name, limit=str(limit))
        return tuple(child for (child,) in rows)

    # ------------------------------------------------------------------ messages and sleeps

    async def receive(self, ref: JobRef, name: str, number: int, *, within: float | None) -> Answer:
        limit = None if within is None else str(seconds(within))
        rows = await self._database.fetch(
            "scopes/receive",
            id=str(ref.id),
            lease=str(ref.lease),
            name=name,
            number=str(number),
            seconds=limit,
        )
        if not rows:
            raise _lost(ref)
        return Answer(*rows[0])

    async def sleep(
        self, ref: JobRef, name: str, *, seconds: float | None = None, at: datetime | None = None
    ) -> float:
        async def work(session: Session) -> float:
            await _held(session, ref)
            wait = {"id": str(ref.id), "kind": "sleep", "name": name, "number": "0"}
            limit = None if seconds is None else str(seconds)
            ((ended, _, left),) = await session.fetch("scopes/answer", **wait, at=instant(at), seconds=limit)
            if ended is None and left is not None and left > 0:
                return float(left)
            if ended is None:
                await session.fetch("scopes/end_answer", **wait, ended="slept")
            return 0.0

        return await self._transaction(work)

    async def send(self, job_id: int, name: str, value: str, *, key: str | None = None) -> bool:
        message = sending(self._database.schema, job_id, name=name, value=value, key=key)
        rows = await retried(partial(self._run, message))
        new, queue = sent(job_id, rows)
        if queue is not None:
            self._waker.watermarks.request_full(queue)
        return new

    # ------------------------------------------------------------------ what is due

    async def tend(self, *, limit: int = 1000) -> Tended:
        tended, queues, told = await tend(self._transaction, self._aside, limit=limit)
        self._waker.due_again(queues)
        if told:
            self._waker.control()
        return tended

    # ------------------------------------------------------------------ small parts

    async def _add(
        self, ref: JobRef, name: str, children: Sequence[Child], *, fresh: bool, wake: Wake
    ) -> tuple[tuple[Inserted, ...], list[str]]:
        """Add children: by one call if they are new, and alike, and have no keys."""
        keys = self._waker.keys
        new = alike(children) if fresh else None
        if new is not None:
            inserted = await retried(partial(self._enqueue_alike, ref, name, new, wake=wake))
            if inserted is not None:
                return inserted, []
        call = partial(_enqueue, ref=ref, name=name, children=children, fresh=fresh)
        return await self._transaction(partial(call, wake=wake, keys=keys))

    async def _enqueue_alike(
        self, ref: JobRef, name: str, new: Alike, *, wake: Wake
    ) -> tuple[Inserted, ...] | None:
        async with self._database.session() as session:
            await drive(session, self._waker.keys.read(session.schema))
            if new.first.queue in self._waker.keys.paths:
                return None
            return await enqueue_alike(session, ref, name, new=new, wake=wake)

    async def _run(self, step: Run) -> list[Row]:
        async with self._database.session() as session:
            return await session.run(step.statement, **step.values)

    async def _transaction(self, work: Callable[[Session], Awaitable[T]]) -> T:
        async def run() -> T:
            async with self._begun() as session:
                return await work(session)

        return await retried(run)

    @asynccontextmanager
    async def _begun(self) -> AsyncGenerator[Session]:
        async with self._database.session() as session, session.conn.transaction():
            yield session


async def _held(session: Session, ref: JobRef) -> int:
    """Lock the row of a running job and return its flags; raise `LeaseLost` if the attempt does not hold it."""
    rows = await session.fetch("scopes/held", id=str(ref.id), lease=str(ref.lease))
    if not rows:
        raise _lost(ref)
    return int(rows[0][0])


def _lost(ref: JobRef) -> LeaseLost:
    return LeaseLost(f"job {ref.id} is no longer leased as {ref.lease}")


def _nursery(rows: Sequence[Row], ref: JobRef) -> NurseryRow:
    if not rows:
        raise _lost(ref)
    state, *others = rows[0]
    return NurseryRow(NurseryState(state), *others)


async def _row(session: Session, ref: JobRef, name: str) -> NurseryRow:
    rows = await session.fetch("scopes/row", id=str(ref.id), name=name)
    if not rows:
        raise LeaseLost(f"job {ref.id} has no nursery {name!r} any more")
    state, reason, sealed, retried, alive, members, _limited = rows[0]
    return NurseryRow(NurseryState(state), reason, sealed, retried, alive, members)


async def _enqueue(
    session: Session,
    *,
    ref: JobRef,
    name: str,
    children: Sequence[Child],
    fresh: bool,
    wake: Wake,
    keys: KnownKeys,
) -> tuple[tuple[Inserted, ...], list[str]]:
    """Add children; return the result for each, and the queues of those that run again."""
    flags = await _held(session, ref)
    ((over, asked),) = await session.fetch("scopes/ancestors_over", id=str(ref.id), flags=str(flags))
    if over:
        raise refusal("ancestor", ref, name)
    if asked:
        raise refusal("asked", ref, name)
    row = await _row(session, ref, name)
    if row.state is not NurseryState.OPEN:
        raise refusal(row.state, ref, name)
    nursery = {"id": str(ref.id), "name": name}
    known: dict[str, Inserted] = {}
    if not fresh:
        identities = texts([child.identity for child in children])
        found = await session.fetch("scopes/known", **nursery, identities=identities)
        known = {identity: Inserted(id, duplicate) for identity, id, duplicate in found}
    queues = await _run_again(
        session, nursery, [child.rerun for child in children if child.rerun is not None]
    )
    new = [child for child in children if child.job is not None and child.identity not in known]
    jobs = [child.job for child in new if child.job is not None]
    if jobs:
        steps = insert_steps(session.schema, jobs, wake=wake, keys=keys, flags=HAS_PARENT)
        inserted = await drive(session, steps)
        await session.fetch(
            "scopes/join",
            **nursery,
            children=numbers(row.id for row in inserted),
            kinds=texts(["d" if row.duplicate else "c" for row in inserted]),
            identities=texts([child.identity for child in new]),
        )
        known |= {child.identity: row for child, row in zip(new, inserted, strict=True)}
    return tuple(known[child.identity] for child in children), queues


async def _run_again(session: Session, nursery: dict[str, str], ids: Sequence[int]) -> list[str]:
    if not ids:
        return []
    rows = await session.fetch("scopes/rerun", children=numbers(ids))
    await session.fetch("scopes/rejoin", **nursery, children=numbers(id for id, _ in rows))
    return sorted({queue for _, queue in rows})
