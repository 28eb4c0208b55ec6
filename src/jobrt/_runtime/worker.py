"""Life of a worker: start, stop, idle.

A stop has these steps, each with a time limit: stop claiming, release unstarted jobs, wait for running attempts during
the grace, cancel them, write every outcome, sign off, end the tree. The worker closes the queues' wake-ups. Each
fetcher then closes its channel to the executors. They close theirs when they have returned every job, and the worker
waits for that.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import attrs
import trio

from jobrt._core.attempts import Stop
from jobrt._core.cron import CronEntry
from jobrt._core.text import storable
from jobrt._core.worker_info import WorkerInfo
from jobrt._registry import JobWithOptions
from jobrt._runtime.actors import Actors, QueueActors
from jobrt._runtime.messages import Abandon, CancelClaims, ExecutorsOrder, IdleQuestion, StopAll
from jobrt._runtime.outage import Backoff
from jobrt._runtime.plan import WorkerPlan
from jobrt._runtime.running import Running
from jobrt._runtime.shutdown import sign_off
from jobrt._runtime.tally import Tally
from jobrt._runtime.telemetry import worker_info
from jobrt._runtime.threads import threads_left
from jobrt._runtime.wiring import Environment, wire
from jobrt._storage.contract import Storage
from jobrt._supervision.records import SupervisorStatistics
from jobrt.errors import StorageError, StorageUnavailable
from jobrt.events import EventBus, WorkerStarted, WorkerStopped, WorkerStopping

_CLEANUP = 1.5
"""Seconds that cancelled attempts have for their clean-up, before running claims are also cancelled.

Together with `_SIGN_OFF` it must be less than the time that a process has beyond its grace (`jobrt.cli.worker`).
Otherwise a claim that waits for a locked database would turn an ordinary stop into a forced one.
"""
_SIGN_OFF = 2.0
"""Seconds for writing the last outcomes and signing off."""
_RESERVE = 0.9
"""Share of the caller's time that `abandon` uses: it must return the stuck attempts before that time is over."""
_RESTART_AFTER = 1.0
"""Seconds after which an actor that is down after a crash is restarted, so that it can end in order."""


def _new_worker_id(name: str | None) -> str:
    """Return ``host.pid.random``, which people can recognize and which is unique per registration."""
    host = storable(name or socket.gethostname())
    return f"{host}.{os.getpid()}.{uuid.uuid4().hex[:8]}"


@attrs.define(eq=False)
class Worker:
    """A running worker. Created by ``App.run_worker``, which passes it to ``task_status.started``."""

    plan: WorkerPlan
    storage: Storage
    state: Any
    client: Any
    make_cron_job: Callable[[CronEntry], JobWithOptions[Any] | None]
    emit: EventBus = attrs.Factory(EventBus)
    tally: Tally = attrs.Factory(Tally)
    shutting_down: trio.Event = attrs.Factory(trio.Event)
    stopped: trio.Event = attrs.Factory(trio.Event)
    _grace: trio.CancelScope = attrs.Factory(trio.CancelScope)
    _signed_off: trio.Event = attrs.Factory(trio.Event)
    _sign_off_error: str = ""
    _tree_ended: trio.Event = attrs.Factory(trio.Event)
    _actors: Actors = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._actors = wire(
            self.plan,
            Environment(
                storage=self.storage,
                state=self.state,
                client=self.client,
                make_cron_job=self.make_cron_job,
                emit=self.emit,
                tally=self.tally,
                shutting_down=self.shutting_down,
                new_id=lambda: _new_worker_id(self.plan.name),
                info=self.info,
            ),
        )

    # ------------------------------------------------------------------ public methods

    @property
    def id(self) -> str:
        """Return the id under which the worker is currently registered."""
        return self._actors.identity.id

    @property
    def registered(self) -> bool:
        """Whether the database knows the worker, and its lease has not expired."""
        return self._actors.identity.trusted

    @property
    def queues(self) -> Mapping[str, QueueActors]:
        """Return the actors of each queue; for tests, read-only."""
        return self._actors.queues

    def statistics(self) -> SupervisorStatistics:
        """Return the current state of the supervision tree."""
        return self._actors.tree.statistics()

    def info(self) -> WorkerInfo:
        """Return what the heartbeat stores about this worker."""
        return worker_info(self.plan, self._actors, stopping=self.shutting_down.is_set())

    async def stop(self, *, grace: float | None = None) -> None:
        """Stop: claim no more, let running jobs continue for `grace` seconds (default: the app's), then cancel them.

        Returns when all outcomes are written and the worker has ended. Another call can only shorten the grace.
        """
        self.begin_stop(grace=grace)
        await self.stopped.wait()

    def begin_stop(self, *, grace: float | None = None) -> None:
        """Begin to stop as `stop` does, without waiting for the end."""
        deadline = trio.current_time() + (self.plan.grace if grace is None else grace)
        self._grace.deadline = min(self._grace.deadline, deadline)
        if not self.shutting_down.is_set():
            left = max(0.0, self._grace.deadline - trio.current_time())
            self.emit(WorkerStopping(self.id, round(left, 3), len(self._running())))
            self.shutting_down.set()

    async def wait_idle(self) -> None:
        """Wait until this worker's queues have no due job that it could run, and all outcomes are written.

        It also ends when the worker has stopped.

        Raises:
            StorageError: the storage refuses every outcome, for a reason other than an outage.

        """
        problem: StorageError | None = None
        async with trio.open_nursery() as nursery:

            async def watch_completer() -> None:
                nonlocal problem
                problem = await self._actors.completer.wait_refused()
                nursery.cancel_scope.cancel()

            async def watch_stop() -> None:
                await self.stopped.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch_completer)
            nursery.start_soon(watch_stop)
            await self._wait_until_all_idle()
            nursery.cancel_scope.cancel()
        if problem is not None:
            raise problem

    async def _wait_until_all_idle(self) -> None:
        claimed = -1
        while True:
            # A job may enqueue into another queue that has already answered. So ask until nothing more was claimed.
            answers = [await self._ask_idle(queue) for queue in self.queues.values()]
            if sum(answers) == claimed:
                return
            claimed = sum(answers)

    async def _ask_idle(self, queue: QueueActors) -> int:
        if self.shutting_down.is_set():  # the fetcher may never receive another question
            await self.stopped.wait()
        send, receive = trio.open_memory_channel[int](1)
        await queue.fetcher_orders.send(IdleQuestion(send))
        return await receive.receive()

    def unfinished(self) -> tuple[str, ...]:
        """Return the names and IDs of the running jobs."""
        return tuple(f"{attempt.job.name} {attempt.job.id}" for attempt in self._running())

    async def abandon(self) -> list[str]:
        """Release the jobs of attempts that do not end, sign off, and return their names and ids.

        Only for a process that exits immediately afterwards: the code of those attempts still runs.
        """
        stuck = self.unfinished()
        await self._order(Abandon("the worker exited before it ended"))
        now = trio.current_time()
        with trio.move_on_at(now + _RESERVE * (trio.current_effective_deadline() - now)):
            await self._signed_off.wait()
        return list(stuck)

    # ------------------------------------------------------------------ running

    async def run(self, *, task_status: trio.TaskStatus[Worker] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until `stop` is called or the surrounding scope is cancelled, which is a stop without grace."""
        await self._register()
        threads = frozenset(threading.enumerate())
        try:
            async with trio.open_nursery() as nursery:
                with trio.CancelScope(shield=True):  # short: no actor waits for I/O before it has started
                    await nursery.start(self._shielded_tree)
                self.emit(WorkerStarted(self.id, tuple(self.queues)))
                task_status.started(self)
                grace_watch = trio.CancelScope()
                nursery.start_soon(self._end_grace_when_cancelled, grace_watch)
                try:
                    await self.shutting_down.wait()
                finally:
                    with trio.CancelScope(shield=True):  # every step of the shutdown has its own limit
                        await self._shut_down(graceful=self.shutting_down.is_set())
                    grace_watch.cancel()
        finally:
            self.emit(WorkerStopped(self.id, self._sign_off_error, threads_left(threads)))
            self.stopped.set()

    async def _register(self) -> None:
        """Register the worker, however long an outage takes."""
        backoff = Backoff(self._actors.outage)
        while True:
            try:
                await self._actors.heartbeat.register()
            except StorageUnavailable as error:
                await backoff.wait(error)
            else:
                backoff.reset()
                return

    async def _shielded_tree(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the tree shielded from cancellation by an outer scope: the shutdown ends it in order."""
        try:
            with trio.CancelScope(shield=True):
                await self._actors.tree.run(task_status=task_status)
        finally:
            self._tree_ended.set()

    async def _end_grace_when_cancelled(self, scope: trio.CancelScope) -> None:
        """End the grace when the surrounding scope is cancelled during a stop."""
        with scope:
            try:
                await trio.sleep_forever()
            finally:
                if not scope.cancel_called:
                    self.begin_stop(grace=0.0)

    # ------------------------------------------------------------------ stopping

    async def _shut_down(self, *, graceful: bool) -> None:
        if not graceful:
            self.begin_stop(grace=0.0)
        for queue in self.queues.values():
            queue.wake.close()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_without_tree)
            try:
                await self._end_queues()
                await self._sign_off()
            finally:
                self._signed_off.set()
                self._actors.tree.stop()  # also after an error, because nothing else would end the tree
            nursery.cancel_scope.cancel()

    async def _run_without_tree(self) -> None:
        """Run the actors without the tree once it has ended, as a `KeyboardInterrupt` in any of them makes it do."""
        await self._tree_ended.wait()
        await self._actors.run_without_tree()

    async def _end_queues(self) -> None:
        """Wait until the executors have returned every job, and cancel those that take longer than the grace."""
        with self._grace:
            await self._wait_until_queues_ended()
        await self._order(StopAll(Stop.SHUTDOWN, "the worker stopped"))
        with trio.move_on_after(_CLEANUP):
            await self._wait_until_queues_ended()
        for queue in self.queues.values():  # a storage that does not answer must not delay the stop
            await queue.fetcher_orders.send(CancelClaims("the worker stopped"))
        await self._wait_until_queues_ended()  # no limit: Trio cannot kill an attempt

    async def _wait_until_queues_ended(self) -> None:
        """Wait until the queues' actors have ended; restart those that are down, so that they end in order."""
        for name, queue in self.queues.items():
            while not queue.fetcher.ended.is_set():
                with trio.move_on_after(_RESTART_AFTER) as waiting:
                    await queue.fetcher.ended.wait()
                if waiting.cancelled_caught and not self._tree_ended.is_set():
                    self._actors.restart_queue(name)

    async def _order(self, order: ExecutorsOrder) -> None:
        for queue in self.queues.values():
            await queue.executors_orders.send(order)

    async def _sign_off(self) -> None:
        """Write the last outcomes, and release claims, leadership and registration."""
        # Claims are released before the worker is unregistered, because a rescue of its jobs would use up an attempt.
        steps: dict[str, Callable[[], Awaitable[Any]]] = {"outcomes": self._write_outcomes}
        steps |= {f"claims of {name}": partial(self._release, name) for name in self.queues}
        steps["leadership"] = self._actors.maintenance.resign
        steps["registration"] = lambda: self.storage.workers.unregister(self.id)
        error = await sign_off(steps, seconds=_SIGN_OFF)
        self._sign_off_error = "" if error is None else str(error)

    async def _write_outcomes(self) -> None:
        self._actors.completer.outcomes.arrived.close()
        if not self._tree_ended.is_set():
            self._actors.restart_completer()
        await self._actors.completer.ended.wait()

    async def _release(self, queue: str) -> None:
        await self.storage.attempts.release_unknown(self.id, queue, ())

    def _running(self) -> list[Running]:
        return [attempt for queue in self.queues.values() for attempt in queue.executors.running]
