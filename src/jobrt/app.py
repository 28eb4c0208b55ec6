"""`App`: the jobs, queues and database of an application, and its workers and clients."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, cast

import trio

from jobrt._client import Client, open_client
from jobrt._client.hooks import EnqueueHook
from jobrt._core.arguments import checked_flag, checked_name, checked_seconds, checked_text, refused
from jobrt._core.keep import KeepByState
from jobrt._core.keep import plan as prune_plan
from jobrt._core.limits import PAYLOAD_LIMIT, checked_payload_limit
from jobrt._core.queues import Queue, as_queue
from jobrt._database import Database
from jobrt._registry import FunctionJob, Job, registry_of
from jobrt._runtime.cron import declare
from jobrt._runtime.declared import Declared
from jobrt._runtime.hooks import AttemptHook
from jobrt._runtime.outage import Backoff, Outage
from jobrt._runtime.perform import perform
from jobrt._runtime.plan import WorkerPlan, check_queues, choose_queues, installed_version, switched_off
from jobrt._runtime.tally import Tally
from jobrt._runtime.worker import Worker
from jobrt._storage.contract import Storage
from jobrt._storage.open import database_url, open_storage
from jobrt.errors import InvalidJob, InvalidSetting, StorageUnavailable
from jobrt.events import EventBus
from jobrt.logs import log_event, logs_routine_events

__all__ = ["App"]


class App(Declared):
    """Application: its jobs, queues and database, and how workers run them.

    Args:
        url: ``sqlite:///FILE``, ``sqlite:///:memory:`` or ``postgresql://…``; default ``JOBRT_URL``, then
            ``sqlite:///jobrt.db``.
        jobs: job classes and function jobs; functions decorated with `job` are added automatically.
        queues: the concurrency of each queue, or a `Queue` with more settings. The default is 10 for every queue
            that a job has. The queue ``"default"`` is always included.
        state: value of ``ctx.state``; or a function that returns an async context manager, which each worker enters.
        grace: seconds for running jobs to end when a worker stops.
        lease: seconds without a heartbeat after which a worker is considered dead and its jobs run again.
        keep: retention by state, ``{"completed": Keep(age=…)}``. By default completed jobs are kept for a day,
            cancelled jobs for a week, discarded jobs for a month.
        schema: PostgreSQL schema of the tables.
        listen: whether workers are woken by LISTEN and NOTIFY; set it to False behind a transaction pooler.
        migrate: whether the database is migrated when it is opened; by default only SQLite.
        name: name of the workers, shown to users; by default the host name.
        payload_limit: bytes of JSON that payload, metadata and context of a job may have together.
        around_attempt: hooks around attempts, the outermost first; see the method `around_attempt`.
        around_enqueue: hooks around enqueues, the outermost first; see the method `around_enqueue`.

    Attributes:
        events: the event bus: ``with app.events.subscribed(subscriber):``.
        registry: jobs by name.
        crons: cron entries declared in code, by name.

    Raises:
        InvalidSetting: a queue or a retention rule is invalid; the message names it.
        DuplicateJobName: two jobs have the same name.
        StorageError: the URL is invalid.

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
        payload_limit: int = PAYLOAD_LIMIT,
        around_attempt: Iterable[AttemptHook] = (),
        around_enqueue: Iterable[EnqueueHook] = (),
    ) -> None:
        limit = checked_payload_limit(payload_limit)
        super().__init__(registry_of("App: jobs", jobs, payload_limit=limit), around_attempt, around_enqueue)
        self._database = Database(
            database_url(url),
            schema=checked_text("App: schema", schema),
            listen=checked_flag("App: listen", listen),
            migrate=None if migrate is None else checked_flag("App: migrate", migrate),
        )
        self.name: str | None = None if name is None else checked_name("App: name", name)
        self.grace: float = checked_seconds("App: grace", grace, least=0.0)
        self.lease: float = checked_seconds("App: lease", lease, least=0.1)
        self.events: EventBus = EventBus()
        self._tally, self._workers = Tally(), list[Worker]()
        self._state = state
        self._given_queues = None if queues is None else _queues(queues)
        self._keep = keep
        self._prunes = True
        self._rules = prune_plan(keep, queues={n: q.keep for n, q in (self._given_queues or {}).items()})

    @property
    def url(self) -> str:
        """URL of the database."""
        return self._database.url

    @property
    def schema(self) -> str:
        """PostgreSQL schema of the tables."""
        return self._database.schema

    @property
    def listen(self) -> bool:
        """Whether workers are woken by LISTEN and NOTIFY."""
        return self._database.listen

    def move_to(self, url: str) -> None:
        """Use another database from now on; only while no client or worker is open."""
        self._database.url = checked_text("move_to: url", url)

    def leave_schema(self) -> None:
        """Do not migrate the database when it is opened, for commands that only look at it."""
        self._database.migrate = False

    def leave_finished(self) -> None:
        """Let workers delete no finished jobs, for tests that look at them later; ``jobs.prune()`` does."""
        self._prunes = False

    def use_state(self, state: Any) -> None:
        """Use this state instead of that of `App(state=...)`, for tests."""
        self._state = state

    def at(self, url: str) -> App:
        """Return an app with the same jobs, queues, state, cron entries and retention on another database.

        For tests: ``app.at("sqlite:///:memory:")``. Both apps share jobs that are added later.
        """
        other = copy.copy(self)
        other._database, other.events = self._database.at(checked_text("at: url", url)), EventBus()  # noqa: SLF001 - of the same class
        other._tally, other._workers = Tally(), []  # noqa: SLF001 - the same
        return other

    def __repr__(self) -> str:
        return f"<jobrt.App {self._database.engine}, {len(self.registry)} jobs>"

    @property
    def queues(self) -> dict[str, Queue]:
        """The queues with their settings; raises `InvalidSetting` if the queue of a job is missing."""
        if self._given_queues is None:
            return {name: Queue() for name in sorted({"default", *(job.queue for job in self.registry)})}
        queues = {"default": Queue(), **self._given_queues}
        check_queues({job.name: job for job in self.registry}, queues)
        return queues

    # ------------------------------------------------------------------ clients and workers

    @asynccontextmanager
    async def open_client(self) -> AsyncGenerator[Client]:
        """Open a client, which enqueues, queries and manages jobs.

        Raises:
            SchemaError: the database is not migrated, or newer.
            StorageError: the database cannot be used.

        """
        async with self._open_ready() as storage, self._client(storage) as client:
            yield client

    def _client(self, storage: Storage) -> AbstractAsyncContextManager[Client]:
        queues = None if self._given_queues is None else frozenset({"default", *self._given_queues})
        return open_client(
            storage,
            self.registry,
            rules=self._rules,
            emit=self.events,
            queues=queues,
            hooks=self._enqueue_hooks,
        )

    @asynccontextmanager
    async def open_storage(self) -> AsyncGenerator[Storage]:
        """Open the storage for a client or worker; on SQLite they share it."""
        async with self._database.open() as storage:
            yield storage

    @asynccontextmanager
    async def _open_ready(self) -> AsyncGenerator[Storage]:
        """Open the storage and check its schema."""
        async with self.open_storage() as storage:
            if not self._database.migrates:
                await storage.schema.check()
            yield storage

    @asynccontextmanager
    async def await_storage(self) -> AsyncGenerator[Storage]:
        """Open the storage and check its schema; wait while the database is unavailable.

        `StorageDown` and `StorageUp` report the outage.

        Raises:
            SchemaError: the database is not migrated, or newer.
            StorageError: waiting does not help: wrong password, no permission, unknown database.

        """
        backoff = Backoff(Outage(self.events))
        async with AsyncExitStack() as stack:
            storage: Storage | None = None
            while storage is None:
                try:
                    storage = await stack.enter_async_context(self._open_ready())
                except StorageUnavailable as error:
                    await backoff.wait(error)
            backoff.reset()
            yield storage

    async def migrate(self) -> tuple[str, ...]:
        """Migrate the database, and return the names of the applied migrations."""
        async with self.open_storage() as storage:
            return await storage.schema.migrate()

    async def run_worker(
        self,
        *,
        queues: Iterable[str] | None = None,
        task_status: trio.TaskStatus[Worker] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run a worker in the caller's nursery: ``worker = await nursery.start(app.run_worker)``.

        It ends after ``worker.stop()``. Cancelling the scope around it stops it without grace. It waits while the
        database is unavailable; `StorageDown` and `StorageUp` report that.

        The app's events are logged to the logger ``jobrt`` meanwhile. Handlers and levels are the program's.

        Args:
            queues: queues to serve; by default all.
            task_status: gets the worker when it is registered and serves its queues.

        Raises:
            InvalidSetting: the queue of a job is missing; the message names the jobs.
            SchemaError: the database is not migrated, or newer.
            StorageError: waiting does not help: wrong password, no permission, unknown database.

        """
        plan = self._worker_plan(queues)
        async with AsyncExitStack() as stack:
            stack.enter_context(self.events.subscribed(log_event, routine=logs_routine_events()))
            storage = await stack.enter_async_context(self.await_storage())
            state = await self._enter_state(stack)
            client = await stack.enter_async_context(self._client(storage))
            worker = Worker(
                plan,
                storage,
                state,
                client=client,
                make_cron_job=self._tick_job,
                emit=self.events,
                tally=self._tally,
            )
            self._workers.append(worker)
            stack.callback(self._workers.remove, worker)
            await worker.run(task_status=task_status)

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Workers of this app that run in this process, also those that start or stop."""
        return tuple(self._workers)

    def measure(self) -> Tally:
        """Return what the app's workers in this process have done; count from the first call on."""
        if not self._tally.on:
            self._tally.on = True
            self.events.watchers = (*self.events.watchers, self._tally)
        return self._tally

    async def drain(self, queue: str | None = None) -> None:
        """Run a worker for a queue (by default all) until no job is due, and stop it."""
        queues = None if queue is None else [checked_name("drain: queue", queue)]
        self._worker_plan(
            queues
        )  # raises here, and not in the nursery, for a queue that the app does not have
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(partial(self.run_worker, queues=queues))
            await worker.wait_idle()
            await worker.stop()

    async def _enter_state(self, stack: AsyncExitStack) -> Any:
        if not callable(self._state):
            return self._state
        state: Any = self._state()
        return await stack.enter_async_context(state) if hasattr(state, "__aenter__") else state

    def _worker_plan(self, queues: Iterable[str] | None) -> WorkerPlan:
        return WorkerPlan(
            definitions=dict(self.registry.by_name),
            queues=choose_queues(self.queues, queues),
            rules=self._rules if self._prunes else (),
            crons=tuple(self.crons.values()),
            grace=self.grace,
            lease=self.lease,
            name=self.name,
            version=installed_version(),
            switched_off=switched_off(),
            around_attempt=self.attempt_hooks,
            around_enqueue=tuple(self._enqueue_hooks),
        )

    def use_clock(self, clock: Callable[[], datetime]) -> None:
        """Use this clock for SQLite (aware UTC datetimes), for tests with virtual time."""
        if not callable(clock):
            raise refused(
                "use_clock: clock",
                clock,
                use="a function that returns an aware datetime",
                error=InvalidSetting,
            )
        self._database.clock = clock

    async def perform(self, name: str, payload: Mapping[str, Any] | str) -> Any:
        """Run a job in this task without enqueueing it, and return its result.

        Its checkpoints and steps are forgotten after the call. ``ctx.enqueue`` uses the database of this app.

        Args:
            name: name of the job.
            payload: payload as it is stored: a dict, or its JSON text.

        Raises:
            UnknownJob: the app does not have this job.
            UndecodablePayload: the payload is invalid; the message names the field.
            Exception: what the job raised.

        """
        definition = self.registry.get(checked_text("perform: name", name))
        if not isinstance(payload, str | Mapping):
            raise refused(
                "perform: payload", payload, use="a dict of the fields, or its JSON text", error=InvalidJob
            )
        text = payload if isinstance(payload, str) else json.dumps(dict(payload))
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(self.open_client())
            scratch = await stack.enter_async_context(
                open_storage("sqlite:///:memory:", clock=self._database.clock)
            )
            state = await self._enter_state(stack)
            return await perform(
                definition, text, scratch=scratch, state=state, client=client, hooks=self.attempt_hooks
            )

    async def declare_crons(self) -> None:
        """Store the cron entries that are declared in code, as a worker does when it starts."""
        async with self.open_storage() as storage:
            await declare(storage.crons, storage.schema, tuple(self.crons.values()))


def _queues(given: object) -> dict[str, Queue]:
    if not isinstance(given, Mapping):
        raise refused(
            "App: queues", given, use="a mapping from a name to an int or a jobrt.Queue", error=InvalidSetting
        )
    queues = cast("Mapping[str, int | Queue]", given)
    return {name: as_queue(name, queue) for name, queue in queues.items()}
