"""Checks of jobs with nurseries: what no crash may do to them. They are rules of `tests.chaos.rules`."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from tests.chaos.history import FAMILY, FINAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.history import Change, History

__all__ = ["families", "messages"]


def families(history: History, _limits: Any) -> Iterator[str]:
    """Check each change of a parent or a child.

    A child is enqueued and claimed only while its parent is not over, and a parent is over only when its children are.
    Each child is enqueued once, and completes once, however often its parent runs. A transaction counts as a whole.
    """
    state: dict[int, str] = {}
    children: defaultdict[int, set[int]] = defaultdict(set)
    places: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    completed: Counter[int] = Counter()
    changes = _settled(history)
    committed = {(change.tx, change.job): change.after for change in changes if change.tx is not None}
    for change in changes:
        state[change.job] = change.after
        root, number = _place(change)
        if root:
            children[root].add(change.job)
            places[root, number].add(change.job)
            begins = change.before is None or change.after == "executing" != change.before
            if begins and state.get(root) in FINAL:
                yield f"job {change.job} is {change.after}, but its parent {root} is {state[root]}"
        elif change.after == "cancelled" and change.job not in history.cancelled:
            yield f"job {change.job} is cancelled, which nobody has asked for"
        if change.after in FINAL and change.before != change.after:
            completed[change.job] += change.after == "completed"
            now = {child: committed.get((change.tx, child), state[child]) for child in children[change.job]}
            alive = sorted(child for child, its in now.items() if its not in FINAL)
            if alive:
                yield f"job {change.job} is {change.after}, but its children {alive} are not over"
    for (root, number), jobs in places.items():
        if len(jobs) > 1:
            yield f"job {root} has enqueued its child {number} {len(jobs)} times: {sorted(jobs)}"
    for job, times in completed.items():
        if times > 1:
            yield f"job {job} was completed {times} times"


def _settled(history: History) -> list[Change]:
    """Return the changes of families, but an end that the same transaction made a closing state."""
    changes = [change for change in history.changes if change.name in FAMILY and change.after is not None]
    closed: set[int] = set()
    found: list[Change] = []
    for change in reversed(changes):
        if not (change.after in FINAL and change.job in closed):
            found.append(change)
        closed.discard(change.job)
        if change.after == "closing" and change.before in FINAL:
            closed.add(change.job)
    return found[::-1]


def messages(history: History, _limits: Any) -> Iterator[str]:
    """Check what bodies that reached their end have received."""
    for line in history.lines:
        if line.name == "Nest" and line.what == "end":
            received = [value for value in line.note if isinstance(value, int)]
            if len(set(received)) < len(received):
                yield f"job {line.job} has received {received}"
            if unknown := set(received).difference(history.sent.get(line.job, ())):
                yield f"job {line.job} has received {sorted(unknown)}, which nobody has sent"


def _place(change: Change) -> tuple[int, int]:
    """Return parent and number of a child; the parent is 0 if it has none."""
    args = json.loads(change.args or "{}")
    return args.get("root", 0), args.get("number", 0)
