"""Go through a worker's supervision tree, line by line."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import attrs

from jobrt._views.words import since

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobrt._storage.contract import WorkerRow

__all__ = ["Line", "condition", "headline", "lines"]

_WELL = frozenset({"running", "stopping", "stopped"})


@attrs.frozen
class Line:
    """One child of a tree, in words; `last` says that no sibling comes behind it."""

    depth: int
    last: bool
    name: str
    state: str
    since: str
    load: str
    restarts: str
    error: str

    @property
    def ill(self) -> bool:
        """Say whether somebody should look at it."""
        return self.state not in _WELL or bool(self.error) or "stuck" in self.load


def condition(row: WorkerRow) -> str:
    """Return how a worker is: ``alive``, or what is the matter."""
    info = row.info
    state = "alive" if row.alive else "dead, its jobs await rescue"
    if row.alive and info.get("stopping"):
        state = "stopping"
    if info.get("outage"):
        state += f", database away: {info['outage']}"
    if info.get("deaf"):
        state += ", hears no wake-ups and polls"
    return state


def headline(row: WorkerRow, now: datetime) -> str:
    """Return who a worker is and how it is."""
    up, heard = since(row.started_at, now), since(row.beat_at, now)
    leads = ", leader" if row.info.get("leader") else ""
    return f"{row.id}  {condition(row)}, up {up}, heard from {heard} ago{leads}"


def lines(row: WorkerRow, now: datetime) -> Iterator[Line]:
    """Return the children of its tree, parents before their children; the first have depth 1."""
    return _walk(row, row.info.get("tree"), depth=1, now=now)


def _walk(row: WorkerRow, tree: Mapping[str, Any] | None, *, depth: int, now: datetime) -> Iterator[Line]:
    children = (tree or {}).get("children", ())
    for number, child in enumerate(children, 1):
        recent = f" ({child['recent_restarts']} lately)"
        yield Line(
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
    """Return how full a queue's slots and its channel are, or the channel of the outcomes."""
    if (parent, name) == ("worker", "completer"):
        pending = row.info.get("pending_outcomes", 0)
        return f"{pending} outcomes to write" if pending else ""
    queue = row.info.get("queues", {}).get(name) if parent == "queues" else None
    if queue is None:
        return ""
    words = [f"{queue['running']} of {queue['concurrency']} slots", f"{queue['claimed']} claimed"]
    words += [f"{queue['finished']} done"] + ["paused"] * queue["paused"]
    words += [f"stuck: {', '.join(map(str, queue['stuck']))}"] * bool(queue["stuck"])
    return ", ".join(words)
