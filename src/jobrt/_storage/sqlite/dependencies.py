"""Jobs that wait for other jobs, and their release when those are final or gone."""

from collections.abc import Sequence

from jobrt._storage.sqlite.rows import FAR, dumps
from jobrt._storage.sqlite.transaction import SQL, Transaction


def release_parents(tx: Transaction, ids: Sequence[int]) -> None:
    """Record that jobs are final or gone, and make jobs due that waited only for them."""
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
    """Make a job wait for others; False if all of them are already final or gone."""
    return tx.run(SQL["attempts/wait_for_children"], {"job": job_id, "children": dumps(children)}) > 0
