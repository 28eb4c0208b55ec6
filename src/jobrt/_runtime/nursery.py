"""Durable nurseries: blocks that end when the children that they have enqueued are over, on whichever machine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal, Unpack, cast, overload

import attrs
import trio

from jobrt._client import Handle, enqueuer_of
from jobrt._core.arguments import checked_duration, checked_key, refused
from jobrt._core.family import Roll
from jobrt._core.job import JobRecord, NewJob, Wait, result_of
from jobrt._core.scopes import Child, Member, NurseryRow, NurseryState
from jobrt._core.states import FINAL, State
from jobrt._core.text import clipped, in_one_line
from jobrt._registry import Enqueueable, EnqueueKeywords, JsonT, ResultT, Verdict, job_list, with_options
from jobrt._runtime.parking import ends, shielded
from jobrt._runtime.waits import DurableWaits
from jobrt._storage.contract import Inserted, Records
from jobrt.errors import InvalidJob, JobStateError, JobUnsuccessful

if TYPE_CHECKING:
    from jobrt._client import Client
    from jobrt._runtime.running import Running
    from jobrt._storage.contract import ScopeStore

_CHUNK: Final = 1000
_FIRST: Final = 100
"""Children of the first transaction, if there are several: workers begin with these while others are stored."""
_LISTED: Final = 10_000
"""Children that `Nursery.children` holds at most."""
_FAILURES: Final = 100


@attrs.frozen
class ChildHandle(Handle[ResultT]):
    """Handle of a child: its parent waits for it without a slot."""

    _nursery: Nursery | None = attrs.field(default=None, alias="nursery", repr=False, eq=False)

    async def wait(self) -> JobRecord:
        """Wait until the child is final, and return its record."""
        if self._nursery is not None and not self.duplicate:
            await self._nursery.wait_for(self.id)
        return await super().wait()


@attrs.define(eq=False)
class Nursery:
    """Children of a running job. `Context.open_nursery` makes one; its block ends when all of them are over."""

    name: str
    _waits: DurableWaits
    _client: Client
    _row: NurseryRow
    _roll: Roll
    _body: trio.CancelScope = attrs.Factory(trio.CancelScope)
    _asked: list[int] = attrs.Factory(list)
    _children: Sequence[JobRecord] | None = None
    _over: bool = False
    _certain: bool = True
    """Each call that stores children has returned, so this run knows all identities that are stored."""

    # ------------------------------------------------------------------ for users

    @overload
    async def enqueue(
        self, job: Enqueueable[JsonT], *, key: str | None = None, **options: Unpack[EnqueueKeywords]
    ) -> Handle[JsonT]: ...
    @overload
    async def enqueue(
        self,
        job: Enqueueable[ResultT | Verdict],
        *,
        key: str | None = None,
        **options: Unpack[EnqueueKeywords],
    ) -> Handle[ResultT]: ...
    async def enqueue(
        self, job: Enqueueable[Any], *, key: str | None = None, **options: Unpack[EnqueueKeywords]
    ) -> Handle[Any]:
        """Enqueue a child and return its handle; a run after this one gets the same child.

        Args:
            job: a job value, or ``job.with_options(...)``.
            key: name of the child in this nursery. Without one, its job name and its payload identify it; the n-th
                equal child is the n-th.
            options: those of `Client.enqueue`. Priority and place are the parent's unless told otherwise.

        Raises:
            InvalidJob: a value is invalid, or the key was used for another job. Nothing was stored.
            NurseryChanged: an earlier run has ended the block without such a child.
            JobStateError: the nursery was cancelled, or has failed. Usually the body is cancelled instead, as it is
                when it does something else; a shielded part of it gets this error.
            LeaseLost: another worker owns the job, or an ancestor is over.

        """
        return (await self._enqueue([with_options(job, **options)], [key]))[0]

    async def enqueue_many(self, jobs: Iterable[Enqueueable[Any]]) -> list[Handle[Any]]:
        """Enqueue children, in transactions of at most a thousand, and return their handles; see `enqueue`."""
        wanted = job_list(jobs)
        edges = [0, *range(_FIRST if len(wanted) > _CHUNK else _CHUNK, len(wanted), _CHUNK), len(wanted)]
        return [handle for chunk in pairwise(edges) for handle in await self._enqueue(wanted[slice(*chunk)])]

    @property
    def children(self) -> Sequence[JobRecord]:
        """The records of the children that this run asked for, in that order, once the block has ended."""
        if self._children is None:
            if len(self._asked) > _LISTED:
                raise RuntimeError(f"{self._label} has more than {_LISTED:,} children: use nursery.results()")
            raise RuntimeError(f"{self._label}: its children are known when its block has ended")
        return self._children

    async def results(self) -> AsyncIterator[JobRecord]:
        """Yield the records of the children that this run asked for, in that order, once the block has ended."""
        if not self._over:
            raise RuntimeError(f"{self._label}: its children are known when its block has ended")
        for start in range(0, len(self._asked), _CHUNK):
            for record in await self._records(self._asked[start : start + _CHUNK]):
                yield record

    async def cancel(self, reason: str = "") -> None:
        """Cancel the children. The block then ends without an error, in later runs too."""
        await self._store.seal(self._running.ref, self.name, end="cancelled", reason=clipped(reason))
        self._body.cancel()

    # ------------------------------------------------------------------ for the block

    @contextmanager
    def body(self) -> Generator[None]:
        """Run the body of the block in its scope, which is cancelled when the nursery is being ended."""
        bodies = self._waits.scopes.bodies
        with self._body:
            bodies[self.name] = self._body
            if self._row.state is not NurseryState.OPEN:
                self._body.cancel()
            try:
                yield
            finally:
                del bodies[self.name]

    async def wait_for(self, child: int) -> None:
        """Wait without a slot until a child is final."""
        self._waits.check("handle.wait()")
        while (await self._client.get(child)).state not in FINAL:
            await self._waits.park(Wait("child", str(child)))

    async def close(self, error: Exception | None) -> None:
        """Wait until the children are over; raise what the block raises. `error` is what its body has raised."""
        row = await self._seal(error)
        while row.alive:
            await self._waits.park(Wait("children", self.name), suspends=error is None)
            row = await self._seal(error)
        self._over = True
        failures: list[Exception] = [] if error is None else [error]
        if row.state is NurseryState.FAILED:
            failures += await self._failures()
        if failures:
            number = len(failures) - (error is not None)
            text = f"{number} children failed" if error is None else "its body failed"
            raise ExceptionGroup(f"{self._label}: {text}", failures)
        if row.state is NurseryState.TOO_SLOW:
            raise trio.TooSlowError(f"{self._label}: its deadline has passed")
        if len(self._asked) <= _LISTED:
            self._children = await self._records(self._asked)

    async def left(self) -> None:
        """Handle the end of the block by a cancellation.

        If the attempt as a whole is cancelled, the storage ends the children with its outcome, or leaves them alone. If
        only a scope within the job was cancelled, they are cancelled and waited for here, as Trio does.
        """
        await trio.lowlevel.cancel_shielded_checkpoint()
        if ends(self._running):
            return
        with shielded(self._running):
            row = await self._abort("its block was cancelled")
            while row.alive:
                await self._waits.park(Wait("children", self.name), suspends=False)
                row = await self._abort("its block was cancelled")

    # ------------------------------------------------------------------ small parts

    @property
    def _running(self) -> Running:
        return self._waits.running

    @property
    def _store(self) -> ScopeStore:
        return self._waits.store

    @property
    def _label(self) -> str:
        return f"nursery {self.name!r} of job {self._running.job.id} ({self._running.job.name})"

    async def _seal(self, error: Exception | None) -> NurseryRow:
        if error is not None:
            return await self._abort(in_one_line(error))
        return await self._store.seal(self._running.ref, self.name)

    async def _abort(self, reason: str) -> NurseryRow:
        return await self._store.seal(self._running.ref, self.name, end="aborted", reason=clipped(reason))

    async def _enqueue(
        self, jobs: Sequence[Enqueueable[Any]], keys: Sequence[str | None] | None = None
    ) -> list[Handle[Any]]:
        """Store the children that are new, or run again, and return the handles of all.

        Identities are decided before the hooks around enqueues see the new children. In a body that is being ended,
        nothing is asked for: a run that goes on there would not know what its children are.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._over:
            raise RuntimeError(f"{self._label}: its block has ended")
        parent, keys = self._running.job, keys or [None] * len(jobs)
        rows = enqueuer_of(self._client).child_rows(jobs, priority=parent.priority, place=parent.schedule_at)
        identities = [
            self._roll.identity(row, None if key is None else self._checked_key(key))
            for row, key in zip(rows, keys, strict=True)
        ]
        members = list(map(self._roll.find, identities, rows))
        fresh = [place for place, member in enumerate(members) if member is None]
        stored: Sequence[Handle[Any]] = ()
        if fresh or any(map(self._runs_again, members)):
            stored = await self._store_children(
                [(jobs[place], rows[place]) for place in fresh],
                list(zip(identities, members, strict=True)),
                keyed=any(key is not None for key in keys),
            )
        new = iter(stored)
        handles = [
            next(new) if member is None else self._handle(member.id, not member.own) for member in members
        ]
        self._asked += [handle.id for handle in handles if not handle.duplicate]
        return handles

    async def _store_children(
        self,
        fresh: Sequence[tuple[Enqueueable[Any], NewJob]],
        asked: Sequence[tuple[str, Member | None]],
        *,
        keyed: bool,
    ) -> Sequence[Handle[Any]]:
        """Store new children, inside the hooks, and run others again; return the handles of the new ones.

        `asked` are the identities of all children, with the members that are stored; `fresh` are the others. With keys
        they are looked up: a run may use a key twice, for the same child.
        """
        parent = self._running.job

        async def store(new: Sequence[NewJob]) -> Sequence[Handle[Any]]:
            unstored = iter(new)
            wanted = [
                Child(identity, next(unstored)) if member is None else Child(identity, None, member.id)
                for identity, member in asked
                if member is None or self._runs_again(member)
            ]
            inserted = await self._insert(
                wanted, fresh=self._certain and not keyed and len(wanted) == len(new)
            )
            return [
                self._handle(row.id, row.duplicate)
                for child, row in zip(wanted, inserted, strict=True)
                if child.job is not None
            ]

        if not fresh:
            return await store([])
        return await enqueuer_of(self._client).children(
            [job for job, _ in fresh],
            [row for _, row in fresh],
            store,
            priority=parent.priority,
            place=parent.schedule_at,
        )

    async def _insert(self, children: Sequence[Child], *, fresh: bool) -> tuple[Inserted, ...]:
        try:
            call = self._store.enqueue(self._running.ref, self.name, children, fresh=fresh)
            inserted: tuple[Inserted, ...] = await self._waits.lease(call)
        except JobStateError:  # it was ended a moment ago, and this worker has not heard of it yet
            self._body.cancel()
            await trio.lowlevel.checkpoint_if_cancelled()
            raise
        except BaseException:
            self._certain = False
            raise
        return inserted

    def _handle(self, ident: int, duplicate: bool) -> ChildHandle[Any]:  # noqa: FBT001 - as in `Handle`
        return ChildHandle(ident, duplicate, client=self._client, nursery=self)

    def _runs_again(self, member: Member | None) -> bool:
        """Return whether a member has to run again: an attempt of the parent has failed, and it did not complete.

        In one attempt that happens once, however often the attempt is suspended.
        """
        if member is None:
            return False
        unsuccessful = member.state in {State.CANCELLED, State.DISCARDED}
        wanted = member.own and unsuccessful and not member.current
        return self._row.retried and self._row.state is NurseryState.OPEN and wanted

    def _checked_key(self, key: object) -> str:
        return checked_key(f"{self._label}: key", key, error=InvalidJob)

    async def _records(self, ids: Sequence[int]) -> Records:
        """Return the records of children. While one part is looked up, another one is on its way."""
        jobs, parent = enqueuer_of(self._client).storage.jobs, self._running.job.id
        if len(ids) <= _CHUNK:
            return await jobs.records(ids, parent=parent)
        parts: dict[int, Records] = {}
        starts = iter(range(0, len(ids), _CHUNK))

        async def read() -> None:
            for start in starts:
                parts[start] = await jobs.records(ids[start : start + _CHUNK], parent=parent)

        try:
            async with trio.open_nursery() as reading:
                reading.start_soon(read)
                reading.start_soon(read)
        except BaseExceptionGroup as group:
            await trio.lowlevel.checkpoint_if_cancelled()  # raises a single `Cancelled`
            error = group.exceptions[0]
            raise error from error.__cause__
        return Records.joined([parts[start] for start in sorted(parts)])

    async def _failures(self) -> list[Exception]:
        """Return the errors of the children that failed, the first hundred."""
        ids = await self._store.failures(self._running.ref, self.name, limit=_FAILURES)
        failures: list[Exception] = []
        for record in await self._records(ids):
            try:
                result_of(record)
            except JobUnsuccessful as error:
                failures.append(error)
        return failures


@asynccontextmanager
async def open_nursery(
    waits: DurableWaits,
    client: Client,
    name: str,
    *,
    on_failure: Literal["cancel", "continue"],
    deadline: object,
) -> AsyncGenerator[Nursery]:
    """Implement `Context.open_nursery`."""
    label = f"{waits.label}: ctx.open_nursery: deadline"
    seconds = (
        None if deadline is None else checked_duration(label, deadline, error=InvalidJob).total_seconds()
    )
    _check(waits, name, on_failure)
    row = await _open(waits, name, on_failure=on_failure, seconds=seconds)
    nursery = Nursery(name, waits, client, row, await _roll(waits, name, row))
    error: Exception | None = None
    try:
        try:
            with nursery.body():
                yield nursery
        except Exception as problem:  # noqa: BLE001 - it is raised again when the children are over
            error = problem
        await nursery.close(error)
    except BaseException as problem:
        if _is_cancellation(problem):
            await nursery.left()
        raise


async def _open(
    waits: DurableWaits, name: str, *, on_failure: Literal["cancel", "continue"], seconds: float | None
) -> NurseryRow:
    """Open the nursery in the storage; if an earlier run has aborted it, wait until its children are over."""
    while True:
        row: NurseryRow = await waits.lease(
            waits.store.open(waits.running.ref, name, on_failure=on_failure, seconds=seconds)
        )
        if row.state is not NurseryState.ABORTED or not row.alive:
            return row
        await waits.park(Wait("children", name))


def _is_cancellation(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[0] is not None
    return isinstance(error, trio.Cancelled)


def _check(waits: DurableWaits, name: object, on_failure: object) -> None:
    """Raise unless this job may open this nursery now."""
    waits.check("ctx.open_nursery")
    waits.check_name("ctx.open_nursery", name)
    if not isinstance(on_failure, str) or on_failure not in {"cancel", "continue"}:
        raise refused(
            f"{waits.label}: on_failure", on_failure, use="'cancel' or 'continue'", error=InvalidJob
        )
    if name in waits.opened:
        raise RuntimeError(
            f"{waits.label}: a second nursery {name!r} in one run: give each a name of its own"
        )
    waits.opened.add(cast("str", name))


async def _roll(waits: DurableWaits, name: str, row: NurseryRow) -> Roll:
    """Return the members that earlier runs have stored."""
    job = waits.running.job
    roll = Roll(f"nursery {name!r} of job {job.id} ({job.name})", row.sealed)
    members: list[Member] = []
    after = ""
    while row.members and (page := await waits.store.members(waits.running.ref, name, after=after)):
        members += page
        after = page[-1].identity
    roll.add(sorted(members))
    return roll
