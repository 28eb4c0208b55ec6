"""Find out why nothing is running, from what the database says of workers, queues and cron entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from jobrt._views.words import age, notice_words, since

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from datetime import datetime

    from jobrt._client import Client
    from jobrt._core.queues import QueueStatus
    from jobrt._storage.contract import CronRow, WorkerRow

__all__ = ["MOST", "Finding", "State", "examine", "examine_worker", "look"]

MOST: Final = 10_000
"""Jobs of one kind that are counted to be shown: up to here it takes milliseconds, and nobody needs to know more."""
_LATE: Final = 0.5
"""The part of its lease after which a worker's silence is told; it beats three times in a lease."""
_WAITING: Final = 60
"""Seconds that a due job waits, with free slots, before that is told: a minute is no burst."""


@attrs.frozen
class Finding:
    """One thing that may be wrong, and the remedy."""

    wrong: bool
    text: str


@attrs.frozen
class State:
    """What the database knows of everything but the jobs themselves."""

    workers: Sequence[WorkerRow]
    queues: Sequence[QueueStatus]
    crons: Sequence[CronRow]


async def look(jobs: Client) -> State:
    """Ask the database; of each kind of job at most `MOST` are counted."""
    return State(await jobs.workers(), await jobs.queues(limit=MOST), await jobs.crons())


def examine(state: State, *, names: Collection[str], now: datetime) -> Iterator[Finding]:
    """Return what is well and what is not. `names` are the jobs that the app knows; with none of them nobody asks."""
    alive = [one for one in state.workers if one.alive]
    remedy = "" if alive else ": start `python -m jobrt worker`"
    yield Finding(not alive, f"{len(alive)} workers are alive{remedy}")
    for worker in state.workers:
        yield from examine_worker(worker, now)
    for queue in state.queues:
        yield _examine_queue(queue, alive)
        yield from _unknown_names(queue, names)
    for row in state.crons:
        if row.paused:
            yield _fine(f"cron entry {row.name} is paused")


def _fine(text: str) -> Finding:
    return Finding(wrong=False, text=text)


def _wrong(text: str) -> Finding:
    return Finding(wrong=True, text=text)


def examine_worker(one: WorkerRow, now: datetime) -> Iterator[Finding]:
    """Return what is wrong with a worker."""
    if not one.alive:
        yield _wrong(f"worker {one.id} is dead; its jobs run again as soon as another worker is there")
        return
    if one.info.get("outage"):
        yield _wrong(f"worker {one.id} cannot reach the database: {one.info['outage']}")
    if (now - one.beat_at) / (one.expires_at - one.beat_at) > _LATE:
        said = since(one.beat_at, now)
        yield _wrong(f"worker {one.id} was last heard from {said} ago: does a job block its event loop?")
    notices = one.info.get("notices", ())
    for notice in notices:
        yield _wrong(f"worker {one.id}: {notice_words(notice)}; its log has the stack")
    told = {notice.get("job") for notice in notices}
    for name, queue in one.info.get("queues", {}).items():
        stuck = [job for job in queue["stuck"] if job not in told]
        if stuck:
            ids = ", ".join(map(str, stuck))
            yield _wrong(f"worker {one.id}: jobs {ids} in queue {name} are stuck; its log has their stacks")
    for child in _failed(one.info.get("tree") or {}):
        yield _wrong(f"worker {one.id}: {child['name']} has failed: {child['last_error']}")


def _failed(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for child in tree.get("children", ()):
        if child["state"] == "failed":
            yield child
        yield from _failed(child["nested"] or {})


def _examine_queue(queue: QueueStatus, alive: Iterable[WorkerRow]) -> Finding:
    due = f"{queue.available}{'+' * queue.more} due jobs"
    serving = [one.info["queues"][queue.name] for one in alive if queue.name in one.info.get("queues", {})]
    if queue.paused:
        text = f"queue {queue.name} is paused with {due}: `queues resume {queue.name}`"
        return Finding(bool(queue.available), text)
    if not queue.available:
        return _fine(f"queue {queue.name}: nothing due, {queue.executing} running, {queue.scheduled} later")
    if not serving:
        return _wrong(f"queue {queue.name}: {due}, but no live worker serves it: add it to App(queues=…)")
    slots = sum(one["concurrency"] for one in serving)
    full = queue.executing >= slots
    said = "all slots are busy" if full else f"{slots - queue.executing} slots are free"
    late = (queue.oldest_due or 0) > _WAITING and not full
    return Finding(late, f"queue {queue.name}: {due}, the oldest for {age(queue.oldest_due)}; {said}")


def _unknown_names(queue: QueueStatus, names: Collection[str]) -> Iterator[Finding]:
    for name in sorted(set(queue.names) - set(names)) if names else ():
        yield _wrong(f"queue {queue.name}: jobs named {name!r} wait, which this app does not know")
