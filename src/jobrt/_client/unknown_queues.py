"""Jobs for a queue that their app does not have. No worker of the app would run them."""

import logging
from collections.abc import Sequence
from typing import Final

from jobrt._core.arguments import nearest
from jobrt._core.job import NewJob
from jobrt._storage.contract import WorkerStore
from jobrt.errors import InvalidJob

_log: Final = logging.getLogger("jobrt")

_accepted: Final[set[str]] = set()
_MOST_ACCEPTED: Final = 1000


async def check_queues(known: frozenset[str], jobs: Sequence[NewJob], *, workers: WorkerStore) -> None:
    """Check the queues that are not among the `known`, once per process.

    Another app may serve them on the same database, so usually there is only a warning.

    Raises:
        InvalidJob: the name is nearly one of the known, and no live worker serves it.

    """
    for queue in sorted({job.queue for job in jobs} - known - _accepted):
        close = nearest(queue, known)
        if close is None:
            _warn(queue, known)
        elif not any(worker.alive and queue in worker.info.queues for worker in await workers.all()):
            raise InvalidJob(
                f"this app has no queue {queue!r}, and no worker serves it: did you mean {close!r}? If another app"
                " serves it, start its worker first, or add the queue to App(queues=…)"
            )
        if len(_accepted) < _MOST_ACCEPTED:
            _accepted.add(queue)


def _warn(queue: str, known: frozenset[str]) -> None:
    _log.warning(
        "a job was enqueued for queue %r, which this app does not serve: its queues are %s. Unless another app serves"
        " it, correct the name, or add the queue to App(queues=…)",
        queue,
        ", ".join(sorted(known)),
    )
