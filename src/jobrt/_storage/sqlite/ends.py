"""Draw the consequences when jobs are over or gone: tell those who wait for them, jobs and programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobrt._storage.sqlite.rows import FAR, dumps
from jobrt._storage.sqlite.transaction import SQL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobrt._storage.sqlite.transaction import Transaction

__all__ = ["depend", "settle"]


def settle(tx: Transaction, ids: Sequence[int]) -> None:
    """Note that jobs are final or gone, and let those fall due that waited for nobody else."""
    if not ids:
        return
    tx.ended += ids
    if not tx.value(SQL["settle_any"]):
        return
    children = dumps(ids)
    waiting = tx.value(SQL["settle_waiting"], (children,))
    tx.run(SQL["settle_children"], (children,))
    due = tx.rows(SQL["settle_due"], {"jobs": waiting, "now": tx.now, "far": FAR})
    tx.queues.update(queue for (queue,) in due)


def depend(tx: Transaction, job_id: int, children: Sequence[int]) -> bool:
    """Let a job wait for others; False if all of them are over already."""
    return tx.run(SQL["depend"], {"job": job_id, "children": dumps(children)}) > 0
