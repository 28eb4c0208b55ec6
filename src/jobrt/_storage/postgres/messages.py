"""Messages to jobs: the statement, separate from the connection that runs it."""

from collections.abc import Sequence

from jobrt._storage.postgres.names import Run, Schema
from jobrt._storage.postgres.rows import Row
from jobrt._storage.postgres.steps import Steps
from jobrt.errors import JobNotFound, JobStateError


def sending(schema: Schema, job_id: int, *, name: str, value: str, key: str | None) -> Run:
    """Return the statement of `ScopeStore.send`; `sent` reads its rows."""
    return Run(schema.statement("scopes/send"), {"id": str(job_id), "name": name, "key": key, "value": value})


def sent(job_id: int, rows: Sequence[Row]) -> tuple[bool, str | None]:
    """Return whether the message is new, and the queue of the job if it goes on; its workers are notified.

    Raises:
        JobNotFound: there is no such job.
        JobStateError: the job is final or closing.

    """
    if not rows:
        raise JobNotFound(f"there is no job {job_id}")
    ((state, final, new, queue),) = rows
    if final or state == "closing":
        raise JobStateError(f"job {job_id} is {state}: it receives no message any more")
    return new, queue


def send_steps(schema: Schema, job_id: int, *, name: str, value: str, key: str | None) -> Steps[bool]:
    """Return the steps that send a message; they return whether it is new."""
    rows = yield sending(schema, job_id, name=name, value=value, key=key)
    return sent(job_id, rows)[0]
