"""Put an application together: its jobs, queues and database.

The one place that picks a storage engine, and that joins client and worker.
"""

from __future__ import annotations

import copy
import json
import os
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Unpack, overload

import attrs
import trio

from jobrt._client.client import open_client
from jobrt._core.cron import cron_entry, interval_entry
from jobrt._core.keep import plan as prune_plan
from jobrt._core.queues import Queue, as_queue
from jobrt._registry import (
    Registry,
    make_function_job,
    new_job,
    stored_options,
    tick_job,
)
from jobrt._runtime.cron import declare
from jobrt._runtime.outage import Backoff, Outage
from jobrt._runtime.perform import perform
from jobrt._runtime.plan import WorkerPlan, check_queues, choose_queues
from jobrt._runtime.worker import Worker
from jobrt._storage.open import open_storage, parse_url
from jobrt.errors import InvalidSetting, StorageUnavailable
from jobrt.events import Emitter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime, timedelta
    from typing import Concatenate, ParamSpec, TypeVar

    from jobrt._client import Client
    from jobrt._core.cron import CronEntry, Missed
    from jobrt._core.keep import KeepByState
    from jobrt._registry import FunctionJob, Job, JobDecorator, JobKeywords, JobWithOptions
    from jobrt._storage.contract import Storage

    P = ParamSpec("P")
    R = TypeVar("R")

__all__ = ["App"]

DEFAULT_URL = "sqlite:///jobrt.db"


def _version() -> str:
    try:
        return version("jobrt")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0"


@attrs.define(eq=False)
class _Shared:
    """Keep one storage open while anybody in this program uses it.

    It must not have tasks of its own: who closes it need not be who opened it.
    """

    open: Callable[[], AbstractAsyncContextManager[Storage]]
    users: int = 0
    storage: Storage | None = None
    stack: AsyncExitStack = attrs.Factory(AsyncExitStack)
    lock: trio.Lock = attrs.Factory(trio.Lock)

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[Storage]:
        """Open the storage, or join in using it; whoever leaves last closes it."""
        async with self.lock:
            storage = self.storage
            if storage is None:
                self.stack = AsyncExitStack()
                self.storage = storage = await self.stack.enter_async_context(self.open())
            self.users += 1
        try:
            yield storage
        finally:
            self.users -= 1
            if not self.users:
                self.storage = None
                await self.stack.aclose()


class App:
    """Know an application's jobs, queues and database; make workers and clients for them.

    Args:
        url: ``sqlite:///FILE``, ``sqlite:///:memory:`` or ``postgresql://…``; default ``JOBRT_URL``, then
            ``sqlite:///jobrt.db``.
        jobs: job classes and function jobs; functions decorated with `job` are added by that.
        queues: how each queue is served: its concurrency, or a `Queue`. ``"default"`` is always served (10). Without
            any, so is every queue that a job names.
        state: what jobs find as ``ctx.state``; or a function that returns an async context manager, which is entered in
            the worker's scope.
        grace: seconds that running jobs have when the worker is asked to stop.
        lease: seconds after which a silent worker counts as dead and its jobs run again.
        keep: retention by state: ``{"completed": Keep(age=…)}``; default a day, a week (cancelled), a month
        (discarded). schema: PostgreSQL's schema for the tables.
        listen: whether workers are woken by LISTEN and NOTIFY; off behind a transaction pooler.
        migrate: whether to bring the database up to date when it is opened; default only for SQLite.
        name: names the worker to people; default the host.

    Raises:
        InvalidSetting: a queue or retention setting makes no sense; names it.
        DuplicateJobName: two jobs have one name.

    """

    def __init__(
        self,
        url: str | None = None,
        *,
        jobs: Iterable[type[Job] | FunctionJob[Any, Any]] = (),
        queues: Mapping[str, int | Queue] | None = None,
        state: Any = None,
        grace: float = 30.0,
        lease: float = 30.0,
        keep: KeepByState | None = None,
        schema: str = "jobrt",
        listen: bool = True,
        migrate: bool | None = None,
        name: str | None = None,
    ) -> None:
        self.url: str = url or os.environ.get("JOBRT_URL") or DEFAULT_URL
        self._migrate_wanted = migrate
        self.name = name
        self.grace: float = _seconds("grace", grace, least=0.0)
        self.lease: float = _seconds("lease", lease, least=0.1)
        self.schema = schema
        self.registry: Registry = Registry()
        self.events: Emitter = Emitter()
        self.crons: dict[str, CronEntry] = {}
        self._clock: Callable[[], datetime] | None = None
        self._state = state
        self.listen = listen
        self._engine = parse_url(self.url).engine
        self._given_queues = None if queues is None else {n: as_queue(n, q) for n, q in queues.items()}
        self._keep = keep
        self._shared = _Shared(self._open_storage)
        self._rules = prune_plan(keep, queues={n: q.keep for n, q in (self._given_queues or {}).items()})
        for one in jobs:
            self.registry.add(one)

    @property
    def _migrate(self) -> bool:
        return self._engine == "sqlite" if self._migrate_wanted is None else self._migrate_wanted

    def move_to(self, url: str) -> None:
        """Use another database from now on; not while a client or worker is open."""
        self._engine = parse_url(url).engine
        self.url = url

    def at(self, url: str) -> App:
        """Return an app with the same jobs, queues, state, cron entries and retention on another database.

        For tests: ``app.at("sqlite:///:memory:")``. Jobs that are added to one later are known to both.
        """
        parse_url(url)
        other = copy.copy(self)
        other.events, other._clock, other._shared = Emitter(), None, _Shared(other._open_storage)  # noqa: SLF001
        other.move_to(url)
        return other

    def __repr__(self) -> str:
        return f"<jobrt.App {self._engine}, {len(list(self.registry.names))} jobs>"

    # ------------------------------------------------------------------ defining

    @overload
    def job(self, function: Callable[Concatenate[Any, P], R], /) -> FunctionJob[P, R]: ...
    @overload
    def job(self, function: None = None, /, **options: Unpack[JobKeywords]) -> JobDecorator: ...
    def job(self, function: Any = None, /, **options: Any) -> Any:
        """Make a function a job: ``@app.job`` or ``@app.job(max_attempts=3, …)``.

        The parameters after the first, ``ctx``, are the payload. ``resize.new(...)`` makes the job value,
        ``resize(...)`` stays a plain call. The keywords are the constants of a job class in lower case.

        Raises:
            InvalidJob: the function cannot be a job; names the parameter.
            DuplicateJobName: the name is taken.

        """
        if function is None:
            return lambda one: self._function_job(one, options)
        return self._function_job(function, options)

    def _function_job(self, function: Any, options: Mapping[str, Any]) -> Any:
        made = make_function_job(function, **options)
        self.registry.add(made)
        return made

    def cron(
        self,
        expression: str,
        job: Job | JobWithOptions[Any],
        *,
        timezone: str = "UTC",
        name: str | None = None,
        missed: Missed = "once",
    ) -> str:
        """Enqueue a job by the clock, once per tick over all workers; return the entry's name.

        Args:
            expression: five fields, or six with seconds first, or ``@daily`` and the like.
            job: the job value, with options if it has some.
            timezone: whose clock the expression means.
            name: default: made of job, schedule and payload, the same at every start.
            missed: what becomes of ticks that no worker was there for: ``"skip"``, ``"once"`` or ``"all"``.

        Raises:
            InvalidSetting: the expression cannot tick; names the field. Or the name is taken.

        """
        new, options = new_job(self.registry, job), stored_options(job)
        return self._add_cron(
            cron_entry(
                expression,
                new.name,
                args=json.loads(new.args),
                options=options,
                timezone=timezone,
                missed=missed,
                name=name,
            )
        )

    def every(
        self,
        interval: timedelta | float,
        job: Job | JobWithOptions[Any],
        *,
        name: str | None = None,
        missed: Missed = "once",
    ) -> str:
        """Enqueue a job every so many seconds (or a timedelta), once over all workers; return the entry's name."""
        new, options = new_job(self.registry, job), stored_options(job)
        return self._add_cron(
            interval_entry(
                interval, new.name, args=json.loads(new.args), options=options, missed=missed, name=name
            )
        )

    def _add_cron(self, entry: CronEntry) -> str:
        if entry.name in self.crons:
            msg = f"there are two cron entries {entry.name!r}: give one of them another name"
            raise InvalidSetting(msg)
        self.crons[entry.name] = entry
        return entry.name

    @property
    def queues(self) -> dict[str, Queue]:
        """Return how each queue is served.

        Raises:
            InvalidSetting: a job's queue is not configured; names the jobs.

        """
        if self._given_queues is None:
            return {name: Queue() for name in sorted({"default", *(one.queue for one in self.registry)})}
        queues = {"default": Queue(), **self._given_queues}
        check_queues({one.name: one for one in self.registry}, queues)
        return queues

    # ------------------------------------------------------------------ using

    @asynccontextmanager
    async def open_client(self) -> AsyncGenerator[Client]:
        """Open a client: enqueue jobs, look at them, manage them."""
        async with self.open_storage() as storage:
            if not self._migrate:
                await storage.schema.check()
            async with open_client(storage, self.registry, rules=self._rules, emit=self.events) as client:
                yield client

    @asynccontextmanager
    async def open_storage(self) -> AsyncGenerator[Storage]:
        """Open the storage of a client or worker of this app.

        Within one program those on SQLite share one: in memory there is no other way, and on a file they wake
        each other at once. On PostgreSQL each has its connections, and a task that tends them, for itself.
        """
        opened = self._shared.opened if self._engine == "sqlite" else self._open_storage
        async with opened() as storage:
            yield storage

    @asynccontextmanager
    async def await_storage(self) -> AsyncGenerator[Storage]:
        """Open the storage and check its schema, however long the database is away.

        That it is away, and when it is back, is told as events. To give up, cancel the scope around this.

        Raises:
            SchemaError: the database is not migrated, or newer.
            StorageError: waiting will not help: a wrong password, missing rights, an unknown database.

        """
        backoff = Backoff(Outage(self.events))
        async with AsyncExitStack() as stack:
            storage: Storage | None = None
            while storage is None:
                try:
                    storage = await self._open_ready(stack)
                except StorageUnavailable as error:
                    await backoff.wait(error)
            backoff.reset()
            yield storage

    async def _open_ready(self, stack: AsyncExitStack) -> Storage:
        async with AsyncExitStack() as opening:
            storage = await opening.enter_async_context(self.open_storage())
            if not self._migrate:
                await storage.schema.check()
            await stack.enter_async_context(opening.pop_all())
        return storage

    @asynccontextmanager
    async def _open_storage(self) -> AsyncGenerator[Storage]:
        async with open_storage(
            self.url, schema=self.schema, listen=self.listen, migrate=self._migrate, clock=self._clock
        ) as storage:
            if self._migrate and self._engine != "sqlite":
                await storage.schema.migrate()
            yield storage

    async def migrate(self) -> tuple[str, ...]:
        """Bring the database up to date and return the migrations that were applied."""
        async with self.open_storage() as storage:
            return await storage.schema.migrate()

    async def run_worker(
        self,
        *,
        queues: Iterable[str] | None = None,
        task_status: trio.TaskStatus[Worker] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run a worker in the caller's nursery: ``worker = await nursery.start(app.run_worker)``.

        Ends when ``worker.stop()`` is called. Cancelling the scope around it is a stop without grace. A database
        that is away, at the start or later, is waited for; `StorageDown` and `StorageUp` in ``app.events`` tell.

        Args:
            queues: serve only these; default all.
            task_status: is given the worker once it is registered and serves its queues.

        Raises:
            InvalidSetting: a queue is not configured; names the jobs.
            SchemaError: the database is not migrated, or newer.
            StorageError: waiting will not help: a wrong password, missing rights, an unknown database.

        """
        plan = self._worker_plan(queues)
        async with AsyncExitStack() as stack:
            storage = await stack.enter_async_context(self.await_storage())
            state = await self._enter_state(stack)
            client = await stack.enter_async_context(
                open_client(storage, self.registry, rules=self._rules, emit=self.events)
            )
            worker = Worker(
                plan,
                storage,
                state,
                client=client,
                make_cron_job=self._tick_job,
                emit=self.events,
            )
            await worker.run(task_status=task_status)

    async def drain(self, queue: str | None = None) -> None:
        """Run a worker until its queues have no due job left, and stop it."""
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(
                lambda *, task_status: self.run_worker(
                    queues=None if queue is None else [queue], task_status=task_status
                )
            )
            await worker.wait_idle()
            await worker.stop()

    async def _enter_state(self, stack: AsyncExitStack) -> Any:
        if not callable(self._state):
            return self._state
        made: Any = self._state()
        return await stack.enter_async_context(made) if hasattr(made, "__aenter__") else made

    def _worker_plan(self, queues: Iterable[str] | None) -> WorkerPlan:
        return WorkerPlan(
            definitions={one.name: one for one in self.registry},
            queues=choose_queues(self.queues, queues),
            rules=self._rules,
            crons=tuple(self.crons.values()),
            grace=self.grace,
            lease=self.lease,
            name=self.name,
            version=_version(),
            switched_off=_switched_off(),
        )

    def _tick_job(self, entry: CronEntry) -> Any:
        return tick_job(self.registry, entry.job, args=entry.args, options=entry.options)

    def use_clock(self, clock: Callable[[], datetime]) -> None:
        """Let SQLite go by this clock (aware UTC datetimes): for tests under virtual time."""
        self._clock = clock

    async def perform(self, name: str, payload: Mapping[str, Any] | str) -> Any:
        """Run a job by name with a stored payload (a dict, or its JSON text), here and now, and return what it returns.

        Nothing is enqueued for it; its checkpoints and steps last as long as the call. ``ctx.enqueue`` enqueues
        in this app's database.

        Raises:
            UnknownJob: the app has no job of that name.
            UndecodablePayload: the payload does not fit; names the field.
            Exception: what the job raised.

        """
        definition = self.registry.get(name)
        text = payload if isinstance(payload, str) else json.dumps(dict(payload))
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(self.open_client())
            scratch = await stack.enter_async_context(open_storage("sqlite:///:memory:", clock=self._clock))
            state = await self._enter_state(stack)
            return await perform(
                definition,
                text,
                scratch=scratch,
                state=state,
                client=client,
            )

    async def declare_crons(self) -> None:
        """Store the cron entries declared in code, as a worker does when it starts."""
        async with self.open_storage() as storage:
            await declare(storage.crons, storage.schema, tuple(self.crons.values()))


def _seconds(name: str, value: float, *, least: float) -> float:
    if not value >= least:
        msg = f"App({name}={value!r}): give seconds, at least {least:g}"
        raise InvalidSetting(msg)
    return float(value)


def _switched_off() -> frozenset[str]:
    """Return what ``JOBRT_DISABLED`` switches off in this process: ``worker``, ``cron`` or both, by commas."""
    wanted = {one.strip() for one in os.environ.get("JOBRT_DISABLED", "").split(",")} - {""}
    unknown = wanted - {"worker", "cron"}
    if unknown:
        msg = f"JOBRT_DISABLED has {', '.join(sorted(unknown))}: it may name worker and cron"
        raise InvalidSetting(msg)
    return frozenset(wanted)
