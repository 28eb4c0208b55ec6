"""Durable scopes in SQLite: nurseries, messages, sleeps, deadlines. See ``design/scopes.md``."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, Literal

import attrs

from jobrt._core.job import JobRef
from jobrt._core.scopes import (
    AncestorEnded,
    Answer,
    AskedToStop,
    Child,
    Member,
    NurseryRow,
    NurseryState,
    Tended,
)
from jobrt._storage.apart import Aside
from jobrt._storage.contract import Inserted
from jobrt._storage.sqlite.database import Database
from jobrt._storage.sqlite.family import HAS_NURSERY, HAS_PARENT, startable
from jobrt._storage.sqlite.insert import insert
from jobrt._storage.sqlite.messages import send
from jobrt._storage.sqlite.rows import FAR, dumps, later, micros
from jobrt._storage.sqlite.states import STATES
from jobrt._storage.sqlite.tend import tend
from jobrt._storage.sqlite.transaction import SQL, Transaction
from jobrt.errors import JobStateError, LeaseLost


@attrs.frozen
class SqliteScopes:
    """Implementation of `ScopeStore`."""

    _database: Database
    _aside: Aside

    async def open(
        self, ref: JobRef, name: str, *, on_failure: Literal["cancel", "continue"], seconds: float | None
    ) -> NurseryRow:
        call = partial(_open, ref=ref, name=name, cancels=on_failure == "cancel", seconds=seconds)
        return await self._database.write(call)

    async def members(
        self, ref: JobRef, name: str, *, after: str = "", limit: int = 1000
    ) -> tuple[Member, ...]:
        # As bytes: an identity that is no UTF-8 was read with surrogates, which are no text for SQLite.
        read = after.encode("utf-8", "surrogateescape")
        place = {"id": ref.id, "name": name, "after": read, "limit": limit}
        rows = await self._database.read(lambda tx: tx.array(SQL["scopes/members"], place))
        return tuple(
            Member(number, identity, child, job, STATES[state].value, bool(own), bool(current))
            for number, identity, child, job, state, own, current in rows
        )

    async def enqueue(
        self, ref: JobRef, name: str, children: Sequence[Child], *, fresh: bool = False
    ) -> tuple[Inserted, ...]:
        call = partial(_enqueue, ref=ref, name=name, children=children, fresh=fresh)
        return await self._database.write(call)

    async def seal(
        self, ref: JobRef, name: str, *, end: Literal["cancelled", "aborted"] | None = None, reason: str = ""
    ) -> NurseryRow:
        return await self._database.write(partial(_seal, ref=ref, name=name, end=end, reason=reason))

    async def failures(self, ref: JobRef, name: str, *, limit: int = 100) -> tuple[int, ...]:
        place = {"id": ref.id, "name": name, "limit": limit}
        return tuple(await self._database.read(lambda tx: tx.array(SQL["scopes/failures"], place)))

    async def receive(self, ref: JobRef, name: str, number: int, *, within: float | None) -> Answer:
        return await self._database.write(partial(_receive, ref=ref, name=name, number=number, within=within))

    async def sleep(
        self, ref: JobRef, name: str, *, seconds: float | None = None, at: datetime | None = None
    ) -> float:
        return await self._database.write(partial(_sleep, ref=ref, name=name, seconds=seconds, at=at))

    async def send(self, job_id: int, name: str, value: str, *, key: str | None = None) -> bool:
        return await self._database.write(partial(send, job_id=job_id, name=name, value=value, key=key))

    async def tend(self, *, limit: int = 1000) -> Tended:
        call = partial(tend, limit=limit, but=dumps(self._aside.but("tend")))
        tended, refused = await self._database.write(call)
        self._aside.put(refused)
        return tended


def _held(tx: Transaction, ref: JobRef) -> int:
    """Return the flags of a running job; raise `LeaseLost` if the attempt does not hold it."""
    flags: int | None = tx.value(SQL["scopes/held"], ref._asdict())
    if flags is None:
        raise LeaseLost(f"job {ref.id} is no longer leased as {ref.lease}")
    return flags


def _row(tx: Transaction, ref: JobRef, name: str) -> NurseryRow:
    row = tx.row(SQL["scopes/row"], {"id": ref.id, "name": name})
    if row is None:
        raise LeaseLost(f"job {ref.id} has no nursery {name!r} any more")
    state, reason, sealed, retried, alive, members = row
    return NurseryRow(NurseryState(state), reason, bool(sealed), bool(retried), bool(alive), bool(members))


def _open(tx: Transaction, *, ref: JobRef, name: str, cancels: bool, seconds: float | None) -> NurseryRow:
    if not _held(tx, ref) & HAS_NURSERY:
        tx.run(SQL["scopes/flag"], {"id": ref.id, "flag": HAS_NURSERY})
    elif tx.value(SQL["scopes/opens_again"], {"id": ref.id, "name": name}):
        tx.run(SQL["scopes/reset_members"], {"id": ref.id, "name": name})
    deadline = None if seconds is None else later(tx.now, seconds)
    tx.run(SQL["scopes/open"], {"id": ref.id, "name": name, "cancels": cancels, "deadline": deadline})
    tx.control = tx.control or seconds is not None  # workers learn the new due time
    return _row(tx, ref, name)


def _seal(tx: Transaction, *, ref: JobRef, name: str, end: str | None, reason: str) -> NurseryRow:
    _held(tx, ref)
    tx.run(SQL["scopes/seal"], {"id": ref.id, "name": name, "ended": end, "reason": reason})
    row = _row(tx, ref, name)
    tx.control = tx.control or (end is not None and row.alive)
    return row


def _enqueue(
    tx: Transaction, *, ref: JobRef, name: str, children: Sequence[Child], fresh: bool
) -> tuple[Inserted, ...]:
    _held(tx, ref)
    if not startable(tx, [ref.id], started=frozenset([ref.id])):
        raise AncestorEnded(f"an ancestor of job {ref.id} is being ended: it gets no more children")
    if tx.value(SQL["scopes/asked"], (ref.id,)):
        raise AskedToStop(f"job {ref.id} is asked to stop: it gets no more children")
    row = _row(tx, ref, name)
    if row.state is not NurseryState.OPEN:
        raise JobStateError(f"nursery {name!r} of job {ref.id} is {row.state}: it gets no more children")
    nursery = {"id": ref.id, "name": name}
    known: dict[str, Inserted] = {}
    if not fresh:
        identities = dumps([child.identity for child in children])
        found = tx.array(SQL["scopes/known"], nursery | {"identities": identities})
        known = {identity: Inserted(child, duplicate=bool(duplicate)) for identity, child, duplicate in found}
    _run_again(tx, [child.rerun for child in children if child.rerun is not None])
    new = [child for child in children if child.job is not None and child.identity not in known]
    inserted = insert(tx, [child.job for child in new if child.job is not None], flags=HAS_PARENT)
    if new:
        rows = [
            (row.id, "d" if row.duplicate else "c", child.identity)
            for row, child in zip(inserted, new, strict=True)
        ]
        tx.run(SQL["scopes/join"], nursery | {"children": dumps(rows)})
    known |= {child.identity: row for child, row in zip(new, inserted, strict=True)}
    return tuple(known[child.identity] for child in children)


def _run_again(tx: Transaction, ids: Sequence[int]) -> None:
    if not ids:
        return
    rows = tx.rows(SQL["scopes/rerun"], {"ids": dumps(ids)})
    again = dumps([job_id for job_id, _ in rows])
    tx.run(SQL["scopes/rejoin"], {"ids": again})
    tx.run(SQL["scopes/unlimit"], {"ids": again})
    tx.queues.update(queue for _, queue in rows)


def _receive(tx: Transaction, *, ref: JobRef, name: str, number: int, within: float | None) -> Answer:
    _held(tx, ref)
    wait: dict[str, Any] = {"id": ref.id, "kind": "message", "name": name, "number": number}
    tx.run(SQL["scopes/ask"], wait | {"until": None if within is None else later(tx.now, within)})
    ended, value, until = tx.row(SQL["scopes/answer"], wait) or ("", None, None)
    if ended is not None:
        return Answer(ended, value)
    message = tx.row(SQL["scopes/next_message"], {"id": ref.id, "name": name})
    if message is not None:
        message_id, key, value = message
        tx.run(SQL["scopes/message_gone" if key is None else "scopes/message_received"], (message_id,))
        tx.run(SQL["scopes/end_answer"], wait | {"ended": "message", "value": value})
        return Answer("message", value)
    if until is not None and until <= tx.now:
        tx.run(SQL["scopes/end_answer"], wait | {"ended": "too_slow", "value": None})
        return Answer("too_slow")
    return Answer("")


def _sleep(tx: Transaction, *, ref: JobRef, name: str, seconds: float | None, at: datetime | None) -> float:
    _held(tx, ref)
    wait: dict[str, Any] = {"id": ref.id, "kind": "sleep", "name": name, "number": 0}
    until = later(tx.now, seconds or 0.0) if at is None else min(micros(at), FAR - 1)
    tx.run(SQL["scopes/ask"], wait | {"until": until})
    ended, _, until = tx.row(SQL["scopes/answer"], wait) or ("", None, None)
    if ended is None and until is not None and until > tx.now:
        return float(until - tx.now) / 1e6
    if ended is None:
        tx.run(SQL["scopes/end_answer"], wait | {"ended": "slept", "value": None})
    return 0.0
