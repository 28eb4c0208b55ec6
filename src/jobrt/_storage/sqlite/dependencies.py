"""Jobs that wait for others, and what follows when those are final or gone."""

from collections.abc import Sequence

from jobrt._storage.sqlite.rows import FAR, dumps
from jobrt._storage.sqlite.transaction import SQL, Transaction


def release_parents(tx: Transaction, ids: Sequence[int]) -> None:
    """Note that jobs are final or gone, and let those fall due that waited for nobody else."""
    if not ids:
        return
    tx.ended += ids
    if not tx.value(SQL["attempts/release_parents_any"]):
        return
    children = dumps(ids)
    waiting = tx.value(SQL["attempts/release_parents_waiting"], (children,))
    tx.run(SQL["attempts/release_parents_children"], (children,))
    due = tx.rows(SQL["attempts/release_parents_due"], {"jobs": waiting, "now": tx.now, "far": FAR})
    tx.queues.update(queue for (queue,) in due)


def wait_for_children(tx: Transaction, job_id: int, children: Sequence[int]) -> bool:
    """Let a job wait for others; False if all of them are over already."""
    return tx.run(SQL["attempts/wait_for_children"], {"job": job_id, "children": dumps(children)}) > 0
