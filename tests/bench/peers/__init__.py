"""Job queues on PostgreSQL to compare with jobrt, each with an adapter, run by `harness.py`."""

from __future__ import annotations

from pathlib import Path

import attrs

__all__ = ["PEERS", "Peer"]

HERE = Path(__file__).parent


@attrs.frozen
class Peer:
    """A job queue.

    ``packages`` are installed into a virtual environment at first use; jobrt has none and runs in the environment of
    the benchmark. ``left`` is a query for the number of enqueued jobs (``:jobs``) without a committed end.
    ``settings`` are names that the adapter documents. "default" has the defaults of the library. "best" has the
    fastest documented settings that we found, in one process and with durable commits.
    """

    name: str
    left: str
    packages: tuple[str, ...] = ()
    settings: tuple[str, ...] = ("default", "best")
    python: tuple[int, int] = (3, 11)
    """The oldest Python that it supports."""

    @property
    def script(self) -> Path:
        """The path of the adapter."""
        return HERE / f"adapter_{self.name.replace('-', '_')}.py"


PEERS = {
    peer.name: peer
    for peer in (
        Peer("jobrt", "select count(*) from jobrt.job where finished_at is null", settings=("default",)),
        Peer(
            "procrastinate",
            "select count(*) from procrastinate_jobs where status in ('todo', 'doing')",
            ("procrastinate", "psycopg[binary,pool]"),
        ),
        Peer("pgqueuer", "select count(*) from pgqueuer", ("pgqueuer", "asyncpg", "uvloop")),
        Peer(
            "oban",
            "select count(*) from oban_jobs where state in ('scheduled', 'available', 'executing', 'retryable')",
            ("oban",),
            python=(3, 12),
        ),
        Peer(
            "chancy",
            "select count(*) from chancy_jobs where state in ('pending', 'running', 'retrying')",
            ("chancy[cli]", "psycopg[binary,pool]"),
        ),
        # Awa stores a receipt for a batch of completed jobs, and rows for other ends.
        Peer(
            "awa-pg",
            "select :jobs - (select coalesce(sum(completed_count), 0) from awa.receipt_completion_batches)"
            " - (select count(*) from awa.done_entries where state = 'completed')",
            ("awa-pg",),
        ),
    )
}
