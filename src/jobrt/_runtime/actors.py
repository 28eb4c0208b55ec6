"""Actors of a worker, as the worker sees them. `wiring` creates and connects them."""

from collections.abc import Mapping

import attrs
import trio

from jobrt._runtime.channels import Wakeup
from jobrt._runtime.completer import Completer
from jobrt._runtime.executors import Executors
from jobrt._runtime.fetcher import Fetcher
from jobrt._runtime.heartbeat import Heartbeat
from jobrt._runtime.identity import Identity
from jobrt._runtime.maintenance import Maintenance
from jobrt._runtime.messages import ExecutorsOrder, FetcherOrder
from jobrt._runtime.notices import Notices
from jobrt._runtime.notifier import Notifier
from jobrt._runtime.outage import Outage
from jobrt._runtime.watchdog import Watchdog
from jobrt._supervision.decisions import ServiceState
from jobrt._supervision.supervisor import Supervisor

_DOWN = frozenset({ServiceState.WAITING, ServiceState.FAILED})


@attrs.frozen(kw_only=True)
class QueueActors:
    """Actors of one queue, and the channels for orders to them."""

    fetcher: Fetcher
    executors: Executors
    supervisor: Supervisor
    wake: Wakeup
    fetcher_orders: trio.MemorySendChannel[FetcherOrder]
    executors_orders: trio.MemorySendChannel[ExecutorsOrder]


@attrs.frozen(kw_only=True)
class Actors:
    """Actors of a worker, and its supervision tree."""

    tree: Supervisor
    queue_supervisors: Supervisor
    identity: Identity
    outage: Outage
    heartbeat: Heartbeat
    notifier: Notifier
    maintenance: Maintenance
    completer: Completer
    watchdog: Watchdog
    notices: Notices
    queues: Mapping[str, QueueActors]

    async def run_without_tree(self) -> None:
        """Run the actors that a stop needs, after a `KeyboardInterrupt` has ended the tree.

        Their state has survived and their channels are closed, so they end as in an ordinary stop.
        """
        self.identity.resign()
        async with trio.open_nursery() as nursery:
            for queue in self.queues.values():
                nursery.start_soon(queue.executors.run)
                nursery.start_soon(queue.fetcher.run)
            nursery.start_soon(self.completer.run)

    def restart_queue(self, name: str) -> None:
        """Restart immediately those actors of a queue that are waiting for their restart after a crash."""
        _restart_waiting(self.queue_supervisors, name)
        _restart_waiting(self.queues[name].supervisor)

    def restart_completer(self) -> None:
        """Restart the completer immediately if it is waiting for its restart after a crash."""
        _restart_waiting(self.tree, "completer")


def _restart_waiting(supervisor: Supervisor, name: str | None = None) -> None:
    for child in supervisor.statistics().children:
        if child.state in _DOWN and name in {None, child.name}:
            supervisor.restart_child(child.name)
