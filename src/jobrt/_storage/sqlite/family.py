"""Ends of jobs, and what they mean for their families: the one place through which every end goes."""

from collections.abc import Sequence
from typing import Final

from jobrt._storage.sqlite.dependencies import release_parents
from jobrt._storage.sqlite.rows import dumps
from jobrt._storage.sqlite.states import FINAL_CODES, RETRYABLE
from jobrt._storage.sqlite.transaction import SQL, Transaction

HAS_PARENT: Final = 8
HAS_NURSERY: Final = 16

CLOSES_FOR_RETRY: Final = """(state = 8 AND EXISTS (
    SELECT 1 FROM jobrt_waiting AS w WHERE w.job_id = jobrt_job.id AND w.kind = 'close' AND w.name = '2'))"""
"""A job is closing, and will run again when its children are over."""


def settle(tx: Transaction, ids: Sequence[int]) -> int:
    """Record that jobs have ended or are gone, for the jobs that wait for them.

    One that has living children is closing instead, and they are to be ended. Returns how many are.
    """
    closing: frozenset[int] = frozenset()
    if not ids:
        return 0
    if tx.value(SQL["scopes/any"]):
        closing = close(tx, ids)
        ids = [job_id for job_id in ids if job_id not in closing]
        _end_members(tx, ids)
    release_parents(tx, ids)
    return len(closing)


def close(tx: Transaction, ids: Sequence[int]) -> frozenset[int]:
    """Make those of the ended jobs that have living children closing; return them."""
    found: list[tuple[int, int]] = tx.array(SQL["scopes/closing"], {"ids": dumps(ids)})
    if found:
        close_as(tx, dict(found))
    return frozenset(job_id for job_id, _ in found)


def close_as(tx: Transaction, decided: dict[int, int]) -> None:
    """Make jobs closing until their children are over; `decided` has the number of the state that follows."""
    ids = dumps(list(decided))
    tx.run(SQL["scopes/close"], {"ids": ids})
    tx.run(SQL["scopes/settled"], {"ids": ids})  # their nurseries are told when their children are over
    tx.run(SQL["scopes/end_nurseries"], {"ids": ids})
    for job_id, state in decided.items():
        wait = {"id": job_id, "number": 0, "now": tx.now, "until": None, "worker": None}
        tx.run(SQL["scopes/wait"], wait | {"kind": "close", "name": str(state)})
    tx.control = True


def reopen(tx: Transaction, ids: Sequence[int]) -> None:
    """Let the next attempt of jobs ask again for the children that did not complete."""
    tx.run(SQL["scopes/reopen"], {"ids": dumps(ids)})


def has_living_children(tx: Transaction, job_id: int) -> bool:
    """Return whether a job that has had a nursery has children that are not over."""
    return bool(tx.array(SQL["scopes/living_families"], {"ids": dumps([job_id])}))


def _end_members(tx: Transaction, ids: Sequence[int]) -> None:
    """Note ended jobs in their nurseries, and decide for each nursery and parent what follows."""
    given = {"ids": dumps(ids)}
    found = tx.array(SQL["scopes/ended_members"], given | {"own": dumps(sorted(tx.own_cancels))})
    if not found:
        return
    tx.run(SQL["scopes/settled"], given)
    failed = {child for child, _, _, failure in found if failure}
    tx.run(SQL["scopes/end_members"], given | {"failed": dumps(sorted(failed))})
    nurseries: dict[tuple[int, str], list[int]] = {}
    for child, parent, nursery, _ in found:
        nurseries.setdefault((parent, nursery), []).append(child)
    for (parent, nursery), children in nurseries.items():
        _follow(tx, parent, nursery=nursery, children=children, failed=not failed.isdisjoint(children))
    decide_closing(tx, sorted({parent for parent, _ in nurseries}))


def _follow(tx: Transaction, parent: int, *, nursery: str, children: Sequence[int], failed: bool) -> None:
    """Wake a parent whose wait is over; end a nursery in which a child has failed."""
    place = {"id": parent, "name": nursery}
    alive = tx.value(SQL["scopes/nursery_alive"], place)
    if not alive:
        tx.run(SQL["scopes/nursery_over"], place | {"failed": failed})
    elif failed:
        tx.run(SQL["scopes/nursery_failed"], place)
    if failed:
        wake_body(tx, parent, nursery)
    awake = {"id": parent, "name": None if alive else nursery, "children": dumps(children)}
    tx.queues.update(queue for (queue,) in tx.rows(SQL["scopes/wake"], awake))


def wake_body(tx: Transaction, parent: int, nursery: str) -> None:
    """Let a job learn that a nursery is being ended, in whose body it may run, or wait."""
    place = {"id": parent, "name": nursery}
    tx.queues.update(queue for (queue,) in tx.rows(SQL["scopes/wake_body"], place))
    tx.control = True


def decide_otherwise(tx: Transaction, ids: Sequence[int], state: int) -> int:
    """Let jobs that are closing on their way to a retry take another state instead; return how many."""
    return tx.run(SQL["scopes/decide_other"], {"ids": dumps(ids), "state": str(state)})


def decide_closing(tx: Transaction, ids: Sequence[int]) -> None:
    """Give closing jobs without living children the state that was decided."""
    ended: list[int] = []
    for job_id, state in tx.array(SQL["scopes/decided"], {"ids": dumps(ids)}):
        rows = tx.rows(SQL["scopes/decide"], {"id": job_id, "state": state, "now": tx.now})
        tx.run(SQL["scopes/forget_wait"], (job_id,))
        if state in FINAL_CODES:
            ended.append(job_id)
        elif state == RETRYABLE:
            reopen(tx, [job_id])
            tx.queues.update(queue for queue, due in rows if due)
    settle(tx, ended)


# ---------------------------------------------------------------------- scopes that are being ended


def end_jobs(tx: Transaction, ids: Sequence[int], *, reason: str) -> tuple[int, int]:
    """Ask the jobs that a worker holds to stop, and cancel the others; return both numbers."""
    given = {"ids": dumps(ids), "reason": reason, "now": tx.now}
    told = tx.rows(SQL["scopes/tell"], given)
    cancelled = [job_id for (job_id,) in tx.rows(SQL["scopes/cancel"], given)]
    tx.control = tx.control or bool(told)
    settle(tx, cancelled)
    return len(told), len(cancelled)


def startable(tx: Transaction, ids: Sequence[int], *, started: frozenset[int]) -> frozenset[int]:
    """Return the jobs that may be started: those that have not expired, and whose ancestors are not being ended.

    Jobs under an ancestor that is being ended are cancelled here, so that no claim meets them again.
    """
    given = {"ids": dumps(ids), "now": tx.now}
    expired: frozenset[int] = frozenset(tx.array(SQL["scopes/expired"], given)) - started
    over: frozenset[int] = frozenset()
    if tx.value(SQL["scopes/any_ending"]):
        over = frozenset(tx.array(SQL["scopes/under_ending"], given))
        end_jobs(tx, sorted(over), reason=PARENT_ENDED)
    return frozenset(ids) - expired - over


PARENT_ENDED: Final = "its parent was ended"
