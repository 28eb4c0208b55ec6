"""Draw workers' supervision trees, and put into words what their heartbeats tell."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobrt.cli.output import age

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jobrt._storage.base import WorkerRow

__all__ = ["PHASES", "drawn", "notice_words", "plain"]

PHASES: Mapping[str | None, str] = {
    None: "asked; its worker has not said that it knows",
    "received": "received",
    "cleaning": "cleaning up",
    "stuck": "stuck: it does not end",
}
"""How far an operator's wish to cancel a running job has come."""

_WHY = {
    "blocking": "has blocked the event loop for {seconds:.1f} s",
    "uncancellable": "has ignored its cancellation for {seconds:.0f} s and longer",
    "slow": "is far past its usual time, at {seconds:.0f} s and more",
}


def notice_words(notice: Mapping[str, Any]) -> str:
    """Return what a watchdog told lately, as a sentence about a job or a queue."""
    ago = f" ({age(notice['ago'])} ago)"
    if notice["what"] == "stalled":
        due, free = notice["due"], notice["free"]
        return f"queue {notice['queue']} had {due} due jobs, {free} free slots and no claim; it was repaired{ago}"
    if notice["what"] == "blocking" and not notice["job"]:
        said = f"the event loop stood still for {notice['seconds']:.1f} s with no job on it"
        return f"{said}: a thread kept Python busy, or others the machine{ago}"
    where = f", in {notice['at']}" if notice["at"] else ""
    return f"job {notice['job']} ({notice['name']}) {_WHY[notice['what']].format(**notice)}{where}{ago}"


@attrs.frozen
class _Line:
    """One child of a tree, in words."""

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
        return (
            self.state not in {"running", "stopping", "stopped"} or bool(self.error) or "stuck" in self.load
        )


def plain(row: WorkerRow) -> Iterator[str]:
    """Return a worker's tree as lines for a pipe."""
    yield headline(row)
    for line in _walk(row, row.info.get("tree"), 1):
        words = [line.name, line.state, line.load]
        words += [f"restarts {line.restarts}"] * bool(line.restarts)
        words += [f"last error: {line.error}"] * bool(line.error)
        words += [f"for {line.since}"] * bool(line.since)
        yield "  " * line.depth + "  ".join(filter(None, words))
    for notice in row.info.get("notices", ()):
        yield f"  watchdog: {notice_words(notice)}"


def drawn(rows: Sequence[WorkerRow], *, height: int | None = None) -> Group:
    """Draw the trees for a terminal; those that do not fit into `height` lines without the children that are well."""
    size = sum(1 + sum(1 for _ in _walk(row, row.info.get("tree"), 1)) for row in rows)
    brief = height is not None and size > height
    return Group(*(part for row in rows for part in _drawn(row, brief=brief)))


def _drawn(row: WorkerRow, *, brief: bool) -> Iterator[Text | Table]:
    yield Text(headline(row), style="bold" if row.alive else "bold red")
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    open_at: dict[int, bool] = {}
    for line in _walk(row, row.info.get("tree"), 1):
        if brief and not line.ill and not line.load:
            continue
        open_at[line.depth] = not line.last
        guide = "".join("│  " if open_at.get(depth) else "   " for depth in range(1, line.depth))
        guide = "   " * line.depth if brief else guide + ("└─ " if line.last else "├─ ")
        error = f"{'restarts ' + line.restarts if line.restarts else ''}  {line.error}".strip()
        style = "red" if line.ill else "" if line.load else "dim"
        table.add_row(guide + line.name, line.state, line.since, line.load, error, style=style)
    yield table
    for notice in row.info.get("notices", ()):
        yield Text(f"   ! {notice_words(notice)}", style="yellow")


def headline(row: WorkerRow) -> str:
    """Return who a worker is and how it is."""
    info = row.info
    state = "alive" if row.alive else "dead, its jobs await rescue"
    if row.alive and info.get("stopping"):
        state = "stopping"
    if info.get("outage"):
        state += f", database away: {info['outage']}"
    if info.get("deaf"):
        state += ", hears no wake-ups and polls"
    leads = ", leader" if info.get("leader") else ""
    return f"{row.id}  {state}, up {_since(row.started_at)}, heard from {_since(row.beat_at)} ago{leads}"


def _walk(row: WorkerRow, tree: Mapping[str, Any] | None, depth: int) -> Iterator[_Line]:
    children = (tree or {}).get("children", ())
    for number, child in enumerate(children, 1):
        recent = f" ({child['recent_restarts']} lately)"
        yield _Line(
            depth,
            number == len(children),
            child["name"],
            child["state"],
            _since(datetime.fromisoformat(child["since"])) if child["since"] else "",
            _load(row, (tree or {}).get("name"), child["name"]),
            f"{child['restarts']}{recent}" if child["restarts"] else "",
            child["last_error"] or "",
        )
        yield from _walk(row, child["nested"], depth + 1)


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


def _since(moment: datetime) -> str:
    return age(max(0.0, (datetime.now(UTC) - moment).total_seconds()))
