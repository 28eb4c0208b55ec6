"""Wiring of a worker, which creates all actors and channels.

::

    worker                    Supervisor, one_for_one; started in this order, stopped in reverse order
    ├─ heartbeat              the last to stop
    ├─ background             progress writes, the asyncio loop
    ├─ control · notifier · scheduler · scopes · maintenance · cron
    ├─ completer
    ├─ starts
    ├─ queues                 Supervisor: a queue that fails too often is restarted later; others continue
    │  └─ "mail"              Supervisor
    │     ├─ executors
    │     └─ fetcher
    └─ watchdog
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
import trio

from jobrt._core.cron import CronEntry
from jobrt._core.queues import Queue
from jobrt._core.worker_info import WorkerInfo
from jobrt._registry import JobWithOptions, fits_of
from jobrt._runtime.actors import Actors, QueueActors
from jobrt._runtime.attempt import AttemptRunner
from jobrt._runtime.background import Background
from jobrt._runtime.channels import Channel, Wakeup
from jobrt._runtime.completer import Completer
from jobrt._runtime.control import Control, QueueControl
from jobrt._runtime.cron import RELOAD_INTERVAL, CronActor
from jobrt._runtime.executors import Executors, ExecutorsChannels
from jobrt._runtime.fetcher import Fetcher, FetcherChannels
from jobrt._runtime.heartbeat import Heartbeat
from jobrt._runtime.hooks import hooked
from jobrt._runtime.identity import Identity
from jobrt._runtime.ledger import Ledger
from jobrt._runtime.maintenance import Maintenance
from jobrt._runtime.messages import Due, ExecutorsOrder, FetcherOrder, OutcomeBatch, Returns, Settled, Work
from jobrt._runtime.name_limits import NameLimits
from jobrt._runtime.notices import Notices
from jobrt._runtime.notifier import Notifier
from jobrt._runtime.outage import Backoff, Outage
from jobrt._runtime.outcomes import Outcomes, Settler
from jobrt._runtime.pace import Pace, is_virtual
from jobrt._runtime.plan import WorkerPlan
from jobrt._runtime.runners import make_runners
from jobrt._runtime.scheduler import Scheduler
from jobrt._runtime.scope_keeper import LOOK_INTERVAL, ScopeKeeper
from jobrt._runtime.services import Services
from jobrt._runtime.starts import ShownQueue, Starts
from jobrt._runtime.tally import Tally
from jobrt._runtime.watchdog import Watchdog, Watched
from jobrt._storage.contract import Changes, Storage
from jobrt._supervision.decisions import describe
from jobrt._supervision.records import ChildRestarting, ChildSetAside, SupervisionEvent
from jobrt._supervision.supervisor import Supervisor
from jobrt.events import ActorRestarted, EventBus

_CONTROL_INTERVAL = 1.0
_BATCHES = 4
"""Size of the channels between fetcher and executors, in batches; when one is full, its receiver is down."""
_ORDERS = 16
_DUE_TIMES = 256


@attrs.frozen(kw_only=True)
class Environment:
    """Parts of the app that a worker uses."""

    storage: Storage
    state: Any
    client: Any
    make_cron_job: Callable[[CronEntry], JobWithOptions[Any] | None]
    emit: EventBus
    tally: Tally
    shutting_down: trio.Event
    new_id: Callable[[], str]
    info: Callable[[], WorkerInfo]


def _name_limits(plan: WorkerPlan) -> NameLimits:
    limited = {
        name: definition
        for name, definition in plan.definitions.items()
        if definition.max_concurrency is not None
    }
    return NameLimits(
        {definition.name: definition.max_concurrency or 0 for definition in limited.values()},
        {name: definition.name for name, definition in limited.items() if name != definition.name},
    )


def wire(plan: WorkerPlan, environment: Environment) -> Actors:
    """Create the actors of a worker and connect them by channels."""
    return _Wiring(plan, environment).actors()


@attrs.frozen(kw_only=True)
class _Wires:
    """Channels of one queue.

    The worker keeps all ends open, and a restarted actor uses the same ends. So the crash of an actor closes nothing.
    """

    wake: Wakeup = attrs.Factory(Wakeup)
    work: Channel[Work] = attrs.field(factory=lambda: Channel.open(_BATCHES))
    returns: Channel[Returns] = attrs.field(factory=lambda: Channel.open(_BATCHES))
    fetcher: Channel[FetcherOrder] = attrs.field(factory=lambda: Channel.open(_ORDERS))
    executors: Channel[ExecutorsOrder] = attrs.field(factory=lambda: Channel.open(_ORDERS))
    # There is at most one message per batch of outcomes, and the ledger limits these. So a writer never waits here.
    settled: Channel[Settled] = attrs.field(factory=lambda: Channel.open(math.inf))


@attrs.define(eq=False)
class _Wiring:
    """Builder of the actors, with the parts that they share."""

    plan: WorkerPlan
    environment: Environment
    outage: Outage = attrs.field(init=False)
    identity: Identity = attrs.field(init=False)
    notices: Notices = attrs.field(init=False)
    limits: NameLimits = attrs.field(init=False)
    fits: str = attrs.field(init=False)
    pace: Pace = attrs.field(init=False)
    queues: Mapping[str, Queue] = attrs.field(init=False)
    wires: Mapping[str, _Wires] = attrs.field(init=False)
    settlers: list[Settler] = attrs.Factory(list)
    outcomes: Outcomes = attrs.Factory(Outcomes)
    background: Background = attrs.Factory(Background)
    control_wake: Wakeup = attrs.Factory(Wakeup)
    scopes_wake: Wakeup = attrs.Factory(Wakeup)
    cron_wake: Wakeup = attrs.Factory(Wakeup)
    beat_now: Wakeup = attrs.Factory(Wakeup)
    claimed_ahead: Wakeup = attrs.Factory(Wakeup)
    due: Channel[Due] = attrs.field(factory=lambda: Channel.open(_DUE_TIMES))
    news: Channel[Changes] = attrs.field(factory=lambda: Channel.open(1))
    rejected: Channel[OutcomeBatch] = attrs.field(factory=lambda: Channel.open(math.inf))

    def __attrs_post_init__(self) -> None:
        environment, plan = self.environment, self.plan
        self.outage = Outage(environment.emit, beat_now=self.beat_now)
        self.identity = Identity(environment.new_id)
        self.notices = Notices(environment.emit, self.beat_now)
        self.limits = _name_limits(plan)
        self.fits = fits_of(plan.definitions)
        self.pace = Pace(is_virtual(private=environment.storage.private))
        queues = {} if "worker" in plan.switched_off else plan.queues
        self.queues = {name: self.pace.queue(queue) for name, queue in queues.items()}
        self.wires = {name: _Wires() for name in self.queues}

    def actors(self) -> Actors:
        """Create all actors, and the tree that runs them."""
        runner = self._runner()
        queues = {name: self._queue(name, runner) for name in self.queues}
        completer = self._completer()
        heartbeat, notifier, maintenance = self._heartbeat(), self._notifier(), self._maintenance()
        watchdog = self._watchdog(queues)
        tree = Supervisor("worker", escalation="retry", on_event=self._supervision)
        tree.add(heartbeat.run, name="heartbeat")
        tree.add(self.background.run, name="background")
        tree.add(self._control(queues).run, name="control")
        tree.add(notifier.run, name="notifier")
        tree.add(self._scheduler().run, name="scheduler")
        if "worker" not in self.plan.switched_off:
            tree.add(self._scope_keeper().run, name="scopes")
            tree.add(maintenance.run, name="maintenance")
        if "cron" not in self.plan.switched_off:
            tree.add(self._cron().run, name="cron")
        tree.add(completer.run, name="completer")
        if queues:
            tree.add(self._starts(queues).run, name="starts")
        queue_supervisors = Supervisor(
            "queues", escalation="retry", in_turn=False, on_event=self._supervision
        )
        for name, queue in queues.items():
            queue_supervisors.add(queue.supervisor, name=name)
        if queues:
            tree.add(queue_supervisors)
            tree.add(watchdog.run, name="watchdog")
        return Actors(
            tree=tree,
            queue_supervisors=queue_supervisors,
            identity=self.identity,
            outage=self.outage,
            heartbeat=heartbeat,
            notifier=notifier,
            maintenance=maintenance,
            completer=completer,
            watchdog=watchdog,
            notices=self.notices,
            queues=queues,
        )

    # ------------------------------------------------------------------ one per queue

    def _queue(self, name: str, runner: AttemptRunner) -> QueueActors:
        wires = self.wires[name]
        fetcher = self._fetcher(name, wires)
        executors = Executors(
            name=name,
            concurrency=self.queues[name].concurrency,
            channels=ExecutorsChannels(
                work=wires.work.receive, returns=wires.returns.send, orders=wires.executors.receive
            ),
            runner=runner,
            claimant=self._claimant,
            observe=self.notices.observe,
            claimed_ahead=self.claimed_ahead.ring,
        )
        supervisor = Supervisor(name, on_event=self._supervision)
        supervisor.add(executors.run, name="executors")
        supervisor.add(fetcher.run, name="fetcher")
        return QueueActors(
            fetcher=fetcher,
            executors=executors,
            supervisor=supervisor,
            wake=wires.wake,
            fetcher_orders=wires.fetcher.send,
            executors_orders=wires.executors.send,
        )

    def _fetcher(self, name: str, wires: _Wires) -> Fetcher:
        return Fetcher(
            name=name,
            ledger=Ledger(self.queues[name]),
            names=tuple(
                sorted(self.plan.definitions.keys() - self.limits.limits.keys() - self.limits.aliases.keys())
            ),
            fits=self.fits,
            pace=self.pace,
            limits=self.limits.row(wires.wake.ring),
            channels=FetcherChannels(
                wake=wires.wake,
                work=wires.work.send,
                returns=wires.returns.receive,
                orders=wires.fetcher.receive,
                settled=wires.settled.receive,
                rejected=self.rejected.send,
            ),
            outcomes=self.outcomes,
            settler=self._settler(),
            attempts=self.environment.storage.attempts,
            claimant=self._claimant,
            backoff=self._backoff(),
        )

    def _runner(self) -> AttemptRunner:
        threads = sum(queue.concurrency for queue in self.plan.queues.values())
        environment = self.environment
        runners = make_runners(threads=threads, start=self.background.start)
        return AttemptRunner(
            definitions=self.plan.definitions,
            runners={place: hooked(runner, self.plan.around_attempt) for place, runner in runners.items()},
            services=Services(
                state=environment.state,
                attempts=environment.storage.attempts,
                scopes=environment.storage.scopes,
                client=environment.client,
                shutting_down=environment.shutting_down,
                later=self.background.later,
                grace=self.plan.grace,
                streams=environment.storage.streams,
            ),
            emit=environment.emit,
            observe=self.notices.observe,
        )

    # ------------------------------------------------------------------ one per worker

    def _heartbeat(self) -> Heartbeat:
        return Heartbeat(
            workers=self.environment.storage.workers,
            identity=self.identity,
            lease=3 * self.pace.at_least(self.plan.lease / 3),
            info=self.environment.info,
            executors=[wires.executors.send for wires in self.wires.values()],
            fetchers=[wires.wake for wires in self.wires.values()],
            news=self.news.send,
            outage=self.outage,
            emit=self.environment.emit,
            beat_now=self.beat_now,
        )

    def _control(self, queues: Mapping[str, QueueActors]) -> Control:
        return Control(
            workers=self.environment.storage.workers,
            identity=self.identity,
            interval=self.pace.at_least(_CONTROL_INTERVAL),
            busy=lambda: any(queue.fetcher.ledger.held for queue in queues.values()),
            queues={
                name: QueueControl(
                    name,
                    self.queues[name].concurrency,
                    fetcher=queue.fetcher_orders,
                    executors=queue.executors_orders,
                )
                for name, queue in queues.items()
            },
            wake=self.control_wake,
            news=self.news.receive,
            backoff=self._backoff(),
            emit=self.environment.emit,
        )

    def _notifier(self) -> Notifier:
        return Notifier(
            wakes=self.environment.storage.wakes,
            queues={name: wires.wake for name, wires in self.wires.items()},
            control=[self.control_wake, self.scopes_wake] + [self.cron_wake] * self.pace.virtual,
            backoff=self._backoff(),
            emit=self.environment.emit,
        )

    def _scheduler(self) -> Scheduler:
        return Scheduler(
            queues={name: wires.wake for name, wires in self.wires.items()}, announced=self.due.receive
        )

    def _scope_keeper(self) -> ScopeKeeper:
        return ScopeKeeper(
            scopes=self.environment.storage.scopes,
            wake=self.scopes_wake,
            backoff=self._backoff(),
            interval=self.pace.at_least(LOOK_INTERVAL),
        )

    def _maintenance(self) -> Maintenance:
        return Maintenance(
            workers=self.environment.storage.workers,
            jobs=self.environment.storage.jobs,
            worker=lambda: self.identity.id,
            aside=self.environment.storage.aside,
            interval=self.pace.at_least(min(5.0, self.plan.lease / 6)),
            rules=self.plan.rules,
            backoff=self._backoff(),
            emit=self.environment.emit,
        )

    def _cron(self) -> CronActor:
        return CronActor(
            crons=self.environment.storage.crons,
            schema=self.environment.storage.schema,
            declared=self.plan.crons,
            make_job=self.environment.make_cron_job,
            registry=self.environment.client.registry,
            hooks=self.plan.around_enqueue,
            reload=self.pace.at_least(RELOAD_INTERVAL),
            wake=self.cron_wake,
            backoff=self._backoff(),
            emit=self.environment.emit,
        )

    def _completer(self) -> Completer:
        return Completer(
            attempts=self.environment.storage.attempts,
            outcomes=self.outcomes,
            rejected=self.rejected.receive,
            settler=self._settler(),
            written=lambda: sum(settler.landed + settler.refused for settler in self.settlers),
            backoff=self._backoff(),
        )

    def _starts(self, queues: Mapping[str, QueueActors]) -> Starts:
        return Starts(
            attempts=self.environment.storage.attempts,
            queues={
                name: ShownQueue(ledger=queue.fetcher.ledger, slots=queue.executors)
                for name, queue in queues.items()
            },
            wake=self.claimed_ahead,
            backoff=self._backoff(),
        )

    def _watchdog(self, queues: Mapping[str, QueueActors]) -> Watchdog:
        return Watchdog(
            jobs=self.environment.storage.jobs,
            queues={
                name: Watched(
                    ledger=queue.fetcher.ledger,
                    wake=queue.wake,
                    statistics=queue.executors.statistics,
                    restart_fetcher=partial(queue.supervisor.restart_child, "fetcher"),
                )
                for name, queue in queues.items()
            },
            observe=self.notices.observe,
            pace=self.pace,
        )

    # ------------------------------------------------------------------ small parts

    def _settler(self) -> Settler:
        settled = {name: wires.settled.send for name, wires in self.wires.items()}
        environment = self.environment
        self.settlers.append(Settler(environment.emit, self.due.send, settled, environment.tally))
        return self.settlers[-1]

    def _backoff(self) -> Backoff:
        return Backoff(self.outage)

    def _claimant(self) -> str | None:
        return self.identity.claimant

    def _supervision(self, event: SupervisionEvent) -> None:
        """Report that an actor failed and is restarted; other changes are only in the statistics."""
        if isinstance(event, ChildRestarting | ChildSetAside):
            restarts = event.restarts if isinstance(event, ChildRestarting) else 0
            error = "" if event.error is None else describe(event.error)
            self.environment.emit(ActorRestarted(event.supervisor, event.child, error, event.delay, restarts))
