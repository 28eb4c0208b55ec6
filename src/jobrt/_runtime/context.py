"""`Context`, the `ctx` of `run(self, ctx)`: what an attempt may read and write."""

import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar, Unpack, overload

import attrs
import trio

from jobrt._client import Client, Handle, enqueuer_of
from jobrt._core.arguments import checked_flag
from jobrt._core.attempts import Stop
from jobrt._core.job import JobRecord, Outcome, Progress
from jobrt._core.stored import json_value
from jobrt._core.stream import checked_emit
from jobrt._payload.payload import encode_result
from jobrt._registry import Enqueueable, EnqueueKeywords, JsonT, ResultT, Verdict
from jobrt._runtime.checked import checked_progress, checked_step, checkpoint_text, json_text
from jobrt._runtime.job_stream import JobStream
from jobrt._runtime.nursery import Nursery, open_nursery
from jobrt._runtime.running import Running
from jobrt._runtime.services import Services, record_of
from jobrt._runtime.waits import DurableWaits
from jobrt.errors import InvalidJob, LeaseLost, StorageError

_logger = logging.getLogger("jobrt")

_PROGRESS_INTERVAL = 0.5
"""Minimum seconds between two writes of a job's progress; the newest value is written."""
_LAST_PROGRESS = 1.0
"""Time limit in seconds for writing the last progress of an attempt that has ended."""
_LAST_SECOND = 1.0
"""Seconds for a job in a process to end when its worker stops; less than a stop allows for a clean-up."""


ValueT = TypeVar("ValueT")


@attrs.define(eq=False)
class Step:
    """Named step of a job: if `todo` is set, do the work and store its `value` for later attempts."""

    name: str
    todo: bool
    value: Any = None


@attrs.define(eq=False)
class Context:
    """Context of one attempt: the stored job, the app's state, and writes about the attempt.

    All writes are fenced by the attempt's lease and raise `LeaseLost` when another worker owns the job.
    """

    _running: Running
    _services: Services
    _record: JobRecord | None = None
    _saved: Any = None
    _progress_at: float = float("-inf")
    _progress: Progress | None = None
    _progress_due: bool = False
    _progress_written: trio.Event | None = None
    """Set when the write that is under way has ended."""
    _steps: dict[str, str] | None = None
    _waits: DurableWaits | None = None
    _around_step: Callable[[str], AbstractContextManager[Any]] = nullcontext
    _stream: JobStream | None = None

    @property
    def job(self) -> JobRecord:
        """Return the job's stored record, errors of earlier attempts included."""
        if self._record is None:
            self._record = record_of(self._running.job, self._running.began)
        return self._record

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
    def stop_within(self) -> float:
        """Seconds that a job in a process still has to end, now that it is cancelled.

        A stopping worker has given it time before, and after a lost lease another worker may run the job.
        """
        running = self._running
        timed_out = (
            running.stop is None and running.scope.cancel_called
        )  # else a scope around the worker is cancelled
        has_time = timed_out or running.stop in {Stop.OPERATOR, Stop.PARENT}
        return self._services.grace if has_time and not self.shutting_down.is_set() else _LAST_SECOND

    @property
    def saved(self) -> Any:
        """Return the last checkpoint, of this attempt or an earlier one; None if there is none."""
        return self._saved if self._saved is not None else self.job.saved

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
        return open_nursery(self._waiting, self.client, name, on_failure=on_failure, deadline=deadline)

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
        return await self._waiting.receive(name, type, within=within)

    async def sleep(self, seconds: float | timedelta, *, name: str | None = None) -> None:
        """Sleep durably: the first call decides the time, and later runs sleep until then. No slot is held.

        A run may have one sleep without a name; more need names.

        Raises:
            RuntimeError: a second sleep of that name, not the task that runs `run`, or a transaction is open.

        """
        await self._waiting.sleep(name, seconds)

    async def sleep_until(self, when: datetime, *, name: str | None = None) -> None:
        """Sleep durably until an aware datetime by the database's clock; see `sleep`."""
        await self._waiting.sleep_until(name, when)

    @property
    def _waiting(self) -> DurableWaits:
        if self._waits is None:
            self._waits = DurableWaits(self._running, self._services.scopes)
        return self._waits

    # ------------------------------------------------------------------ what the job saves

    async def checkpoint(self, value: Any, *, forget: bool = False) -> None:
        """Store `value` (JSON) durably: a later attempt finds it in `saved`.

        `forget` also drops, in the same transaction, the messages, sleeps and steps so far: later runs start behind
        them. It is for jobs that live long.

        Raises:
            LeaseLost: another worker owns the job; nothing was stored.

        """
        forget = checked_flag("ctx.checkpoint: forget", forget, error=InvalidJob)
        await self.store_checkpoint(checkpoint_text(self._running.job.name, value), forget=forget)
        self._saved = value

    async def store_checkpoint(self, text: str, *, forget: bool = False) -> None:
        """Store a checkpoint that is JSON text already; in an attempt that is suspended it does not count."""
        if self._running.stop is Stop.SUSPENDED:
            return
        if not await self._services.attempts.save(self._running.ref, saved=text, forget=forget):
            self._lost()
        if forget:
            self._steps = None
            if self._waits is not None:
                self._waits.forget()

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Report how far the job is. At most twice a second the newest value is written; other calls cost nothing.

        A write that fails because the database is away is skipped.

        Raises:
            InvalidJob: `done` or `total` is no finite number, or `note` no string.

        """
        if self.note_progress(checked_progress(self._running.job.name, done, total=total, note=note)):
            self.schedule_progress()

    def note_progress(self, progress: Progress) -> bool:
        """Note the newest progress, in any thread; return whether `schedule_progress` is to be called."""
        self._progress = progress
        return not self._progress_due

    def schedule_progress(self) -> None:
        """Have the newest progress written, at the earliest half a second after the last one."""
        self._progress_due = True
        wait = max(0.0, self._progress_at + _PROGRESS_INTERVAL - trio.current_time())
        self._services.later(wait, self.flush_progress)

    async def flush_progress(self) -> None:
        """Write the newest progress now, if it has not been written, and wait for a write that is under way."""
        while self._progress_written is not None:
            await self._progress_written.wait()
        if not self._progress_due or self._progress is None:
            return
        self._progress_due = False
        self._progress_at = trio.current_time()
        text = json.dumps(attrs.asdict(self._progress))
        self._progress_written = written = trio.Event()
        try:
            await self._services.attempts.save(self._running.ref, progress=text)
        except StorageError:
            pass  # progress is only for people; the next value replaces it
        except Exception:  # a bug, which is not to fail a job that did its work
            _logger.exception("job %d: its progress could not be written", self._running.job.id)
        finally:
            self._progress_written = None
            written.set()

    # ------------------------------------------------------------------ what the job says

    @property
    def log(self) -> logging.Logger:
        """Return a logger: its lines are in the job's stream, and reach the handlers of the logger ``jobrt.job``.

        The records have the fields ``job``, ``name_of_job``, ``queue``, ``attempt`` and ``trace``. Any thread may use
        it. Lines are stored in batches, and before the outcome of the attempt.
        """
        return self.stream.log

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
        await self.store_emitted(text, checked_emit(name, text, key))

    async def store_emitted(self, text: str, key: str | None) -> None:
        """Store an emitted value that is JSON text already."""
        if not await self.stream.emit(text, key):
            self._lost()

    @property
    def stream(self) -> JobStream:
        """What this attempt adds to the job's stream."""
        if self._stream is None:
            services = self._services
            self._stream = JobStream(self._running, services.streams, services.later, services.token)
        return self._stream

    @property
    def unwritten(self) -> bool:
        """Whether there may be something for `write_last`."""
        return self._progress is not None or self._stream is not None

    async def write_last(self) -> None:
        """Write, after the attempt, what it said before; its outcome waits for that, two seconds at most."""
        if self._stream is not None:
            await self._stream.write_last()
        if self._progress is not None:
            # Shielded: the attempt has ended, so a cancellation must not replace its outcome.
            with trio.move_on_after(_LAST_PROGRESS, shield=True):
                await self.flush_progress()

    # ------------------------------------------------------------------ steps and transactions

    def around_steps(self, scope: Callable[[str], AbstractContextManager[Any]]) -> None:
        """Enter ``scope(name)`` around each step that is done in this attempt, for tracers: a hook calls this."""
        self._around_step = scope

    @asynccontextmanager
    async def step(self, name: str) -> AsyncGenerator[Step]:
        """Run a named step once over all attempts: ``async with ctx.step("x") as step: if step.todo: step.value = …``.

        The value (JSON) is stored when the block ends without an error; a later attempt gets it, with
        ``todo`` False. A block that raises stores nothing.

        Raises:
            InvalidJob: the name cannot be stored, or the value is not JSON.
            LeaseLost: another worker owns the job; nothing was stored.

        """
        step = await self.find_step(name)
        if not step.todo:
            yield step
            return
        with self.step_scope(name):
            yield step
        await self.store_step(name, json_text(step.value, f"{self._running.job.name}: step {name!r}"))

    async def find_step(self, name: str) -> Step:
        """Return a step as earlier attempts have left it; raise `InvalidJob` for a name that cannot be stored."""
        checked_step(self._running.job.name, name)
        if self._steps is None:
            kept = self._running.job.kept
            self._steps = dict(await self._services.attempts.steps(self._running.ref)) if kept else {}
        if name in self._steps:
            return Step(name, todo=False, value=json_value(self._steps[name]))
        return Step(name, todo=True)

    def step_scope(self, name: str) -> AbstractContextManager[Any]:
        """Return the scope to enter while a step is done; see `around_steps`."""
        return self._around_step(name)

    async def store_step(self, name: str, text: str) -> None:
        """Store the value of a step that was done, as JSON text; raise `LeaseLost` if another worker owns the job."""
        if not await self._services.attempts.save_step(self._running.ref, name, text):
            self._lost()
        if self._steps is not None:
            self._steps[name] = text

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
        outcome = Outcome(job.id, job.lease, result=text, began=self._running.began)
        waits = self._waiting
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

    def note_thread(self, ident: int | None) -> None:
        """Note the thread in which the job runs, for the watchdog."""
        self._running.thread = ident

    def _lost(self) -> None:
        self._running.cancel(Stop.LEASE_LOST, "another worker owns the job")
        raise LeaseLost(f"job {self._running.job.id} ({self._running.job.name}): another worker owns it now")
