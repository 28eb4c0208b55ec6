"""Lines of a worker's supervision tree."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import attrs

from jobrt._views.words import count_in_words, since

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobrt._storage.contract import WorkerRow

__all__ = ["TreeLine", "headline", "tree_lines", "worker_condition"]

_HEALTHY = frozenset({"running", "stopping", "stopped"})


@attrs.frozen
class TreeLine:
    """One child of a tree, in words; ``last`` is true for the last of its siblings."""

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


def worker_condition(row: WorkerRow) -> str:
    """Return ``alive``, or what is wrong with a worker."""
    info = row.info
    state = "alive" if row.alive else "dead, its jobs await rescue"
    if row.alive and info.get("stopping"):
        state = "stopping"
    if info.get("outage"):
        state += f", database unavailable: {info['outage']}"
    if info.get("deaf"):
        state += ", notifier disconnected, polling instead"
    return state


def headline(row: WorkerRow, now: datetime) -> str:
    """Return a worker's id, condition, uptime and last heartbeat."""
    up, heartbeat = since(row.started_at, now), since(row.beat_at, now)
    leader = ", leader" if row.info.get("leader") else ""
    return f"{row.id}  {worker_condition(row)}, up {up}, last heartbeat {heartbeat} ago{leader}"


def tree_lines(row: WorkerRow, now: datetime) -> Iterator[TreeLine]:
    """Return the children of a worker's tree, parents before their children; the top level has depth 1."""
    return _walk(row, row.info.get("tree"), depth=1, now=now)


def _walk(row: WorkerRow, tree: Mapping[str, Any] | None, *, depth: int, now: datetime) -> Iterator[TreeLine]:
    children = (tree or {}).get("children", ())
    for number, child in enumerate(children, 1):
        recent = f" ({child['recent_restarts']} recent)"
        yield TreeLine(
            depth,
            number == len(children),
            child["name"],
            child["state"],
            since(datetime.fromisoformat(child["since"]), now) if child["since"] else "",
            _load(row, (tree or {}).get("name"), child["name"]),
            f"{child['restarts']}{recent}" if child["restarts"] else "",
            child["last_error"] or "",
        )
        yield from _walk(row, child["nested"], depth=depth + 1, now=now)


def _load(row: WorkerRow, parent: str | None, name: str) -> str:
    """Return the load of a queue or of the completer; empty for other children."""
    if (parent, name) == ("worker", "completer"):
        pending = row.info.get("pending_outcomes", 0)
        return count_in_words(pending, "pending outcome") if pending else ""
    queue = row.info.get("queues", {}).get(name) if parent == "queues" else None
    if queue is None:
        return ""
    words = [f"{queue['running']} of {queue['concurrency']} slots", f"{queue['claimed']} claimed"]
    words += [f"{queue['finished']} done"] + ["paused"] * queue["paused"]
    words += [f"stuck: {', '.join(map(str, queue['stuck']))}"] * bool(queue["stuck"])
    return ", ".join(words)
