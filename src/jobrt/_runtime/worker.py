"""Put a worker together: the only place that knows all actors.

::

    worker                    Supervisor, one for one; started in this order, stopped in the reverse one
    ├─ heartbeat              the last to stop
    ├─ background             progress writes, the asyncio loop
    ├─ control · notifier · scheduler · maintenance · cron · watchdog
    ├─ completer
    └─ queues                 Supervisor: a queue that fails too often is marked, shown, tried again; the others go on
       └─ "mail"              Supervisor
          ├─ executors
          └─ fetcher          the first to stop

A stop is: claim no more, give back what nobody began, let running attempts have their grace, cancel them, write
every outcome, sign off, and only then end the tree. Each arrow has a limit.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

from jobrt._core.attempts import Stop, interrupted
from jobrt._runtime.attempt import Attempts
from jobrt._runtime.background import Background
from jobrt._runtime.completer import Completer, Report
from jobrt._runtime.context import Services
from jobrt._runtime.cron import CronActor
from jobrt._runtime.executor import Executors
from jobrt._runtime.fetcher import Fetcher
from jobrt._runtime.heartbeat import Control, Heartbeat, Identity
from jobrt._runtime.maintenance import Maintenance
from jobrt._runtime.notices import Notices
from jobrt._runtime.notifier import Notifier
from jobrt._runtime.outage import Backoff, Outage
from jobrt._runtime.queue_state import NameLimits, QueueState
from jobrt._runtime.runners import make_runners
from jobrt._runtime.scheduler import Scheduler
from jobrt._runtime.shutdown import sign_off
from jobrt._runtime.watchdog import Usual, Watchdog
from jobrt._supervision.decisions import describe
from jobrt._supervision.records import (
    ChildRestarting,
    ChildSetAside,
    SupervisionEvent,
    SupervisorStatistics,
)
from jobrt._supervision.supervisor import Supervisor
from jobrt.errors import StorageUnavailable
from jobrt.events import (
    ActorRestarted,
    Event,
    EventBus,
    JobCancelPhase,
    QueuePaused,
    WorkerStarted,
    WorkerStopped,
    WorkerStopping,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jobrt._core.cron import CronEntry
    from jobrt._core.job import Claimed, JobRef, NewJob, Outcome
    from jobrt._runtime.plan import WorkerPlan
    from jobrt._runtime.running import Running
    from jobrt._storage.contract import Changes, Storage, Wake

__all__ = ["Worker"]

_CLEANUP = 1.5
"""Seconds that cancelled attempts have for their clean-up before the stop goes on without waiting politely.

With those for signing off it must stay below what a process has beyond its grace (`jobrt.cli.worker`): a claim
that a locked database does not answer would else make a stop, in which nothing is wrong, end by force.
"""
_SIGN_OFF = 2.0
"""Seconds for writing the last outcomes and signing off."""
_CONTROL_INTERVAL = 1.0


def _new_worker_id(name: str | None) -> str:
    """Return ``host.pid.random``: for people to recognize, and unique per registration."""
    return f"{name or socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"


@attrs.define(eq=False, slots=False)  # the actors are made in __attrs_post_init__
class Worker:
    """Run jobs. Made by ``App.run_worker``, which is started in a nursery and hands it out."""

    plan: WorkerPlan
    storage: Storage
    state: Any
    client: Any
    encode_result: Callable[[Any], str]
    make_cron_job: Callable[[CronEntry], NewJob | None]
    emit: EventBus = attrs.Factory(EventBus)
    shutting_down: trio.Event = attrs.Factory(trio.Event)
    stopped: trio.Event = attrs.Factory(trio.Event)
    queues: dict[str, QueueState] = attrs.Factory(dict)
    _grace: trio.CancelScope = attrs.Factory(trio.CancelScope)
    _unsaid: str = ""

    def __attrs_post_init__(self) -> None:
        plan = self.plan
        self._identity = Identity(lambda: _new_worker_id(plan.name))
        self._outage = Outage(self.emit)
        self._usual = Usual()
        self._notices = Notices()
        limits = NameLimits(
            {
                one.name: one.max_concurrency
                for one in plan.definitions.values()
                if one.max_concurrency is not None
            }
        )
        for name, settings in plan.queues.items():
            self.queues[name] = QueueState(name, settings, limits)
        self._scheduler = Scheduler(lambda queue: self.queues[queue].wake.set())
        self._completer = Completer(
            self.storage,
            self.emit,
            self._backoff(),
            self._scheduler.announce,
            lambda job: self.queues[job.queue].let_go(job),
        )
        self._background = Background()
        self._heartbeat = Heartbeat(
            self.storage,
            self._identity,
            plan.lease,
            self.info,
            self._fence,
            self._wake_queues,
            self._apply,
            self._outage,
            self.emit,
        )
        self._control = Control(
            self.storage, self._identity, _CONTROL_INTERVAL, self._busy, self._apply, self._backoff()
        )
        self._maintenance = Maintenance(
            self.storage, lambda: self.id, min(5.0, plan.lease / 6), plan.rules, self._backoff(), self.emit
        )
        self._notifier = Notifier(self.storage, self._deliver, self._backoff(), self.emit)
        self._cron = CronActor(self.storage, plan.crons, self.make_cron_job, self._backoff(), self.emit)
        self._attempts = self._make_attempts()
        self._tree = self._supervisor()

    def _make_attempts(self) -> Attempts:
        return Attempts(
            self.plan.definitions,
            make_runners(
                threads=sum(queue.concurrency for queue in self.plan.queues.values()),
                start=self._background.start,
            ),
            Services(
                self.state,
                self.storage,
                self.client,
                self.shutting_down,
                self.encode_result,
                self._background.later,
            ),
            self._report,
            lambda outcome, job, seconds: self._completer.written(Report(outcome, job, seconds)),
            self.emit,
        )

    # ------------------------------------------------------------------ what others may ask

    @property
    def id(self) -> str:
        """Return the id under which the worker is registered now."""
        return self._identity.id

    def statistics(self) -> SupervisorStatistics:
        """Return the supervision tree as it is now."""
        return self._tree.statistics()

    def info(self) -> dict[str, Any]:
        """Return what the heartbeat tells the others about this worker; JSON-able."""
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "name": self.plan.name,
            "version": self.plan.version,
            "python": platform.python_version(),
            "program": sys.argv[0],
            "leader": self._maintenance.term is not None,
            "deaf": self._notifier.deaf,
            "outage": self._outage.error if self._outage.since is not None else None,
            "stopping": self.shutting_down.is_set(),
            "pending_outcomes": len(self._completer.pending),
            "landed": self._completer.landed,
            "refused": self._completer.refused,
            "queues": {name: self._queue_info(queue) for name, queue in self.queues.items()},
            "notices": self._notices.told(),
            "tree": self._tree.statistics().to_dict(),
        }

    def _queue_info(self, queue: QueueState) -> dict[str, Any]:
        return {
            "concurrency": queue.concurrency,
            "running": len(queue.running),
            "claimed": len(queue.inbox),
            "finished": queue.finished,
            "paused": queue.paused,
            "stuck": [one.job.id for one in queue.running.values() if one.reported],
            "cancelling": {str(one.job.id): phase for one in queue.running.values() if (phase := one.phase)},
        }

    async def stop(self, *, grace: float | None = None) -> None:
        """Stop: claim nothing new, give running jobs `grace` seconds (default: the app's), then cancel them.

        Returns when the worker is gone, all outcomes written. Calling it again can only shorten the grace.
        """
        self.begin_stop(grace=grace)
        await self.stopped.wait()

    def begin_stop(self, *, grace: float | None = None) -> None:
        """Do as `stop`, without waiting."""
        deadline = trio.current_time() + (self.plan.grace if grace is None else grace)
        self._grace.deadline = min(self._grace.deadline, deadline)
        if not self.shutting_down.is_set():
            running = sum(len(queue.running) for queue in self.queues.values())
            self.emit(WorkerStopping(self.id, max(0.0, self._grace.deadline - trio.current_time()), running))
            self.shutting_down.set()

    async def wait_idle(self) -> None:
        """Wait until this worker's queues have no due job that it could run, and all outcomes are written."""
        queues = self.queues.values()
        while True:
            # What is claimed from here on may end in a retry that no look below has seen.
            claimed = sum(queue.claimed for queue in queues)
            for queue in queues:
                await queue.wait_empty()
            await self._completer.drain()
            for queue in queues:
                await queue.look()
            if claimed == sum(queue.claimed for queue in queues):
                return

    async def abandon(self) -> list[str]:
        """Give attempts that do not end back to others, sign off, and return what they were.

        Only for a process that exits right after: the code of those attempts is still running.
        """
        stuck = self._running()
        for one in stuck:
            one.abandoned = True
            self._completer.add(
                Report(interrupted(one.job, "the worker exited before it ended"), one.job, 0.0)
            )
        await self._sign_off()
        return [f"{one.job.name} {one.job.id}" for one in stuck]

    # ------------------------------------------------------------------ running

    async def run(self, *, task_status: trio.TaskStatus[Worker] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until `stop` is called or the surrounding scope is cancelled, which is a stop without grace."""
        await self._register()
        try:
            async with trio.open_nursery() as nursery:
                with trio.CancelScope(shield=True):  # no actor waits for anything before it is up
                    await nursery.start(self._shielded_tree)
                self.emit(WorkerStarted(self.id, tuple(self.queues)))
                task_status.started(self)
                hurry = trio.CancelScope()
                nursery.start_soon(self._hurry_when_cancelled, hurry)
                try:
                    await self.shutting_down.wait()
                finally:
                    with trio.CancelScope(shield=True):  # every step of the shutdown has its own limit
                        await self._shut_down(graceful=self.shutting_down.is_set())
                    hurry.cancel()
        finally:
            self.emit(WorkerStopped(self.id, self._unsaid))
            self.stopped.set()

    async def _register(self) -> None:
        """Register, however long the database is away."""
        backoff = self._backoff()
        while True:
            try:
                await self._heartbeat.register()
            except StorageUnavailable as error:
                await backoff.wait(error)
            else:
                backoff.reset()
                return

    async def _shielded_tree(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the tree where a cancellation from outside does not reach it: the shutdown ends it, in order."""
        with trio.CancelScope(shield=True):
            await self._tree.run(task_status=task_status)

    async def _hurry_when_cancelled(self, scope: trio.CancelScope) -> None:
        """End the grace when the surrounding scope is cancelled while a stop is under way."""
        with scope:
            try:
                await trio.sleep_forever()
            finally:
                if not scope.cancel_called:
                    self.begin_stop(grace=0.0)

    async def _shut_down(self, *, graceful: bool) -> None:
        if not graceful:
            self.begin_stop(grace=0.0)
        self._close_queues()
        with self._grace:
            await self._wait_empty()
        self._cancel_running(Stop.SHUTDOWN, "the worker stopped")
        with trio.move_on_after(_CLEANUP):
            await self._wait_empty()
        for queue in self.queues.values():
            for claim in queue.claims:  # a storage that does not answer must not hold it
                claim.cancel(reason="the worker stopped")
        await self._wait_empty()  # Trio cannot end an attempt that does not end: it holds the worker open
        try:
            await self._sign_off()
        finally:
            self._tree.stop()  # whatever went wrong before: nothing else would ever end it

    def _close_queues(self) -> None:
        for queue in self.queues.values():
            queue.closed = True
            for job in queue.withdraw():
                self._completer.give_back(job)

    async def _wait_empty(self) -> None:
        for queue in self.queues.values():
            await queue.wait_empty()

    async def _sign_off(self) -> None:
        """Write the last outcomes and leave nothing behind that carries this worker's name."""
        # What could not be written goes back before the worker is gone, or its rescue would count an attempt.
        steps: dict[str, Callable[[], Awaitable[Any]]] = {"outcomes": self._completer.drain}
        steps |= {f"claims of {queue}": partial(self._release, queue) for queue in self.queues}
        steps["leadership"] = self._maintenance.resign
        steps["registration"] = lambda: self.storage.unregister(self.id)
        error = await sign_off(steps, seconds=_SIGN_OFF)
        self._unsaid = "" if error is None else str(error)

    async def _release(self, queue: str) -> None:
        await self.storage.release_unknown(self.id, queue, ())

    # ------------------------------------------------------------------ wiring

    def _backoff(self) -> Backoff:
        return Backoff(self._outage)

    def _supervisor(self) -> Supervisor:
        tree = Supervisor("worker", escalation="retry", on_event=self._supervision)
        tree.add(self._heartbeat.run, name="heartbeat")
        tree.add(self._background.run, name="background")
        tree.add(self._control.run, name="control")
        tree.add(self._notifier.run, name="notifier")
        tree.add(self._scheduler.run, name="scheduler")
        if "worker" not in self.plan.switched_off:
            tree.add(self._maintenance.run, name="maintenance")
        if "cron" not in self.plan.switched_off:
            tree.add(self._cron.run, name="cron")
        tree.add(self._completer.run, name="completer")
        if "worker" not in self.plan.switched_off:
            supervisors: dict[str, Supervisor] = {}
            queues = Supervisor("queues", escalation="retry", in_turn=False, on_event=self._supervision)
            for queue in self.queues.values():
                supervisors[queue.name] = self._queue_supervisor(queue)
                queues.add(supervisors[queue.name], name=queue.name)
            tree.add(queues)
            watchdog = Watchdog(self.storage, self.queues, supervisors, self._usual, self._observe)
            tree.add(watchdog.run, name="watchdog")
        return tree

    def _queue_supervisor(self, queue: QueueState) -> Supervisor:
        fetcher = Fetcher(
            queue,
            self.storage,
            self._completer,
            worker=lambda: self._identity.claimant,
            names=tuple(sorted(set(self.plan.definitions) - set(queue.limits.most))),
            announce=self._scheduler.announce,
            backoff=self._backoff(),
            emit=self.emit,
        )
        supervisor = Supervisor(queue.name, on_event=self._supervision)
        supervisor.add(Executors(queue, self._attempts).run, name="executors")
        supervisor.add(fetcher.run, name="fetcher")
        return supervisor

    def _supervision(self, event: SupervisionEvent) -> None:
        """Tell that an actor failed and starts again; its other comings and goings are in the statistics."""
        if isinstance(event, ChildRestarting | ChildSetAside):
            restarts = event.restarts if isinstance(event, ChildRestarting) else 0
            said = "" if event.error is None else describe(event.error)
            self.emit(ActorRestarted(event.supervisor, event.child, said, event.delay, restarts))

    def _observe(self, event: Event) -> None:
        """Tell what the watchdog saw, here and, with a heartbeat now, to people elsewhere."""
        self._notices.note(event)
        self._heartbeat.news.set()
        self.emit(event)

    def _report(self, outcome: Outcome, job: Claimed, seconds: float) -> None:
        self._usual.note(job.name, seconds)
        self._completer.add(Report(outcome, job, seconds))

    def _deliver(self, wake: Wake) -> None:
        if wake.kind == "control":
            self._control.wake.set()
        elif wake.kind == "jobs":
            for name, queue in self.queues.items():
                if wake.queue is None or wake.queue == name:
                    queue.wake.set()

    def _running(self) -> list[Running]:
        return [one for queue in self.queues.values() for one in queue.running.values()]

    def _busy(self) -> bool:
        return any(queue.held for queue in self.queues.values())

    def _cancel_running(self, stop: Stop, note: str) -> None:
        for one in self._running():
            one.cancel(stop, note)

    def _fence(self, why: str) -> None:
        """Stop working on jobs that may be somebody else's by now.

        What nobody has begun goes back without having used an attempt, if that is written before the rescue.
        """
        self._cancel_running(Stop.LEASE_LOST, why)
        for queue in self.queues.values():
            for job in queue.withdraw():
                self._completer.give_back(job)

    def _wake_queues(self) -> None:
        """Have all queues looked at: while the worker was nobody it claimed nothing."""
        for queue in self.queues.values():
            queue.wake.set()

    def _apply(self, changes: Changes) -> None:
        """Do what operators asked for."""
        running = {(one.job.id, one.job.lease): one for one in self._running()}
        for request in changes.cancels:
            one = running.get(request.ref)
            if one is None:
                self._give_back_claimed(request.ref)
            elif one.cancel(Stop.OPERATOR, request.reason):
                self._observe(JobCancelPhase(one.job.id, one.job.name, "received", request.reason))
        settings = {one.name: one for one in changes.queues}
        for name, queue in self.queues.items():
            wanted = settings.get(name)
            paused = wanted is not None and wanted.paused
            own = queue.settings.concurrency
            concurrency = own if wanted is None or wanted.concurrency is None else wanted.concurrency
            if (paused, concurrency) != (queue.paused, queue.concurrency):
                self._set_queue(queue, paused=paused, concurrency=concurrency)

    def _set_queue(self, queue: QueueState, *, paused: bool, concurrency: int) -> None:
        if paused != queue.paused:
            self.emit(QueuePaused(queue.name, paused))
        queue.paused, queue.concurrency = paused, concurrency
        queue.idle.unpark_all()  # executors beyond a lower concurrency end
        queue.grow.set()
        queue.wake.set()

    def _give_back_claimed(self, ref: JobRef) -> None:
        """Give back a cancelled job that nobody has begun; the storage then ends it as cancelled.

        A wish may come before the answer to the claim: then the job is given back when it arrives.
        """
        for queue in self.queues.values():
            queue.unwanted.add(ref)
            for job in queue.withdraw_unwanted():
                self._completer.give_back(job)
            if not queue.claims:
                queue.unwanted.clear()
