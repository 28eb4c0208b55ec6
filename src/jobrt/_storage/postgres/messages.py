"""Messages to jobs: the statements, separate from the connection that runs them."""

from jobrt._storage.postgres.changes import notify_steps
from jobrt._storage.postgres.names import Run, Schema
from jobrt._storage.postgres.steps import Steps
from jobrt.errors import JobNotFound, JobStateError


def send_steps(
    schema: Schema, job_id: int, *, name: str, value: str, key: str | None
) -> Steps[tuple[bool, list[str]]]:
    """Return the steps of `ScopeStore.send`; they return whether the message is new, and the queues to wake."""
    job: dict[str, str | None] = {"id": str(job_id)}
    found = yield Run(schema.statement("scopes/send_lock"), job)
    if not found:
        raise JobNotFound(f"there is no job {job_id}")
    state, final = found[0]
    if final or state == "closing":
        raise JobStateError(f"job {job_id} is {state}: it receives no message any more")
    message = {**job, "name": name, "key": key, "value": value}
    if not (yield Run(schema.statement("scopes/send"), message)):
        return False, []
    woken = yield Run(schema.statement("scopes/send_wake"), {**job, "name": name})
    return True, [queue for (queue,) in woken]


def told_send_steps(
    schema: Schema, job_id: int, *, name: str, value: str, key: str | None, channel: str | None
) -> Steps[bool]:
    """Return the steps that send a message, and wake the workers of the job's queue."""
    new, queues = yield from send_steps(schema, job_id, name=name, value=value, key=key)
    yield from notify_steps(schema, [f"j:{queue}" for queue in queues], channel=channel)
    return new
