"""Grants for roles that do not own the schema, and which of them a statement needs."""

from importlib.resources import files
from typing import Final

from jobrt._storage.postgres.names import Schema

KINDS: Final = ("enqueuer", "reader", "worker")

_READS: Final = frozenset({
    "jobs/query", "jobs/query_edge", "jobs/count", "jobs/count_each", "jobs/ended", "jobs/stats",
    "jobs/stats_finished", "jobs/stats_first", "jobs/await_final_states",
    "jobs/look_due", "jobs/look_ends", "jobs/look_ids", "jobs/look_matching", "jobs/look_names",
    "jobs/look_priorities",
    "attempts/steps", "queues/all", "queues/all_in_order", "queues/all_waiting", "queues/all_waiting_limited",
    "queues/all_workers", "crons/all", "workers/all", "workers/changes",
    "health/buckets", "health/due", "health/running", "health/holders",
    "streams/read", "streams/read_wake", "actions/newest",
})  # fmt: skip
_CHANGES_EQUAL: Final = "jobs/insert_unique_replace"


def grants_sql(role: str, kind: str, *, schema: str = "jobrt") -> str:
    """Return the statements by which the owner of the schema lets a role do the work of one of `KINDS`."""
    text = files("jobrt._storage.postgres").joinpath(f"grants/{kind}.sql").read_text(encoding="utf-8")
    quoted = '"' + role.replace('"', '""') + '"'
    return Schema(schema).fill(text, role=quoted)


def remedy(statement: str, role: str) -> str:
    """Return what the owner of the schema has to do, so that a role may run a statement."""
    if statement.startswith("schema/migrate"):
        return "only the owner of the schema may migrate it"
    kind = _kind(statement)
    article = "an" if kind == "enqueuer" else "a"
    return (
        f"this call needs the grants of {article} {kind}, which"
        f" `python -m jobrt migrate --grants {role}:{kind}` prints for the owner of the schema"
    )


def _kind(statement: str) -> str:
    """Return the kind of role that may run a statement."""
    if statement in _READS:
        return "reader"
    enqueues = (
        statement.startswith(("jobs/insert", "keys/settings", "schema/", "scopes/limits"))
        and statement != _CHANGES_EQUAL
    )
    return "enqueuer" if enqueues else "worker"
