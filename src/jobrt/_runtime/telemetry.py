"""The `WorkerInfo` that a worker stores with its heartbeat, collected from its actors."""

import os
import platform
import socket
import sys
from datetime import UTC, datetime

import trio

from jobrt._core.attempts import Stop
from jobrt._core.worker_info import QueueInfo, WorkerInfo
from jobrt._runtime.actors import Actors, QueueActors
from jobrt._runtime.plan import WorkerPlan
from jobrt._runtime.watchdog import Watchdog


def worker_info(plan: WorkerPlan, actors: Actors, *, stopping: bool) -> WorkerInfo:
    """Return the current state of the worker."""
    outage = actors.outage
    settlers = [actors.completer.settler, *(queue.fetcher.settler for queue in actors.queues.values())]
    return WorkerInfo(
        host=socket.gethostname(),
        pid=os.getpid(),
        name=plan.name,
        version=plan.version,
        python=platform.python_version(),
        program=sys.argv[0],
        leader=actors.maintenance.term is not None,
        disconnected=actors.notifier.disconnected,
        outage=outage.error if outage.since is not None else None,
        stopping=stopping,
        pending_outcomes=sum(queue.fetcher.ledger.unsettled for queue in actors.queues.values()),
        landed=sum(settler.landed for settler in settlers),
        refused=sum(settler.refused for settler in settlers),
        queues={name: _queue_info(queue, actors.watchdog) for name, queue in actors.queues.items()},
        notices=actors.notices.recent(),
        clock=datetime.now(UTC),
        limits={
            name: definition.max_concurrency
            for name, definition in plan.definitions.items()
            if definition.max_concurrency is not None
        },
        tree=actors.tree.statistics(),
    )


def _queue_info(queue: QueueActors, watchdog: Watchdog) -> QueueInfo:
    statistics = queue.executors.statistics()
    ledger = queue.fetcher.ledger
    failure, settings = ledger.claim_failure, ledger.settings
    marks = [(attempt, watchdog.mark(attempt.ref)) for attempt in statistics.running]
    return QueueInfo(
        concurrency=statistics.concurrency,
        running=len(statistics.running),
        claimed=statistics.waiting,
        finished=statistics.finished,
        paused=ledger.paused,
        stuck=tuple(attempt.job.id for attempt, mark in marks if mark.reasons),
        claim_error=None if failure is None else failure.error,
        claim_failing=0.0 if failure is None else trio.current_time() - failure.since,
        large_texts=ledger.texts.total,
        cluster_limit=settings.cluster_limit,
        key=settings.key,
        per_key=settings.per_key,
        rate=settings.rate,
        per_key_rate=settings.per_key_rate,
        cancelling={attempt.job.id: mark.phase for attempt, mark in marks if attempt.stop is Stop.OPERATOR},
    )
