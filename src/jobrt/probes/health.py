"""Health of the workers in a process: why it should be restarted, and why it does not work now."""

from collections.abc import Iterable, Iterator

import attrs

from jobrt._core.worker_info import WorkerInfo
from jobrt._supervision.decisions import ServiceState
from jobrt._supervision.records import ChildStatistics, SupervisorStatistics

_DOWN = frozenset({ServiceState.WAITING, ServiceState.FAILED})


@attrs.frozen
class Health:
    """Problems of a process, one line each: ``dead`` if a restart helps, ``unready`` if it does not work now."""

    dead: tuple[str, ...] = ()
    unready: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """All problems; a dead process is not ready either."""
        return tuple(dict.fromkeys((*self.dead, *self.unready)))


def health_of(workers: Iterable[tuple[bool, WorkerInfo]]) -> Health:
    """Return the health of a process from its workers: whether each is registered, and what it tells.

    A process without a worker lives: it may be starting, and wait for its database.
    """
    dead, unready, found = list[str](), list[str](), False
    for registered, info in workers:
        found = True
        dead += [] if info.stopping else _actors_down(info.tree)
        unready += _not_working(info, registered=registered)
    return Health(tuple(dead), tuple(unready) if found else ("no worker runs in this process",))


def _not_working(info: WorkerInfo, *, registered: bool) -> Iterator[str]:
    if info.stopping:
        yield "the worker is stopping"
    if info.outage:
        yield f"the database is unavailable: {info.outage}"
    elif not registered and not info.stopping:
        yield "the worker is not registered in the database"


def _actors_down(tree: SupervisorStatistics | None) -> list[str]:
    return [
        f"{path} is down: {child.last_error or 'it ended'}"
        for path, child in walk(tree)
        if child.state in _DOWN
    ]


def walk(tree: SupervisorStatistics | None, path: str = "") -> Iterator[tuple[str, ChildStatistics]]:
    """Return each actor of a tree with its path: ``queues/mail/fetcher``."""
    for child in () if tree is None else tree.children:
        name = f"{path}{child.name}"
        yield name, child
        yield from walk(child.nested, f"{name}/")
