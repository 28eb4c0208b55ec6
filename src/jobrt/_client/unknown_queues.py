"""Warning about a job for a queue that its app does not have. No worker of the app would run it."""

import logging
from collections.abc import Sequence
from typing import Final

from jobrt._core.arguments import nearest
from jobrt._core.job import NewJob

_log: Final = logging.getLogger("jobrt")

_warned: Final[set[str]] = set()
_MOST_WARNINGS: Final = 1000


def warn_of_unknown_queues(known: frozenset[str], jobs: Sequence[NewJob]) -> None:
    """Log a warning for each queue that is not among the `known`, once per process.

    It is no error, because another app may serve the queue on the same database.
    """
    for queue in {job.queue for job in jobs} - known - _warned:
        if len(_warned) < _MOST_WARNINGS:
            _warned.add(queue)
        close = nearest(queue, known)
        hint = f"did you mean {close!r}?" if close else f"its queues are {', '.join(sorted(known))}"
        _log.warning(
            "a job was enqueued for queue %r, which this app does not serve: %s Unless another app serves it, correct"
            " the name, or add the queue to App(queues=...)",
            queue,
            hint if close else f"{hint}.",
        )
