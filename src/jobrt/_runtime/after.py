"""Jobs that wait for others (`After`): what they may wait for, and how soon they run again if there is nothing.

An attempt that returns `After` uses up no attempt. So a mistake in it could run the job again and again, for ever and
as fast as the machine can. Three rules prevent that. A job that waits for itself, or for jobs of which none exists,
fails. A job that returns `After` for the fourth time in a row, and again with nothing to wait for, runs after a pause.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from jobrt._core import where
from jobrt._core.states import End
from jobrt.errors import InvalidResult, StorageUnavailable

if TYPE_CHECKING:
    from jobrt._client import Client
    from jobrt._core.job import Claimed, Outcome

_QUICK_RUNS: Final = 3
_PAUSE: Final = 1.0


async def checked_after(job: Claimed, outcome: Outcome, *, client: Client) -> Outcome:
    """Return the outcome of an attempt that returned `After`.

    Raises:
        InvalidResult: the job waits for itself, or for jobs of which none exists.

    """
    if job.id in outcome.children:
        raise InvalidResult(f"After has the job's own id {job.id}: a job cannot wait for itself")
    if outcome.children and not await _any_exists(outcome.children, client):
        ids = ", ".join(map(str, outcome.children[:5]))
        raise InvalidResult(
            f"After waits for jobs of which none exists ({ids}): use handles or ids of stored jobs"
        )
    return outcome._replace(delay=_pause(job))


async def _any_exists(ids: Sequence[int], client: Client) -> bool:
    try:
        return await client.count(where.id_in(ids), limit=1) > 0
    except StorageUnavailable:  # the outcome is written when the database is back
        return True


def _pause(job: Claimed) -> float:
    """Return the seconds after which the job runs again, if all jobs that it waits for have ended already."""
    in_a_row = sum(1 for _ in takewhile(lambda attempt: attempt.end is End.SNOOZED, reversed(job.attempts)))
    return _PAUSE if in_a_row >= _QUICK_RUNS else 0.0
