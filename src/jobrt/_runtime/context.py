"""`Context`, the `ctx` of `run(self, ctx)`: what an attempt may read and write."""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar, Unpack, overload

import attrs
import trio

from jobrt._client import Client, Handle, enqueuer_of
from jobrt._core.arguments import checked_flag, shown
from jobrt._core.attempts import Stop
from jobrt._core.job import JobRecord, Outcome
from jobrt._core.stream import checked_emit
from jobrt._payload.payload import encode_result
from jobrt._registry import Enqueueable, EnqueueKeywords, JsonT, ResultT, Verdict
from jobrt._runtime.checked import checked_progress, checkpoint_text, json_text
from jobrt._runtime.nursery import Nursery, open_nursery
from jobrt._runtime.running import Running
from jobrt._runtime.saves import Saves, Step
from jobrt._runtime.services import Services
from jobrt.errors import InvalidJob, LeaseLost

ValueT = TypeVar("ValueT")


@attrs.define(eq=False)
class Context:
    """Context of one attempt: the stored job, the app's state, and writes about the attempt.

    All writes are fenced by the attempt's lease and raise `LeaseLost` when another worker owns the job.
    """

    _running: Running
    _services: Services
    _saves_made: Saves | None = None

    @property
    def job(self) -> JobRecord:
        """Return the job's stored record, errors of earlier attempts included."""
        return self._running.record

    @property
    def state(self) -> Any:
        """Return the application's state object."""
        return self._services.state

    @property
    def deadline(self) -> float:
        """Return the attempt's deadline by Trio's clock (``math.inf`` if it has none)."""
        return self._running.scope.deadline

    @property
    def shutting_down(self) -> trio.Event:
        """Return the event that is set when the worker stops, so that a long job can save a checkpoint and return."""
        return self._services.shutting_down

    @property
    def cancelled(self) -> tuple[Stop, str] | None:
        """Return why the attempt was cancelled (timeout, operator, shutdown, lease lost) and the reason; else None."""
        running = self._running
        if running.stop is not None:
            return running.stop, running.reason
        if running.scope.cancel_called:
            return Stop.TIMEOUT, "the time limit passed"
        return None

    @property
    def saved(self) -> Any:
        """Return the last checkpoint, of this attempt or an earlier one; None if there is none."""
        saved = None if self._saves_made is None else self._saves_made.saved
        return self.job.saved if saved is None else saved

    @property
    def _saves(self) -> Saves:
        """What the attempt saves; it is made when it is first used."""
        if self._saves_made is None:
            self._saves_made = Saves(self._running, self._services)
        return self._saves_made

    @property
    def client(self) -> Client:
        """Return the worker's `Client`, for work with other jobs: ``await ctx.client.get(id)``."""
        return self._services.client

    @overload
    async def enqueue(
        self, job: Enqueueable[JsonT], *, conn: object = None, **options: Unpack[EnqueueKeywords]
    ) -> Handle[JsonT]: ...
    @overload
    async def enqueue(
        self, job: Enqueueable[ResultT | Verdict], *, conn: object = None, **options: Unpack[EnqueueKeywords]
    ) -> Handle[ResultT]: ...
    async def enqueue(
        self, job: Enqueueable[Any], *, conn: object = None, **options: Unpack[EnqueueKeywords]
    ) -> Handle[Any]:
        """Enqueue another job and return its handle; the arguments are those of `Client.enqueue`."""
        return await enqueuer_of(self.client).from_job(self._running.job.id, job, conn, **options)

    # ------------------------------------------------------------------ children, messages, sleeps

    def open_nursery(
        self,
        name: str = "children",
        *,
        on_failure: Literal["cancel", "continue"] = "cancel",
        deadline: float | timedelta | None = None,
    ) -> AbstractAsyncContextManager[Nursery]:
        """Open a nursery: ``async with ctx.open_nursery() as nursery: await nursery.enqueue(job)``.

        The block ends when all children are over. Meanwhile the job holds no slot, and after ``PARK`` seconds it leaves
        the memory: it then runs again from the top when they are over, and finds them by their identity.

        Args:
            name: name of the nursery; each of a run has its own.
            on_failure: ``"cancel"``: a child that fails cancels the others, and the block raises an `ExceptionGroup` of
                `JobFailed`, `JobDiscarded` and `JobCancelled`. ``"continue"``: nothing of that.
            deadline: seconds after its first opening. Then the children are cancelled, and the block raises
                `trio.TooSlowError`.

        Raises:
            RuntimeError: this is not the task that runs `run`, a transaction is open, or the name was used before.

        """
        return open_nursery(self._saves.waits, self.client, name, on_failure=on_failure, deadline=deadline)

    @overload
    async def receive(
        self, name: str, type: type[ValueT], *, within: float | timedelta | None = None
    ) -> ValueT: ...
    @overload
    async def receive(
        self, name: str, type: Any = Any, *, within: float | timedelta | None = None
    ) -> Any: ...
    async def receive(
        self,
        name: str,
        type: Any = Any,  # noqa: A002 - the public name
        *,
        within: float | timedelta | None = None,
    ) -> Any:
        """Return the next message of a name that was sent to this job.

        Later runs of the job get the same messages in the same order. While it waits, the job holds no slot.

        A deadline of Trio around this call is lost when the worker stops: the job then waits on without it. Use
        `within`, which is stored.

        Args:
            name: name of the message.
            type: what the message is decoded as: any type that a field of a job may have.
            within: seconds after the job first asked for it.

        Raises:
            trio.TooSlowError: there was no message in time. Later runs get the same answer.
            UndecodablePayload: the message does not fit the type; it is received all the same.
            RuntimeError: this is not the task that runs `run`, or a transaction is open.

        """
        return await self._saves.waits.receive(name, type, within=within)

    async def sleep(self, seconds: float | timedelta, *, name: str | None = None) -> None:
        """Sleep durably: the first call decides the time, and later runs sleep until then. No slot is held.

        A run may have one sleep without a name; more need names.

        Raises:
            RuntimeError: a second sleep of that name, not the task that runs `run`, or a transaction is open.

        """
        await self._saves.waits.sleep(name, seconds)

    async def sleep_until(self, when: datetime, *, name: str | None = None) -> None:
        """Sleep durably until an aware datetime by the database's clock; see `sleep`."""
        await self._saves.waits.sleep_until(name, when)

    # ------------------------------------------------------------------ what the job saves

    async def checkpoint(self, value: Any, *, forget: bool = False) -> None:
        """Store `value` (JSON) durably: a later attempt finds it in `saved`.

        `forget` also drops, in the same transaction, the messages, sleeps and steps so far: later runs start behind
        them. It is for jobs that live long.

        Raises:
            LeaseLost: another worker owns the job; nothing was stored.

        """
        forget = checked_flag("ctx.checkpoint: forget", forget, error=InvalidJob)
        await self._saves.checkpoint(checkpoint_text(self._running.job.name, value), forget=forget)
        self._saves.saved = value

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Report how far the job is. At most twice a second the newest value is written; other calls cost nothing.

        A write that fails because the database is away is skipped.

        Raises:
            InvalidJob: `done` or `total` is no finite number, or `note` no string.

        """
        saves = self._saves
        if saves.note_progress(checked_progress(self._running.job.name, done, total=total, note=note)):
            saves.schedule_progress()

    # ------------------------------------------------------------------ what the job says

    @property
    def log(self) -> logging.Logger:
        """Return a logger: its lines are in the job's stream, and reach the handlers of the logger ``jobrt.job``.

        The records have the fields ``job``, ``name_of_job``, ``queue``, ``attempt`` and ``trace``. Any thread may use
        it. Lines are stored in batches, and before the outcome of the attempt.
        """
        return self._saves.stream.log

    async def emit(self, value: Any, *, key: str | None = None) -> None:
        """Add a JSON value of up to 64 KiB to the job's stream (`Handle.follow`); one with a `key` once.

        A key counts for as long as the job exists, over all its attempts. On SQLite this cannot be called in
        `transaction`.

        Raises:
            InvalidJob: the value is not JSON or too large, or the key is invalid.
            LeaseLost: another worker owns the job; nothing was stored.
            StorageUnavailable: the value may be stored later.

        """
        name = self._running.job.name
        text = json_text(value, f"{name}: ctx.emit")
        await self._saves.emit(text, checked_emit(name, text, key))

    # ------------------------------------------------------------------ steps and transactions

    def around_steps(self, scope: Callable[[str], AbstractContextManager[Any]]) -> None:
        """Enter ``scope(name)`` around each step that is done in this attempt, for tracers: a hook calls this.

        Raises:
            InvalidJob: `scope` is no function.

        """
        if not callable(scope):
            raise InvalidJob(f"ctx.around_steps: scope: expected a function, got {shown(scope)}")
        self._saves.around_step = scope

    @asynccontextmanager
    async def step(self, name: str) -> AsyncGenerator[Step]:
        """Run a named step once over all attempts: ``async with ctx.step("x") as step: if step.todo: step.value = …``.

        The value (JSON) is stored when the block ends without an error; a later attempt gets it, with
        ``todo`` False. A block that raises stores nothing.

        Raises:
            InvalidJob: the name cannot be stored, or the value is not JSON.
            LeaseLost: another worker owns the job; nothing was stored.

        """
        saves = self._saves
        step = await saves.find_step(name)
        if not step.todo:
            yield step
            return
        with saves.around_step(name):
            yield step
        await saves.store_step(name, json_text(step.value, f"{self._running.job.name}: step {name!r}"))

    @asynccontextmanager
    async def transaction(self, *, result: Any = None) -> AsyncGenerator[Any]:
        """Open a database transaction that also completes this job: both commit, or neither does.

        Yields psycopg's connection, driven by Trio, or one with the same methods for SQLite: ``cur = await
        conn.execute(sql, params)``, ``await cur.fetchall()``. ``%s`` and ``%(name)s`` are placeholders on both; on
        SQLite ``?`` and ``:name`` as well, and ``conn.raw`` is the connection of ``sqlite3``. Use it for the job's own
        writes and, as ``conn=``, for jobs to enqueue. After the block the job is completed with `result`; what `run`
        returns later is ignored.

        Keep it short on SQLite: nobody else can write meanwhile. It is rolled back after a quarter of the shortest
        lease of the workers, and after 10 s at most.

        Raises:
            LeaseLost: another worker owns the job; everything is rolled back.
            StorageError: on SQLite, the block took too long; everything is rolled back.

        """
        job = self._running.job
        text = None if result is None else encode_result(result)
        outcome = self._running.told_by(Outcome(job.id, job.lease, result=text))
        waits = self._saves.waits
        if waits.scopes.bodies:
            raise RuntimeError(f"{job.name}: ctx.transaction() in a nursery block: open it after the block")
        waits.in_transaction = True
        try:
            async with self._services.attempts.transaction(self._running.ref, outcome) as conn:
                yield conn
        except LeaseLost:
            self._running.cancel(Stop.LEASE_LOST, "another worker owns the job")
            raise
        finally:
            waits.in_transaction = False
        self._running.completed = True


def running_of(ctx: Context) -> Running:
    """Return the running attempt of a context."""
    return ctx._running  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - for the runtime, not for users


def saves_of(ctx: Context) -> Saves:
    """Return what an attempt saves."""
    return ctx._saves  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - for the runtime, not for users
