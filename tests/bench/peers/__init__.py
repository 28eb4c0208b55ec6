"""Job queues on PostgreSQL that jobrt is measured beside: one small adapter each, run by `harness.py`."""

from __future__ import annotations

from pathlib import Path

import attrs

__all__ = ["PEERS", "Peer"]

HERE = Path(__file__).parent


@attrs.frozen
class Peer:
    """One job queue.

    ``packages`` are installed into a virtual environment of its own at first use; jobrt has none and runs where the
    benchmark does. ``left`` is a query for how many of so many (``:jobs``) enqueued jobs have no committed end yet.
    ``settings`` are names that the adapter knows and explains: "default" is what the library does when it is told
    nothing, "best" the quickest that its documentation has and we found, in one process and with durable commits.
    """

    name: str
    left: str
    packages: tuple[str, ...] = ()
    settings: tuple[str, ...] = ("default", "best")
    python: tuple[int, int] = (3, 11)
    """The oldest Python that it runs on."""

    @property
    def script(self) -> Path:
        """Return the adapter."""
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
        # Its ends are receipts, one for a batch, and rows of those that did not end plainly.
        Peer(
            "awa-pg",
            "select :jobs - (select coalesce(sum(completed_count), 0) from awa.receipt_completion_batches)"
            " - (select count(*) from awa.done_entries where state = 'completed')",
            ("awa-pg",),
        ),
    )
}
