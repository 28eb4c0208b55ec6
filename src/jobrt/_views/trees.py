"""Lines of a worker's supervision tree."""

from collections.abc import Iterable, Iterator
from datetime import datetime

import attrs

from jobrt._core.worker_info import QueueInfo, WorkerInfo
from jobrt._storage.contract import WorkerRow
from jobrt._supervision.records import SupervisorStatistics
from jobrt._views.words import count_in_words, since

_QUEUE_LIMIT = 8
"""Queues in the line of a worker."""
_HEALTHY = frozenset({"running", "starting", "stopping", "stopped"})


@attrs.frozen
class TreeLine:
    """Child of a supervisor, in words; ``last`` is true for the last of its siblings."""

    depth: int
    last: bool
    name: str
    state: str
    since: str
    load: str
    restarts: str
    error: str

    @property
    def unhealthy(self) -> bool:
        """Whether the child needs attention."""
        return self.state not in _HEALTHY or bool(self.error) or "stuck" in self.load


@attrs.frozen
class Branch:
    """Line of a tree and what is below it."""

    line: TreeLine
    branches: "list[Branch]" = attrs.Factory(list)

    @property
    def unhealthy(self) -> bool:
        """Whether the child, or one below it, needs attention."""
        return self.line.unhealthy or any(branch.unhealthy for branch in self.branches)


def tree_of(lines: Iterable[TreeLine]) -> list[Branch]:
    """Return lines, in which parents stand before their children, as a tree."""
    roots = list[Branch]()
    path = [roots]
    for line in lines:
        branch = Branch(line)
        del path[line.depth :]
        path[-1].append(branch)
        path.append(branch.branches)
    return roots


def worker_condition(row: WorkerRow) -> str:
    """Return ``alive``, or the problems of a worker."""
    info = row.info
    state = "alive" if row.alive else "dead, its jobs await rescue"
    if row.alive and _is_starting(row) and not info.unreadable:
        return "alive, just started"
    if row.alive and info.stopping:
        state = "stopping"
    if info.outage:
        state += f", database unavailable: {info.outage}"
    if info.disconnected:
        state += ", notifier disconnected, polling instead"
    if info.unreadable:
        state += f", cannot be read: {', '.join(info.unreadable)}"
    return state


def _is_starting(row: WorkerRow) -> bool:
    """Return whether the worker has told nothing since it was registered, before its actors were started."""
    return row.beat_at <= row.started_at


def headline(row: WorkerRow, now: datetime) -> str:
    """Return a worker's id, condition, uptime and last heartbeat."""
    leader = ", leader" if row.info.leader else ""
    return f"{row.id}  {worker_condition(row)}, {times(row, now)}{leader}"


def times(row: WorkerRow, now: datetime) -> str:
    """Return how long a worker is up, and when its last heartbeat was. To register is not one."""
    heartbeat = "no heartbeat yet" if _is_starting(row) else f"last heartbeat {since(row.beat_at, now)} ago"
    return f"up {since(row.started_at, now)}, {heartbeat}"


def tree_lines(row: WorkerRow, now: datetime) -> Iterator[TreeLine]:
    """Return the children of a worker's tree, parents before their children; the top level has depth 1."""
    for line in _walk(row.info, row.info.tree, depth=1, now=now):
        yield attrs.evolve(line, state="starting") if _is_starting(row) else line


def problem_lines(row: WorkerRow, now: datetime) -> list[TreeLine]:
    """Return the children that need attention, each below its supervisors."""
    lines, kept, depth = list(tree_lines(row, now)), list[TreeLine](), 0
    for line in reversed(lines):  # a supervisor stands before its children
        if line.unhealthy or line.depth < depth:
            kept.append(line)
            depth = line.depth
    return kept[::-1]


def load_of_queues(row: WorkerRow) -> str:
    """Return the load of a worker's queues in one line: ``mail 2 of 10, reports paused``."""
    words = [f"{name} {_short_load(queue)}" for name, queue in sorted(row.info.queues.items())]
    more = [f"and {len(words) - _QUEUE_LIMIT} more queues"] if len(words) > _QUEUE_LIMIT else []
    return ", ".join(words[:_QUEUE_LIMIT] + more) or "no queues"


def _short_load(queue: QueueInfo) -> str:
    return "paused" if queue.paused else f"{queue.running} of {queue.concurrency}"


def _walk(
    info: WorkerInfo, tree: SupervisorStatistics | None, *, depth: int, now: datetime
) -> Iterator[TreeLine]:
    if tree is None:
        return
    for child in tree.children:
        restarts = f"{child.restarts} ({child.recent_restarts} recent)" if child.restarts else ""
        yield TreeLine(
            depth=depth,
            last=child is tree.children[-1],
            name=child.name,
            state=child.state,
            since="" if child.since is None else since(child.since, now),
            load=_load(info, tree.name, child.name),
            restarts=restarts,
            error=child.last_error or "",
        )
        yield from _walk(info, child.nested, depth=depth + 1, now=now)


def _load(info: WorkerInfo, parent: str, name: str) -> str:
    """Return the load of a queue or of the completer; empty for other children."""
    if (parent, name) == ("worker", "completer"):
        pending = info.pending_outcomes
        return count_in_words(pending, "pending outcome") if pending else ""
    queue = info.queues.get(name) if parent == "queues" else None
    if queue is None:
        return ""
    words = [f"{queue.running} of {queue.concurrency} slots", f"{queue.claimed} claimed"]
    words += [f"{queue.finished} done"] + ["paused"] * queue.paused
    words += [f"stuck: {', '.join(map(str, queue.stuck))}"] * bool(queue.stuck)
    return ", ".join(words)
