"""`Context`, the `ctx` of `run(self, ctx)`: what an attempt may read and write."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, Unpack, overload

import attrs
import trio

from jobrt._client import Client, Handle
from jobrt._core.arguments import checked_name, checked_number, checked_text
from jobrt._core.attempts import Stop
from jobrt._core.job import Claimed, JobRecord, Outcome, Progress
from jobrt._core.states import End, State, Transition
from jobrt._payload.payload import encode_result
from jobrt._registry import Enqueueable, EnqueueKeywords, JobDefinition, JsonT, ResultT, Verdict
from jobrt._runtime.running import Running
from jobrt._storage.contract import AttemptStore
from jobrt.errors import InvalidJob, LeaseLost, StorageError

_PROGRESS_INTERVAL = 0.5
"""Minimum seconds between two writes of a job's progress; the newest value is written."""


@attrs.frozen
class Services:
    """Services of a worker for its attempts: the app's state, database writes, a client, the shutdown event."""

    state: Any
    attempts: AttemptStore
    client: Client
    shutting_down: trio.Event
    later: Callable[[float, Callable[[], Awaitable[None]]], None]


def record_of(job: Claimed) -> JobRecord:
    """Return the public record of a claimed job."""
    return JobRecord(
        id=job.id,
        name=job.name,
        queue=job.queue,
        state=State.EXECUTING,
        priority=job.priority,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        args=json.loads(job.args),
        metadata=json.loads(job.metadata),
        tags=tuple(job.tags),
        context=job.context,
        created_at=job.created_at,
        schedule_at=job.schedule_at,
        started_at=job.started_at,
        progress=None if job.progress is None else Progress(**json.loads(job.progress)),
        saved=None if job.saved is None else json.loads(job.saved),
        attempts=tuple(job.attempts),
    )


def time_limit(definition: JobDefinition, job: Claimed) -> float | None:
    """Return the time limit of an attempt in seconds: the job's own, else that of its class."""
    if job.timeout is not None:
        return job.timeout
    limit = definition.timeout
    decided = limit(record_of(job)) if callable(limit) else limit
    return decided.total_seconds() if isinstance(decided, timedelta) else decided


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
    _steps: dict[str, str] | None = None

    @property
    def job(self) -> JobRecord:
        """Return the job's stored record, errors of earlier attempts included."""
        if self._record is None:
            self._record = record_of(self._running.job)
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
        return await self._services.client.enqueue(job, conn=conn, **options)

    async def checkpoint(self, value: Any) -> None:
        """Store `value` (JSON) durably: a later attempt finds it in `saved`.

        Raises:
            LeaseLost: another worker owns the job; nothing was stored.

        """
        text = _json(value, f"{self._running.job.name}: ctx.checkpoint")
        if not await self._services.attempts.save(self._running.ref, saved=text):
            self._lost()
        self._saved = value

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Report how far the job is. At most twice a second the newest value is written; other calls cost nothing.

        May be called from a thread that Trio started. If the database is unavailable, the write is skipped.
        """
        self._progress = Progress(
            checked_number("ctx.progress: done", done),
            None if total is None else checked_number("ctx.progress: total", total),
            checked_text("ctx.progress: note", note),
        )
        if self._progress_due:
            return
        self._progress_due = True
        if trio.lowlevel.in_trio_run():
            self._schedule_progress()
        else:
            trio.from_thread.run_sync(self._schedule_progress)

    def _schedule_progress(self) -> None:
        wait = max(0.0, self._progress_at + _PROGRESS_INTERVAL - trio.current_time())
        self._services.later(wait, self.flush_progress)

    @property
    def progress_due(self) -> bool:
        """Whether the newest progress has not been written yet."""
        return self._progress_due

    async def flush_progress(self) -> None:
        """Write the newest progress now, if it has not been written."""
        if not self._progress_due or self._progress is None:
            return
        self._progress_due = False
        self._progress_at = trio.current_time()
        text = json.dumps(attrs.asdict(self._progress))
        with suppress(StorageError):  # progress is only shown to people, and the next value replaces it
            await self._services.attempts.save(self._running.ref, progress=text)

    @asynccontextmanager
    async def step(self, name: str) -> AsyncGenerator[Step]:
        """Run a named step once over all attempts: ``async with ctx.step("x") as step: if step.todo: step.value = …``.

        The value (JSON) is stored when the block ends without an error; a later attempt gets it, with
        ``todo`` False. A block that raises stores nothing.

        Raises:
            LeaseLost: another worker owns the job; nothing was stored.

        """
        checked_name("ctx.step: name", name)
        if self._steps is None:
            self._steps = dict(await self._services.attempts.steps(self._running.ref))
        if name in self._steps:
            yield Step(name, todo=False, value=json.loads(self._steps[name]))
            return
        step = Step(name, todo=True)
        yield step
        text = _json(step.value, f"{self._running.job.name}: step {name!r}")
        if not await self._services.attempts.save_step(self._running.ref, name, text):
            self._lost()
        self._steps[name] = text

    @asynccontextmanager
    async def transaction(self, *, result: Any = None) -> AsyncGenerator[Any]:
        """Open a database transaction that also completes this job: both commit, or neither does.

        Yields the driver's connection (psycopg's, driven by Trio, or ``sqlite3``'s). Use it for the job's own writes
        and, as ``conn=``, for jobs to enqueue. After the block the job is completed with `result`; what `run`
        returns later is ignored. On SQLite keep the block short: it holds the only write lock.

        Raises:
            LeaseLost: another worker owns the job; everything is rolled back.

        """
        job = self._running.job
        text = None if result is None else encode_result(result)
        outcome = Outcome(job.id, job.lease, Transition.COMPLETE, End.FINISHED, result=text)
        try:
            async with self._services.attempts.transaction(self._running.ref, outcome) as conn:
                yield conn
        except LeaseLost:
            self._running.cancel(Stop.LEASE_LOST, "another worker owns the job")
            raise
        self._running.completed = True

    def _lost(self) -> None:
        self._running.cancel(Stop.LEASE_LOST, "another worker owns the job")
        raise LeaseLost(f"job {self._running.job.id} ({self._running.job.name}): another worker owns it now")


def _json(value: Any, what: str) -> str:
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InvalidJob(f"{what}: {error}; use JSON values") from error
