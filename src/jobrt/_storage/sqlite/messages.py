"""Messages to jobs."""

from jobrt._storage.sqlite.states import EXECUTING, STATES, SUSPENDED
from jobrt._storage.sqlite.transaction import SQL, Transaction
from jobrt.errors import JobNotFound, JobStateError


def send(tx: Transaction, *, job_id: int, name: str, value: str, key: str | None) -> bool:
    """Send a message to a job; see `ScopeStore.send`."""
    code = tx.value(SQL["scopes/state"], (job_id,))
    if code is None:
        raise JobNotFound(f"there is no job {job_id}")
    if code > EXECUTING and code != SUSPENDED:
        raise JobStateError(f"job {job_id} is {STATES[code]}: it receives no message any more")
    message = {"id": job_id, "name": name, "key": key, "value": value}
    if not tx.run(SQL["scopes/send"], message):
        return False
    tx.queues.update(queue for (queue,) in tx.rows(SQL["scopes/send_wake"], {"id": job_id, "name": name}))
    return True
